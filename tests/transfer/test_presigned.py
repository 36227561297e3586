"""What a presigned URL says of itself, and what is refused before anything is archived."""

import base64
import json
import string
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations
from urllib.parse import quote, urlencode

import boto3
import pytest
from botocore.config import Config
from hypothesis import example, given
from hypothesis import strategies as st

from e2b_upload import RefusedError, UsageError
from e2b_upload.transfer.presigned import Terms, check_size, check_terms, read_terms
from e2b_upload.transfer.redaction import secrets_of
from e2b_upload.transfer.url import PresignedUrl, parse
from tests.transfer.common import TARGET

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
MINUTE, HOUR, DAY = 60, 3600, 86400
T0 = 1767225600.0  # 2026-01-01T00:00:00Z
R2 = "account.eu.r2.cloudflarestorage.com"


def url_of(query: str, host: str = "store.example:9000") -> PresignedUrl:
    return parse(f"https://{host}/bucket/key.tar.gz?{query}")


def terms_of(query: str, host: str = "store.example:9000") -> Terms:
    return read_terms(url_of(query, host))


def policy(value: object) -> str:
    """Write a CloudFront policy as its signers do."""
    encoded = base64.b64encode(json.dumps(value).encode()).decode()
    return encoded.translate(str.maketrans("+=/", "-_~"))


def conditions(**times: object) -> dict[str, object]:
    condition = {name: {"AWS:EpochTime": value} for name, value in times.items()}
    return {"Statement": [{"Resource": "https://h/??>*", "Condition": condition}]}


SIGV4 = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260101T000000Z&X-Amz-Signature=fe5f80"
SIGV4_HOUR = f"{SIGV4}&X-Amz-Expires=3600"
GCS_V4 = "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Date=20260101T000000Z&X-Goog-Signature=fe5f80"
SAS = "sv=2022-11-02&sr=b&sig=Zm9y%2FeW91%3D"
CLOUDFRONT = "Key-Pair-Id=K2JCJMDEHXQW5F&Signature=Zm9y~eW91_"


# --- read_terms


