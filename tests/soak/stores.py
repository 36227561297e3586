"""Stores that keep objects as real ones do, and tell of them in the ways of several."""

import base64
import hashlib
import secrets
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from tests.support.rawserver import Recorded, response
from tests.support.seaweed import _ACCESS_KEY, Seaweed

_SECRET: Final = "5f3a19c0e7b84d62aa905f3a19c0e7b84d62aa90"

_HOP_BY_HOP: Final = {"connection", "content-length", "date", "expect", "transfer-encoding"}


class Reply(NamedTuple):
    """What a store answers."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    def __bytes__(self) -> bytes:
        return response(self.status, self.body, self.headers)


def refusal(
    status: int, code: str = "", headers: Mapping[str, str] | None = None, *, secret: str = ""
) -> Reply:
    """Say no as S3 does, and repeat what is secret, as S3 also does."""
    text = f"<Error><Code>{code}</Code><Message>no, {secret}</Message></Error>" if code else ""
    return Reply(status, dict(headers or {}), text.encode())


class Dialect(NamedTuple):
    """How a kind of store signs, and what its answers say about the stored bytes.

    Attributes:
        query: of its presigned URLs.
        proof: returns the headers of an answer that stored a body.
        told: the digest in those headers, or None if they have none.
        known: False if a client cannot tell from the URL which store it is.
        headers: what the caller must send.
        exists: the answer to a PUT with `If-None-Match: *` if the object exists; None if the store
            takes that condition only signed.
    """

    query: str
    proof: Callable[[bytes], dict[str, str]]
    told: str | None
    known: bool = True
    headers: Mapping[str, str] = {}
    exists: Reply | None = Reply(412, {})

    @property
    def verified(self) -> str | None:
        """The receipt's `verified`: a known store has at least checked Content-MD5."""
        return self.told or ("content-md5" if self.known else None)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def _etag(body: bytes) -> dict[str, str]:
    return {"ETag": f'"{_md5(body).hex()}"'}


def _encrypted(body: bytes) -> dict[str, str]:
    del body
    return {"ETag": f'"{secrets.token_hex(16)}"', "x-amz-server-side-encryption": "aws:kms"}


def _goog(body: bytes) -> dict[str, str]:
    return {"ETag": '"CKr7xL2V"', "x-goog-hash": f"crc32c=n03x6A==,md5={_base64(_md5(body))}"}


def _azure(body: bytes) -> dict[str, str]:
    return {"ETag": '"0x8DC5A1B2C3D4E5F"', "Content-MD5": _base64(_md5(body))}


def _sha256(body: bytes) -> dict[str, str]:
    return {"x-amz-checksum-sha256": _base64(hashlib.sha256(body).digest())} | _encrypted(body)


def _sha1(body: bytes) -> dict[str, str]:
    digest = hashlib.sha1(body, usedforsecurity=False).digest()
    return {"x-amz-checksum-sha1": _base64(digest)} | _encrypted(body)


def _crc32(body: bytes) -> dict[str, str]:
    return {"x-amz-checksum-crc32": _base64(zlib.crc32(body).to_bytes(4))} | _encrypted(body)


def _nothing(body: bytes) -> dict[str, str]:
    del body
    return {}


def _dialects() -> dict[str, Dialect]:
    now = datetime.now(UTC)
    amz, goog = (
        f"X-{name}-Algorithm={algorithm}&X-{name}-Credential=key%2F{now:%Y%m%d}%2Fx%2Fy%2Fz"
        f"&X-{name}-Date={now:%Y%m%dT%H%M%SZ}&X-{name}-Expires=86400&X-{name}-SignedHeaders=host"
        f"&X-{name}-Signature={_SECRET}"
        for name, algorithm in (("Amz", "AWS4-HMAC-SHA256"), ("Goog", "GOOG4-RSA-SHA256"))
    )
    sas = f"sv=2024-11-04&sr=b&sp=cw&se=2400-01-01T00%3A00%3A00Z&sig={_SECRET}"
    return {
        "s3": Dialect(amz, _etag, "md5"),
        "s3, encrypted": Dialect(amz, _encrypted, None),
        "s3, sha256": Dialect(amz, _sha256, "sha256"),
        "s3, sha1": Dialect(amz, _sha1, "sha1"),
        "s3, crc32": Dialect(amz, _crc32, "crc32"),
        "gcs": Dialect(goog, _goog, "md5", exists=None),
        "azure": Dialect(
            *(sas, _azure, "md5"),
            headers={"x-ms-blob-type": "BlockBlob"},
            exists=refusal(409, "BlobAlreadyExists", {"x-ms-error-code": "BlobAlreadyExists"}),
        ),
        "token": Dialect(f"token={_SECRET}", _nothing, None, known=False),
    }


