"""How patient a put is: which failure deserves another attempt, and when. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from e2b_upload.errors import UnavailableError, UsageError
from e2b_upload.transfer.receipt import DamagedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2b_upload.errors import UploadError

RETRIES, CONNECT_TIMEOUT, STALL_TIMEOUT = 4, 10.0, 60.0
# Full jitter, as botocore's standard mode has it.
BASE_SECONDS, MOST_SECONDS = 1.0, 20.0
MOST_RETRY_AFTER = 120.0
_MOST_DAMAGED = 2
_MOST_RETRIES, _MOST_TIME = 1000, 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often, and how long.

    Attributes:
        retries: further attempts after the first.
        connect_timeout: seconds to connect, all of the host's addresses together, and as many for
            TLS.
        stall_timeout: seconds in which a byte must move, the wait for the answer included.
        max_time: seconds for the whole put, all attempts and waits; None for any.

    Raises:
        UsageError: a number that is none, or negative.
    """

    retries: int = RETRIES
    connect_timeout: float = CONNECT_TIMEOUT
    stall_timeout: float = STALL_TIMEOUT
    max_time: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.retries <= _MOST_RETRIES:
            raise UsageError(
                f"{self.retries} is not a number of retries",
                hint=f"Allow 0 to {_MOST_RETRIES}.",
            )
        for name in (item.name for item in fields(self)[1:]):
            value = getattr(self, name)
            if value is not None and not 0 < value <= _MOST_TIME:
                raise UsageError(
                    f"{value:g} is not a valid time for `{name}`",
                    hint="Give a number of seconds, more than 0 and at most 1,000,000.",
                )


def seconds_to_wait(
    error: UploadError, *, attempts: int, damaged: int, retries: int, jitter: float
) -> float | None:
    """Return how long to wait before another attempt, or None where there is to be none.

    Args:
        error: what the last attempt came to.
        attempts: how many there were.
        damaged: how many of them stored something else than the archive.
        retries: how many more than one there may be.
        jitter: from 0 to 1, by chance: so that many clients do not come back at once.
    """
    if not isinstance(error, UnavailableError) or attempts > retries:
        return None
    if isinstance(error, DamagedError) and damaged >= _MOST_DAMAGED:
        return None  # not by chance: something on the way changes it
    if error.retry_after is not None:
        return min(error.retry_after, MOST_RETRY_AFTER)
    return jitter * min(BASE_SECONDS * 2.0 ** min(attempts - 1, 10), MOST_SECONDS)


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return how many seconds an answer asks to wait (RFC 9110, 10.2.3), or None.

    Args:
        headers: names in lower case.
        now: seconds since the epoch, by this machine's clock; the answer's own is preferred.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:20]), MOST_RETRY_AFTER)
    until = read_date(value)
    if until is None:
        return None
    return min(max(until - (read_date(headers.get("date", "")) or now), 0.0), MOST_RETRY_AFTER)


def read_date(value: str) -> float | None:
    """Return an HTTP date as seconds since the epoch, or None where it is none."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  (5 ms that few answers ask for)

    try:
        seconds: float = parsedate_to_datetime(value[:100]).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return seconds