OWN = ["host", "content-length", "content-md5"]
AWS = Terms(dialect="AWS SigV4", start=T0, max_bytes=5 * GIB, takes_md5=True)
AZURE = Terms(
    dialect="Azure SAS",
    required_headers={"x-ms-blob-type": "BlockBlob"},
    max_bytes=5000 * MIB,
    takes_md5=True,
)


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("", Terms()),
        ("a=b", Terms()),
        ("Expires=1767225600", Terms()),
        ("sig=abc", Terms()),
        ("se=2026-01-01", Terms()),
        ("token=abc", Terms()),
        (SIGV4, AWS),
        (
            TARGET.partition("?")[2],
            replace(AWS, expiry=T0 + 3_153_600_000, temporary=True),
        ),
        (
            f"{SIGV4}&X-Amz-SignedHeaders="
            + "%3B".join(sorted([*OWN, "content-type", "user-agent", "x-amz-acl"])),
            replace(
                AWS,
                required_headers={"content-type": None, "user-agent": None, "x-amz-acl": None},
                needs_md5=True,
            ),
        ),
        (
            "AWSAccessKeyId=AKIA&Signature=a%2Fb%3D&Expires=1767225600",
            Terms(dialect="AWS SigV2", expiry=T0, max_bytes=5 * GIB),
        ),
        (
            f"{GCS_V4}&X-Goog-Expires=60&X-Goog-SignedHeaders=Host;X-Goog-Meta-A;content-md5",
            Terms(
                dialect="GCS V4",
                start=T0,
                expiry=T0 + MINUTE,
                required_headers={"x-goog-meta-a": None},
                max_bytes=5 * TIB,
                takes_md5=True,
                needs_md5=True,
            ),
        ),
        (
            "GoogleAccessId=me%40project.iam&Signature=a%2Fb%3D&Expires=1767225600",
            Terms(dialect="GCS V2", expiry=T0, max_bytes=5 * TIB),
        ),
        (
            "OSSAccessKeyId=LTAI&Signature=a%2Fb%3D&Expires=1767225600&security-token=abc",
            Terms(dialect="OSS", expiry=T0, max_bytes=5 * GIB),
        ),
        (
            "x-oss-signature=fe5f80&x-oss-date=20260101T000000Z&x-oss-expires=600",
            Terms(dialect="OSS", start=T0, expiry=T0 + 600, max_bytes=5 * GIB),
        ),
        (
            f"{SAS}&st=2026-01-01T00%3A00%3A00Z&se=2026-01-01T01%3A00Z&sp=rcw",
            replace(AZURE, start=T0, expiry=T0 + HOUR),
        ),
        (f"{SAS}&se=2026-01-02&sp=c", replace(AZURE, expiry=T0 + DAY)),
        (f"{SAS}&se=2026-01-02&sp=w", replace(AZURE, expiry=T0 + DAY)),
        (f"{SAS}&se=2026-01-02&sp=rl", replace(AZURE, expiry=T0 + DAY, may_write=False)),
        (f"{SAS}&si=policy", AZURE),
        (f"{SAS}&sp=", AZURE),
        (f"{SAS}&sp=r&sp=w", AZURE),
        (f"{CLOUDFRONT}&Expires=1767225600", Terms(dialect="CloudFront", expiry=T0)),
        (
            f"{CLOUDFRONT}&Policy={policy(conditions(DateLessThan=1767225600))}",
            Terms(dialect="CloudFront", expiry=T0),
        ),
        (
            f"{CLOUDFRONT}&Policy="
            + policy(conditions(DateLessThan=1767229200, DateGreaterThan=1767225600)),
            Terms(dialect="CloudFront", start=T0, expiry=T0 + HOUR),
        ),
        ("expires=1767225600&token=fe5f80", Terms(dialect="E2B", expiry=T0)),
    ],
)
def test_what_a_query_says(query: str, terms: Terms) -> None:
    assert terms_of(query) == terms
    for case in (str.lower, str.upper):
        pairs = (pair.partition("=") for pair in query.split("&"))
        assert terms_of("&".join(f"{case(name)}={value}" for name, _, value in pairs)) == terms


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_what_boto3_signs_is_read(version: str) -> None:
    client = boto3.client(
        "s3",
        region_name="eu-west-3",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="secret",
        aws_session_token="token",
        config=Config(signature_version=version),
    )
    parameters = {"Bucket": "b", "Key": "k", "ACL": "private", "ContentType": "application/gzip"}
    before = datetime.now(UTC).timestamp()
    signed = client.generate_presigned_url("put_object", Params=parameters, ExpiresIn=600)
    after = datetime.now(UTC).timestamp()
    terms = read_terms(parse(signed))
    assert terms.expiry
    assert int(before) <= terms.expiry - 600 <= after + 1
    assert terms.temporary
    assert terms.max_bytes == 5 * GIB
    assert terms.takes_md5 is (version == "s3v4")
    assert not terms.only_empty
    if version == "s3v4":
        assert terms.dialect == "AWS SigV4"
        assert terms.required_headers == {"content-type": None, "x-amz-acl": None}
    else:
        assert terms.dialect == "AWS SigV2"


NO_TIMES = [
    "",
    "a",
    "-1",
    "+5",
    "5.0",
    "1e3",
    "0x10",
    "%205",
    "5%0A",
    "9" * 14,
    "9" * 5000,
    "%D9%A3",  # an Arabic three
    "%FF",
    "NaN",
    "inf",
]


@pytest.mark.parametrize("value", NO_TIMES)
@pytest.mark.parametrize(
    "query",
    [
        f"{SIGV4}&X-Amz-Expires=",
        f"{GCS_V4}&X-Goog-Expires=",
        "AWSAccessKeyId=A&Expires=",
        "GoogleAccessId=A&Expires=",
        "OSSAccessKeyId=A&Expires=",
        "x-oss-date=20260101T000000Z&x-oss-expires=",
        "Key-Pair-Id=A&Expires=",
        "token=A&expires=",
    ],
)
def test_what_is_no_number_of_seconds_is_not_known(query: str, value: str) -> None:
    assert terms_of(query + value).expiry is None


