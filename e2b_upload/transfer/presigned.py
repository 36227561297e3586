"""What a presigned URL says of itself, before anything is archived.

Pure: values in, values or an error out; ``now`` is an argument. What a query does not say, or says
in a way that no signer does, is not known, and never an error: the store has the last word. Header
names are all that messages show of a query.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from e2b_upload.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2b_upload.transfer.url import PresignedUrl

Dialect: TypeAlias = Literal[
    "AWS SigV4", "AWS SigV2", "GCS V4", "GCS V2", "OSS", "Azure SAS", "CloudFront", "E2B"
]

_UNITS: Final = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20))
_TIB, _GIB, _MIB = (size for _, size in _UNITS)

# Names in lower case that tell a dialect, alternatives beside each other; the first that fits
# counts. Half a query is enough: what it says is read, what it lacks is not known.
_MARKS: Final[tuple[tuple[Dialect, tuple[str, ...]], ...]] = (
    ("AWS SigV2", ("awsaccesskeyid",)),
    ("GCS V2", ("googleaccessid",)),
    ("OSS", ("ossaccesskeyid", "x-oss-signature", "x-oss-signature-version", "x-oss-date")),
    ("AWS SigV4", ("x-amz-signature", "x-amz-algorithm", "x-amz-signedheaders", "x-amz-date")),
    ("GCS V4", ("x-goog-signature", "x-goog-algorithm", "x-goog-signedheaders", "x-goog-date")),
    ("CloudFront", ("key-pair-id",)),
    ("Azure SAS", ("sig se", "sig sp", "sig sv", "sig si")),
    ("E2B", ("expires token",)),
)
_MAX_BYTES: Final[Mapping[Dialect, int]] = {
    "AWS SigV4": 5 * _GIB,
    "AWS SigV2": 5 * _GIB,
    "OSS": 5 * _GIB,
    "GCS V4": 5 * _TIB,
    "GCS V2": 5 * _TIB,
    "Azure SAS": 5000 * _MIB,
}
_MAX_BYTES_AT: Final = (  # these understand AWS' dialect, and have a limit of their own
    (".r2.cloudflarestorage.com", 5 * _GIB - 5 * _MIB),
    (".storage.googleapis.com", 5 * _TIB),
)
# The others sign Content-MD5 even where it is empty: one that is added breaks the signature.
_TAKE_MD5: Final = frozenset({"AWS SigV4", "GCS V4", "Azure SAS"})
_CHECK_MD5: Final = _TAKE_MD5 | {"AWS SigV2", "GCS V2", "OSS"}
# Some SDKs sign before there is a body, and bake the checksum of none into the query.
_OF_NOTHING: Final = (
    ("x-amz-checksum-crc32", "AAAAAA=="),
    ("x-amz-checksum-crc32c", "AAAAAA=="),
    ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
    ("x-amz-checksum-sha1", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
    ("x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
)
# The conditions that `if_absent` sends.
_ABSENT: Final = frozenset(
    {"if-none-match", "x-goog-if-generation-match", "x-oss-forbid-overwrite"}
)
_OWN_HEADERS: Final = frozenset({"host", "content-length", "content-md5"})

_NUMBER = re.compile(r"[0-9]{1,12}")
_MILLISECONDS = re.compile(r"[0-9]{13}")
_FIRST_EPOCH: Final = 10**9  # September 2001: what is less is a duration, and its start unknown
_BASIC_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_AZURE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,7})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_HEADER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")  # as signers write them
_FROM_POLICY: Final = str.maketrans("-_~", "+=/")  # CloudFront's base64 for queries
_MAX_POLICY_CHARS: Final = 16 * 1024

_ALLOWED_SKEW: Final = 15 * 60.0  # seconds that this machine's clock may be off, either way
# Bucket names of this class end with --x-s3. They answer 501 to Content-MD5.
_DIRECTORY_BUCKET = re.compile(r"(?:^|\.)s3express-")
_FRESH_URL = "Ask for a fresh URL, or set the clock if it is wrong."


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the signer of a URL allowed. None stands for what is not known.

    Attributes:
        dialect: who reads the query.
        start: from when on it holds, in seconds since the epoch.
        expiry: until when, likewise.
        temporary: signed with a credential that expires too, maybe sooner; its end is not told.
        required_headers: what the caller has to send, by names in lower case; the value where
            there is only one.
        max_bytes: what one PUT may hold.
        takes_md5: whether a Content-MD5 that was not signed may be sent.
        needs_md5: whether Content-MD5 is signed, so that it has to be sent.
        may_write: False if the query gives permissions, and none to write.
        only_empty: the checksum of nothing is part of the query.
    """

    dialect: Dialect | None = None
    start: float | None = None
    expiry: float | None = None
    temporary: bool = False
    required_headers: Mapping[str, str | None] = field(default_factory=dict)
    max_bytes: int | None = None
    takes_md5: bool = False
    needs_md5: bool = False
    may_write: bool = True
    only_empty: bool = False

    @property
    def checks_md5(self) -> bool:
        """Whether the store refuses a body that is not what its Content-MD5 says."""
        return self.dialect in _CHECK_MD5


