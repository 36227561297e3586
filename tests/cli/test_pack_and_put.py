"""`pack` writes an archive to a file or a pipe, and `put` uploads it."""

import hashlib
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from tests.cli.cases import STORED
from tests.cli.conftest import Call
from tests.cli.harness import PATIENCE, QUERY, SECONDS_KEYS, Ended, Place
from tests.support.rawserver import Script, answer, early, raw_server

SLOW = pytest.mark.slow
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
def test_pack_equals_build(compression: str, place: Place, call: Call) -> None:
    options = ["--compression", compression, "--mtime", "0"]
    assert call("pack", "ctx", "-o", "packed", *options).code == 0
    packed = (place.path / "packed").read_bytes()
    with raw_server(STORED) as server:
        url = f"{server.url}/k?{QUERY}"
        assert call("build", "ctx", "--url", url, "-o", "kept", *options).code == 0
    assert packed == (place.path / "kept").read_bytes() == server.requests[0].body


@SLOW
@pytest.mark.usefixtures("tree")
def test_kinds_of_standard_output(place: Place) -> None:
    packed = place.run("pack", "ctx", "-o", "-").out
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


def test_archive_in_its_own_context_is_left_out(place: Place, call: Call) -> None:
    archives = set()
    for _ in range(3):
        assert call("pack", "ctx", "-o", "ctx/kept.tar.gz", "--mtime", "0").code == 0
        archives.add((place.path / "ctx/kept.tar.gz").read_bytes())
    assert len(archives) == 1


@pytest.mark.usefixtures("tree")
def test_json_of_pack(place: Place, call: Call) -> None:
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


def test_messages_of_pack(place: Place, call: Call) -> None:
    ended = call("pack", "ctx", "-o", "kept")
    assert (ended.code, ended.out) == (0, b"")
    assert f"kept the archive as {place.path}/kept" in ended.lines
    assert ended.lines[-1].startswith("packed: ")
    assert "from 1 file of 2 B in " in ended.lines[-1]
    assert call("pack", "ctx", "-o", "kept", "-q").err == ""


def test_ignore_file_from_standard_input(place: Place, call: Call) -> None:
    place.write("ctx/b", b"b")
    ended = call("pack", "ctx", "-o", "-", "--ignore-file", "-", stdin=b"a\n")
    assert ended.out == call("pack", "ctx", "-o", "-", "--no-ignore", "-x", "a").out


# Putting.


@pytest.mark.parametrize("file", ["archive", "-"])
def test_put(file: str, place: Place, call: Call) -> None:
    place.write("archive", ARCHIVE)
    with raw_server(answer(200, headers={"ETag": f'"{MD5}"'})) as server:
        url = f"{server.url}/bucket/key"
        stdin = ARCHIVE if file == "-" else b""
        ended = call("put", file, "--url", f"{url}?{QUERY}", "--json", "-v", stdin=stdin)
    assert ended.code == 0, ended.err
    told = ended.json
    assert server.requests[0].body_sha256 == SHA256
    assert list(told["seconds"]) == SECONDS_KEYS
    assert told["seconds"].pop("put") > 0
    assert told.pop("seconds") == {"collect": 0.0, "pack": 0.0}
    counts = ("files", "directories", "symlinks", "hardlinks", "content_bytes")
    assert told == {
        "status": "uploaded",
        "url": url,
        "http_status": 200,
        "attempts": 1,
        "verified": "md5",
        "archive": {"bytes": len(ARCHIVE), "sha256": SHA256, "md5": MD5, **dict.fromkeys(counts)},
    }
    assert f"uploading 3.0 MB to {url}" in ended.lines
    assert f"sha256 {SHA256}, md5 {MD5}" in ended.lines
    assert f"uploaded: 3.0 MB to {url} in " in ended.err
    assert "verified by md5" in ended.err
    assert "packed" not in ended.err


@contextmanager
def as_a_file(place: Place) -> Iterator[IO[bytes]]:
    with place.write("archive", b"before" + ARCHIVE).open("rb") as file:
        os.lseek(file.fileno(), 6, os.SEEK_SET)  # another process has read the beginning
        yield file


@contextmanager
def as_a_pipe(place: Place) -> Iterator[IO[bytes]]:
    place.write("archive", ARCHIVE)
    command = "for part in 1 2 3; do dd bs=1000000 count=1 2>/dev/null; sleep 0.05; done <archive"
    with subprocess.Popen(["sh", "-c", command], cwd=place.path, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        os.set_blocking(writer.stdout.fileno(), False)  # as another process may have left it
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


@SLOW
@pytest.mark.parametrize("kind", [as_a_file, as_a_pipe, as_a_socket])
def test_kinds_of_standard_input(kind: object, place: Place) -> None:
    with raw_server(STORED) as server, kind(place) as stdin:  # type: ignore[operator]
        url = f"{server.url}/k?{QUERY}"
        with place.started("put", "-", "--url", url, "--json", stdin=stdin) as process:
            out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert Ended(0, out, "").json["archive"]["sha256"] == SHA256
    assert server.requests[0].body_sha256 == SHA256
    assert ("Content-Length", str(len(ARCHIVE))) in server.requests[0].headers


@SLOW
def test_dev_stdin_is_a_file_like_any_other(place: Place) -> None:
    place.write("archive", ARCHIVE)
    with raw_server(STORED) as server:
        command = ("put", "/dev/stdin", "--url", f"{server.url}/k?{QUERY}")
        with (
            open(place.path / "archive", "rb") as stdin,
            place.started(*command, stdin=stdin) as process,
        ):
            assert process.wait(PATIENCE) == 0
        ended = place.run(*command, stdin=b"a pipe has no length")
    assert [request.body_sha256 for request in server.requests] == [SHA256]
    assert ended.code == 2
    assert "is not a regular file" in ended.err


def test_put_does_not_wait_for_a_fifo(place: Place, call: Call) -> None:
    os.mkfifo(place.path / "fifo")
    error = call("put", "fifo", "--url", URL, "--json").told(2)
    assert "fifo is not a regular file" in error["message"]
    assert (place.path / "fifo").is_fifo()


@SLOW
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"put - --url {URL}", 3),
        ("put ctx/a --url -", 2),
        ("put ctx/a --url-file -", 2),
        ("pack ctx -o kept --ignore-file -", 3),
        ("explain ctx -", 2),
    ],
)
def test_standard_input_that_cannot_be_read(command: str, code: int, place: Place) -> None:
    """It is open for writing only; Python itself reports a directory as an empty file."""
    error = place.run(*command.split(), "--json", sh='exec "$0" "$@" 0>written').told(code)
    assert "cannot be read" in error["message"]
    assert error["hint"]