@pytest.mark.parametrize(
    ("value", "expiry"),
    [
        ("0", None),
        ("3600", None),
        ("604800", None),
        ("999999999", None),
        ("1000000000", 1e9),
        ("1767225600", T0),
        ("1767225600000", T0),
        ("1767225600500", T0 + 0.5),
        ("999999999999", 999999999999.0),
        ("9999999999999", 9999999999.999),
    ],
)
@pytest.mark.parametrize(
    "query",
    [
        "AWSAccessKeyId=A&Expires=",
        "GoogleAccessId=A&Expires=",
        "OSSAccessKeyId=A&Expires=",
        "Key-Pair-Id=A&Expires=",
        "token=A&expires=",
    ],
)
def test_a_duration_is_no_date_and_milliseconds_are_one(
    query: str, value: str, expiry: float | None
) -> None:
    assert terms_of(query + value).expiry == expiry


def test_the_times_of_a_policy_may_be_milliseconds() -> None:
    value = policy(conditions(DateLessThan=1767225600000, DateGreaterThan=0))
    terms = terms_of(f"{CLOUDFRONT}&Policy={value}")
    assert (terms.start, terms.expiry) == (None, T0)


@pytest.mark.parametrize(
    ("host", "takes"),
    [
        ("b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", False),
        ("B--USE1-AZ4--X-S3.S3EXPRESS-USE1-AZ4.US-EAST-1.AMAZONAWS.COM:443", False),
        ("s3express-fips-use1-az4.us-east-1.amazonaws.com", False),
        ("my-s3express-bucket.s3.us-east-1.amazonaws.com", True),
        ("store.example", True),
    ],
)
def test_a_directory_bucket_takes_no_content_md5(host: str, *, takes: bool) -> None:
    assert terms_of(SIGV4, host).takes_md5 is takes


@pytest.mark.parametrize(
    "value",
    [
        *NO_TIMES,
        "20260101",
        "20260101T000000",
        "20260101T000000Zx",
        "20260101T0000Z",
        "20260230T000000Z",
        "20260101T240001Z",
        "20260101T006000Z",
        "00000101T000000Z",
        "2026-01-01T00:00:00Z",
        "20260101t000000z",
        "%D9%A2%D9%A0%D9%A2%D9%A60101T000000Z",
    ],
)
def test_what_is_no_date_of_a_signature_is_not_known(value: str) -> None:
    terms = terms_of(f"X-Amz-Signature=a&X-Amz-Date={value}&X-Amz-Expires=60")
    assert (terms.dialect, terms.start, terms.expiry) == ("AWS SigV4", None, None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-01-01", 0),
        ("2026-01-01T00:00Z", 0),
        ("2026-01-01T00:00", 0),
        ("2026-01-01T00:00:30Z", 30),
        ("2026-01-01T00:00:30", 30),
        ("2026-01-01T00:00:00.5Z", 0.5),
        ("2026-01-01T00:00:00.5000000Z", 0.5),
        ("2026-01-01T01:00%2B01:00", 0),
        ("2026-01-01T01:00:00+01:00", 0),
        ("2025-12-31T23:00:00-01:00", 0),
        ("0001-01-01T00:00:00+23:59", -62135596800 - 86340 - T0),
        *[(value, None) for value in NO_TIMES],
        ("2026-1-1", None),
        ("20260101", None),
        ("2026-W01-1", None),
        ("2026-02-30", None),
        ("2026-01-01T00Z", None),
        ("2026-01-01T25:00Z", None),
        ("2026-01-01T00:00:00,5Z", None),
        ("2026-01-01T00:00:00.12345678Z", None),
        ("2026-01-01T00:00:00+24:00", None),
        ("2026-01-01 00:00Z", None),
        ("2026-01-01T00:00:00ZZ", None),
        ("0000-01-01", None),
    ],
)
def test_azures_times(value: str, seconds: float | None) -> None:
    if " " in value:
        value = quote(value)
    terms = terms_of(f"{SAS}&st={value}&se={value}")
    assert terms.start == terms.expiry
    if seconds is None:
        assert terms.expiry is None
    else:
        assert terms.expiry == pytest.approx(T0 + seconds, abs=1e-6)


