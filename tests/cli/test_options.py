"""What each option, and its environment variable, changes in what is sent, packed, or listed."""

import io
import os
import tarfile
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from typer.main import get_command

from e2b_upload.cli.app import app
from tests.cli.cases import STORED
from tests.cli.conftest import Call
from tests.cli.harness import QUERY, Place
from tests.support.rawserver import Recorded, raw_server

Env = Mapping[str, str]


@pytest.fixture
def tree(place: Place) -> None:
    for name in ("ctx/a.log", "ctx/b/c.log", "ctx/b/d", "other/e"):
        place.write(name, name.encode())
    place.write("ctx/.dockerignore", b"**/*.log\n")
    place.write("others", b"b\n")
    (place.path / "ctx/link").symlink_to("../other")


def sent(call: Call, *args: str, env: Env | None = None, command: str = "build ctx") -> Recorded:
    with raw_server(STORED) as server:
        ended = call(*command.split(), "--url", f"{server.url}/k?{QUERY}", *args, env=env)
    assert ended.code == 0, ended.err
    (request,) = server.requests
    return request


def packed(verb: str, call: Call, place: Place, *args: str, env: Env | None = None) -> bytes:
    """Return the archive that a command makes."""
    if verb == "build":
        return sent(call, *args, env=env).body
    ended = call("pack", "ctx", "-o", "kept", *args, env=env)
    assert ended.code == 0, ended.err
    return (place.path / "kept").read_bytes()


