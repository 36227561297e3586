"""Whether a store's answer proves that the archive arrived whole. Pure.

Success alone proves nothing: something on the way may have changed the bytes, or cut them off. But
most stores tell what the stored object hashes to.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from e2b_upload.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Algorithm: TypeAlias = Literal["sha256", "md5", "sha1", "crc64nvme", "crc64ecma", "crc32c", "crc32"]

# What can be compared, the strongest first, with the bytes that each has.
_SIZE: dict[Algorithm, int] = {
    "sha256": 32,
    "md5": 16,
    "sha1": 20,
    "crc64nvme": 8,
    "crc64ecma": 8,
    "crc32c": 4,
    "crc32": 4,
}
# OSS', COS' and TOS' CRC-64, a decimal number. They call its polynomial ECMA.
_CRC64 = re.compile("x-[a-z]+-hash-crc64ecma")
# Headers that tell the size of the stored object: Google's, AWS'.
_SIZE_HEADERS = ("x-goog-stored-content-length", "x-amz-object-size")
_ETAG = re.compile(r'(?:W/)?"?([0-9a-fA-F]{32})"?')
# The object is encrypted (any vendor's header), or in parts, or in a directory bucket: then its
# ETag may have the form of an MD5 and be something else.
_NOT_MD5 = re.compile(
    "server-side-encryption|x-(?:goog|ms)-encryption|x-goog-component-count|x-amz-mp-parts-count"
)
_OFF = frozenset({"", "none", "false"})  # values of such a header that say that it is not
# AWS sends this with every object since 2023, and the ETag of such an object is its MD5.
_AWS_DEFAULT = ("x-amz-server-side-encryption", "AES256")
_MD5_OF_NOTHING = hashlib.md5(b"", usedforsecurity=False).digest()
_CHANGED = "Something on the way to the store changes the bytes: check proxies and memory."
_ONE_ZONE = "EXPRESS_ONEZONE"
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu")


class Claim(NamedTuple):
    """What an answer says of the stored object.

    Attributes:
        algorithm: of the digest.
        digest: of the object, as bytes.
        kind: what a mismatch means. ``checksum``: the object is damaged. ``md5 etag``: so it is,
            unless a checksum matches. ``etag``: nothing, because it may be no MD5 at all.
    """

    algorithm: Algorithm
    digest: bytes
    kind: Literal["checksum", "md5 etag", "etag"] = "checksum"


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
    google = goog_hashes(headers)
    claims = []
    for algorithm in _SIZE:
        # A composite one, of an object in parts, has a number after a dash: not base64.
        written = headers.get(f"x-amz-checksum-{algorithm}") or google.get(algorithm, "")
        if digest := decode_digest(algorithm, written):
            claims.append(Claim(algorithm, digest))
        elif algorithm == "crc64ecma":
            claims += _crc64(headers)
        elif algorithm == "md5":
            claims += _md5(headers, host, asked or {})
    return claims


def _crc64(headers: Mapping[str, str]) -> Iterator[Claim]:
    for value in (headers[name] for name in headers if _CRC64.fullmatch(name)):
        if re.fullmatch("[0-9]{1,20}", value) and int(value) < 2**64:
            yield Claim("crc64ecma", int(value).to_bytes(8))


def _md5(headers: Mapping[str, str], host: str, asked: Mapping[str, str]) -> Iterator[Claim]:
    # Azure's. By HTTP it would be that of the answer's own body, which may be empty.
    azure, empty = "x-ms-request-id" in headers, headers.get("content-length") == "0"
    digest = decode_digest("md5", headers.get("content-md5", ""))
    if digest and (azure or (empty and digest != _MD5_OF_NOTHING)):
        yield Claim("md5", digest)
    elif etag := _ETAG.fullmatch(headers.get("etag", "")):
        digest = bytes.fromhex(etag[1])
        # A weak one beside a body may be that of the answer: Rack makes such ETags.
        weak = etag[0].startswith("W/") and not _is_empty(headers)
        condemns = digest == _MD5_OF_NOTHING or _is_md5_etag(headers, host, asked)
        yield Claim("md5", digest, "md5 etag" if condemns and not weak else "etag")


def _is_empty(headers: Mapping[str, str]) -> bool:
    """Whether an answer announces no body."""
    return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers


def _is_md5_etag(headers: Mapping[str, str], host: str, asked: Mapping[str, str]) -> bool:
    """Whether nothing says that the ETag is something else than the object's MD5."""
    name = host.partition(":")[0].rstrip(".").lower()
    said = {
        (key, value)
        for each in (headers, asked)
        for key, value in each.items()
        if _NOT_MD5.search(key) and value.strip().lower() not in _OFF
    }
    if name.endswith(_AWS_HOSTS):
        said.discard(_AWS_DEFAULT)
    directory_bucket = "s3express-" in name or headers.get("x-amz-storage-class") == _ONE_ZONE
    return not said and not directory_bucket and "x-goog-hash" not in headers


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
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if len(decoded) == _SIZE[algorithm] else None


def check_size_told(headers: Mapping[str, str], size: int, host: str) -> None:
    """Compare the size that an answer tells of the stored object with the archive's.

    Args:
        headers: the answer's, names in lower case.
        size: bytes of the archive.
        host: which answered, for the message.

    Raises:
        DamagedError: it differs.
    """
    for told in (headers.get(name, "") for name in _SIZE_HEADERS):
        if re.fullmatch("[0-9]{1,18}", told) and int(told) != size:
            raise DamagedError(
                f"{host} stored something else than the archive: {int(told):,} bytes, and the "
                f"archive has {size:,}",
                hint=_CHANGED,
            )


def verify(
    claims: Iterable[Claim], digest: Callable[[Algorithm], bytes], host: str
) -> Algorithm | None:
    """Compare what an answer claims with the archive.

    Args:
        claims: from :func:`read_claims`. The first that decides counts.
        digest: gives the archive's own, as bytes.
        host: which answered, for the message.

    Returns:
        The algorithm of the digest that proves it; None if nothing does.

    Raises:
        DamagedError: the store holds something else.
    """
    doubt: DamagedError | None = None
    for algorithm, claimed, kind in claims:
        if claimed == (own := digest(algorithm)):
            return algorithm
        if kind == "etag":
            continue
        doubt = DamagedError(
            f"{host} stored something else than the archive: its {algorithm} is "
            f"{claimed.hex()}, the archive's is {own.hex()}",
            hint=_CHANGED,
        )
        if kind == "md5 etag":
            doubt.hint += " If this store's ETags are not MD5s, set `ignore_checksum`."
        if kind == "checksum":
            break
    if doubt is not None:
        raise doubt
    return None
