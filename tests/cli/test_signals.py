"""A signal ends the command with exit code 128 plus its number, and leaves nothing behind."""

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM

import pytest

from tests.cli.cases import api, link
from tests.cli.harness import (
    AT_ANY_MOMENT,
    CLEANS_UP_FOR_EVER,
    ENDLESS_LISTING,
    KEY,
    PATIENCE,
    QUERY,
    Ended,
    Place,
    secrets_in,
    until,
    wait_for,
)
from tests.support.rawserver import Connection, raw_server, response, silent, stall_sending

SLOW = pytest.mark.slow

# A lock that was acquired, and whose owner was interrupted before it could release it.
STUCK = """
import sys, threading
from e2b_upload import pipeline
from e2b_upload.cli.main import main

def build(*args, **options):
    lock = threading.Lock()
    lock.acquire()
    print("stuck", file=sys.stderr, flush=True)
    while True:
        try:
            lock.acquire()
        except BaseException:
            pass

pipeline.run_build = build"""

SIGNAL_AFTER_REPORT = """
import signal
from e2b_upload.cli import report
report.duration = lambda seconds: signal.raise_signal(signal.SIGINT) or ''"""

SIGNAL_AS_WRITE_RETURNS = """
import signal
from e2b_upload.cli import streams
write = streams.Forgiving.write
def stopped(self, data):
    count = write(self, data)
    if self.fileno() == streams.STDOUT:
        signal.raise_signal(signal.SIGINT)
    return count
streams.Forgiving.write = stopped"""


def name(value: object) -> str | None:
    return value.name if isinstance(value, signal.Signals) else None


def end(process: subprocess.Popen[bytes], *signums: signal.Signals) -> Ended:
    for signum in signums:
        process.send_signal(signum)
    out, err = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, out, err.decode())


def assert_stopped(ended: Ended, signum: signal.Signals) -> None:
    assert ended.told(128 + signum)["message"] == f"stopped by {signum.name}"
    assert ended.lines[-1] == f"error: stopped by {signum.name}"
    assert "Traceback" not in ended.err
    assert secrets_in(ended) == []


