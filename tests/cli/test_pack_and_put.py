"""An archive is packed into a file or a pipe, and put from there, today or with a fresh URL."""

import hashlib
import os
import signal
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from tests.cli.cases import STORED
from tests.cli.conftest import Call
from tests.cli.harness import (
    AT_ANY_MOMENT,
    LIMITED,
    PATIENCE,
    QUERY,
    SECONDS_KEYS,
    Ended,
    Place,
    until,
    wait_for,
)
from tests.support.rawserver import answer, early, raw_server, silent

ARCHIVE = os.urandom(3_000_000)
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
MD5 = hashlib.md5(ARCHIVE, usedforsecurity=False).hexdigest()
URL = f"http://h/k?{QUERY}"


@pytest.fixture
def tree(place: Place) -> None:
    place.write("ctx/d/e", os.urandom(300_000))
    place.write("ctx/.dockerignore", b"*.log\n")
    place.write("ctx/a.log", b"log")
    (place.path / "ctx/d/link").symlink_to("e")
    (place.path / "ctx/d/other").hardlink_to(place.path / "ctx/d/e")


# Packing.


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("compression", ["none", "fast", "default", "small"])
def test_what_is_packed_is_what_a_build_would_send(
    compression: str, place: Place, call: Call
) -> None:
    options = ["--compression", compression, "--mtime", "0"]
    assert call("pack", "ctx", "-o", "packed", *options).code == 0
    assert call("build", "ctx", "--dry-run", "-o", "kept", *options).code == 0
    packed = (place.path / "packed").read_bytes()
    assert packed == (place.path / "kept").read_bytes()
    with raw_server(STORED) as server:
        assert call("build", "ctx", "--url", f"{server.url}/k?{QUERY}", *options).code == 0
    assert packed == server.requests[0].body


@pytest.mark.usefixtures("tree")
def test_an_archive_is_the_same_wherever_it_goes(place: Place) -> None:
    assert place.run("pack", "ctx", "-o", "packed").code == 0
    packed = (place.path / "packed").read_bytes()
    assert place.run("pack", "ctx", "-o", "-").out == packed
    assert place.run("pack", "ctx", "-o", "/dev/stdout").out == packed
    with place.write("before", b"before").open("ab") as stdout:
        assert place.run("pack", "ctx", "-o", "-", stdout=stdout).code == 0
    assert (place.path / "before").read_bytes() == b"before" + packed
    ours, theirs = socket.socketpair()
    with ours, theirs, place.started("pack", "ctx", "-o", "-", stdout=theirs.fileno()) as process:
        theirs.close()
        with ours.makefile("rb") as stream:
            assert stream.read() == packed
        assert process.wait(PATIENCE) == 0


def test_an_archive_in_its_own_context_is_left_out_each_time(place: Place, call: Call) -> None:
    archives = set()
    for _ in range(3):
        assert call("pack", "ctx", "-o", "ctx/kept.tar.gz", "--mtime", "0").code == 0
        archives.add((place.path / "ctx/kept.tar.gz").read_bytes())
    assert len(archives) == 1


@pytest.mark.usefixtures("tree")
def test_the_object_tells_what_was_packed(place: Place, call: Call) -> None:
    told = call("pack", "ctx", "-o", "kept", "--json", env={"E2B_UPLOAD_URL": URL}).json
    archive = (place.path / "kept").read_bytes()
    assert list(told.pop("seconds")) == SECONDS_KEYS
    assert told == {
        "status": "packed",
        "url": None,
        "http_status": None,
        "attempts": 0,
        "verified": None,
        "archive": {
            "bytes": len(archive),
            "sha256": hashlib.sha256(archive).hexdigest(),
            "md5": hashlib.md5(archive, usedforsecurity=False).hexdigest(),
            "files": 3,
            "directories": 1,
            "symlinks": 1,
            "hardlinks": 1,
            "content_bytes": 300_008,
        },
    }