def test_a_time_without_a_zone_is_utc_wherever_the_machine_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "JST-9")
        time.tzset()
        terms = terms_of(f"{SAS}&st=2026-01-01&se=2026-01-01T01:00")
        there = terms_of(SIGV4_HOUR).start
    time.tzset()
    assert (terms.start, terms.expiry, there) == (T0, T0 + HOUR, T0)


@given(
    moment=st.datetimes(datetime(1970, 1, 1), datetime(9998, 1, 1)),  # noqa: DTZ001
    offset=st.integers(-23 * 60 - 59, 23 * 60 + 59),
    seconds=st.integers(0, 10**12 - 1),
)
def test_times_are_read_as_they_were_written(moment: datetime, offset: int, seconds: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    terms = terms_of(f"{SAS}&se={quote(zoned.isoformat())}")
    assert terms.expiry == zoned.timestamp()
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    terms = terms_of(f"x-amz-date={whole:%Y%m%dT%H%M%SZ}&x-amz-expires={seconds}")
    assert (terms.start, terms.expiry) == (whole.timestamp(), whole.timestamp() + seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "_",
        "no*base64",
        "%C3%BC",
        policy([]),
        policy({}),
        policy(None),
        policy("Statement"),
        policy({"Statement": {}}),
        policy({"Statement": []}),
        policy({"Statement": [0]}),
        policy({"Statement": [{"Condition": []}]}),
        policy({"Statement": [{"Condition": {"DateLessThan": 1767225600}}]}),
        policy(conditions(DateLessThan=True)),
        policy(conditions(DateLessThan=None)),
        policy(conditions(DateLessThan=1.5)),
        policy(conditions(DateLessThan=-1)),
        policy(conditions(DateLessThan="1767225600")),
        policy(conditions(DateLessThan=3600)),
        policy(conditions(DateLessThan=10**13)),
        policy(conditions(DateLessThan=float("inf"))),
        policy(conditions(DateLessThan=[1767225600])),
        policy({**conditions(DateLessThan=1767225600), "x": "x" * 20_000}),
        base64.b64encode(b"[" * 12_000).decode(),
        base64.b64encode(b'{"a": ' + b"9" * 6_000 + b"}").decode(),
        base64.b64encode(b"\xff\xfe\xff").decode(),
    ],
)
def test_what_is_no_policy_says_nothing(value: str) -> None:
    assert terms_of(f"{CLOUDFRONT}&Policy={value}") == Terms(dialect="CloudFront")


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        (f"{SIGV4_HOUR}&X-Amz-Expires=60", AWS),
        (f"{SIGV4_HOUR}&x-amz-expires=60", AWS),
        (f"{SIGV4}&X-Amz-Expires=60&X-Amz-Expires=&X-Amz-Expires=60", AWS),
        (f"{SIGV4}&X-Amz-SignedHeaders=host;a&X-Amz-SignedHeaders=host;b", AWS),
        (f"{SIGV4}&X-Amz-Date=20260101T000000Z", AWS),
        (f"{SIGV4}&x-amz-checksum-crc32=AAAAAA==&x-amz-checksum-crc32=BBBBBB==", AWS),
    ],
)
def test_a_name_with_two_values_says_nothing(query: str, terms: Terms) -> None:
    assert terms_of(query) == terms


@pytest.mark.parametrize(
    "value",
    [
        "",
        ";",
        "host",
        "host;",
        "host;a'b",
        "host;%C3%BC",
        "host;a%0Ab",
        "content-type",  # host is signed by everybody: this is torn
        "host%20content-type",
        "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024",
    ],
)
def test_what_is_no_list_of_headers_asks_for_none(value: str) -> None:
    assert terms_of(f"{SIGV4}&X-Amz-SignedHeaders={value}") == AWS


