"""Whether a store's answer proves that the archive arrived whole. Pure.

Success alone proves nothing: something on the way may have changed the bytes, or cut them off. But
most stores tell what the stored object hashes to.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Literal, TypeAlias

from e2b_upload.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Algorithm: TypeAlias = Literal["sha256", "md5", "sha1", "crc64nvme", "crc32c", "crc32"]

# What can be compared, the strongest first, with the bytes that each has.
_SIZE: dict[Algorithm, int] = {
    "sha256": 32,
    "md5": 16,
    "sha1": 20,
    "crc64nvme": 8,
    "crc32c": 4,
    "crc32": 4,
}
_ETAG = re.compile(r'"?([0-9a-fA-F]{32})"?')
_SSE, _SSE_C = "x-amz-server-side-encryption", "x-amz-server-side-encryption-customer-algorithm"


class DamagedError(UnavailableError):
    """What the store took is not the archive. Once may be chance, twice is not."""


def read_claims(headers: Mapping[str, str], host: str = "") -> dict[Algorithm, bytes]:
    """Return what an answer says that the stored object hashes to.

    Args:
        headers: names in lower case.
        host: which answered: S3's directory buckets have ETags that are no MD5.
    """
    claims: dict[Algorithm, bytes] = {}
    for algorithm, size in _SIZE.items():
        # A composite one, of an object in parts, has a number after a dash: no base64.
        claimed = _decoded(headers.get(f"x-amz-checksum-{algorithm}", ""), size)
        if claimed is None and algorithm == "md5":
            claimed = _md5(headers, host)
        if claimed is None and algorithm == "crc32c":
            claimed = decode_digest(algorithm, goog_hashes(headers).get(algorithm, ""))
        if claimed is not None:
            claims[algorithm] = claimed
    return claims


def _md5(headers: Mapping[str, str], host: str) -> bytes | None:
    size = _SIZE["md5"]
    for pair in headers.get("x-goog-hash", "").split(","):
        name, _, value = pair.strip().partition("=")
        if name == "md5" and (claimed := _decoded(value, size)):
            return claimed
    # Azure's. By HTTP it would be that of the answer's own body.
    if ("x-ms-request-id" in headers or headers.get("content-length") == "0") and (
        claimed := _decoded(headers.get("content-md5", ""), size)
    ):
        return claimed
    encrypted = headers.get(_SSE, "").lower().startswith("aws:kms") or _SSE_C in headers
    etag = _ETAG.fullmatch(headers.get("etag", ""))
    if etag is None or encrypted or "x-goog-hash" in headers or "s3express-" in host:
        return None  # as long as an MD5, and none
    return bytes.fromhex(etag[1])


def _decoded(value: str, size: int) -> bytes | None:
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if len(decoded) == size else None


def verify(
    claims: Mapping[Algorithm, bytes], digest: Callable[[Algorithm], bytes], host: str
) -> Algorithm | None:
    """Compare what an answer claims with the archive; return the check that proves it, if any.

    The strongest decides: an ETag beside a checksum may be no MD5 at all.

    Args:
        claims: from :func:`read_claims`.
        digest: gives the archive's own, as bytes.
        host: which answered, for the message.

    Raises:
        DamagedError: the store says that it holds something else.
    """
    for algorithm, claimed in claims.items():
        if claimed == (own := digest(algorithm)):
            return algorithm
        raise DamagedError(
            f"{host} stored something else than the archive: its {algorithm} is "
            f"{claimed.hex()}, the archive's is {own.hex()}",
            hint="Something on the way changes what is sent: look at proxies, and at memory.",
        )
    return None


def goog_hashes(headers: Mapping[str, str]) -> dict[Algorithm, str]:
    """Return the digests of Google's ``x-goog-hash``, as they are written there.

    Args:
        headers: names in lower case.
    """
    pairs = [pair.strip().partition("=") for pair in headers.get("x-goog-hash", "").split(",")]
    written = {name: value for name, _, value in pairs}
    known: tuple[Algorithm, ...] = ("crc32c", "md5")
    return {algorithm: written[algorithm] for algorithm in known if algorithm in written}


def decode_digest(algorithm: Algorithm, text: str) -> bytes | None:
    """Return a digest that is written in base64, as stores do; None if it is not one."""
    return _decoded(text, _SIZE[algorithm])
