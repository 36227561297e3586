"""Standard output carries what was asked for, and nothing else; all else is on standard error."""

import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cli.cases import DONE, FAILED, MISTAKES, STORED, Case
from tests.cli.conftest import Call, RunCase
from tests.cli.harness import (
    ARCHIVE_KEYS,
    CRASHES,
    LIMITED,
    PATIENCE,
    QUERY,
    SECONDS_KEYS,
    SUCCESS_KEYS,
    Ended,
    Place,
)
from tests.support.rawserver import answer, raw_server

STOPPED_ONCE_DONE = """
import signal
from e2b_upload.cli import report
report.duration = lambda seconds: signal.raise_signal(signal.SIGINT) or ''"""


STOPPED_AS_A_WRITE_RETURNS = """
import signal
from e2b_upload.cli import streams
write = streams.Forgiving.write
def stopped(self, data):
    count = write(self, data)
    if self.fileno() == streams.STDOUT:
        signal.raise_signal(signal.SIGINT)
    return count
streams.Forgiving.write = stopped"""


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def assert_quiet_end(ended: Ended) -> None:
    assert "Traceback" not in ended.err
    assert "Exception ignored" not in ended.err
    assert "internal error" not in ended.err


# One object, whatever happens.


@pytest.mark.parametrize("case", [case for case in DONE if case.takes("--json")], ids=str)
def test_success_is_one_object(case: Case, run_case: RunCase) -> None:
    ended = run_case(case, "--json")
    assert ended.code == 0
    assert list(ended.json) == case.keys


@pytest.mark.parametrize("case", [case for case in DONE if case.keys == SUCCESS_KEYS], ids=str)
def test_the_object_of_an_archive_has_these_keys(case: Case, run_case: RunCase) -> None:
    told = run_case(case, "--json").json
    assert list(told["archive"]) == ARCHIVE_KEYS
    assert list(told["seconds"]) == SECONDS_KEYS
    unsent = "dry-run" if "dry run" in case.name else "packed" if case.verb == "pack" else None
    assert told["status"] == (unsent or "uploaded")
    assert (told["http_status"], told["attempts"]) == ((None, 0) if unsent else (200, 1))
    assert (told["url"] is None) == bool(unsent)
    assert "?" not in str(told["url"])


def test_the_object_tells_what_was_stored(place: Place, call: Call) -> None:
    place.write("ctx/b/c", b"12345")
    (place.path / "ctx/b/d").symlink_to("c")
    (place.path / "ctx/b/e").hardlink_to(place.path / "ctx/b/c")
    with raw_server(answer(201)) as server:
        told = call("build", "ctx", "--json", "--url", f"{server.url}/bucket/key?{QUERY}").json
    body = server.requests[0].body
    assert told.pop("seconds").keys() == set(SECONDS_KEYS)
    assert told == {
        "status": "uploaded",
        "url": f"{server.url}/bucket/key",
        "http_status": 201,
        "attempts": 1,
        "verified": "content-md5",
        "archive": {
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "md5": hashlib.md5(body, usedforsecurity=False).hexdigest(),
            "files": 2,
            "directories": 1,
            "symlinks": 1,
            "hardlinks": 1,
            "content_bytes": 7,
        },
    }


@pytest.mark.parametrize("case", FAILED, ids=str)
def test_failure_is_one_object(case: Case, run_case: RunCase) -> None:
    run_case(case, *([] if "--json" in case.command else ["--json"])).told(case.code)


@pytest.mark.parametrize(
    "args",
    [
        ["--json"],
        ["build", "--json"],
        ["build", "--json", "ctx", "--frobnicate"],
        ["build", "ctx", "--frobnicate", "--json"],
        ["frobnicate", "--json"],
        ["build", "ctx", "--json", "--url"],
        ["pack", "ctx", "--json"],
        ["pack", "--json", "ctx", "--url", "http://h/k"],
        ["put", "--json"],
        ["put", "archive", "--json"],
        ["ls", "--json"],
        ["ls", "--json", "ctx", "--tree"],
        ["explain", "--json", "ctx"],
        ["explain", "ctx", "..", "--json"],
    ],
    ids=" ".join,
)
def test_a_usage_error_is_one_object_wherever_json_is_asked_for(
    args: list[str], call: Call
) -> None:
    call(*args).told(2)


