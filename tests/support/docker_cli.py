"""What `docker build` sends for a folder, told by the real command line and a make-believe engine.

The classic builder packs the whole context and posts it as one tar, before the engine has a say.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import IO, Final

_API_VERSION: Final = "1.50"  # a newer command line speaks it too, an older one its own
_TIMEOUT_SECONDS: Final = 120
_TYPES: Final = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}


@dataclass(frozen=True)
class DockerEntry:
    """One entry of the tar; `target` is where a link leads, `sha256` a regular file's content."""

    type: str
    mode: int
    size: int
    target: str | None
    sha256: str | None


def docker_available() -> bool:
    return shutil.which("docker") is not None


def docker_entries(context: Path) -> dict[str, DockerEntry]:
    """List what Docker sends for `context`, which needs a Dockerfile, by name."""
    with tempfile.TemporaryDirectory(prefix="docker-") as home, tempfile.TemporaryFile() as tar:
        socket_path = os.path.join(home, "engine.sock")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "DOCKER_CONFIG": home,
            "DOCKER_HOST": f"unix://{socket_path}",
            "DOCKER_BUILDKIT": "0",
        }
        with _engine(socket_path, tar):
            built = subprocess.run(
                ["docker", "build", os.fspath(context)],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        if built.returncode:
            raise RuntimeError(f"docker build: {os.fsdecode(built.stderr).strip()}")
        tar.seek(0)
        return dict(_entries(tar))


def _entries(tar: IO[bytes]) -> Iterator[tuple[str, DockerEntry]]:
    with tarfile.open(
        fileobj=tar, mode="r:", encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            yield (
                member.name,
                DockerEntry(
                    type=_TYPES[member.type],
                    mode=stat.S_IMODE(member.mode),
                    size=member.size,
                    target=member.linkname or None,
                    sha256=hashlib.sha256(content.read()).hexdigest() if content else None,
                ),
            )


class _Engine(ThreadingMixIn, UnixStreamServer):
    """Knows just enough of the engine's API to be sent a context."""

    def __init__(self, socket_path: str, tar: IO[bytes]) -> None:
        self.tar = tar
        super().__init__(socket_path, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Engine

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer(json.dumps({"ApiVersion": _API_VERSION, "Os": "linux"}).encode())

    def do_POST(self) -> None:
        # A body cut short ends like a whole one: the command's exit status tells them apart
        while size := int(self.rfile.readline() or b"0", 16):
            self.server.tar.write(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        self._answer(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, body: bytes = b"") -> None:
        self.send_response(200)
        self.send_header("Api-Version", _API_VERSION)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def _engine(socket_path: str, tar: IO[bytes]) -> Iterator[None]:
    with _Engine(socket_path, tar) as engine:
        serving = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield
        finally:
            engine.shutdown()
            serving.join()