def read_terms(url: PresignedUrl) -> Terms:
    """Return what a URL says of itself; never fails, whatever the query holds."""
    query = read_query(url)
    dialect = _dialect(query)
    start, expiry = _times(dialect, query)
    signed = _signed_headers(dialect, query)
    required: dict[str, str | None] = {name: None for name in signed if name not in _OWN_HEADERS}
    if dialect == "Azure SAS":
        required["x-ms-blob-type"] = "BlockBlob"
    permissions = query.get("sp", "") if dialect == "Azure SAS" else ""
    return Terms(
        dialect=dialect,
        start=start,
        expiry=expiry,
        temporary="x-amz-security-token" in query,
        required_headers=required,
        max_bytes=_max_bytes(dialect, url),
        takes_md5=dialect in _TAKE_MD5 and not _DIRECTORY_BUCKET.search(url.host),
        needs_md5="content-md5" in signed,
        may_write=not permissions or not {"c", "w"}.isdisjoint(permissions),
        only_empty=any(query.get(name) == checksum for name, checksum in _OF_NOTHING),
    )


def check_terms(terms: Terms, url: PresignedUrl, headers: Mapping[str, str], *, now: float) -> None:
    """Refuse what the store surely will.

    Args:
        terms: what the URL says.
        url: for the message.
        headers: what the caller sends, names in any case.
        now: this machine's clock, in seconds since the epoch.

    Raises:
        RefusedError: the URL does not hold now, takes no archive, or wants a header that is
            missing.
    """
    if terms.only_empty:
        raise RefusedError(
            f"the URL {url.shown} was signed with the checksum of nothing: "
            "such a URL can only take an empty object",
            hint='Sign it without: Config(request_checksum_calculation="when_required") in boto3, '
            'requestChecksumCalculation: "WHEN_REQUIRED" in JavaScript.',
        )
    if not terms.may_write:
        raise RefusedError(
            f"the URL {url.shown} gives no permission to write",
            hint="Ask for one that may create or write: c or w among its permissions (sp).",
        )
    if terms.expiry is not None and now - terms.expiry > _ALLOWED_SKEW:
        hint = _FRESH_URL
        if terms.temporary:
            hint += " Its temporary credential may have expired as well: sign with a fresh one."
        error = RefusedError(
            f"the URL {url.shown} {expired(terms, now=now)} by this machine's clock", hint=hint
        )
        error.expired = True
        raise error
    if terms.start is not None and terms.start - now > _ALLOWED_SKEW:
        raise RefusedError(
            f"the URL {url.shown} is not valid yet: only in {_span(terms.start - now)} "
            "by this machine's clock",
            hint="Is the clock right? Set it, or wait, or ask for a URL that is valid now.",
        )
    _check_headers(terms, url, headers)


def expired(terms: Terms, *, now: float) -> str:
    """Return in words how long ago a URL expired, or an empty string if it did not."""
    if terms.expiry is None or now < terms.expiry:
        return ""
    return f"expired {_span(now - terms.expiry)} ago"


_SMALLER = "Exclude more files, or pack them smaller (`compression` small)."


def check_size(terms: Terms, url: PresignedUrl, size: int, max_size: int | None) -> None:
    """Check that an archive is not larger than the caller allows, or the store takes in one PUT.

    Args:
        terms: what the URL says.
        url: for the message.
        size: bytes of the archive.
        max_size: bytes that the caller allows, instead of the store's limit.

    Raises:
        RefusedError: it is too large.
    """
    check_max_size(size, max_size)
    if max_size is None and terms.max_bytes is not None and size > terms.max_bytes:
        raise RefusedError(
            f"the archive of {size:,} bytes is too large for {url.shown}: "
            f"{url.host} takes {_round_size(terms.max_bytes)} at most in one PUT",
            hint=f"{_SMALLER} Or, if this store takes more, set `max_size`.",
        )


def check_max_size(size: int, max_size: int | None) -> None:
    """Check that an archive is not larger than the caller allows.

    Raises:
        RefusedError: it is.
    """
    if max_size is not None and size > max_size:
        raise RefusedError(
            f"the archive of {size:,} bytes is larger than the {max_size:,} that are allowed",
            hint=f"{_SMALLER} Or allow more with `max_size`.",
        )