# --- check_terms


def check(
    query: str, *, now: float = T0, headers: Mapping[str, str] | None = None
) -> RefusedError | None:
    url = url_of(query)
    try:
        check_terms(read_terms(url), url, headers or {}, now=now)
    except RefusedError as error:
        return error
    return None


def refusal(
    query: str, *, now: float = T0, headers: Mapping[str, str] | None = None
) -> tuple[str, str]:
    error = check(query, now=now, headers=headers)
    assert error
    assert error.exit_code == 6
    return error.message.replace("https://store.example:9000/bucket/key.tar.gz", "URL"), error.hint


@pytest.mark.parametrize(
    "query",
    [
        SIGV4_HOUR,
        f"{GCS_V4}&X-Goog-Expires=3600",
        "AWSAccessKeyId=A&Signature=a&Expires=1767229200",
        "GoogleAccessId=A&Signature=a&Expires=1767229200",
        "OSSAccessKeyId=A&Signature=a&Expires=1767229200",
        f"{CLOUDFRONT}&Expires=1767229200",
        f"{CLOUDFRONT}&Policy={policy(conditions(DateLessThan=1767229200))}",
        "expires=1767229200&token=a",
        f"{SAS}&se=2026-01-01T01:00Z&sp=w",
    ],
)
@pytest.mark.parametrize(
    ("late", "ago"),
    [
        (15 * MINUTE + 0.1, "15 minutes"),
        (2 * HOUR - 1, "119 minutes"),
        (2 * HOUR, "2 hours"),
        (2 * DAY - 1, "47 hours"),
        (800 * DAY, "800 days"),
    ],
)
def test_a_url_that_expired_is_refused(query: str, late: float, ago: str) -> None:
    headers = {"x-ms-blob-type": "BlockBlob"}
    assert check(query, now=T0 + HOUR - 1, headers=headers) is None
    # This machine's clock may be ahead, and the store decides.
    assert check(query, now=T0 + HOUR + 15 * MINUTE, headers=headers) is None
    message, hint = refusal(query, now=T0 + HOUR + late, headers=headers)
    assert message == f"the URL URL expired {ago} ago by this machine's clock"
    assert hint == "Ask for a fresh URL, or set the clock if it is wrong."


def test_the_hint_names_a_temporary_credential() -> None:
    query = f"{SIGV4_HOUR}&X-Amz-Security-Token=IQoJb3JpZ2luX2Vj"
    assert check(query) is None
    _, hint = refusal(query, now=T0 + 2 * HOUR)
    assert "temporary credential may have expired as well" in hint


@pytest.mark.parametrize(
    "query",
    [
        SIGV4_HOUR,
        SIGV4,
        GCS_V4,
        f"{SAS}&st=2026-01-01&sp=w",
        f"{CLOUDFRONT}&Policy={policy(conditions(DateGreaterThan=1767225600))}",
    ],
)
def test_a_url_that_is_not_valid_yet_is_refused_if_no_skew_explains_it(query: str) -> None:
    headers = {"x-ms-blob-type": "BlockBlob"}
    assert check(query, now=T0 - 15 * MINUTE, headers=headers) is None
    message, hint = refusal(query, now=T0 - 3 * HOUR, headers=headers)
    assert message == "the URL URL is not valid yet: only in 3 hours by this machine's clock"
    assert "Is the clock right?" in hint
    assert refusal(query, now=T0 - 15 * MINUTE - 1, headers=headers)


SIGNED = f"{SIGV4_HOUR}&X-Amz-SignedHeaders=content-type%3Bhost%3Bx-amz-acl"