DIALECTS: Final = _dialects()


class Store(Protocol):
    """Where objects are kept."""

    def put(self, request: Recorded, body: bytes, dialect: Dialect) -> Reply:
        """Take a body; it may be another than the one that was sent."""

    def sha256(self, key: str) -> str | None:
        """Return the stored object's, or None where there is none."""

    def presign(self, server: str, key: str, dialect: Dialect) -> str:
        """Return a URL of the server that stands in front of the store."""


class MemoryStore:
    """Keeps digests of bodies. It checks `If-None-Match` before Content-MD5, as SeaweedFS does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, str] = {}

    def put(self, request: Recorded, body: bytes, dialect: Dialect) -> Reply:
        headers = {name.lower(): value for name, value in request.headers}
        missing = dialect.headers.keys() - headers.keys()
        if request.method != "PUT" or len(body) != int(headers["content-length"]) or missing:
            return refusal(400, "InvalidRequest")
        key = request.target.partition("?")[0]
        if dialect.exists and headers.get("if-none-match") == "*" and self.sha256(key[1:]):
            return dialect.exists
        if headers.get("content-md5", _base64(_md5(body))) != _base64(_md5(body)):
            return refusal(400, "BadDigest")
        self.keep(key, body)
        return Reply(200, dialect.proof(body))

    def keep(self, key: str, body: bytes) -> None:
        with self._lock:
            self._objects[key] = hashlib.sha256(body).hexdigest()

    def sha256(self, key: str) -> str | None:
        with self._lock:
            return self._objects.get(f"/{key}")

    def presign(self, server: str, key: str, dialect: Dialect) -> str:
        return f"{server}/{key}?{dialect.query}"


class SeaweedStore:
    """Hands on to a real S3 server what comes through the server in front of it."""

    def __init__(self, server: Seaweed) -> None:
        self._server = server
        # It keeps connections: one more or less would pass for a leak. None of it is used here.
        server._client.close()

    def put(self, request: Recorded, body: bytes, dialect: Dialect) -> Reply:
        del dialect
        headers = [
            (name, value) for name, value in request.headers if name.lower() not in _HOP_BY_HOP
        ]
        headers.append(("Content-Length", str(len(body))))
        return self._ask(request.method, request.target, headers, body)

    def sha256(self, key: str) -> str | None:
        url = self._sign("GET", self._server.endpoint, key)
        parts = urlsplit(url)
        reply = self._ask("GET", f"{parts.path}?{parts.query}", [("Host", parts.netloc)])
        if reply.status == 404:
            return None
        assert reply.status == 200, reply
        return hashlib.sha256(reply.body).hexdigest()

    def presign(self, server: str, key: str, dialect: Dialect) -> str:
        del dialect
        return self._sign("PUT", server, key)

    def _sign(self, method: str, server: str, key: str) -> str:
        # Without a client of boto3's, of which each takes megabytes.
        from botocore.auth import S3SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest(method, f"{server}/{self._server.bucket}/{key}")
        credentials = Credentials(_ACCESS_KEY, self._server.secret_key)
        S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=3600).add_auth(request)
        url: str = request.url
        return url

    def _ask(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b""
    ) -> Reply:
        there = urlsplit(self._server.endpoint)
        connection = HTTPConnection(there.hostname or "", there.port, timeout=60)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            told = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
            return Reply(answer.status, told, answer.read())
        finally:
            connection.close()
