"""A signal ends the process though the main thread never gets to heed it."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

# What is left of an exception between taking a lock and holding it: nobody ever gives it back.
STUCK = """
import sys, threading
from e2b_upload import pipeline
from e2b_upload.cli.edge import main

def build(*args, **options):
    lock = threading.Lock()
    lock.acquire()
    print("stuck", file=sys.stderr, flush=True)
    while True:
        try:
            lock.acquire()
        except BaseException:
            pass

pipeline.build = build
sys.argv[1:] = ["build", ".", "--url", "http://127.0.0.1:9/k", "--json"]
main()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_it_ends_all_the_same(signum: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "stuck" not in process.stderr.readline():
            pass
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert json.loads(out)["error"]["kind"] == "interrupted"
    assert f"stopped by {signum.name}" in err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "plain"])
def test_a_signal_before_the_program_is_imported(
    signum: signal.Signals, *, as_json: bool, tmp_path: Path
) -> None:
    """What is imported for the command line waits here, as on a slow disk."""
    (tmp_path / "typer.py").write_text(
        "import sys, time\nprint('importing', file=sys.stderr, flush=True)\n"
        "while True:\n    time.sleep(0.01)\n"
    )
    command = [sys.executable, "-m", "e2b_upload", "build", ".", *(["--json"] * as_json)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    ) as process:
        assert process.stderr is not None
        while "importing" not in process.stderr.readline():
            pass
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert err == f"error: stopped by {signum.name}\n"
    if as_json:
        error = json.loads(out)["error"]
        assert (error["kind"], error["exit_code"]) == ("interrupted", 128 + signum)
        assert error.keys() >= {"message", "hint", "http_status", "code", "request_id"}
    else:
        assert out == ""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_it_though_nobody_reads_what_it_says(
    signum: signal.Signals, stream: str, tmp_path: Path
) -> None:
    (tmp_path / "a").touch()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    out, err = (writing if stream == each else subprocess.DEVNULL for each in ("stdout", "stderr"))
    command = [sys.executable, "-m", "e2b_upload", "build", str(tmp_path), "--dry-run", "--json"]
    with subprocess.Popen(command, stdout=out, stderr=err) as process:
        try:
            # Until it waits for a reader: before that a signal would end it in another way. Not
            # every system tells what a process waits for.
            deadline = time.monotonic() + 5
            with open(f"/proc/{process.pid}/wchan", encoding="ascii") as file:
                while "pipe" not in file.read() and time.monotonic() < deadline:
                    file.seek(0)
            process.send_signal(signum)
            assert process.wait(60) == 128 + signum
        finally:
            process.kill()
            os.close(reading)
            os.close(writing)


@pytest.mark.parametrize("gap", [0, 0.001, 0.005, 0.02, 0.1])
def test_two_signals_bring_one_object_and_a_code_of_theirs(gap: float, tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 40)
    command = [sys.executable, "-m", "e2b_upload", "build", str(tmp_path), "--dry-run", "--json"]
    with subprocess.Popen(
        [*command, "--spool-dir", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert b"packing" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(gap)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode in {130, 143}
    assert json.loads(out)["error"]["kind"] == "interrupted"