@pytest.mark.parametrize(
    ("query", "headers", "named", "hint"),
    [
        (
            SIGNED,
            {},
            "content-type, x-amz-acl",
            (
                "Add `headers` 'content-type: …' `headers` 'x-amz-acl: …', with the value that was "
                "signed."
            ),
        ),
        (
            SIGNED,
            {"Content-Type": "application/gzip", "x-amz-meta-a": "b"},
            "x-amz-acl",
            "Add `headers` 'x-amz-acl: …', with the value that was signed.",
        ),
        (
            f"{SIGV4_HOUR}&X-Amz-SignedHeaders=host%3Bif-none-match",
            {},
            "if-none-match",
            (
                "Add `headers` 'if-none-match: …', with the value that was signed. Or set "
                "`if_absent`, which sends it."
            ),
        ),
        (
            f"{SAS}&sp=cw",
            {"x-ms-blob": "BlockBlob"},
            "x-ms-blob-type: BlockBlob",
            "Add `headers` 'x-ms-blob-type: BlockBlob'.",
        ),
        (
            f"{SAS}&sp=cw",
            {"x-ms-blob-type": "PageBlob"},
            "x-ms-blob-type: BlockBlob",
            "Add `headers` 'x-ms-blob-type: BlockBlob'.",
        ),
    ],
)
def test_a_header_that_is_missing_is_named(
    query: str, headers: dict[str, str], named: str, hint: str
) -> None:
    assert refusal(query, headers=headers) == (
        f"the URL URL takes an archive only with headers that are not sent: {named}",
        hint,
    )


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        (SIGNED, {"CONTENT-TYPE": "application/gzip", "X-Amz-Acl": ""}),
        (f"{SAS}&sp=cw", {"X-MS-Blob-Type": " blockblob "}),
        (f"{SIGV4_HOUR}&X-Amz-SignedHeaders=host;content-md5;content-length", {}),
        ("a=b", {}),
        ("", {}),
    ],
)
def test_what_may_be_put_is_let_through(query: str, headers: dict[str, str]) -> None:
    assert check(query, headers=headers) is None


def test_a_url_that_may_only_be_read_is_refused() -> None:
    message, hint = refusal(f"{SAS}&sp=rl", headers={"x-ms-blob-type": "BlockBlob"})
    assert message == "the URL URL gives no permission to write"
    assert "c or w" in hint


