"""What each option, and its environment variable, does to what is sent, packed or listed."""

import io
import os
import tarfile
from collections.abc import Mapping
from typing import Any

import pytest
from typer.main import get_command

from e2b_upload.archive.pack import Archive, pack_entries
from e2b_upload.cli.app import app
from e2b_upload.cli.inputs import read_size
from e2b_upload.errors import UsageError
from tests.cli.cases import STORED
from tests.cli.conftest import Call
from tests.cli.harness import QUERY, Place
from tests.support.rawserver import Recorded, raw_server

PACKS = pytest.mark.parametrize("verb", ["build", "pack"])
PUTS = pytest.mark.parametrize("verb", ["build", "put"])


@pytest.fixture
def tree(place: Place) -> None:
    for name in ("ctx/a.log", "ctx/b/c.log", "ctx/b/d", "other/e"):
        place.write(name, name.encode())
    place.write("ctx/.dockerignore", b"**/*.log\n")
    place.write("others", b"b\n")
    (place.path / "ctx/link").symlink_to("../other")


def sent(
    call: Call, *args: str, env: Mapping[str, str] | None = None, command: str = "build ctx"
) -> Recorded:
    with raw_server(STORED) as server:
        ended = call(*command.split(), "--url", f"{server.url}/k?{QUERY}", *args, env=env)
    assert ended.code == 0, ended.err
    (request,) = server.requests
    return request


def packed(
    verb: str, call: Call, place: Place, *args: str, env: Mapping[str, str] | None = None
) -> bytes:
    """Return the archive that a command makes."""
    if verb == "build":
        return sent(call, *args, env=env).body
    ended = call("pack", "ctx", "-o", "kept", *args, env=env)
    assert ended.code == 0, ended.err
    return (place.path / "kept").read_bytes()


def members(archive: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getmembers()


def chosen(
    verb: str, call: Call, place: Place, *args: str, env: Mapping[str, str] | None = None
) -> list[str]:
    """Return which paths are part of the context, by what a command tells."""
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
        ("", {"E2B_UPLOAD_IGNORE_FILE": ""}, WITHOUT_LOGS),
    ],
)
@pytest.mark.parametrize("verb", ["build", "pack", "ls", "explain"])
def test_what_is_chosen(
    verb: str, args: str, env: dict[str, str], names: list[str], *, call: Call, place: Place
) -> None:
    assert chosen(verb, call, place, *args.split(), env=env) == names


