"""A stand-in for Azure's Blob storage: Azurite on loopback, from the npm package."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import secrets
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from tests.support.servers import LOOPBACK, MissingError, free_ports, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from http.client import HTTPResponse

VERSION: Final = "3.35.0"  # later ones need a later Node.js than Debian has

_FOLDER: Final = Path(__file__).parents[2] / "build" / f"azurite-{VERSION}"
_ACCOUNT: Final = "tester"
CONTAINER: Final = "builds"
_API: Final = "2021-12-02"
_BLOB: Final = {"x-ms-blob-type": "BlockBlob"}


@dataclass(frozen=True)
class Azurite:
    """A running server with one empty container."""

    port: int
    key: str = field(repr=False)

    def presign_put(
        self, blob: str, permissions: str = "cw", expires: int = 3600, port: int = 0
    ) -> str:
        """Make a URL with a service SAS: what it permits, for so many seconds.

        `port` is that of something before this server: it is not signed.
        """
        expiry = _seconds_from_now(expires)
        fields = [permissions, "", expiry, f"/blob{_path(blob)}", "", "", "", _API, "b"]
        fields += [""] * 7  # the snapshot's time, the encryption scope, five headers of answers
        signed = {"sv": _API, "sr": "b", "sp": permissions, "se": expiry}
        query = urlencode({**signed, "sig": self._sign(fields)})
        return f"http://{LOOPBACK}:{port or self.port}{_path(blob)}?{query}"

    def environment(self) -> dict[str, str]:
        """Return what makes Azure's own libraries talk to this server."""
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": _ACCOUNT,
            "AccountKey": self.key,
            "BlobEndpoint": f"http://{LOOPBACK}:{self.port}/{_ACCOUNT}",
        }
        joined = ";".join(f"{name}={value}" for name, value in parts.items())
        return {"AZURE_STORAGE_CONNECTION_STRING": joined}

    def put(self, blob: str, data: bytes) -> None:
        assert self._ask("PUT", _path(blob), data, _BLOB)[0] == 201

    def get(self, blob: str) -> bytes | None:
        """Return what is stored, or None where nothing is."""
        status, data = self._ask("GET", _path(blob))
        assert status in {200, 404}, data
        return data if status == 200 else None

    def create(self) -> None:
        path = f"/{_ACCOUNT}/{CONTAINER}?restype=container"
        status, answer = self._ask("PUT", path)
        assert status == 201, answer

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Ask as the account's owner."""
        signed = {"sp": "rwdlac", "ss": "b", "srt": "sco", "se": _seconds_from_now(3600)}
        fields = [_ACCOUNT, signed["sp"], signed["ss"], signed["srt"], "", signed["se"]]
        fields += ["", "", _API, ""]
        query = urlencode({**signed, "sv": _API, "sig": self._sign([*fields, ""])})
        connection = HTTPConnection(LOOPBACK, self.port, timeout=30)
        try:
            joint = "&" if "?" in path else "?"
            connection.request(method, f"{path}{joint}{query}", body, dict(headers or {}))
            answer: HTTPResponse = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _sign(self, fields: list[str]) -> str:
        text = "\n".join(fields).encode()
        mac = hmac.digest(base64.b64decode(self.key), text, hashlib.sha256)
        return base64.b64encode(mac).decode()


def _path(blob: str) -> str:
    return f"/{_ACCOUNT}/{CONTAINER}/{blob}"


def _seconds_from_now(seconds: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def azurite() -> Iterator[Azurite]:
    """Run a server as long as the block lasts; what it stored goes with it.

    Raises:
        MissingError: it is not installed, and cannot be.
    """
    program = install()
    node = shutil.which("node")
    if node is None:
        raise MissingError("there is no Node.js")
    (port,) = free_ports(1)
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    with TemporaryDirectory(prefix="azurite-") as folder:
        command = [node, str(program), "--blobHost", LOOPBACK, "--blobPort", str(port)]
        command += ["--location", folder, "--disableTelemetry", "--skipApiVersionCheck", "--silent"]
        env = {"AZURITE_ACCOUNTS": f"{_ACCOUNT}:{key}"}
        with serving(command, Path(folder), [port], env):
            server = Azurite(port, key)
            server.create()
            yield server


def install() -> Path:
    """Return the program, from a folder of its own under build/; install it there if need be.

    Raises:
        MissingError: npm is not here, or reaches no registry.
    """
    program = _FOLDER / "node_modules/azurite/dist/src/blob/main.js"
    ready = _FOLDER / "ready"
    if ready.exists():
        return program
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError("there is no npm to install Azurite with")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests run in several processes
        if not ready.exists():
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"]
            done = subprocess.run(
                [npm, "install", "--prefix", _FOLDER, *options, f"azurite@{VERSION}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                why = done.stderr.strip().splitlines()[-1:]
                raise MissingError(f"npm cannot install Azurite: {' '.join(why)}")
            ready.touch()
    return program


if __name__ == "__main__":  # beforehand, so that no test waits for it
    install()