def test_the_answer_of_a_store_is_told(run_case: RunCase) -> None:
    (case,) = (case for case in FAILED if case.name == "403")
    told = run_case(case, "--json").told(6)
    answer = (told["http_status"], told["code"], told["request_id"])
    assert answer == (403, "AccessDenied", "R3QU35T")


def test_an_unreadable_source_is_one_object(place: Place) -> None:
    (place.path / "ctx/a").chmod(0)
    place.run("build", "ctx", "--dry-run", "--json", privileged=False).told(3)


@pytest.mark.parametrize("command", MISTAKES.values(), ids=MISTAKES)
def test_a_bug_is_one_object_and_a_report_to_file(command: str, place: Place) -> None:
    ended = place.run(*command.split(), "--json", python=CRASHES)
    assert ended.told(1)["message"] == "ZeroDivisionError: the unforeseen"
    for words in ("ZeroDivisionError: the unforeseen", "Python 3.", "e2b-upload 0.", "in crash"):
        assert words in ended.err
    assert "file" in ended.lines[-1]


@pytest.mark.parametrize("command", MISTAKES.values(), ids=MISTAKES)
def test_a_bug_says_nothing_on_standard_output_that_was_not_asked_for(
    command: str, place: Place
) -> None:
    ended = place.run(*command.split(), python=CRASHES)
    assert (ended.code, ended.out) == (1, b"")


@pytest.mark.parametrize(
    "python", [STOPPED_ONCE_DONE, STOPPED_AS_A_WRITE_RETURNS], ids=["after it", "as it is written"]
)
def test_a_signal_after_the_object_does_not_bring_another(python: str, place: Place) -> None:
    ended = place.run("build", "ctx", "--dry-run", "--json", "--progress", "none", python=python)
    assert ended.json["status"] == "dry-run"
    assert_quiet_end(ended)


# The archive.


@pytest.mark.parametrize("compression", ["none", "fast", "default", "small"])
def test_the_archive_goes_to_standard_output(compression: str, place: Place) -> None:
    place.write("ctx/b/c", os.urandom(300_000))
    with raw_server(STORED) as server:
        url = f"{server.url}/bucket/key?{QUERY}"
        ended = place.run("build", "ctx", "--url", url, "-o", "-", "--compression", compression)
    assert ended.code == 0
    assert names(ended.out) == ["a", "b", "b/c"]
    assert ended.out == server.requests[0].body


@pytest.mark.parametrize("before", [None, b"from the last time"], ids=["new", "replaced"])
def test_the_archive_is_kept(before: bytes | None, place: Place, call: Call) -> None:
    if before is not None:
        place.write("kept", before)
    with raw_server(STORED) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}", "-o", "kept")
    assert (ended.code, ended.out) == (0, b"")
    assert (place.path / "kept").read_bytes() == server.requests[0].body


@pytest.mark.parametrize(
    ("mode", "sh", "code"), [(0, "", 3), (0o600, LIMITED, 4)], ids=["unreadable", "too large"]
)
def test_a_kept_archive_stays_as_it_was_when_packing_fails(
    mode: int, sh: str, code: int, place: Place
) -> None:
    place.write("ctx/b", os.urandom(3_000_000))
    place.write("ctx/c", b"c").chmod(mode)
    place.write("kept/archive", b"from the last time")
    command = ("build", "ctx", "--dry-run", "-o", "kept/archive")
    ended = place.run(*command, sh=sh, privileged=False)
    assert (ended.code, ended.out) == (code, b"")
    assert os.listdir(place.path / "kept") == ["archive"]
    assert (place.path / "kept/archive").read_bytes() == b"from the last time"


def test_a_device_is_written_to_and_stays_one(call: Call) -> None:
    assert call("build", "ctx", "--dry-run", "-o", "/dev/null").code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_fifo_is_written_to_and_stays_one(place: Place, call: Call) -> None:
    fifo = place.path / "fifo"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as reader:
        archive = reader.submit(fifo.read_bytes)
        ended = call("build", "ctx", "--dry-run", "-o", "fifo")
        assert names(archive.result(PATIENCE)) == ["a"]
    assert ended.code == 0
    assert fifo.is_fifo()


def test_a_name_for_standard_output_is_standard_output(place: Place) -> None:
    ended = place.run("build", "ctx", "--dry-run", "-o", "/dev/stdout")
    assert ended.code == 0, ended.err
    assert names(ended.out) == ["a"]


# Streams that are closed, full, or read by nobody.


