"""One table: a command, its exit code, what it says, and what to do next."""

import fcntl
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM

import pytest

from e2b_upload import __version__
from tests.cli.cases import DONE, FAILED, STORED, Case
from tests.cli.conftest import RunCase
from tests.cli.harness import (
    AT_ANY_MOMENT,
    CLEANS_UP_FOR_EVER,
    LIMITED,
    PATIENCE,
    QUERY,
    SECRETS,
    Ended,
    Place,
    until,
    wait_for,
)
from tests.support.rawserver import Connection, raw_server, response, silent, stall_sending


@pytest.mark.parametrize("case", DONE, ids=str)
def test_what_is_done_is_0(case: Case, run_case: RunCase) -> None:
    ended = run_case(case)
    assert (ended.code, ended.out.decode()) == (0, case.asked)
    assert "error" not in ended.err


@pytest.mark.parametrize("case", FAILED, ids=str)
def test_a_failure_has_its_code_its_words_and_a_next_step(case: Case, run_case: RunCase) -> None:
    ended = run_case(case)
    assert ended.code == case.code, ended.err
    message, hint = ended.lines[-2:]
    assert message.startswith("error: ")
    assert case.message in message
    assert hint.startswith("  ")
    assert case.hint in hint


@pytest.mark.parametrize(
    ("args", "code", "asked"),
    [
        (["--version"], 0, f"e2b-upload {__version__}\n"),
        (["--help"], 0, "build"),
        (["build", "--help"], 0, "E2B_UPLOAD_URL"),
        (["build", "-h"], 0, "--url-file"),
        (["build", "ctx", "--dry-run"], 0, ""),
        (["build", "nowhere", "--dry-run"], 2, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_process_ends_with_the_code_and_prints_what_was_asked_for(
    args: list[str], code: int, asked: str, place: Place
) -> None:
    ended = place.run(*args)
    assert ended.code == code
    assert asked in ended.out.decode()
    assert bool(asked) == bool(ended.out)
    assert "Traceback" not in ended.err


def test_no_command_is_a_mistake_and_is_shown_the_help_that_was_not_asked_for(place: Place) -> None:
    ended = place.run()
    assert ended.code == 2
    assert "build" in ended.err
    assert ended.out == b""


# What only a process can show.


UNREADABLE = {
    "file": ("ctx/a", 0, "ctx/a cannot be opened: Permission denied"),
    "folder": ("ctx/b", 0, "the folder ctx/b cannot be listed: Permission denied"),
    "folder that cannot be entered": ("ctx/b", 0o444, "ctx/b/c cannot be read: Permission denied"),
    "context": ("ctx", 0, "the context ctx may not be read"),
    "ignore file": ("ctx/.dockerignore", 0, "ctx/.dockerignore cannot be read: Permission denied"),
}


@pytest.mark.parametrize(("name", "mode", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_3(name: str, mode: int, message: str, place: Place) -> None:
    place.write("ctx/b/c", b"c")
    place.write("ctx/.dockerignore", b"d\n")
    (place.path / name).chmod(mode)
    ended = place.run("build", "ctx", "--dry-run", privileged=False)
    (place.path / name).chmod(0o700)
    assert ended.code == 3
    assert message in ended.lines[-2]
    assert ended.lines[-1].startswith("  ")


@pytest.mark.parametrize("option", [[], ["-o", "kept"], ["--spool-dir", "spool"]], ids=" ".join)
def test_a_limit_on_the_size_of_files_is_4(option: list[str], place: Place) -> None:
    place.write("ctx/b", b"b" * 3_000_000)
    ended = place.run("build", "ctx", "--dry-run", "--compression", "none", *option, sh=LIMITED)
    assert ended.code == 4
    assert "a limit on the size of files" in ended.lines[-2]
    assert "--spool-dir" in ended.lines[-1]
    assert not (place.path / "kept").exists()


# Signals: they come in the midst of a step that would not end by itself.


@contextmanager
def busy(step: str, place: Place, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    scripts = {"packing": STORED, "sending": stall_sending(), "waiting": silent()}
    if step == "packing":
        place.sparse("ctx/zeros")
    if step == "sending":
        place.write("ctx/random", os.urandom(16 << 20))
    with (
        raw_server(scripts[step]) as server,
        place.started(
            *("build", "ctx", "--url", f"{server.url}/k?{QUERY}", *args), env=AT_ANY_MOMENT
        ) as process,
    ):
        wait_for(process.stderr, "packing" if step == "packing" else "uploading")
        if step != "packing":
            until(lambda: server.requests)
        if step == "waiting":
            until(lambda: server.requests[0].body_bytes > 0)
        yield process


@pytest.mark.parametrize(
    "signum", [SIGINT, SIGTERM, SIGHUP, SIGQUIT], ids=lambda signum: signum.name
)
@pytest.mark.parametrize("step", ["packing", "sending", "waiting"])
def test_a_signal_ends_it_with_128_and_its_number(
    step: str, signum: signal.Signals, place: Place
) -> None:
    with busy(step, place, "--json") as process:
        process.send_signal(signum)
        out, err = process.communicate(timeout=PATIENCE)
    ended = Ended(process.returncode, out, err.decode())
    assert ended.told(128 + signum)["message"] == f"stopped by {signum.name}"
    assert ended.lines[-1] == f"error: stopped by {signum.name}"
    assert "Traceback" not in ended.err
    assert not any(secret in ended.err for secret in SECRETS)
    assert place.left_behind() == []


@pytest.mark.parametrize(
    "command",
    [
        "build ctx --url -",
        "put ctx/a --url-file -",
        "put - --url http://h/k",
        "pack ctx -o kept --ignore-file -",
        "explain ctx -",
    ],
)
def test_a_signal_ends_it_while_it_reads_standard_input(command: str, place: Place) -> None:
    with place.started(*command.split(), "--json", env=AT_ANY_MOMENT) as process:
        assert process.stdin is not None
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # what is written is read then, but for so much
            fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, 4096)
        process.stdin.write(b"a" * 20_000)
        process.send_signal(SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert Ended(process.returncode, out, err.decode()).told(130)["message"] == "stopped by SIGINT"


def test_a_signal_leaves_a_kept_archive_as_it_was(place: Place) -> None:
    place.write("kept/archive", b"from the last time")
    with busy("packing", place, "-o", "kept/archive") as process:
        process.send_signal(SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, b"")
    assert os.listdir(place.path / "kept") == ["archive"]
    assert (place.path / "kept/archive").read_bytes() == b"from the last time"


@pytest.mark.parametrize("second", [SIGINT, SIGTERM], ids=lambda signum: signum.name)
def test_a_second_signal_ends_it_at_once(second: signal.Signals, place: Place) -> None:
    with place.started("build", "ctx", "--dry-run", python=CLEANS_UP_FOR_EVER) as process:
        wait_for(process.stderr, "packing")
        process.send_signal(SIGINT)
        wait_for(process.stderr, "cleaning up")
        process.send_signal(second)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + second
    assert out == b""
    assert b"Traceback" not in err


@pytest.mark.parametrize("signum", [SIGHUP, SIGINT], ids=["nohup", "background of a script"])
def test_a_signal_that_is_ignored_stays_ignored(signum: signal.Signals, place: Place) -> None:
    was_sent = threading.Event()

    def script(connection: Connection) -> None:
        connection.read_head()
        while not was_sent.is_set():
            connection.wait(0.01)
        connection.read_body()
        connection.send(response(200))

    ignoring = f'trap "" {signum.name.removeprefix("SIG")}; exec "$0" "$@"'
    with (
        raw_server(script) as server,
        place.started("build", "ctx", "--url", f"{server.url}/k?{QUERY}", sh=ignoring) as process,
    ):
        until(lambda: server.requests)
        process.send_signal(signum)
        was_sent.set()
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert server.requests[0].body
