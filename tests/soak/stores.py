"""Stores that keep objects, and how several kinds of stores answer."""

import base64
import hashlib
import secrets
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPConnection
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from tests.support.rawserver import Recorded, response
from tests.support.seaweed import ACCESS_KEY, Seaweed

_SECRET: Final = "5f3a19c0e7b84d62aa905f3a19c0e7b84d62aa90"
_HOP_BY_HOP: Final = {"connection", "content-length", "date", "expect", "transfer-encoding"}


class Reply(NamedTuple):
    """The answer of a store."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    def __bytes__(self) -> bytes:
        return response(self.status, self.body, self.headers)


def refusal(
    status: int, code: str = "", headers: Mapping[str, str] | None = None, *, secret: str = ""
) -> Reply:
    """Reject as S3 does, which also repeats secrets."""
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
            accepts that condition only signed.
    """

    query: str
    proof: Callable[[bytes], dict[str, str]]
    told: str | None
    known: bool = True
    headers: Mapping[str, str] = {}
    exists: Reply | None = refusal(412, "PreconditionFailed")

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


def _goog(body: bytes) -> dict[str, str]:
    return {"ETag": '"CKr7xL2V"', "x-goog-hash": f"crc32c=n03x6A==,md5={_base64(_md5(body))}"}


def _azure(body: bytes) -> dict[str, str]:
    return {"ETag": '"0x8DC5A1B2C3D4E5F"', "Content-MD5": _base64(_md5(body))}


def _encrypted(body: bytes, *, told: str = "") -> dict[str, str]:
    """Return an ETag that is not an MD5, and a checksum."""
    digests = {
        "sha256": hashlib.sha256(body).digest(),
        "sha1": hashlib.sha1(body, usedforsecurity=False).digest(),
        "crc32": zlib.crc32(body).to_bytes(4),
    }
    checksum = {f"x-amz-checksum-{told}": _base64(digests[told])} if told else {}
    etag = f'"{secrets.token_hex(16)}"'
    return {"ETag": etag, "x-amz-server-side-encryption": "aws:kms", **checksum}


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
        **{
            f"s3, {told}": Dialect(amz, partial(_encrypted, told=told), told)
            for told in ("sha256", "sha1", "crc32")
        },
        "gcs": Dialect(goog, _goog, "md5", exists=None),
        "azure": Dialect(
            *(sas, _azure, "md5"),
            headers={"x-ms-blob-type": "BlockBlob"},
            exists=refusal(409, "BlobAlreadyExists", {"x-ms-error-code": "BlobAlreadyExists"}),
        ),
        "token": Dialect(f"token={_SECRET}", lambda _: {}, None, known=False),
    }


DIALECTS: Final = _dialects()


class Store(Protocol):
    """Keeps objects."""

    def put(self, request: Recorded, dialect: Dialect) -> Reply:
        """Answer a PUT. The request may differ from the one that the client sent."""

    def sha256(self, key: str) -> str | None:
        """Return the digest of a stored object, or None if there is none."""

    def presign(self, server: str, key: str, dialect: Dialect) -> str:
        """Return a URL of the server in front of the store."""


class MemoryStore:
    """Keeps digests of bodies. It checks `If-None-Match` before Content-MD5, as SeaweedFS does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, str] = {}

    def put(self, request: Recorded, dialect: Dialect) -> Reply:
        headers = {name.lower(): value for name, value in request.headers}
        missing = dialect.headers.keys() - headers.keys()
        length = int(headers["content-length"])
        if request.method != "PUT" or len(request.body) != length or missing:
            return refusal(400, "InvalidRequest")
        key = request.target.partition("?")[0][1:]
        if dialect.exists and headers.get("if-none-match") == "*" and self.sha256(key):
            return dialect.exists
        md5 = _base64(_md5(request.body))
        if headers.get("content-md5", md5) != md5:
            return refusal(400, "BadDigest")
        self.keep(key, request.body)
        return Reply(200, dialect.proof(request.body))

    def keep(self, key: str, body: bytes) -> None:
        with self._lock:
            self._objects[key] = hashlib.sha256(body).hexdigest()

    def sha256(self, key: str) -> str | None:
        with self._lock:
            return self._objects.get(key)

    def presign(self, server: str, key: str, dialect: Dialect) -> str:
        return f"{server}/{key}?{dialect.query}"


class SeaweedStore:
    """Forwards requests to a real S3 server."""

    def __init__(self, server: Seaweed) -> None:
        self._server = server
        # It keeps connections, whose number would look like a leak. It is not used here.
        server._client.close()

    def put(self, request: Recorded, dialect: Dialect) -> Reply:
        del dialect
        headers = [pair for pair in request.headers if pair[0].lower() not in _HOP_BY_HOP]
        headers.append(("Content-Length", str(len(request.body))))
        return self._ask(request.method, request.target, headers, request.body)

    def sha256(self, key: str) -> str | None:
        parts = urlsplit(self._sign("GET", self._server.endpoint, key))
        reply = self._ask("GET", f"{parts.path}?{parts.query}", [("Host", parts.netloc)])
        if reply.status == 404:
            return None
        assert reply.status == 200, reply
        return hashlib.sha256(reply.body).hexdigest()

    def presign(self, server: str, key: str, dialect: Dialect) -> str:
        del dialect
        return self._sign("PUT", server, key)

    def _sign(self, method: str, server: str, key: str) -> str:
        # Without a client of boto3, each of which takes megabytes.
        from botocore.auth import S3SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest(method, f"{server}/{self._server.bucket}/{key}")
        credentials = Credentials(ACCESS_KEY, self._server.secret_key)
        S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=3600).add_auth(request)
        url: str = request.url
        return url

    def _ask(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b""
    ) -> Reply:
        there = urlsplit(self._server.endpoint)
        with closing(HTTPConnection(there.hostname or "", there.port, timeout=60)) as connection:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
            return Reply(answer.status, kept, answer.read())