@contextmanager
def busy(step: str, place: Place, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a build and wait until it is in a step that does not end by itself."""
    if step == "packing":
        place.sparse("ctx/zeros")
    else:
        place.write("ctx/random", os.urandom(16 << 20))
    with (
        raw_server(stall_sending()) as server,
        place.started(
            *("build", "ctx", "--url", f"{server.url}/k?{QUERY}", *args), env=AT_ANY_MOMENT
        ) as process,
    ):
        wait_for(process.stderr, "packing" if step == "packing" else "uploading")
        if step == "sending":
            until(lambda: server.requests)
        yield process


@pytest.mark.parametrize(
    ("step", "signum"),
    [
        ("sending", SIGTERM),
        *(pytest.param("packing", each, marks=SLOW) for each in (SIGHUP, SIGQUIT)),
    ],
    ids=name,
)
def test_signal_during_a_build(step: str, signum: signal.Signals, place: Place) -> None:
    with busy(step, place, "--json") as process:
        assert_stopped(end(process, signum), signum)
    assert place.left_behind() == []


@SLOW
@pytest.mark.parametrize("step", ["reading", "sending"])
def test_signal_during_a_put(step: str, place: Place) -> None:
    with raw_server(silent()) as server:
        command = ("put", "-", "--url", f"{server.url}/k?{QUERY}", "--json")
        with place.started(*command, env=AT_ANY_MOMENT) as process:
            assert process.stdin is not None
            process.stdin.write(bytes(3_000_000))  # more than fits in a pipe
            if step == "sending":
                process.stdin.close()
                process.stdin = None
                wait_for(process.stderr, "uploading")
                until(lambda: server.requests)
            assert_stopped(end(process, SIGINT), SIGINT)
    assert place.left_behind() == []


@SLOW
@pytest.mark.parametrize("step", ["asking", "sending"])
def test_signal_during_a_template_build(step: str, place: Place) -> None:
    place.write("ctx/random", os.urandom(16 << 20))
    known = api(200, {"templateID": "z9y8x7", "public": False})
    scripts = [silent()] if step == "asking" else [known, link(), stall_sending()]
    command = ("build", "ctx", "--template", "t", "--copy", ".:/b", "--json")
    with raw_server(*scripts) as server:
        env = AT_ANY_MOMENT | {"E2B_API_KEY": KEY, "E2B_API_URL": server.url}
        with place.started(*command, env=env) as process:
            until(lambda: len(server.requests) == len(scripts))
            assert_stopped(end(process, SIGTERM), SIGTERM)
    assert place.left_behind() == []


@SLOW
@pytest.mark.parametrize(
    "command", ["build ctx --url -", "pack ctx -o kept --ignore-file -", "explain ctx -"]
)
def test_signal_while_reading_standard_input(command: str, place: Place) -> None:
    with place.started(*command.split(), "--json", env=AT_ANY_MOMENT) as process:
        assert process.stdin is not None
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # then almost all that is written has been read
            fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, 4096)
        process.stdin.write(b"a" * 20_000)
        assert_stopped(end(process, SIGINT), SIGINT)


@SLOW
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["plain", "json"])
def test_signal_during_a_listing(more: list[str], place: Place) -> None:
    unread = "" if more else 'exec "$0" "$@" >/dev/null'
    command = ("ls", "ctx", *more)
    with place.started(*command, python=ENDLESS_LISTING, sh=unread, env=AT_ANY_MOMENT) as process:
        wait_for(process.stderr, "listing")
        ended = end(process, SIGINT)
    assert (ended.code, ended.err) == (130, "error: stopped by SIGINT\n")
    if more:
        ended.told(130)


@SLOW
def test_signal_keeps_the_previous_archive(place: Place) -> None:
    place.write("kept/archive", b"previous")
    with busy("packing", place, "-o", "kept/archive") as process:
        ended = end(process, SIGINT)
    assert (ended.code, ended.out) == (130, b"")
    assert os.listdir(place.path / "kept") == ["archive"]
    assert (place.path / "kept/archive").read_bytes() == b"previous"


@SLOW
def test_second_signal(place: Place) -> None:
    with place.started("build", "ctx", "--dry-run", python=CLEANS_UP_FOR_EVER) as process:
        wait_for(process.stderr, "packing")
        process.send_signal(SIGINT)
        wait_for(process.stderr, "cleaning up")
        ended = end(process, SIGTERM)
    assert (ended.code, ended.out) == (143, b"")
    assert "Traceback" not in ended.err


@SLOW
@pytest.mark.parametrize("gap", [0, 0.005, 0.1])
def test_two_signals_report_one_result(gap: float, place: Place) -> None:
    place.sparse("ctx/zeros")
    with place.started("build", "ctx", "--dry-run", "--json", env=AT_ANY_MOMENT) as process:
        wait_for(process.stderr, "packing")
        process.send_signal(SIGINT)
        time.sleep(gap)
        ended = end(process, SIGTERM)
    assert ended.code in {130, 143}
    assert ended.json["error"]["kind"] == "interrupted"


@SLOW
@pytest.mark.parametrize("signum", [SIGHUP, SIGINT], ids=["nohup", "background of a script"])
def test_ignored_signal(signum: signal.Signals, place: Place) -> None:
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
        ended = end(process)
    assert ended.code == 0, ended.err
    assert server.requests[0].body


@SLOW
@pytest.mark.parametrize("signum", [SIGINT, SIGTERM], ids=name)
def test_signal_that_the_main_thread_never_handles(signum: signal.Signals, place: Place) -> None:
    with place.started("build", "ctx", "--dry-run", "--json", python=STUCK) as process:
        wait_for(process.stderr, "stuck")
        assert_stopped(end(process, signum), signum)


@SLOW
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["plain", "json"])
def test_signal_during_imports(more: list[str], place: Place) -> None:
    place.write(
        "slow/typer.py",
        b"import sys, time\nprint('importing', file=sys.stderr, flush=True)\n"
        b"while True:\n    time.sleep(0.01)\n",
    )
    env = {"PYTHONPATH": str(place.path / "slow")}
    with place.started("build", ".", *more, env=env) as process:
        wait_for(process.stderr, "importing")
        ended = end(process, SIGTERM)
    assert (ended.code, ended.err) == (143, "error: stopped by SIGTERM\n")
    if more:
        error = ended.json["error"]
        assert (error["kind"], error["exit_code"]) == ("interrupted", 143)
        assert error.keys() >= {"message", "hint", "http_status", "code", "request_id"}
    else:
        assert ended.out == b""


@SLOW
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_signal_while_nobody_reads_the_output(stream: str, place: Place) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    out, err = (writing if stream == each else subprocess.DEVNULL for each in ("stdout", "stderr"))
    command = ("build", "ctx", "--dry-run", "--json")
    try:
        with place.started(*command, stdout=out, stderr=err) as process:
            # Before it blocks on the pipe, a signal would end it in another way. Not every system
            # shows what a process waits for.
            deadline = time.monotonic() + 5
            with suppress(OSError), open(f"/proc/{process.pid}/wchan", encoding="ascii") as file:
                while "pipe" not in file.read() and time.monotonic() < deadline:
                    file.seek(0)
            process.send_signal(SIGINT)
            assert process.wait(PATIENCE) == 130
    finally:
        os.close(reading)
        os.close(writing)


@SLOW
@pytest.mark.parametrize("python", [SIGNAL_AFTER_REPORT, SIGNAL_AS_WRITE_RETURNS])
def test_signal_after_the_result(python: str, place: Place) -> None:
    ended = place.run("build", "ctx", "--dry-run", "--json", "--progress", "none", python=python)
    assert ended.json["status"] == "dry-run"
    assert "Traceback" not in ended.err
