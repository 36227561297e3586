"""What the servers that tests start as processes have in common."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LOOPBACK = "127.0.0.1"

_START_TIMEOUT = 60.0  # seconds; one or two when nothing else runs
_LOG_TAIL = 20  # lines

# A test run that is killed cannot stop its server; PR_SET_PDEATHSIG (1) makes the kernel do it.
_DIE_WITH_PARENT = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
)


class MissingError(Exception):
    """A program that a server needs is not here, and cannot be installed here."""


def dying_with_parent(command: list[str]) -> list[str]:
    """Return a command that runs as long as who starts it, at most."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-ISc", _DIE_WITH_PARENT, *command]


def free_ports(count: int) -> list[int]:
    held = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports: list[int] = [listener.getsockname()[1] for listener in held]
    for listener in held:  # only now, so that none is drawn twice
        listener.close()
    return ports


@contextmanager
def serving(
    command: list[str], folder: Path, ports: list[int], env: Mapping[str, str]
) -> Iterator[None]:
    """Run a server in a folder as long as the block lasts, from when it listens on its ports."""
    log = folder / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            dying_with_parent(command),
            cwd=folder,
            env={"HOME": str(folder), "TMPDIR": str(folder), **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            _wait_until_listening(server, ports, log)
            yield
        finally:
            server.kill()


def _wait_until_listening(server: subprocess.Popen[bytes], ports: list[int], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        if all(map(_listens, ports)) and server.poll() is None:  # and no stranger in its place
            return
        time.sleep(0.02)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL:])
    raise RuntimeError(f"{server.args!r} did not get ready; its log ends with\n{tail}")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) == 0
