"""What each option, and its environment variable, does to what is sent."""

import io
import tarfile
from collections.abc import Mapping
from typing import Any

import pytest

from e2b_upload.archive.pack import Archive, pack_entries
from tests.cli.cases import STORED
from tests.cli.conftest import Call
from tests.cli.harness import QUERY, Place
from tests.support.rawserver import Recorded, raw_server


@pytest.fixture
def tree(place: Place) -> None:
    for name in ("ctx/a.log", "ctx/b/c.log", "ctx/b/d", "other/e"):
        place.write(name, name.encode())
    place.write("ctx/.dockerignore", b"**/*.log\n")
    place.write("others", b"b\n")
    (place.path / "ctx/link").symlink_to("../other")


def sent(call: Call, *args: str, env: Mapping[str, str] | None = None) -> Recorded:
    with raw_server(STORED) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}", *args, env=env)
    assert ended.code == 0, ended.err
    (request,) = server.requests
    return request


def members(request: Recorded) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(request.body)) as tar:
        return tar.getmembers()


ALL = [".dockerignore", "a", "a.log", "b", "b/c.log", "b/d", "link"]
WITHOUT_LOGS = [".dockerignore", "a", "b", "b/d", "link"]
WITHOUT_B = [".dockerignore", "a", "a.log", "link"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("args", "env", "names"),
    [
        ("", {}, WITHOUT_LOGS),
        ("--no-ignore", {}, ALL),
        ("--no-ignore", {"E2B_UPLOAD_IGNORE_FILE": "others"}, ALL),
        ("--ignore-file others", {}, WITHOUT_B),
        ("", {"E2B_UPLOAD_IGNORE_FILE": "others"}, WITHOUT_B),
        ("--ignore-file ctx/.dockerignore", {"E2B_UPLOAD_IGNORE_FILE": "others"}, WITHOUT_LOGS),
        ("-x b -x link", {}, [".dockerignore", "a"]),
        ("-x !a.log --exclude b", {}, [".dockerignore", "a", "a.log", "link"]),
        ("--no-ignore -x **/*.log", {}, WITHOUT_LOGS),
        ("--follow-symlinks", {}, [*WITHOUT_LOGS, "link/e"]),
    ],
)
def test_what_is_chosen(args: str, env: dict[str, str], names: list[str], call: Call) -> None:
    assert [member.name for member in members(sent(call, *args.split(), env=env))] == names


@pytest.mark.parametrize(
    ("args", "env", "begins"),
    [
        ("", {}, b"\x1f\x8b"),
        ("--compression fast", {}, b"\x1f\x8b"),
        ("--compression none", {}, b"a\0"),
        ("", {"E2B_UPLOAD_COMPRESSION": "none"}, b"a\0"),
        ("--compression small", {"E2B_UPLOAD_COMPRESSION": "none"}, b"\x1f\x8b"),
    ],
)
def test_compression(args: str, env: dict[str, str], begins: bytes, call: Call) -> None:
    assert sent(call, *args.split(), env=env).body.startswith(begins)


@pytest.mark.parametrize(
    ("args", "env", "threads"),
    [
        ("", {}, None),
        ("--threads 3", {}, 3),
        ("--threads 1", {}, 1),
        ("--threads 64", {}, 64),
        ("", {"E2B_UPLOAD_THREADS": "3"}, 3),
        ("--threads 2", {"E2B_UPLOAD_THREADS": "3"}, 2),
        ("--threads 3 --compression none", {}, 3),
    ],
)
def test_threads(
    args: str,
    env: dict[str, str],
    threads: int | None,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def noting(*args: Any, threads: int | None, **options: Any) -> Archive:
        asked.append(threads)
        return pack_entries(*args, threads=threads, **options)

    monkeypatch.setattr("e2b_upload.pipeline.pack_entries", noting)
    request = sent(call, *args.split(), env=env)
    assert [member.name for member in members(request)] == ["a"]
    assert asked == [threads]


@pytest.mark.parametrize("value", ["0", "65", "-1", "x", "1.5"])
@pytest.mark.parametrize("how", ["option", "environment"])
def test_threads_that_are_no_number_from_1_to_64_are_a_mistake(
    how: str, value: str, call: Call
) -> None:
    command = ["build", "ctx", "--dry-run"]
    if how == "option":
        ended = call(*command, "--threads", value)
    else:
        ended = call(*command, env={"E2B_UPLOAD_THREADS": value})
    assert ended.code == 2
    message, hint = ended.lines[-2:]
    assert message.startswith("error: ")
    assert "'--threads'" in message
    assert hint.startswith("  ")
    assert "--help" in hint


@pytest.mark.parametrize(
    ("args", "env", "latest"),
    [
        ("--mtime 1000", {}, 1000),
        ("--mtime 0", {}, 0),
        ("", {"SOURCE_DATE_EPOCH": "1000"}, 1000),
        ("--mtime 2000", {"SOURCE_DATE_EPOCH": "1000"}, 2000),
    ],
)
def test_mtime(args: str, env: dict[str, str], latest: int, call: Call) -> None:
    assert [member.mtime for member in members(sent(call, *args.split(), env=env))] == [latest]


def test_headers_are_sent_beside_one_exact_length(call: Call) -> None:
    headers = ["-H", "Content-Type: application/gzip", "--header", "x-amz-meta-a:b: c "]
    request = sent(call, *headers)
    told = {name.lower(): value for name, value in request.headers}
    assert told["content-type"] == "application/gzip"
    assert told["x-amz-meta-a"] == "b: c"
    assert told["content-length"] == str(request.body_bytes)
    assert "transfer-encoding" not in told


@pytest.mark.parametrize(
    ("args", "env"),
    [
        ("", {}),
        ("", {"E2B_UPLOAD_SPOOL_DIR": "spool", "TMPDIR": "nowhere"}),
        ("--spool-dir spool", {"E2B_UPLOAD_SPOOL_DIR": "nowhere", "TMPDIR": "nowhere"}),
    ],
)
def test_the_spool_folder(args: str, env: dict[str, str], call: Call) -> None:
    assert sent(call, *args.split(), env=env).body_bytes