@pytest.mark.parametrize(
    ("args", "env", "begins"),
    [
        ("", {}, b"\x1f\x8b"),
        ("--compression fast", {}, b"\x1f\x8b"),
        ("--compression none", {}, b"a\0"),
        ("", {"E2B_UPLOAD_COMPRESSION": "none"}, b"a\0"),
        ("--compression small", {"E2B_UPLOAD_COMPRESSION": "none"}, b"\x1f\x8b"),
        ("", {"E2B_UPLOAD_COMPRESSION": ""}, b"\x1f\x8b"),
    ],
)
@PACKS
def test_compression(
    verb: str, args: str, env: dict[str, str], begins: bytes, *, call: Call, place: Place
) -> None:
    assert packed(verb, call, place, *args.split(), env=env).startswith(begins)


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
        ("", {"E2B_UPLOAD_THREADS": ""}, None),
    ],
)
@PACKS
def test_threads(
    verb: str,
    args: str,
    env: dict[str, str],
    threads: int | None,
    *,
    call: Call,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def noting(*args: Any, threads: int | None, **options: Any) -> Archive:
        asked.append(threads)
        return pack_entries(*args, threads=threads, **options)

    monkeypatch.setattr("e2b_upload.pipeline.pack_entries", noting)
    archive = packed(verb, call, place, *args.split(), env=env)
    assert [member.name for member in members(archive)] == ["a"]
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
    assert f"for '{'--threads' if how == 'option' else 'E2B_UPLOAD_THREADS'}': " in message
    assert hint.startswith("  ")
    assert "--help" in hint


@pytest.mark.parametrize(
    ("args", "env", "latest"),
    [
        ("--mtime 1000", {}, 1000),
        ("--mtime 0", {}, 0),
        ("", {"SOURCE_DATE_EPOCH": "1000"}, 1000),
        ("--mtime 2000", {"SOURCE_DATE_EPOCH": "1000"}, 2000),
        ("", {"SOURCE_DATE_EPOCH": ""}, 3000),
    ],
)
@PACKS
def test_mtime(
    verb: str, args: str, env: dict[str, str], latest: int, *, call: Call, place: Place
) -> None:
    os.utime(place.path / "ctx/a", (3000, 3000))
    archive = packed(verb, call, place, *args.split(), env=env)
    assert [member.mtime for member in members(archive)] == [latest]


@PUTS
def test_headers_are_sent_beside_one_exact_length(verb: str, call: Call) -> None:
    headers = ["-H", "Content-Type: application/gzip", "--header", "x-amz-meta-a:b: c "]
    request = sent(call, *headers, command="build ctx" if verb == "build" else "put ctx/a")
    told = {name.lower(): value for name, value in request.headers}
    assert told["content-type"] == "application/gzip"
    assert told["x-amz-meta-a"] == "b: c"
    assert told["content-length"] == str(request.body_bytes)
    assert "transfer-encoding" not in told


def test_a_header_is_sent_as_utf_8_or_in_the_bytes_that_were_given(
    place: Place, call: Call
) -> None:
    place.write("archive", b"a")
    headers = ["-H", "x-amz-meta-a: caf\xe9 \u20ac", "-H", "x-amz-meta-b: caf\udce9"]
    with raw_server(STORED) as server:
        assert call("put", "archive", "--url", f"{server.url}/k?{QUERY}", *headers).code == 0
    (request,) = server.requests
    assert b"\r\nx-amz-meta-a: caf\xc3\xa9 \xe2\x82\xac\r\n" in request.head
    assert b"\r\nx-amz-meta-b: caf\xe9\r\n" in request.head


@pytest.mark.parametrize(
    ("args", "env"),
    [
        ("", {}),
        ("", {"E2B_UPLOAD_SPOOL_DIR": "spool", "TMPDIR": "nowhere"}),
        ("--spool-dir spool", {"E2B_UPLOAD_SPOOL_DIR": "nowhere", "TMPDIR": "nowhere"}),
        ("", {"E2B_UPLOAD_SPOOL_DIR": ""}),
    ],
)
@pytest.mark.parametrize("command", ["build ctx", "put -"])
def test_the_spool_folder(command: str, args: str, env: dict[str, str], call: Call) -> None:
    with raw_server(STORED) as server:
        url = f"{server.url}/k?{QUERY}"
        ended = call(*command.split(), "--url", url, *args.split(), env=env, stdin=b"archive")
    assert ended.code == 0, ended.err
    assert server.requests[0].body_bytes


def test_an_archive_that_is_kept_waits_beside_its_name_or_where_it_is_told_to(
    place: Place, call: Call
) -> None:
    nowhere = {"TMPDIR": "nowhere"}
    assert packed("pack", call, place, env=nowhere)
    assert packed("pack", call, place, "--spool-dir", "spool", env=nowhere)
    assert packed("pack", call, place, env=nowhere | {"E2B_UPLOAD_SPOOL_DIR": "spool"})
    assert call("pack", "ctx", "-o", "kept", "--spool-dir", "nowhere").code == 4


SIZES = {
    "0": 0,
    "7": 7,
    "8B": 8,
    " 9 b ": 9,
    "1kB": 1000,
    "1KB": 1000,
    "1kb": 1000,
    "1KiB": 1024,
    "1 kib": 1024,
    "500MB": 500 * 10**6,
    "500MiB": 500 * 2**20,
    "1.5GB": 1_500_000_000,
    "1.5GiB": 1_610_612_736,
    "0.5 kB": 500,
    "2TB": 2 * 10**12,
    "2TiB": 2 * 2**40,
    "0.001KiB": 1,
    "1.000000001GB": 1_000_000_001,
    "999999999999999TiB": 999_999_999_999_999 * 2**40,
}


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_what_is_a_size(text: str, size: int) -> None:
    assert read_size("--max-size", text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "B", "MB", "-1", "+1", "1K", "1M", "1G", "1Ki", "1PB", "1EiB", "1e3", "0x10"),
        *(
            "1,000",
            "1_000",
            "1.",
            ".5",
            "1.5.5MB",
            "1 000",
            "1MB/s",
            "inf",
            "nan",
            "\u0661",
            "1\N{KELVIN SIGN}B",
            "1K\N{LATIN SMALL LETTER DOTLESS I}B",
            "1K\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}B",
            "1\n2",
        ),
    ],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is no size for --max-size") as error:
        read_size("--max-size", text)
    assert "500MB" in error.value.hint


@pytest.mark.parametrize(
    ("args", "env", "code"),
    [
        ("", {}, 0),
        ("--max-size 999", {}, 6),
        ("--max-size 1kB", {}, 0),
        ("--max-size 0", {}, 6),
        ("", {"E2B_UPLOAD_MAX_SIZE": "999"}, 6),
        ("", {"E2B_UPLOAD_MAX_SIZE": "1000B"}, 0),
        ("", {"E2B_UPLOAD_MAX_SIZE": ""}, 0),
        ("--max-size 1MB", {"E2B_UPLOAD_MAX_SIZE": "1"}, 0),
        ("--max-size 1", {"E2B_UPLOAD_MAX_SIZE": "1MB"}, 6),
    ],
)
@pytest.mark.parametrize("file", ["archive", "-"])
def test_max_size(
    file: str, args: str, env: dict[str, str], code: int, *, place: Place, call: Call
) -> None:
    place.write("archive", b"a" * 1000)
    with raw_server(STORED) as server:
        url = f"{server.url}/k?{QUERY}"
        ended = call("put", file, "--url", url, *args.split(), env=env, stdin=b"a" * 1000)
    assert ended.code == code
    assert len(server.requests) == (code == 0), "it is refused before anything is sent"