def members(archive: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getmembers()


def chosen(verb: str, call: Call, place: Place, *args: str, env: Env | None = None) -> list[str]:
    """Return which paths a command takes for a part of the context."""
    if verb in {"build", "pack"}:
        return [member.name for member in members(packed(verb, call, place, *args, env=env))]
    if verb == "ls":
        entries = call("ls", "ctx", "--json", *args, env=env).json["entries"]
        return [entry["path"] for entry in entries]
    paths = [*ALL, "link/e"] if "--follow-symlinks" in args else ALL
    told = call("explain", "ctx", "--json", *args, "--", *paths, env=env).json["paths"]
    return [each["path"] for each in told if each["kept"]]


ALL = [".dockerignore", "a", "a.log", "b", "b/c.log", "b/d", "link"]
WITHOUT_LOGS = [".dockerignore", "a", "b", "b/d", "link"]
WITHOUT_B = [".dockerignore", "a", "a.log", "link"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("args", "env", "names"),
    [
        ("--no-ignore", {"E2B_UPLOAD_IGNORE_FILE": "others"}, ALL),
        ("", {"E2B_UPLOAD_IGNORE_FILE": "others"}, WITHOUT_B),
        ("--ignore-file ctx/.dockerignore", {"E2B_UPLOAD_IGNORE_FILE": "others"}, WITHOUT_LOGS),
        ("-x b --exclude link", {}, [".dockerignore", "a"]),
        ("-x !a.log -x b", {}, [".dockerignore", "a", "a.log", "link"]),
        ("--follow-symlinks", {}, [*WITHOUT_LOGS, "link/e"]),
        ("", {"E2B_UPLOAD_IGNORE_FILE": ""}, WITHOUT_LOGS),
    ],
)
@pytest.mark.parametrize("verb", ["build", "pack", "ls", "explain"])
def test_selection(
    verb: str, args: str, env: Env, names: list[str], *, call: Call, place: Place
) -> None:
    assert chosen(verb, call, place, *args.split(), env=env) == names


GZIP, TAR = b"\x1f\x8b", b"a\0"


@pytest.mark.parametrize(
    ("verb", "args", "env", "begins"),
    [
        ("build", "--compression none", {}, TAR),
        ("build", "", {"E2B_UPLOAD_COMPRESSION": "none"}, TAR),
        ("pack", "", {"E2B_UPLOAD_COMPRESSION": "none"}, TAR),
        ("pack", "--compression small", {"E2B_UPLOAD_COMPRESSION": "none"}, GZIP),
    ],
)
def test_compression(
    verb: str, args: str, env: Env, begins: bytes, *, call: Call, place: Place
) -> None:
    assert packed(verb, call, place, *args.split(), env=env).startswith(begins)


@pytest.mark.parametrize(
    ("verb", "args", "env", "threads"),
    [
        ("build", "--threads 1", {}, 1),
        ("pack", "--threads 64", {}, 64),
        ("build", "", {"E2B_UPLOAD_THREADS": "3"}, 3),
        ("pack", "--threads 2", {"E2B_UPLOAD_THREADS": "3"}, 2),
    ],
)
def test_threads(
    verb: str,
    args: str,
    env: Env,
    threads: int,
    *,
    call: Call,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []
    start = threading.Thread.start

    def noting(self: threading.Thread) -> None:
        started.append(self.name)
        start(self)

    place.write("ctx/a", os.urandom(8 << 20))
    monkeypatch.setattr(threading.Thread, "start", noting)
    assert [member.name for member in members(packed(verb, call, place, *args.split(), env=env))]
    assert len([name for name in started if name.startswith("deflate")]) == threads


@pytest.mark.parametrize(
    ("verb", "args", "env", "latest"),
    [
        ("build", "--mtime 0", {}, 0),
        ("pack", "", {"SOURCE_DATE_EPOCH": "1000"}, 1000),
        ("build", "--mtime 2000", {"SOURCE_DATE_EPOCH": "1000"}, 2000),
        ("build", "", {"SOURCE_DATE_EPOCH": ""}, 3000),
    ],
)
def test_mtime(verb: str, args: str, env: Env, latest: int, *, call: Call, place: Place) -> None:
    os.utime(place.path / "ctx/a", (3000, 3000))
    archive = packed(verb, call, place, *args.split(), env=env)
    assert [member.mtime for member in members(archive)] == [latest]


@pytest.mark.parametrize("command", ["build ctx", "put ctx/a"])
def test_headers(command: str, call: Call) -> None:
    headers = ["Content-Type: application/gzip", "x-amz-meta-a:b: c "]
    headers += ["x-amz-meta-b: caf\xe9 \u20ac", "x-amz-meta-c: caf\udce9"]
    request = sent(call, *(word for each in headers for word in ("-H", each)), command=command)
    told = {name.lower(): value for name, value in request.headers}
    assert told["content-type"] == "application/gzip"
    assert told["x-amz-meta-a"] == "b: c"
    assert told["content-length"] == str(request.body_bytes)
    assert "transfer-encoding" not in told
    # As UTF-8, or in the bytes that were given.
    assert b"\r\nx-amz-meta-b: caf\xc3\xa9 \xe2\x82\xac\r\n" in request.head
    assert b"\r\nx-amz-meta-c: caf\xe9\r\n" in request.head


@pytest.mark.parametrize(
    ("args", "env"),
    [
        ("", {"E2B_UPLOAD_SPOOL_DIR": "spool", "TMPDIR": "nowhere"}),
        ("--spool-dir spool", {"E2B_UPLOAD_SPOOL_DIR": "nowhere", "TMPDIR": "nowhere"}),
        ("", {"E2B_UPLOAD_SPOOL_DIR": ""}),
    ],
)
@pytest.mark.parametrize("command", ["build ctx", "put -", "pack ctx -o kept"])
def test_spool_dir(command: str, args: str, env: Env, call: Call) -> None:
    with raw_server(STORED) as server:
        url = [] if "pack" in command else ["--url", f"{server.url}/k?{QUERY}"]
        ended = call(*command.split(), *url, *args.split(), env=env, stdin=b"archive")
    assert ended.code == 0, ended.err
    assert not url or server.requests[0].body_bytes


def test_pack_needs_no_spool_dir(place: Place, call: Call) -> None:
    """The archive is written beside its final name."""
    assert packed("pack", call, place, env={"TMPDIR": "nowhere"})


SIZES = {
    "0": 0,
    " 9 b ": 9,
    "1kB": 1000,
    "1KB": 1000,
    "1 kib": 1024,
    "0.001KiB": 1,
    "500MB": 500 * 10**6,
    "500MiB": 500 * 2**20,
    "1.000000001GB": 1_000_000_001,
    "1.5GiB": 1_610_612_736,
    "2TB": 2 * 10**12,
    "2TiB": 2 * 2**40,
}


def test_sizes(place: Place, call: Call) -> None:
    with place.write("archive", b"").open("r+b") as file:
        file.truncate(3 << 40)
    command = ("put", "archive", "--url", f"http://h/k?{QUERY}", "--max-size")
    for text, size in SIZES.items():
        assert f"larger than the {size:,} that are" in call(*command, text).err
    assert call("build", "ctx", "--dry-run", "--max-size", "999999999999999TiB").code == 0


def test_invalid_sizes(call: Call) -> None:
    for text in (
        *("", " ", "B", "MB", "+1", "1K", "1Ki", "1PB", "0x10", "1,000", "1_000", "1.", ".5"),
        *("1.5.5MB", "1 000", "1MB/s", "inf", "nan", "\u0661", "1\N{KELVIN SIGN}B", "1\n2"),
        *("1K\N{LATIN SMALL LETTER DOTLESS I}B", "1K\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}B"),
    ):
        error = call("build", "ctx", "--dry-run", "--json", "--max-size", text).told(2)
        assert "is not a valid size for --max-size" in error["message"]
        assert "500MB" in error["hint"]


@pytest.mark.parametrize(
    ("args", "env", "code"),
    [
        ("--max-size 999", {}, 6),
        ("--max-size 1kB", {}, 0),
        ("", {"E2B_UPLOAD_MAX_SIZE": "999"}, 6),
        ("--max-size 1MB", {"E2B_UPLOAD_MAX_SIZE": "1"}, 0),
        ("--max-size 1", {"E2B_UPLOAD_MAX_SIZE": "1MB"}, 6),
    ],
)
@pytest.mark.parametrize("file", ["archive", "-"])
def test_max_size(file: str, args: str, env: Env, code: int, *, place: Place, call: Call) -> None:
    place.write("archive", b"a" * 1000)
    with raw_server(STORED) as server:
        url = f"{server.url}/k?{QUERY}"
        ended = call("put", file, "--url", url, *args.split(), env=env, stdin=b"a" * 1000)
    assert ended.code == code
    assert len(server.requests) == (code == 0), "it is refused before anything is sent"


@pytest.mark.parametrize("more", ["--dry-run", "--url {url}"])
def test_max_size_limits_the_packed_size(more: str, place: Place, call: Call) -> None:
    place.write("ctx/zeros", bytes(1_000_000))
    with raw_server(STORED) as server:
        command = ["build", "ctx", *more.format(url=f"{server.url}/k?{QUERY}").split()]
        assert call(*command, "--max-size", "100kB").code == 0
        assert call(*command, "--max-size", "100kB", "--compression", "none").code == 6
    assert len(server.requests) == ("--dry-run" not in more)


@pytest.mark.parametrize(
    ("args", "env", "code"),
    [
        ("--secrets off", {}, 0),
        ("", {"E2B_UPLOAD_SECRETS": "deny"}, 3),
        ("--secrets warn", {"E2B_UPLOAD_SECRETS": "deny"}, 0),
        ("--secrets deny", {"E2B_UPLOAD_SECRETS": "off"}, 3),
        ("--secrets deny -x id_rsa", {}, 0),
    ],
)
@pytest.mark.parametrize("command", ["build ctx --dry-run", "pack ctx -o kept", "ls ctx"])
def test_secrets(command: str, args: str, env: Env, code: int, *, place: Place, call: Call) -> None:
    place.write("ctx/id_rsa", b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    ended = call(*command.split(), *args.split(), env=env)
    assert ended.code == code
    assert ("error: " in ended.err and "id_rsa" in ended.err) == (code == 3)
    assert (place.path / "kept").exists() == (code == 0 and "kept" in command)


EXCLUDE = "--exclude -x --follow-symlinks"
SELECT = f"--ignore-file --no-ignore {EXCLUDE}"
COPY = "--copy --dockerfile"
PACK = (
    f"{SELECT} --allow-empty --secrets --warn-size --compression --threads --mtime --output -o "
    "--spool-dir --progress"
)
PUT = (
    "--url --url-file --header -H --retries --connect-timeout --stall-timeout --max-time "
    "--max-size --if-absent --ignore-checksum"
)
OPTIONS_OF = {
    "build": f"{PACK} {PUT} {COPY} --dry-run "
    "--template --force --create --api-key-file --api-url --domain",
    "pack": PACK,
    "put": f"{PUT} --spool-dir --progress",
    "ls": f"{SELECT} {COPY} --secrets --tree --largest",
    "explain": f"{SELECT} {COPY}",
    "hash": f"{EXCLUDE} {COPY}",
}
VARIABLES = {
    "--mtime": "SOURCE_DATE_EPOCH",
    "--api-url": "E2B_API_URL",
    "--domain": "E2B_DOMAIN",
    **{
        option: "E2B_UPLOAD" + option.removeprefix("-").replace("-", "_").upper()
        for option in (
            *("--url", "--ignore-file", "--compression", "--spool-dir", "--retries", "--max-time"),
            *("--connect-timeout", "--stall-timeout", "--max-size", "--secrets", "--warn-size"),
            *("--progress", "--threads"),
        )
    },
}


@pytest.mark.parametrize("verb", OPTIONS_OF)
def test_options_of_each_command(verb: str) -> None:
    command: Any = get_command(app)
    options = {
        name: param.envvar
        for param in command.commands[verb].params
        if param.param_type_name == "option"
        for name in param.opts
    }
    named = f"{OPTIONS_OF[verb]} --quiet -q --verbose -v --color --json".split()
    assert options == {name: VARIABLES.get(name) for name in named}
