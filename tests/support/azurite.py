"""Azurite, the emulator of Azure Blob Storage, on loopback, from the npm package."""

from __future__ import annotations

import base64
import fcntl
import secrets
import shutil
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from tests.support.servers import LOOPBACK, MissingError, free_ports, listening, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION: Final = "3.35.0"  # later ones need a later Node.js than Debian has
CONTAINER: Final = "builds"

_FOLDER: Final = Path(__file__).parents[2] / "build" / f"azurite-{VERSION}"
_ACCOUNT: Final = "tester"


@dataclass(frozen=True)
class Azurite:
    """A running server with one empty container."""

    port: int
    key: str = field(repr=False)

    def presign_put(
        self, blob: str, permissions: str = "cw", expires: int = 3600, port: int = 0
    ) -> str:
        """Return a URL with a service SAS; `port` is that of a proxy, which is not signed."""
        from azure.storage.blob import generate_blob_sas

        sas = generate_blob_sas(
            *(_ACCOUNT, CONTAINER, blob),
            account_key=self.key,
            permission=permissions,
            expiry=datetime.now(UTC) + timedelta(seconds=expires),
        )
        return f"http://{LOOPBACK}:{port or self.port}/{_ACCOUNT}/{CONTAINER}/{blob}?{sas}"

    def environment(self) -> dict[str, str]:
        """Return the variable that points Azure's libraries to this server."""
        endpoint = f"http://{LOOPBACK}:{self.port}/{_ACCOUNT}"
        account = f"AccountName={_ACCOUNT};AccountKey={self.key};BlobEndpoint={endpoint}"
        return {"AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{account}"}

    def put(self, blob: str, data: bytes) -> None:
        with self.container() as container:
            container.upload_blob(blob, data, overwrite=True)

    def get(self, blob: str) -> bytes | None:
        """Return the stored bytes, or None if there are none."""
        from azure.core.exceptions import ResourceNotFoundError

        with self.container() as container, suppress(ResourceNotFoundError):
            data: bytes = container.download_blob(blob).readall()
            return data
        return None

    def container(self) -> Any:
        from azure.storage.blob import ContainerClient

        (connection,) = self.environment().values()
        return ContainerClient.from_connection_string(connection, CONTAINER)


@contextmanager
def azurite() -> Iterator[Azurite]:
    """Run a server while the block runs; its data is removed afterwards.

    Raises:
        MissingError: Azurite is not installed, and cannot be installed.
    """
    program = install()
    node = shutil.which("node")
    if node is None:
        raise MissingError("there is no Node.js")
    (port,) = free_ports(1)
    server = Azurite(port, base64.b64encode(secrets.token_bytes(64)).decode())
    with TemporaryDirectory(prefix="azurite-") as folder:
        command = [node, str(program), "--blobHost", LOOPBACK, "--blobPort", str(port)]
        command += ["--location", folder, "--disableTelemetry", "--skipApiVersionCheck", "--silent"]
        env = {"AZURITE_ACCOUNTS": f"{_ACCOUNT}:{server.key}"}
        with serving(command, Path(folder), partial(listening, port), env):
            with server.container() as container:
                container.create_container()
            yield server


def install() -> Path:
    """Return the program in `build/`, after installing it there if necessary.

    Raises:
        MissingError: npm is not installed, or cannot reach its registry.
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
            command = [npm, "install", "--prefix", str(_FOLDER), *options, f"azurite@{VERSION}"]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if done.returncode:
                why = done.stderr.strip().splitlines()[-1:]
                raise MissingError(f"npm cannot install Azurite: {' '.join(why)}")
            ready.touch()
    return program


if __name__ == "__main__":  # so that no test waits for it
    install()