@pytest.mark.parametrize("more", ["", "--dry-run", "--url {url} --dry-run", "--url {url}"])
def test_max_size_bounds_what_is_packed_not_what_it_holds(
    more: str, place: Place, call: Call
) -> None:
    place.write("ctx/zeros", bytes(1_000_000))
    env = {} if more else {"E2B_UPLOAD_URL": "{url}"}
    with raw_server(STORED) as server:
        url = f"{server.url}/k?{QUERY}"
        command = ["build", "ctx", *more.replace("{url}", url).split()]
        env = {name: value.replace("{url}", url) for name, value in env.items()}
        assert call(*command, "--max-size", "100kB", env=env).code == 0
        assert call(*command, "--max-size", "100kB", "--compression", "none", env=env).code == 6
    assert len(server.requests) == ("--dry-run" not in more)


@pytest.mark.parametrize(
    ("args", "env", "code"),
    [
        ("", {}, 0),
        ("--secrets off", {}, 0),
        ("--secrets deny", {}, 3),
        ("", {"E2B_UPLOAD_SECRETS": "deny"}, 3),
        ("", {"E2B_UPLOAD_SECRETS": ""}, 0),
        ("--secrets warn", {"E2B_UPLOAD_SECRETS": "deny"}, 0),
        ("--secrets deny", {"E2B_UPLOAD_SECRETS": "off"}, 3),
        ("--secrets deny -x id_rsa", {}, 0),
    ],
)
@pytest.mark.parametrize("command", ["build ctx --dry-run", "pack ctx -o kept", "ls ctx"])
def test_secrets_are_denied(
    command: str, args: str, env: dict[str, str], code: int, *, place: Place, call: Call
) -> None:
    place.write("ctx/id_rsa", b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    ended = call(*command.split(), *args.split(), env=env)
    assert ended.code == code
    assert ("error: " in ended.err and "id_rsa" in ended.err) == (code == 3)
    assert (place.path / "kept").exists() == (code == 0 and "kept" in command)


OPTIONS_OF = {
    "build": "--url --url-file --header -H --retries --connect-timeout --stall-timeout --max-time "
    "--max-size --if-absent --ignore-checksum --dry-run --ignore-file --no-ignore --exclude "
    "-x --follow-symlinks --allow-empty --secrets --warn-size --compression --threads --mtime "
    "--spool-dir --output -o --progress "
    "--template --copy --dockerfile --force --create --api-key-file --api-url --domain",
    "pack": "--ignore-file --no-ignore --exclude -x --follow-symlinks --allow-empty --secrets "
    "--warn-size --compression --threads --mtime --spool-dir --output -o --progress",
    "put": "--url --url-file --header -H --retries --connect-timeout --stall-timeout --max-time "
    "--max-size --if-absent --ignore-checksum --spool-dir --progress",
    "ls": "--ignore-file --no-ignore --exclude -x --follow-symlinks --secrets --tree --largest "
    "--copy --dockerfile",
    "explain": "--ignore-file --no-ignore --exclude -x --follow-symlinks --copy --dockerfile",
    "hash": "--exclude -x --follow-symlinks --copy --dockerfile",
}
VARIABLES_OF = {
    "E2B_UPLOAD_URL": "--url",
    "E2B_UPLOAD_IGNORE_FILE": "--ignore-file",
    "E2B_UPLOAD_COMPRESSION": "--compression",
    "SOURCE_DATE_EPOCH": "--mtime",
    "E2B_UPLOAD_SPOOL_DIR": "--spool-dir",
    "E2B_UPLOAD_RETRIES": "--retries",
    "E2B_UPLOAD_CONNECT_TIMEOUT": "--connect-timeout",
    "E2B_UPLOAD_STALL_TIMEOUT": "--stall-timeout",
    "E2B_UPLOAD_MAX_TIME": "--max-time",
    "E2B_UPLOAD_MAX_SIZE": "--max-size",
    "E2B_UPLOAD_SECRETS": "--secrets",
    "E2B_UPLOAD_WARN_SIZE": "--warn-size",
    "E2B_UPLOAD_PROGRESS": "--progress",
    "E2B_UPLOAD_THREADS": "--threads",
    "E2B_API_URL": "--api-url",
    "E2B_DOMAIN": "--domain",
}


@pytest.mark.parametrize("verb", OPTIONS_OF)
def test_the_options_of_each_command_and_their_variables(verb: str) -> None:
    command: Any = get_command(app)
    options = {
        name: param.envvar
        for param in command.commands[verb].params
        if param.param_type_name == "option"
        for name in param.opts
    }
    common = "--quiet -q --verbose -v --color --json"
    named = f"{OPTIONS_OF[verb]} {common}".split()
    assert sorted(options) == sorted(named)
    variables = {option: variable for variable, option in VARIABLES_OF.items()}
    assert options == {name: variables.get(name) for name in named}
