"""Whether a store's answer proves that the archive arrived whole. Pure.

Success alone proves nothing: something on the way may have changed the bytes, or cut them off. But
most stores tell what the stored object hashes to.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from e2b_upload.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Algorithm: TypeAlias = Literal["sha256", "md5", "sha1", "crc32"]

# What can be compared, the strongest first, with the bytes that each has.
_SIZE: dict[Algorithm, int] = {"sha256": 32, "md5": 16, "sha1": 20, "crc32": 4}
_ETAG = re.compile(r'(?:W/)?"?([0-9a-fA-F]{32})"?')
# The object is encrypted (any vendor's header), or in parts, or in a directory bucket: then its
# ETag may have the form of an MD5 and be something else.
_NOT_MD5 = re.compile(
    "server-side-encryption|x-(?:goog|ms)-encryption|x-goog-component-count|x-amz-mp-parts-count"
)
# AWS sends this with every object since 2023, and the ETag of such an object is its MD5.
_AWS_DEFAULT = ("x-amz-server-side-encryption", "AES256")
_ONE_ZONE = "EXPRESS_ONEZONE"
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu")


class Claim(NamedTuple):
    """What an answer says of the stored object.

    Attributes:
        algorithm: of the digest.
        digest: of the object, as bytes.
        condemns: whether another digest than the archive's proves that the object is not the
            archive; False for an ETag that may be no MD5 at all.
    """

    algorithm: Algorithm
    digest: bytes
    condemns: bool = True


class DamagedError(UnavailableError):
    """What the store took is not the archive. Once may be chance, twice is not."""


def read_claims(
    headers: Mapping[str, str], host: str = "", asked: Mapping[str, str] | None = None
) -> list[Claim]:
    """Return what an answer says that the stored object hashes to, the strongest digest first.

    Args:
        headers: the answer's, names in lower case.
        host: which answered, with or without a port.
        asked: headers that the request set, by itself or through its URL, names in lower case: a
            store need not repeat that it encrypts.
    """
    claims = []
    for algorithm, size in _SIZE.items():
        # A composite one, of an object in parts, has a number after a dash: not base64.
        claimed = _decoded(headers.get(f"x-amz-checksum-{algorithm}", ""), size)
        if claimed is not None:
            claims.append(Claim(algorithm, claimed))
        elif algorithm == "md5":
            claims += _md5(headers, host, asked or {})
    return claims


def _md5(headers: Mapping[str, str], host: str, asked: Mapping[str, str]) -> Iterator[Claim]:
    size = _SIZE["md5"]
    for pair in headers.get("x-goog-hash", "").split(","):
        name, _, value = pair.strip().partition("=")
        if name == "md5" and (claimed := _decoded(value, size)):
            yield Claim("md5", claimed)
            return
    # Azure's. By HTTP it would be that of the answer's own body.
    if ("x-ms-request-id" in headers or headers.get("content-length") == "0") and (
        claimed := _decoded(headers.get("content-md5", ""), size)
    ):
        yield Claim("md5", claimed)
        return
    value = headers.get("etag", "")
    if etag := _ETAG.fullmatch(value):
        condemns = not value.startswith("W/") and _is_md5_etag(headers, host, asked)
        yield Claim("md5", bytes.fromhex(etag[1]), condemns)


def _is_md5_etag(headers: Mapping[str, str], host: str, asked: Mapping[str, str]) -> bool:
    """Whether nothing says that the ETag is something else than the object's MD5."""
    name = host.partition(":")[0].rstrip(".").lower()
    said = {
        (key, value)
        for each in (headers, asked)
        for key, value in each.items()
        if _NOT_MD5.search(key)
    }
    if name.endswith(_AWS_HOSTS):
        said.discard(_AWS_DEFAULT)
    directory_bucket = "s3express-" in name or headers.get("x-amz-storage-class") == _ONE_ZONE
    return not said and not directory_bucket and "x-goog-hash" not in headers


def _decoded(value: str, size: int) -> bytes | None:
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if len(decoded) == size else None


def verify(
    claims: Iterable[Claim], digest: Callable[[Algorithm], bytes], host: str
) -> Algorithm | None:
    """Compare what an answer claims with the archive.

    Args:
        claims: from :func:`read_claims`. The first that decides counts: an ETag beside a checksum
            may be no MD5 at all.
        digest: gives the archive's own, as bytes.
        host: which answered, for the message.

    Returns:
        The algorithm of the digest that proves it; None if nothing does.

    Raises:
        DamagedError: the store holds something else.
    """
    for algorithm, claimed, condemns in claims:
        if claimed == (own := digest(algorithm)):
            return algorithm
        if condemns:
            raise DamagedError(
                f"{host} stored something else than the archive: its {algorithm} is "
                f"{claimed.hex()}, the archive's is {own.hex()}",
                hint="Something on the way to the store changes the bytes: check proxies and "
                "memory. If this store's ETags are not MD5s, pass --ignore-checksum.",
            )
    return None
