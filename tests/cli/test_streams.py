"""Standard output carries what was asked for and nothing else; the rest goes to standard error."""

import io
import os
import re
import stat
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2b_upload import __version__
from tests.cli.cases import MISTAKES, STORED
from tests.cli.conftest import Call
from tests.cli.harness import LIMITED, PATIENCE, QUERY, Ended, Place
from tests.support.rawserver import raw_server

SLOW = pytest.mark.slow
BUILD = "build ctx --dry-run"
WRONG = "build nowhere --dry-run"


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def assert_no_traceback(ended: Ended) -> None:
    assert "Traceback" not in ended.err
    assert "Exception ignored" not in ended.err
    assert "internal error" not in ended.err


@pytest.mark.parametrize(
    ("command", "code", "asked"),
    [
        ("--version", 0, f"e2b-upload {__version__}\n"),
        ("--help", 0, "build"),
        ("build -h", 0, "--url-file"),
        ("put --help", 0, "E2B_UPLOAD_URL"),
        (BUILD, 0, ""),
        (WRONG, 2, ""),
        ("", 2, ""),
    ],
)
def test_standard_output(command: str, code: int, asked: str, call: Call) -> None:
    ended = call(*command.split())
    assert ended.code == code
    assert asked in ended.out.decode()
    assert bool(asked) == bool(ended.out)
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("verb", MISTAKES)
def test_bug_report(verb: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the unforeseen")

    for name in ("build", "put", "collect", "explain"):
        monkeypatch.setattr(f"e2b_upload.pipeline.run_{name}", crash)
    monkeypatch.setattr("e2b_upload.e2b.listing.files_hash", crash)
    command = MISTAKES[verb].split()
    ended = call(*command, "--json")
    assert ended.told(1)["message"] == "ZeroDivisionError: the unforeseen"
    for words in ("ZeroDivisionError: the unforeseen", "Python 3.", "e2b-upload 0.", "in crash"):
        assert words in ended.err
    assert "file" in ended.lines[-1]
    ended = call(*command)
    assert (ended.code, ended.out) == (1, b"")


# Files that cannot be read, and file size limits.

UNREADABLE = {
    "file": ("ctx/a", 0, "ctx/a cannot be opened: Permission denied"),
    "directory": ("ctx/b", 0, "the folder ctx/b cannot be listed: Permission denied"),
    "directory without x": ("ctx/b", 0o444, "ctx/b/c cannot be read: Permission denied"),
    "context": ("ctx", 0, "the context ctx may not be read"),
    "ignore file": ("ctx/.dockerignore", 0, "ctx/.dockerignore cannot be read: Permission denied"),
}


@SLOW
@pytest.mark.parametrize(("name", "mode", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_source(name: str, mode: int, message: str, place: Place) -> None:
    place.write("ctx/b/c", b"c")
    place.write("ctx/.dockerignore", b"d\n")
    (place.path / name).chmod(mode)
    ended = place.run("build", "ctx", "--dry-run", "--json", privileged=False)
    (place.path / name).chmod(0o700)
    assert message in ended.told(3)["message"]


@SLOW
@pytest.mark.parametrize(
    "command", [f"{BUILD} --spool-dir spool", f"{BUILD} -o kept", "put - --url http://h/k"]
)
def test_file_size_limit(command: str, place: Place) -> None:
    place.write("ctx/b", data := b"b" * 3_000_000)
    more = ["--compression", "none"] if command.startswith("build") else []
    ended = place.run(*command.split(), *more, "--json", sh=LIMITED, stdin=data)
    error = ended.told(4)
    assert "a limit on the size of files is met" in error["message"]
    assert "--spool-dir" in error["hint"]
    assert not (place.path / "kept").exists()


@SLOW
@pytest.mark.parametrize(
    ("mode", "sh", "code"), [(0, "", 3), (0o600, LIMITED, 4)], ids=["unreadable", "too large"]
)
def test_failed_build_keeps_the_previous_archive(
    mode: int, sh: str, code: int, place: Place
) -> None:
    place.write("ctx/b", os.urandom(3_000_000))
    place.write("ctx/c", b"c").chmod(mode)
    place.write("kept/archive", b"previous")
    ended = place.run(*BUILD.split(), "-o", "kept/archive", sh=sh, privileged=False)
    assert (ended.code, ended.out) == (code, b"")
    assert os.listdir(place.path / "kept") == ["archive"]
    assert (place.path / "kept/archive").read_bytes() == b"previous"


# Where the archive goes.


@SLOW
def test_archive_on_standard_output(place: Place) -> None:
    place.write("ctx/b/c", os.urandom(300_000))
    with raw_server(STORED) as server:
        ended = place.run("build", "ctx", "--url", f"{server.url}/k?{QUERY}", "-o", "/dev/stdout")
    assert ended.code == 0
    assert names(ended.out) == ["a", "b", "b/c"]
    assert ended.out == server.requests[0].body


def test_kept_archive_replaces_the_previous_one(place: Place, call: Call) -> None:
    place.write("kept", b"previous")
    with raw_server(STORED) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}", "-o", "kept")
    assert (ended.code, ended.out) == (0, b"")
    assert (place.path / "kept").read_bytes() == server.requests[0].body


def test_output_device_and_fifo(place: Place, call: Call) -> None:
    assert call(*BUILD.split(), "-o", "/dev/null").code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    fifo = place.path / "fifo"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as reader:
        archive = reader.submit(fifo.read_bytes)
        assert call(*BUILD.split(), "-o", "fifo").code == 0
        assert names(archive.result(PATIENCE)) == ["a"]
    assert fifo.is_fifo()


# Streams that are closed, full, or have no reader.


def run_broken(command: str, stream: str, how: str, place: Place) -> Ended:
    """Run a command with a stream that is closed, full, or a pipe without a reader."""
    redirection = {"stdin": "<", "stdout": ">", "stderr": "2>"}[stream]
    if how == "unread":
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            if stream == "stdout":
                ended = place.run(*command.split(), stdout=pipe)
            else:
                ended = place.run(*command.split(), stderr=pipe)
    else:
        target = "&-" if how == "closed" else "/dev/full"
        ended = place.run(*command.split(), sh=f'exec "$0" "$@" {redirection}{target}')
    assert_no_traceback(ended)
    return ended


# If nobody wants the output any more, that is a success; lost output is exit code 4.
LOST_OUTPUT = {
    f"{BUILD} --json": ({0}, {4}, {0, 4}),
    f"{WRONG} --json": ({2}, {2, 4}, {2, 4}),
    "pack ctx -o -": ({4}, {4}, {4}),
    "ls ctx": ({0}, {4}, {4}),
    "ls ctx --tree": ({0}, {4}, {4}),
    "ls ctx --json": ({0}, {4}, {4}),
    "explain ctx a": ({0}, {4}, {4}),
    "--help": ({0, 141}, {4}, {0, 4}),
}
FAST_OUTPUT = {("ls ctx", "unread"), (f"{BUILD} --json", "full"), ("pack ctx -o -", "closed")}


@pytest.mark.parametrize(
    ("command", "how", "codes"),
    [
        pytest.param(command, how, codes, marks=[] if (command, how) in FAST_OUTPUT else SLOW)
        for command, each in LOST_OUTPUT.items()
        for how, codes in zip(("unread", "full", "closed"), each, strict=True)
    ],
)
def test_broken_standard_output(command: str, how: str, codes: set[int], place: Place) -> None:
    ended = run_broken(command, "stdout", how, place)
    assert ended.code in codes
    assert how != "full" or "error: " in ended.err


LOST_MESSAGES = {
    BUILD: 0,
    f"{BUILD} --progress bar --json": 0,
    f"{WRONG} --json": 2,
    "pack ctx -o kept -v": 0,
    "ls ctx -v": 0,
}


@pytest.mark.parametrize(
    ("command", "how"),
    [
        pytest.param(command, how, marks=[] if (command, how) == (BUILD, "closed") else SLOW)
        for command in LOST_MESSAGES
        for how in ("unread", "full", "closed")
    ],
)
def test_broken_standard_error(command: str, how: str, place: Place) -> None:
    ended = run_broken(command, "stderr", how, place)
    assert ended.code == LOST_MESSAGES[command]
    assert bool(ended.out) == ("--json" in command or command.startswith("ls"))


@SLOW
@pytest.mark.parametrize(
    ("command", "code"),
    [
        *((BUILD, 0), ("build ctx --url -", 2), ("put - --url http://h/k", 2)),
        *(("explain ctx -", 0), ("ls ctx --ignore-file -", 0)),
    ],
)
def test_closed_standard_input(command: str, code: int, place: Place) -> None:
    assert run_broken(command, "stdin", "closed", place).code == code


@SLOW
@pytest.mark.parametrize(("command", "code"), [(BUILD, 0), (WRONG, 2)])
def test_all_streams_closed(command: str, code: int, place: Place) -> None:
    assert place.run(*command.split(), sh='exec "$0" "$@" <&- >&- 2>&-').code == code


@SLOW
def test_reader_that_leaves_early(place: Place) -> None:
    place.write("ctx/b", os.urandom(1_000_000))
    with place.started(*BUILD.split(), "-o", "-") as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b"\x1f\x8b"
        process.stdout.close()
        assert process.stderr is not None
        ended = Ended(process.wait(PATIENCE), b"", process.stderr.read().decode())
    assert_no_traceback(ended)
    assert ended.code == 4


@SLOW
def test_messages_are_not_written_into_the_archive(place: Place) -> None:
    """The archive's descriptor must not be that of the closed standard error."""
    os.mkfifo(place.path / "ctx/left-out")
    with raw_server(STORED) as server:
        url = f"{server.url}/bucket/key?{QUERY}"
        ended = place.run("build", "ctx", "--json", "--url", url, sh='exec "$0" "$@" 2>&-')
    assert names(server.requests[0].body) == ["a"]
    assert ended.json["archive"]["sha256"] == server.requests[0].body_sha256


# Verbosity.

STEPS = ["packing ctx", "packed 1 entry", "dry-run: "]


@pytest.mark.parametrize(
    ("options", "env", "said", "unsaid"),
    [
        ("", {}, STEPS, ["sha256"]),
        ("-v", {}, [*STEPS, "sha256 "], []),
        ("--progress plain", {"E2B_UPLOAD_PROGRESS": "none"}, STEPS, []),
        ("--progress none", {"E2B_UPLOAD_PROGRESS": "plain"}, ["dry-run: "], ["packing", "packed"]),
        ("", {"E2B_UPLOAD_PROGRESS": "none"}, ["dry-run: "], ["packing", "packed"]),
        ("--progress bar", {}, ["dry-run: "], ["packing ctx"]),
    ],
)
def test_progress(
    options: str,
    env: dict[str, str],
    said: list[str],
    unsaid: list[str],
    *,
    place: Place,
    call: Call,
) -> None:
    os.mkfifo(place.path / "ctx/pipe")
    ended = call(*BUILD.split(), *options.split(), env=env)
    assert (ended.code, ended.out) == (0, b"")
    assert [words for words in said if words not in ended.err] == []
    assert [words for words in unsaid if words in ended.err] == []
    assert "bar" in options or "\x1b" not in ended.err
    assert ended.err.count("warning: left out pipe: a FIFO is not data") == 1


@pytest.mark.parametrize("command", ["pack ctx -o -", "put ctx/a --url {url}"])
def test_progress_of_other_commands(command: str, call: Call) -> None:
    with raw_server(STORED) as server:
        words = command.format(url=f"{server.url}/k?{QUERY}").split()
        for env, lines in (({}, 1), ({"E2B_UPLOAD_PROGRESS": "none"}, 0)):
            ended = call(*words, env=env)
            assert ended.code == 0
            assert len(re.findall("(?m)^(packing|uploading) ", ended.err)) == lines


def test_plain_progress_every_ten_percent(place: Place, call: Call) -> None:
    place.write("ctx/b", os.urandom(8 << 20))
    with raw_server(STORED) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}", "--progress", "plain")
    sending = ended.err.partition("uploading")[2]
    percents = [int(share) for share in re.findall(r"(\d+)%", sending)]
    assert percents == sorted(percents)
    assert {percent // 10 for percent in percents} >= {*range(1, 10)}
    assert len(percents) < 20  # the body is sent in 32 pieces


def test_quiet(place: Place, call: Call) -> None:
    os.mkfifo(place.path / "ctx/pipe")
    for more in ([], ["--json"]):
        ended = call(*BUILD.split(), "-q", *more)
        assert (ended.code, ended.err) == (0, "")
        assert bool(ended.out) == bool(more)
    ended = call(*WRONG.split(), "-q")
    assert (ended.code, ended.out) == (2, b"")
    assert ended.lines[0].startswith("error: the context nowhere does not exist")