def test_a_person_is_told_what_was_packed_and_where_it_is(place: Place, call: Call) -> None:
    ended = call("pack", "ctx", "-o", "kept")
    assert (ended.code, ended.out) == (0, b"")
    assert f"kept the archive as {place.path}/kept" in ended.lines
    assert ended.lines[-1].startswith("packed: ")
    assert "from 1 file of 2 B in " in ended.lines[-1]
    assert call("pack", "ctx", "-o", "kept", "-q").err == ""


def test_the_rules_may_come_from_standard_input(place: Place) -> None:
    place.write("ctx/b", b"b")
    ended = place.run("pack", "ctx", "-o", "-", "--ignore-file", "-", stdin=b"a\n")
    assert ended.out == place.run("pack", "ctx", "-o", "-", "--no-ignore", "-x", "a").out


# Putting.


def test_the_object_tells_what_was_put(place: Place, call: Call) -> None:
    place.write("archive", ARCHIVE)
    stored = answer(200, headers={"ETag": f'"{MD5}"'})
    for file, stdin in (("archive", b""), ("-", ARCHIVE)):
        with raw_server(stored) as server:
            url = f"{server.url}/bucket/key?{QUERY}"
            ended = call("put", file, "--url", url, "--json", stdin=stdin)
        assert ended.code == 0, ended.err
        told = ended.json
        assert server.requests[0].body_sha256 == SHA256
        assert list(told["seconds"]) == SECONDS_KEYS
        assert told["seconds"].pop("put") > 0
        assert told.pop("seconds") == {"collect": 0.0, "pack": 0.0}
        assert told == {
            "status": "uploaded",
            "url": f"{server.url}/bucket/key",
            "http_status": 200,
            "attempts": 1,
            "verified": "md5",
            "archive": {
                "bytes": len(ARCHIVE),
                "sha256": SHA256,
                "md5": MD5,
                "files": None,
                "directories": None,
                "symlinks": None,
                "hardlinks": None,
                "content_bytes": None,
            },
        }


def test_a_person_is_told_what_was_put(place: Place, call: Call) -> None:
    place.write("archive", ARCHIVE)
    with raw_server(answer(200, headers={"ETag": f'"{MD5}"'})) as server:
        ended = call("put", "archive", "--url", f"{server.url}/bucket/key?{QUERY}", "-v")
    assert (ended.code, ended.out) == (0, b"")
    assert f"uploading 3.0 MB to {server.url}/bucket/key" in ended.lines
    assert f"sha256 {SHA256}, md5 {MD5}" in ended.lines
    assert f"uploaded: 3.0 MB to {server.url}/bucket/key in " in ended.err
    assert "verified by md5" in ended.err
    assert "packed" not in ended.err


@contextmanager
def as_a_file(place: Place) -> Iterator[IO[bytes]]:
    with place.write("archive", b"before" + ARCHIVE).open("rb") as file:
        file.seek(6)  # somebody has read of it
        os.lseek(file.fileno(), 6, os.SEEK_SET)
        yield file


