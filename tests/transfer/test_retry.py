"""Which failure deserves another attempt, and when: the decisions alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2b_upload import RefusedError, SourceError, SpoolError, UnavailableError, UsageError
from e2b_upload.errors import UploadError
from e2b_upload.transfer.answer import Answer, failure
from e2b_upload.transfer.receipt import DamagedError
from e2b_upload.transfer.retry import Patience, read_date, read_retry_after, seconds_to_wait
from e2b_upload.transfer.url import parse
from tests.transfer.common import xml

URL = parse("https://store.example/bucket/key?X-Amz-Signature=0123456789abcdef")
NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def answered(status: int, code: str = "", **headers: str) -> UploadError:
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure(Answer(status, lower, xml(code) if code else b"", NOW), URL)


def wait(
    error: UploadError, attempts: int = 1, *, damaged: int = 0, retries: int = 4, jitter: float = 1
) -> float | None:
    return seconds_to_wait(
        error, attempts=attempts, damaged=damaged, retries=retries, jitter=jitter
    )


@pytest.mark.parametrize("status", range(100, 1000))
def test_only_transient_statuses_are_retried(status: int) -> None:
    transient = {408, 425, 429} if status < 500 else {*range(500, 600)} - {501, 505}
    assert (wait(answered(status)) is not None) == (status in transient)


@pytest.mark.parametrize(
    ("status", "code", "passes"),
    [
        (400, "RequestTimeout", True),
        (503, "SlowDown", True),
        (400, "SlowDown", True),
        (500, "InternalError", True),
        (400, "InternalError", True),
        (200, "InternalError", True),
        (200, "SlowDown", True),
        (200, "ServiceUnavailable", True),
        (200, "AccessDenied", False),
        (200, "Unheard0f", False),
        (200, "BadDigest", True),
        (409, "OperationAborted", True),
        (409, "ConditionalRequestConflict", True),
        (409, "BlobAlreadyExists", False),
        (409, "InvalidBlobType", False),
        (400, "IncompleteBody", True),
        (400, "ClientDisconnect", True),
        (400, "ExpiredRequest", False),
        (400, "Throttling", True),
        (400, "ThrottlingException", True),
        (400, "RequestThrottled", True),
        (400, "RequestTimeoutException", True),
        (400, "ServerBusy", True),
        (400, "OperationTimedOut", True),
        (505, "HttpVersionNotSupported", False),
        (400, "BadDigest", True),
        (400, "Md5Mismatch", True),
        (400, "InvalidDigest", False),
        (403, "AccessDenied", False),
        (403, "ExpiredToken", False),
        (403, "SignatureDoesNotMatch", False),
        (403, "RequestTimeTooSkewed", False),
        (400, "EntityTooLarge", False),
        (501, "NotImplemented", False),
        (411, "MissingContentLength", False),
        (412, "PreconditionFailed", False),
        (407, "", False),
        (418, "", False),
    ],
)
def test_the_store_s_own_word_for_it_decides(status: int, code: str, *, passes: bool) -> None:
    assert (wait(answered(status, code)) is not None) == passes


@pytest.mark.parametrize("kind", [UsageError, SourceError, SpoolError, RefusedError])
def test_what_is_not_the_network_s_fault_is_not_tried_again(kind: type[UploadError]) -> None:
    assert wait(kind("no")) is None


def test_damage_is_tried_again_once() -> None:
    assert wait(DamagedError("other bytes"), damaged=1) is not None
    assert wait(DamagedError("other bytes"), attempts=2, damaged=2) is None
    assert wait(UnavailableError("reset"), attempts=3, damaged=2) is not None


@pytest.mark.parametrize(
    ("attempts", "most"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 20), (7, 20), (900, 20)]
)
def test_waits_double_up_to_a_bound_and_jitter_takes_any_part_of_them(
    attempts: int, most: float
) -> None:
    error = UnavailableError("reset")
    assert wait(error, attempts, retries=1000, jitter=1) == most
    assert wait(error, attempts, retries=1000, jitter=0.25) == most / 4
    assert wait(error, attempts, retries=1000, jitter=0) == 0


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_there_are_as_many_further_attempts_as_allowed(retries: int) -> None:
    error = UnavailableError("reset")
    again = [wait(error, attempts, retries=retries) is not None for attempts in range(1, 7)]
    assert again == [attempts <= retries for attempts in range(1, 7)]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": " 7 "}, 7),
        ({"retry_after": "0"}, 0),
        ({"retry_after": "121"}, 120),
        ({"retry_after": "1000000000"}, 120),
        ({"retry_after": "9" * 5000}, 120),
        ({"retry_after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30),
        ({"retry_after": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0),
        ({"retry_after": "Tue, 14 Nov 2090 22:13:00 GMT"}, 120),
        # By the store's clock, which may go otherwise.
        (
            {
                "retry_after": "Tue, 14 Nov 2023 20:00:05 GMT",
                "date": "Tue, 14 Nov 2023 20:00:00 GMT",
            },
            5,
        ),
        ({}, None),
        ({"retry_after": ""}, None),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "1.5"}, None),
        ({"retry_after": "\u0663"}, None),
        ({"retry_after": "Tue, 99 Nov 2023 22:13:50 GMT"}, None),
    ],
    ids=str,
)
def test_retry_after_is_heeded_up_to_a_bound(
    headers: dict[str, str], seconds: float | None
) -> None:
    error = answered(503, **headers)
    assert isinstance(error, UnavailableError)
    assert error.retry_after == seconds
    assert wait(error, jitter=0.5) == (0.5 if seconds is None else seconds)


@given(value=st.text(), date=st.text())
def test_any_retry_after_is_a_time_or_none(value: str, date: str) -> None:
    seconds = read_retry_after({"retry-after": value, "date": date}, NOW)
    assert seconds is None or 0 <= seconds <= 120


@given(st.text())
def test_any_date_is_a_time_or_none(value: str) -> None:
    date = read_date(value)
    assert date is None or math.isfinite(date)


@pytest.mark.parametrize(
    ("date", "words"),
    [
        ("Tue, 14 Nov 2023 22:03:20 GMT", "clock is 10 minutes ahead of the store's"),
        ("Tue, 14 Nov 2023 23:13:20 GMT", "clock is 60 minutes behind the store's"),
        ("Tue, 14 Nov 2023 22:12:20 GMT", None),
        ("noon", None),
    ],
)
def test_a_refusal_tells_that_the_clock_is_wrong(date: str, words: str | None) -> None:
    error = answered(403, "RequestTimeTooSkewed", date=date)
    assert "clock is wrong" in error.hint
    assert (words or "the store's") in error.hint or words is None
    assert ("the store's" in error.hint) == (words is not None)
    assert "the store's" not in answered(503, date=date).hint


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": 1001},
        {"connect_timeout": 0.0},
        {"connect_timeout": -1.0},
        {"stall_timeout": math.nan},
        {"stall_timeout": math.inf},
        {"max_time": 0.0},
        {"max_time": math.inf},
    ],
    ids=str,
)
def test_what_is_no_patience_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError) as caught:
        Patience(**options)  # type: ignore[arg-type]
    assert caught.value.hint