def _check_headers(terms: Terms, url: PresignedUrl, headers: Mapping[str, str]) -> None:
    sent = {name.lower(): value.strip() for name, value in headers.items()}
    missing = {
        name: value
        for name, value in terms.required_headers.items()
        if name not in sent or (value is not None and sent[name].lower() != value.lower())
    }
    if not missing:
        return
    named = ", ".join(f"{name}: {value}" if value else name for name, value in missing.items())
    shown = " ".join(f"`headers` '{name}: {value or '…'}'" for name, value in missing.items())
    signed = None in missing.values()
    absent = " Or set `if_absent`, which sends it." if missing.keys() <= _ABSENT else ""
    raise RefusedError(
        f"the URL {url.shown} takes an archive only with headers that are not sent: {named}",
        hint=f"Add {shown}" + (", with the value that was signed." if signed else ".") + absent,
    )


def read_query(url: PresignedUrl) -> dict[str, str]:
    """Return a query by names in lower case. A name with two values says nothing: it is empty."""
    found: dict[str, str] = {}
    for pair in url.url.partition("#")[0].partition("?")[2].split("&"):
        name, value = (unquote(part) for part in pair.partition("=")[::2])
        name = name.lower()
        found[name] = value if found.get(name, value) == value else ""
    return found


def _dialect(query: Mapping[str, str]) -> Dialect | None:
    for dialect, marks in _MARKS:
        if any(query.keys() >= set(mark.split()) for mark in marks):
            return dialect
    return None


def _times(dialect: Dialect | None, query: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Return from when and until when a URL holds."""
    match dialect:
        case "AWS SigV4":
            return _date_and_seconds(query, "x-amz-")
        case "GCS V4":
            return _date_and_seconds(query, "x-goog-")
        case "OSS" if "x-oss-date" in query:
            return _date_and_seconds(query, "x-oss-")
        case "Azure SAS":
            return _time(query.get("st", ""), _AZURE_TIME), _time(query.get("se", ""), _AZURE_TIME)
        case "CloudFront" if "policy" in query:
            return _policy_times(query["policy"])
        case None:
            return None, None
        case _:
            return None, _epoch(query.get("expires", ""))


def _date_and_seconds(query: Mapping[str, str], prefix: str) -> tuple[float | None, float | None]:
    start = _time(query.get(f"{prefix}date", ""), _BASIC_TIME)
    seconds = _number(query.get(f"{prefix}expires", ""))
    return start, None if start is None or seconds is None else start + seconds


def _number(text: str) -> float | None:
    """Return seconds, if they are of this world."""
    return float(text) if _NUMBER.fullmatch(text) else None


def _epoch(text: str) -> float | None:
    """Return seconds since the epoch, where they are that, or milliseconds, and not a duration."""
    if _MILLISECONDS.fullmatch(text):
        return int(text) / 1000
    seconds = _number(text)
    return seconds if seconds is not None and seconds >= _FIRST_EPOCH else None


def _time(value: str, form: re.Pattern[str]) -> float | None:
    if not form.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:  # the 30th of February
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _policy_times(policy: str) -> tuple[float | None, float | None]:
    """Return the times of CloudFront's custom policy: JSON, in a base64 of its own."""
    if len(policy) > _MAX_POLICY_CHARS:
        return None, None
    try:
        decoded = json.loads(base64.b64decode(policy.translate(_FROM_POLICY), validate=True))
        condition = decoded["Statement"][0]["Condition"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None, None

    def epoch(name: str) -> float | None:
        try:
            value = condition[name]["AWS:EpochTime"]
        except (LookupError, TypeError):
            return None
        return _epoch(str(value)) if isinstance(value, int) else None

    return epoch("DateGreaterThan"), epoch("DateLessThan")


def _signed_headers(dialect: Dialect | None, query: Mapping[str, str]) -> list[str]:
    """Return the names that were signed; none if it is no list of names.

    Every signer signs host. A list without it is a torn URL's: its pieces may be a secret.
    """
    prefix = {"AWS SigV4": "x-amz-", "GCS V4": "x-goog-"}.get(dialect or "", "")
    names = query.get(f"{prefix}signedheaders", "").lower().split(";") if prefix else []
    return names if "host" in names and all(map(_HEADER_NAME.fullmatch, names)) else []


def _max_bytes(dialect: Dialect | None, url: PresignedUrl) -> int | None:
    if dialect is None:
        return None
    host = "." + (urlsplit(url.shown).hostname or "").rstrip(".")
    at_host = (limit for suffix, limit in _MAX_BYTES_AT if host.endswith(suffix))
    return next(at_host, _MAX_BYTES.get(dialect))


def _span(seconds: float) -> str:
    """Return a time in whole units, of the largest of which there are at least two."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit}"
    return f"{int(seconds)} s"


def _round_size(size: int) -> str:
    """Return a limit exactly, in the largest unit that divides it: 5 GiB, 5000 MiB."""
    for unit, length in _UNITS:
        if size % length == 0:
            return f"{size // length} {unit}"
    return f"{size:,} bytes"