@contextmanager
def as_a_pipe(place: Place) -> Iterator[IO[bytes]]:
    place.write("archive", ARCHIVE)
    command = "for part in 1 2 3; do dd bs=1000000 count=1 2>/dev/null; sleep 0.05; done <archive"
    with subprocess.Popen(["sh", "-c", command], cwd=place.path, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        os.set_blocking(writer.stdout.fileno(), False)  # as others may have left it
        yield writer.stdout


@contextmanager
def as_a_socket(place: Place) -> Iterator[IO[bytes]]:
    place.write("archive", ARCHIVE)
    ours, theirs = socket.socketpair()
    with (
        open(place.path / "archive", "rb") as file,
        subprocess.Popen(["cat"], stdin=file, stdout=ours.fileno()),
        theirs,
        theirs.makefile("rb") as stream,
    ):
        ours.close()
        yield stream


@pytest.mark.parametrize("kind", [as_a_file, as_a_pipe, as_a_socket])
def test_standard_input_may_be_of_any_kind(kind: object, place: Place) -> None:
    with raw_server(STORED) as server, kind(place) as stdin:  # type: ignore[operator]
        url = f"{server.url}/k?{QUERY}"
        with place.started("put", "-", "--url", url, "--json", stdin=stdin) as process:
            out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert Ended(0, out, "").json["archive"]["sha256"] == SHA256
    assert server.requests[0].body_sha256 == SHA256
    told = {name.lower(): value for name, value in server.requests[0].headers}
    assert told["content-length"] == str(len(ARCHIVE))


@pytest.mark.parametrize("file", ["/dev/stdin", "/dev/fd/0"])
def test_a_name_for_standard_input_is_a_file_like_any_other(file: str, place: Place) -> None:
    place.write("archive", ARCHIVE)
    with raw_server(STORED) as server:
        command = ("put", file, "--url", f"{server.url}/k?{QUERY}")
        with (
            open(place.path / "archive", "rb") as stdin,
            place.started(*command, stdin=stdin) as process,
        ):
            assert process.wait(PATIENCE) == 0
        ended = place.run(*command, stdin=b"a pipe has no length")
    assert [request.body_sha256 for request in server.requests] == [SHA256]
    assert ended.code == 2
    assert "is not a regular file" in ended.err


def test_a_fifo_is_not_waited_for(place: Place, call: Call) -> None:
    os.mkfifo(place.path / "fifo")
    ended = call("put", "fifo", "--url", URL)
    assert ended.code == 2
    assert "fifo is not a regular file" in ended.err
    assert stat.S_ISFIFO(os.stat(place.path / "fifo").st_mode)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["put", "-", "--url", URL], 3),
        (["put", "ctx/a", "--url", "-"], 2),
        (["put", "ctx/a", "--url-file", "-"], 2),
        (["pack", "ctx", "-o", "kept", "--ignore-file", "-"], 3),
        (["explain", "ctx", "-"], 2),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_a_standard_input_that_cannot_be_read(options: list[str], code: int, place: Place) -> None:
    # Only to be written; of a folder Python itself makes an end.
    error = place.run(*options, "--json", sh='exec "$0" "$@" 0>written').told(code)
    assert "cannot be read" in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("way", [["--url", "-"], ["--url-file", "url"]], ids=" ".join)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_url_in_a_text_file_of_windows(
    encoding: str, way: list[str], place: Place, call: Call
) -> None:
    with raw_server(STORED) as server:
        text = f"{server.url}/k?{QUERY}\r\n".encode(encoding)
        place.write("url", text)
        ended = call("put", "ctx/a", *way, "--json", stdin=text)
    if encoding == "utf-8-sig":
        assert ended.code == 0
        assert len(server.requests) == 1
        return
    error = ended.told(2)
    assert "the URL is UTF-16 text in" in error["message"]
    assert "UTF-8" in error["hint"]
    assert not server.requests


def test_a_standard_input_that_breaks_off_is_sent_to_nobody(place: Place) -> None:
    with raw_server(STORED) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        command = ("put", "-", "--url", f"{server.url}/k?{QUERY}", "--json")
        with place.started(*command, stdin=theirs.fileno()) as process:
            theirs.close()
            ours.sendall(ARCHIVE[:100_000])
            # With an error to whoever reads, not with an end.
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            ours.close()
            out, err = process.communicate(timeout=PATIENCE)
    error = Ended(process.returncode, out, err.decode()).told(3)
    assert "the archive cannot be read from its stream: Connection reset" in error["message"]
    assert server.requests == []


def test_a_pack_that_fails_puts_nothing_in_the_place_of_what_was_stored(place: Place) -> None:
    with raw_server(STORED) as server:
        pipeline = '"$0" -m e2b_upload pack {ctx} -o - -q | exec "$0" "$@"'
        command = ("put", "-", "--url", f"{server.url}/k?{QUERY}", "--json")
        failed = place.run(*command, sh=pipeline.replace("{ctx}", "nowhere"))
        assert server.requests == []
        done = place.run(*command, sh=pipeline.replace("{ctx}", "ctx"))
    assert "the archive is empty" in failed.told(2)["message"]
    assert done.json["archive"]["sha256"] == server.requests[0].body_sha256


