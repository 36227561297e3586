"""A signal ends the process though the main thread never gets to heed it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# What is left of an exception between taking a lock and holding it: nobody ever gives it back.
STUCK = """
import sys, threading
from e2b_upload import pipeline
from e2b_upload.cli.app import main

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


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