@pytest.mark.parametrize(
    "checksum",
    [
        "x-amz-checksum-crc32=AAAAAA==",
        "x-amz-checksum-crc32=AAAAAA%3D%3D",
        "X-Amz-Checksum-Crc32c=AAAAAA%3D%3D",
        "x-amz-checksum-crc64nvme=AAAAAAAAAAA%3D",
        "x-amz-checksum-sha1=2jmj7l5rSw0yVb%2FvlWAYkK%2FYBwk%3D",
        "x-amz-checksum-sha256=47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D",
        "x-amz-checksum-sha256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ],
)
def test_a_url_with_the_checksum_of_nothing_is_refused(checksum: str) -> None:
    message, hint = refusal(f"{SIGV4_HOUR}&x-amz-sdk-checksum-algorithm=CRC32&{checksum}")
    assert "such a URL can only take an empty object" in message
    assert 'Config(request_checksum_calculation="when_required")' in hint


def test_the_checksum_of_something_is_none_of_nothing() -> None:
    query = f"{SIGV4_HOUR}&x-amz-checksum-crc32=HYZs4w%3D%3D&x-amz-checksum-crc64nvme=AAAAAA%3D%3D"
    assert check(query) is None


def test_what_no_header_can_mend_is_said_first() -> None:
    faults = ["&x-amz-checksum-crc32=AAAAAA==", "&X-Amz-SignedHeaders=host;a", ""]
    for some in combinations(faults, 2):
        message, _ = refusal(SIGV4_HOUR + "".join(some), now=T0 + DAY)
        assert "that are not sent" not in message


# --- check_size


@pytest.mark.parametrize(
    ("query", "host", "limit", "words"),
    [
        (SIGV4, "bucket.s3.eu-west-3.amazonaws.com", 5 * GIB, "5 GiB"),
        (SIGV4, R2, 5 * GIB - 5 * MIB, "5115 MiB"),
        (SIGV4, f"{R2.upper()}.:443", 5 * GIB - 5 * MIB, "5115 MiB"),
        (SIGV4, "r2.cloudflarestorage.com.example", 5 * GIB, "5 GiB"),
        (SIGV4, "storage.googleapis.com", 5 * TIB, "5 TiB"),
        (SIGV4, "bucket.storage.googleapis.com", 5 * TIB, "5 TiB"),
        (SIGV4, "notstorage.googleapis.com", 5 * GIB, "5 GiB"),
        (SIGV4, "[::1]:9000", 5 * GIB, "5 GiB"),
        ("AWSAccessKeyId=A&Expires=1", "h", 5 * GIB, "5 GiB"),
        ("OSSAccessKeyId=A&Expires=1", "h", 5 * GIB, "5 GiB"),
        ("GoogleAccessId=A&Expires=1", "h", 5 * TIB, "5 TiB"),
        (GCS_V4, "h", 5 * TIB, "5 TiB"),
        (SAS, "account.blob.core.windows.net", 5000 * MIB, "5000 MiB"),
    ],
)
def test_what_is_too_large_for_one_put_is_refused(
    query: str, host: str, limit: int, words: str
) -> None:
    url = url_of(query, host)
    terms = read_terms(url)
    check_size(terms, url, 0, None)
    check_size(terms, url, limit, None)
    with pytest.raises(RefusedError) as caught:
        check_size(terms, url, limit + 1, None)
    assert caught.value.message == (
        f"the archive of {limit + 1:,} bytes is too large for {url.shown}: "
        f"{url.host} takes {words} at most in one PUT"
    )
    assert "(`compression` small)" in caught.value.hint


@pytest.mark.parametrize("query", ["", CLOUDFRONT, "expires=1&token=a"])
def test_a_limit_that_is_not_told_refuses_nothing(query: str) -> None:
    for host in ("h", R2):
        url = url_of(query if host == "h" else "a=b", host)
        check_size(read_terms(url), url, 1 << 60, None)


def test_an_odd_limit_is_said_in_bytes() -> None:
    with pytest.raises(RefusedError, match="takes 1,000 bytes at most"):
        check_size(Terms(max_bytes=1000), url_of(""), 1001, None)


@pytest.mark.parametrize(
    ("size", "max_size", "words"),
    [
        (0, 0, ""),
        (1, 0, "is larger than the 0 that are allowed"),
        (1000, 1000, ""),
        (1001, 1000, "of 1,001 bytes is larger than the 1,000 that are allowed"),
        # It counts instead of the store's own limit, which this machine may know wrongly.
        (5 * GIB + 1, None, "takes 5 GiB at most"),
        (5 * GIB + 1, 6 * GIB, ""),
        (6 * GIB + 1, 6 * GIB, "is larger than the 6,442,450,944 that are allowed"),
        (1 * GIB, 1 * MIB, "is larger than the 1,048,576 that are allowed"),
    ],
)
@pytest.mark.parametrize("url", [url_of(SIGV4), url_of("")], ids=["limit", "none"])
def test_a_limit_of_ones_own_counts_instead_of_the_stores(
    url: PresignedUrl, size: int, max_size: int | None, words: str
) -> None:
    terms = read_terms(url)
    if words and not (max_size is None and terms.max_bytes is None):
        with pytest.raises(RefusedError, match=words) as caught:
            check_size(terms, url, size, max_size)
        assert "`max_size`" in caught.value.hint
    else:
        check_size(terms, url, size, max_size)


# --- whatever the query holds


NAMES = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "x-amz-checksum-crc32",
    "x-amz-checksum-sha256",
    "X-Goog-Date",
    "X-Goog-Expires",
    "X-Goog-SignedHeaders",
    "X-Goog-Signature",
    "AWSAccessKeyId",
    "GoogleAccessId",
    "OSSAccessKeyId",
    "x-oss-date",
    "x-oss-expires",
    "x-oss-signature",
    "Signature",
    "Expires",
    "Key-Pair-Id",
    "Policy",
    "token",
    "se",
    "st",
    "sp",
    "sig",
    "sv",
    "si",
]
# No letter of these stands in a name of a header, which messages do show.
HIDDEN = st.text("ABCXYZ0189%+/=~_.;", min_size=1, max_size=40)
TIMES = st.integers(0, 4 * 10**9)
VALUES = st.one_of(
    HIDDEN,
    TIMES.map(str),
    TIMES.map(lambda t: f"{datetime.fromtimestamp(t, UTC):%Y%m%dT%H%M%SZ}"),
    TIMES.map(lambda t: f"{datetime.fromtimestamp(t, UTC):%Y-%m-%dT%H:%M:%SZ}"),
    TIMES.map(lambda t: policy(conditions(DateLessThan=t))),
    st.lists(st.sampled_from(["accept", "range", "x-a", "te"])).map(
        lambda names: "%3B".join(["host", *names])
    ),
    st.sampled_from(["AAAAAA==", "AAAAAAAAAAA=", "rl", "cw", "BlockBlob"]),
)
QUERIES = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=8).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
HEADERS = st.dictionaries(
    st.sampled_from(["accept", "Range", "X-A", "te", "x-ms-blob-type"]), st.just("BlockBlob")
)