@pytest.fixture
def unread() -> Iterator[int]:
    """Give a pipe's end to write to, whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def full() -> Iterator[int]:
    with open("/dev/full", "wb") as full:
        yield full.fileno()


BUILD = "build ctx --dry-run"
WRONG = "build nowhere --dry-run"
# What is asked for cannot be delivered: that is 4, unless nobody wants it any more.
NOBODY_READS = {
    f"{BUILD} --json": {0},
    f"{WRONG} --json": {2},
    f"{BUILD} -o -": {4},
    "pack ctx -o -": {4},
    "ls ctx": {0},
    "ls ctx --tree": {0},
    "ls ctx --json": {0},
    "ls ctx --largest 3": {0},
    "explain ctx a": {0},
    "explain ctx a --json": {0},
    "--help": {0, 141},
    "--version": {0, 141},
}
NO_SPACE = {
    f"{BUILD} --json": {4},
    f"{WRONG} --json": {2, 4},
    f"{BUILD} -o -": {4},
    "pack ctx -o -": {4},
    "ls ctx": {4},
    "ls ctx --tree": {4},
    "ls ctx --json": {4},
    "explain ctx a": {4},
    "explain ctx a --json": {4},
    "--help": {4},
    "--version": {4},
}
# What is asked for without `--json`.
ASKED = {"ls ctx -v", "ls ctx --ignore-file -", "explain ctx a"}
# Nobody hears what it says, and it goes on all the same.
NOBODY_HEARS = {
    BUILD: {0},
    f"{BUILD} -v": {0},
    f"{BUILD} --json": {0},
    f"{BUILD} --progress bar": {0},
    f"{BUILD} --progress bar --json": {0},
    WRONG: {2},
    f"{WRONG} --json": {2},
    "pack ctx -o kept -v": {0},
    "put nowhere --url http://h/k --json": {2},
    "ls ctx -v": {0},
    "ls ctx --json": {0},
    "ls nowhere": {2},
    "explain ctx a": {0},
}


@pytest.mark.parametrize(("command", "codes"), NOBODY_READS.items(), ids=NOBODY_READS)
def test_standard_output_that_nobody_reads(
    command: str, codes: set[int], place: Place, unread: int
) -> None:
    ended = place.run(*command.split(), stdout=unread)
    assert_quiet_end(ended)
    assert ended.code in codes


@pytest.mark.parametrize(("command", "codes"), NO_SPACE.items(), ids=NO_SPACE)
def test_standard_output_without_space(
    command: str, codes: set[int], place: Place, full: int
) -> None:
    ended = place.run(*command.split(), stdout=full)
    assert_quiet_end(ended)
    assert ended.code in codes
    assert "error: " in ended.err


@pytest.mark.parametrize("where", ["unread", "full"])
@pytest.mark.parametrize(("command", "codes"), NOBODY_HEARS.items(), ids=NOBODY_HEARS)
def test_standard_error_that_takes_nothing(
    where: str, command: str, codes: set[int], place: Place, request: pytest.FixtureRequest
) -> None:
    ended = place.run(*command.split(), stderr=request.getfixturevalue(where))
    assert ended.code in codes
    assert bool(ended.out) == (command in ASKED or "--json" in command)


def test_a_reader_that_leaves_early(place: Place) -> None:
    place.write("ctx/b", os.urandom(1_000_000))
    with place.started(*BUILD.split(), "-o", "-") as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b"\x1f\x8b"
        process.stdout.close()
        assert process.stderr is not None
        ended = Ended(process.wait(PATIENCE), b"", process.stderr.read().decode())
    assert_quiet_end(ended)
    assert ended.code == 4


CLOSED = {
    f"{BUILD} <&-": {0},
    "build ctx --url - <&-": {2},
    f"{BUILD} >&-": {0},
    f"{WRONG} >&-": {2},
    f"{BUILD} --json >&-": {0, 4},
    f"{BUILD} -o - >&-": {4},
    "--version >&-": {0, 4},
    "pack ctx -o - >&-": {4},
    "ls ctx >&-": {4},
    "ls ctx --json >&-": {4},
    "ls nowhere --json >&-": {2, 4},
    "explain ctx a >&-": {4},
    "explain ctx - <&-": {0},
    "ls ctx --ignore-file - <&-": {0},
    "put - --url http://h/k <&-": {2},
    **{f"{command} 2>&-": codes for command, codes in NOBODY_HEARS.items()},
    f"{BUILD} <&- >&- 2>&-": {0},
    f"{WRONG} <&- >&- 2>&-": {2},
}


@pytest.mark.parametrize(("command", "codes"), CLOSED.items(), ids=CLOSED)
def test_a_closed_stream(command: str, codes: set[int], place: Place) -> None:
    ended = place.run(sh=f'exec "$0" "$1" "$2" {command}')  # python -m e2b_upload
    assert_quiet_end(ended)
    assert ended.code in codes
    said, *closed = re.split(" (?=2?[<>]&-)", command)
    asked = said in ASKED or "--json" in said
    assert bool(ended.out) == (asked and ">&-" not in closed)


def test_words_for_a_closed_stream_are_not_written_into_the_archive(place: Place) -> None:
    os.mkfifo(place.path / "ctx/left-out")
    with raw_server(STORED) as server:
        url = f"{server.url}/bucket/key?{QUERY}"
        ended = place.run("build", "ctx", "--json", "--url", url, sh='exec "$0" "$@" 2>&-')
    assert names(server.requests[0].body) == ["a"]
    assert ended.json["archive"]["sha256"] == server.requests[0].body_sha256


# How much is said.


@pytest.mark.parametrize(
    ("options", "said", "unsaid"),
    [
        ("", ["packing ctx", "packed 1 entry", "dry-run: "], ["sha256", "\x1b"]),
        ("-v", ["packing ctx", "packed 1 entry", "dry-run: ", "sha256 "], ["\x1b"]),
        ("--progress plain", ["packing ctx", "packed 1 entry", "dry-run: "], ["\x1b"]),
        ("--progress none", ["dry-run: "], ["packing", "packed", "\x1b"]),
        ("--progress bar", ["dry-run: "], ["packing ctx"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_progress(
    options: str, said: list[str], unsaid: list[str], place: Place, call: Call
) -> None:
    os.mkfifo(place.path / "ctx/pipe")
    ended = call(*BUILD.split(), *options.split())
    assert (ended.code, ended.out) == (0, b"")
    assert [words for words in said if words not in ended.err] == []
    assert [words for words in unsaid if words in ended.err] == []
    assert ended.err.count("warning: left out pipe: a FIFO is not data") == 1


@pytest.mark.parametrize(
    ("args", "env", "plain"),
    [
        ("", {}, True),
        ("", {"E2B_UPLOAD_PROGRESS": "none"}, False),
        ("", {"E2B_UPLOAD_PROGRESS": ""}, True),
        ("--progress plain", {"E2B_UPLOAD_PROGRESS": "none"}, True),
        ("--progress none", {"E2B_UPLOAD_PROGRESS": "plain"}, False),
    ],
)
@pytest.mark.parametrize("command", [BUILD, "pack ctx -o -", "put ctx/a --url {url}"])
def test_the_environment_chooses_the_progress(
    command: str, args: str, env: dict[str, str], call: Call, *, plain: bool
) -> None:
    with raw_server(STORED) as server:
        words = command.format(url=f"{server.url}/k?{QUERY}").split()
        ended = call(*words, *args.split(), env=env)
    assert ended.code == 0
    assert bool(re.search("^(packing|uploading) ", ended.err, re.MULTILINE)) == plain
    assert plain or len(ended.lines) == 1


def test_plain_progress_of_an_upload_is_a_line_each_ten_percent(place: Place, call: Call) -> None:
    place.write("ctx/b", os.urandom(8 << 20))
    with raw_server(STORED) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}", "--progress", "plain")
    sending = ended.err.partition("uploading")[2]
    percents = [int(share) for share in re.findall(r"(\d+)%", sending)]
    assert percents == sorted(percents)
    assert {percent // 10 for percent in percents} >= {*range(1, 10)}
    assert len(percents) < 20  # it is sent in 32 pieces


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["plain", "json"])
def test_quiet_says_nothing_of_a_success(more: list[str], place: Place, call: Call) -> None:
    os.mkfifo(place.path / "ctx/pipe")
    ended = call(*BUILD.split(), "-q", *more)
    assert (ended.code, ended.err) == (0, "")
    assert bool(ended.out) == bool(more)


def test_quiet_tells_a_failure(call: Call) -> None:
    ended = call(*WRONG.split(), "-q")
    assert (ended.code, ended.out) == (2, b"")
    assert ended.lines[0].startswith("error: the context nowhere does not exist")