@pytest.mark.parametrize("script", [STORED, answer(500), early(403)], ids=["200", "500", "403"])
@pytest.mark.parametrize("option", [[], ["--spool-dir", "spool"]], ids=" ".join)
def test_nothing_is_left_of_what_was_spooled(
    option: list[str], script: object, place: Place, call: Call
) -> None:
    with raw_server(script) as server:  # type: ignore[arg-type]
        ended = call("put", "-", "--url", f"{server.url}/k?{QUERY}", *option, stdin=ARCHIVE)
    assert ended.code in {0, 5, 6}
    assert place.left_behind() == []


@pytest.mark.parametrize("option", [[], ["--spool-dir", "spool"]], ids=" ".join)
def test_a_limit_on_the_size_of_files_is_4_and_nothing_is_sent(
    option: list[str], place: Place
) -> None:
    with raw_server(STORED) as server:
        command = ("put", "-", "--url", f"{server.url}/k?{QUERY}", "--json", *option)
        error = place.run(*command, sh=LIMITED, stdin=ARCHIVE).told(4)
    assert "a limit on the size of files is met" in error["message"]
    assert "--spool-dir" in error["hint"]
    assert server.requests == []


@pytest.mark.parametrize("step", ["reading", "sending"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_a_signal_ends_a_put(signum: signal.Signals, step: str, place: Place) -> None:
    with raw_server(silent()) as server:
        command = ("put", "-", "--url", f"{server.url}/k?{QUERY}", "--json")
        with place.started(*command, env=AT_ANY_MOMENT) as process:
            assert process.stdin is not None
            process.stdin.write(ARCHIVE)  # more than a pipe holds: it is being read
            if step == "sending":
                process.stdin.close()
                process.stdin = None
                wait_for(process.stderr, "uploading")
                until(lambda: server.requests)
            process.send_signal(signum)
            out, err = process.communicate(timeout=PATIENCE)
    Ended(process.returncode, out, err.decode()).told(128 + signum)
    assert place.left_behind() == []


# Going on.


def test_a_kept_archive_is_put_with_a_fresh_url(place: Place, call: Call) -> None:
    expired = answer(403, b"<Error><Code>AccessDenied</Code><Message>expired</Message></Error>")
    with raw_server(expired, STORED) as server:
        url = f"{server.url}/k?{QUERY}"
        refused = call("build", "ctx", "--url", url, "-o", "kept", "--json").told(6)
        assert f"as {place.path}/kept: e2b-upload put sends it" in refused["hint"]
        ended = call("put", "kept", "--url", url, "--json")
    assert ended.code == 0
    first, second = server.requests
    assert first.body == second.body == (place.path / "kept").read_bytes()
    assert ended.json["archive"]["sha256"] == first.body_sha256


def test_a_url_that_expired_is_refused_before_anything_is_packed_or_read(
    place: Place, call: Call
) -> None:
    query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20200101T000000Z&X-Amz-Expires=60"
    url = f"http://h/k?{query}&{QUERY}"
    assert (
        "expired" in call("build", "ctx", "--url", url, "-o", "kept", "--json").told(6)["message"]
    )
    assert not (place.path / "kept").exists()
    with place.started("put", "-", "--url", url, "--json") as process:  # nobody writes to it
        assert process.wait(PATIENCE) == 6


def test_put_tries_again_from_the_spool(call: Call) -> None:
    with raw_server(answer(503), STORED) as server:
        url = f"{server.url}/k?{QUERY}"
        ended = call("put", "-", "--url", url, "--retries", "1", "--json", stdin=ARCHIVE)
    assert ended.code == 0
    assert ended.json["attempts"] == 2
    assert [request.body_sha256 for request in server.requests] == [SHA256] * 2


def test_an_archive_whose_name_is_no_text(place: Place, call: Call) -> None:
    name = b"\x1b[2J\n\xff"
    (place.path / os.fsdecode(name)).write_bytes(b"archive")
    with raw_server(STORED) as server:
        ended = call("put", os.fsdecode(name), "--url", f"{server.url}/k?{QUERY}")
        assert ended.code == 0
        (place.path / os.fsdecode(name)).unlink()
        ended = call("put", os.fsdecode(name), "--url", f"{server.url}/k?{QUERY}", "--json")
    assert r"the archive \x1b[2J\n\xff cannot be opened" in ended.told(2)["message"]
