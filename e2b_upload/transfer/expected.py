"""Whether an archive is the one that a URL, or a header, says it must be.

Pure: values in, an error out. A store refuses an object whose digest or size is not the one that
was signed or sent, but only after it has read all of it.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from e2b_upload.errors import RefusedError
from e2b_upload.transfer.presigned import read_query
from e2b_upload.transfer.receipt import Algorithm, decode_digest, goog_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from e2b_upload.transfer.url import PresignedUrl

# Azure compares its own header with what Put Blob received, as it does Content-MD5.
_DIGESTS: Final[Mapping[str, Algorithm]] = {
    "content-md5": "md5",
    "x-ms-blob-content-md5": "md5",
    **{f"x-amz-checksum-{algorithm}": algorithm for algorithm in get_args(Algorithm)},
}
_RANGE = "x-goog-content-length-range"
_SHA256 = "x-amz-content-sha256"
_MIN_MAX = re.compile(r"([0-9]{1,18}),([0-9]{1,18})")
_HEX = re.compile(r"[0-9a-fA-F]{64}")


class _Expected(NamedTuple):
    """A digest that a header or a query names; None if it is malformed."""

    name: str
    algorithm: Algorithm
    digest: bytes | None


def check_expected(
    url: PresignedUrl,
    headers: Mapping[str, str],
    size: int,
    digest: Callable[[Algorithm], bytes],
) -> None:
    """Refuse an archive that the store will refuse, because a digest or its size is another one.

    Args:
        url: its query may name digests and a range of sizes. A malformed value there says nothing.
        headers: sent with the PUT, names in any case. A malformed value is refused.
        size: bytes of the archive.
        digest: gives the archive's digests, as bytes; called only for those that are compared.

    Raises:
        RefusedError: the archive does not fit.
    """
    sent = {name.lower(): value.strip() for name, value in headers.items()}
    _check(sent, "header", size, digest, url)
    # Not every store compares the x-amz-content-sha256 of a query.
    signed = {name: value for name, value in read_query(url).items() if name != _SHA256}
    _check(signed, "signed", size, digest, url)


def _check(
    values: Mapping[str, str],
    kind: Literal["header", "signed"],
    size: int,
    digest: Callable[[Algorithm], bytes],
    url: PresignedUrl,
) -> None:
    """Compare what headers or a query say with the archive."""
    fits = _fits(values.get(_RANGE, ""), size)
    if fits is None and kind == "header" and _RANGE in values:
        raise RefusedError(
            f"the header {_RANGE} is malformed: {url.host} would refuse the upload to {url.shown}",
            hint=f"Write '{_RANGE}: MIN,MAX', in bytes.",
        )
    if fits is False:
        raise RefusedError(
            f"the archive of {size:,} bytes does not fit the {kind} {_RANGE}: {url.host} would "
            f"refuse the upload to {url.shown}",
            hint="Sign for a range MIN,MAX, in bytes, that includes the size of the archive.",
        )
    for expected in _digests(values):
        if expected.digest is None and kind == "signed":
            continue
        own = digest(expected.algorithm)
        if own != expected.digest:
            raise _mismatch(expected, own, kind, url)


def _fits(value: str, size: int) -> bool | None:
    """Return whether a size is in a range; None if it is not a range."""
    match = _MIN_MAX.fullmatch(value.replace(" ", ""))
    return int(match[1]) <= size <= int(match[2]) if match else None


def _digests(values: Mapping[str, str]) -> Iterator[_Expected]:
    for name, algorithm in _DIGESTS.items():
        if name in values:
            yield _Expected(name, algorithm, decode_digest(algorithm, values[name]))
    for algorithm, value in goog_hashes(values).items():
        yield _Expected("x-goog-hash", algorithm, decode_digest(algorithm, value))
    if _HEX.fullmatch(value := values.get(_SHA256, "")):  # else UNSIGNED-PAYLOAD and its like
        yield _Expected(_SHA256, "sha256", bytes.fromhex(value))


def _mismatch(expected: _Expected, own: bytes, kind: str, url: PresignedUrl) -> RefusedError:
    value = own.hex() if expected.name == _SHA256 else base64.b64encode(own).decode()
    what = "is malformed" if expected.digest is None else "is not the archive's"
    return RefusedError(
        f"the {kind} {expected.name} {what}: {url.host} would refuse the upload to {url.shown}",
        hint=f"The archive's {expected.algorithm} is {value}. To sign for an archive, pack it into "
        "a file first, sign for that, and upload the file.",
    )