@pytest.mark.parametrize(
    ("encoding", "way"),
    [
        *(("utf-8-sig", "--url -"), ("utf-8-sig", "--url-file url")),
        *(("utf-16", "--url -"), ("utf-16-le", "--url-file url"), ("utf-16-be", "--url -")),
    ],
)
def test_url_in_a_windows_text_file(encoding: str, way: str, place: Place, call: Call) -> None:
    with raw_server(STORED) as server:
        text = f"{server.url}/k?{QUERY}\r\n".encode(encoding)
        place.write("url", text)
        ended = call("put", "ctx/a", *way.split(), "--json", stdin=text)
    if encoding == "utf-8-sig":
        assert ended.code == 0
        assert len(server.requests) == 1
        return
    error = ended.told(2)
    assert "the URL is UTF-16 text in" in error["message"]
    assert "UTF-8" in error["hint"]
    assert not server.requests


@SLOW
def test_broken_standard_input_is_not_sent(place: Place) -> None:
    with raw_server(STORED) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        command = ("put", "-", "--url", f"{server.url}/k?{QUERY}", "--json")
        with place.started(*command, stdin=theirs.fileno()) as process:
            theirs.close()
            ours.sendall(ARCHIVE[:100_000])
            # Reset the connection, so that the reader gets an error, not the end of the file.
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            ours.close()
            out, err = process.communicate(timeout=PATIENCE)
    error = Ended(process.returncode, out, err.decode()).told(3)
    assert "the archive cannot be read from its stream: Connection reset" in error["message"]
    assert server.requests == []


@SLOW
def test_pack_piped_into_put(place: Place) -> None:
    """If `pack` fails, nothing is uploaded."""
    with raw_server(STORED) as server:
        pipeline = '"$0" -m e2b_upload pack {ctx} -o - -q | exec "$0" "$@"'
        command = ("put", "-", "--url", f"{server.url}/k?{QUERY}", "--json")
        failed = place.run(*command, sh=pipeline.replace("{ctx}", "nowhere"))
        assert server.requests == []
        done = place.run(*command, sh=pipeline.replace("{ctx}", "ctx"))
    assert "the archive is empty" in failed.told(2)["message"]
    assert done.json["archive"]["sha256"] == server.requests[0].body_sha256


@pytest.mark.parametrize("script", [answer(500), early(403)], ids=["500", "403"])
def test_spool_is_removed(script: Script, place: Place, call: Call) -> None:
    with raw_server(script) as server:
        command = ("put", "-", "--url", f"{server.url}/k?{QUERY}", "--spool-dir", "spool")
        assert call(*command, stdin=ARCHIVE).code in {5, 6}
    assert place.left_behind() == []


def test_kept_archive_is_put_with_a_fresh_url(place: Place, call: Call) -> None:
    expired = answer(403, b"<Error><Code>AccessDenied</Code><Message>expired</Message></Error>")
    with raw_server(expired, STORED) as server:
        url = f"{server.url}/k?{QUERY}"
        refused = call("build", "ctx", "--url", url, "-o", "kept", "--json").told(6)
        assert f"as {place.path}/kept: upload it to a fresh URL" in refused["hint"]
        told = call("put", "kept", "--url", url, "--json").json
    first, second = server.requests
    assert first.body == second.body == (place.path / "kept").read_bytes()
    assert told["archive"]["sha256"] == first.body_sha256


@SLOW
def test_expired_url_is_refused_before_standard_input_is_read(place: Place) -> None:
    query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20200101T000000Z&X-Amz-Expires=60"
    with place.started("put", "-", "--url", f"http://h/k?{query}&{QUERY}") as process:
        assert process.wait(PATIENCE) == 6  # although nobody has written to it


def test_archive_with_a_hostile_name(place: Place, call: Call) -> None:
    name = os.fsdecode(b"\x1b[2J\n\xff")
    (place.path / name).write_bytes(b"archive")
    with raw_server(STORED) as server:
        command = ("put", name, "--url", f"{server.url}/k?{QUERY}", "--json")
        assert call(*command).code == 0
        (place.path / name).unlink()
        error = call(*command).told(2)
    assert r"the archive \x1b[2J\n\xff cannot be opened" in error["message"]