def errors_of(url: PresignedUrl, headers: Mapping[str, str], now: float) -> list[RefusedError]:
    errors = []
    terms = read_terms(url)
    try:
        check_terms(terms, url, headers, now=now)
    except RefusedError as error:
        errors.append(error)
    try:
        check_size(terms, url, 1 << 50, None)
    except RefusedError as error:
        errors.append(error)
    return errors


@given(query=QUERIES, headers=HEADERS, now=TIMES)
@example(query="X-Amz-SignedHeaders=" + "0189" * 16, headers={}, now=0)
@example(query=f"{SIGV4_HOUR}&x-amz-checksum-crc64nvme=AAAAAAAAAAA=", headers={}, now=0)
def test_no_refusal_shows_a_value_of_the_query(
    query: str, headers: dict[str, str], now: int
) -> None:
    try:
        url = url_of(query)
    except UsageError:
        return  # it ends after its first parameter
    for error in errors_of(url, headers, now):
        assert error.hint
        for secret in secrets_of(url.url):
            assert secret not in error.message + error.hint


ASCII = st.text(string.ascii_letters + string.digits + "%&=;?/+-_.~:'\"<>[]{}")


@given(ASCII | QUERIES | st.lists(ASCII | st.sampled_from([f"{n}=" for n in NAMES])).map("&".join))
@example("%")
@example("X-Amz-Date=%FF&X-Amz-SignedHeaders=%FF;host")
def test_any_query_is_read(query: str) -> None:
    url = PresignedUrl(f"https://h/k?{query}", "https://h/k")
    terms = read_terms(url)
    for moment in (terms.start, terms.expiry):
        assert moment is None or -1e12 < moment < 1e13
    for error in errors_of(url, {}, T0):
        assert error.message.isprintable()
        assert error.hint.isprintable()


@given(
    start=TIMES,
    seconds=st.integers(0, 7 * DAY),
    now=TIMES,
    near=st.sampled_from(["anywhere", "start", "expiry"]),
    off=st.integers(-20 * MINUTE, 20 * MINUTE),
)
def test_a_url_holds_from_its_start_to_its_expiry_and_as_long_as_clocks_may_differ(
    start: int, seconds: int, now: int, near: str, off: int
) -> None:
    now = {"anywhere": now, "start": start + off, "expiry": start + seconds + off}[near]
    query = {
        "X-Amz-Signature": "fe5f80",
        "X-Amz-Date": f"{datetime.fromtimestamp(start, UTC):%Y%m%dT%H%M%SZ}",
        "X-Amz-Expires": seconds,
    }
    holds = start - 15 * MINUTE <= now <= start + seconds + 15 * MINUTE
    assert (check(urlencode(query), now=now) is None) is holds
