"""Run servers as processes: free ports, start-up, and an end together with the tests."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

LOOPBACK = "127.0.0.1"

_START_TIMEOUT = 60.0  # seconds; one to three when nothing else runs
_LOG_TAIL = 20  # lines

# Tests that are killed cannot stop their server. With PR_SET_PDEATHSIG (1) the kernel does.
_DIE_WITH_PARENT = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
)


class MissingError(Exception):
    """A program that a server needs is not installed, and cannot be installed."""


class PortTakenError(RuntimeError):
    """Another program took a port between `free_ports` and the start of the server."""


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:  # all at once, so that no port is drawn twice
        listeners = [held.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def listening(*ports: int) -> bool:
    """Return True if something listens on all of these ports."""
    for port in ports:
        with socket.socket() as client:
            if client.connect_ex((LOOPBACK, port)):
                return False
    return True


@contextmanager
def serving(
    command: list[str],
    folder: Path,
    is_ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Run a server in a folder while the block runs, which starts when the server is ready."""
    log = folder / "server.log"
    if sys.platform == "linux":
        command = [sys.executable, "-ISc", _DIE_WITH_PARENT, *command]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env={"HOME": str(folder), "TMPDIR": str(folder), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            _wait(server, is_ready, log)
            yield
        finally:
            server.kill()


def _wait(server: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        if is_ready() and server.poll() is None:  # not another program on its port
            return
        time.sleep(0.02)
    # A fatal error of SeaweedFS is followed by the stacks of some hundred goroutines.
    text = log.read_text(errors="replace").partition("\ngoroutine ")[0]
    failure = PortTakenError if "address already in use" in text else RuntimeError
    tail = "\n".join(text.splitlines()[-_LOG_TAIL:])
    raise failure(f"{server.args!r} did not start; its log ends with\n{tail}")
