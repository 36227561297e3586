"""A signal ends the process though the main thread never gets to heed it."""

import json
import signal
import subprocess
import sys

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
