"""An archive that is not the one that was signed for is refused before a byte of it is sent."""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2b_upload import RefusedError, build
from e2b_upload.transfer.expected import check_expected
from e2b_upload.transfer.receipt import Algorithm
from e2b_upload.transfer.redaction import secrets_of
from e2b_upload.transfer.url import parse
from tests.support.crc import crc32c, crc64nvme
from tests.support.rawserver import answer, raw_server
from tests.transfer.common import failure_of

DATA = b"not quite an archive"
DIGESTS: dict[Algorithm, bytes] = {
    "sha256": hashlib.sha256(DATA).digest(),
    "md5": hashlib.new("md5", DATA, usedforsecurity=False).digest(),
    "sha1": hashlib.new("sha1", DATA, usedforsecurity=False).digest(),
    "crc64nvme": crc64nvme(DATA),
    "crc32c": crc32c(DATA),
    "crc32": zlib.crc32(DATA).to_bytes(4),
}


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def wrong(digest: bytes) -> str:
    return b64(digest[:-1] + bytes([digest[-1] ^ 1]))


RIGHT = {
    "Content-MD5": b64(DIGESTS["md5"]),
    "x-ms-blob-content-md5": b64(DIGESTS["md5"]),
    **{f"x-amz-checksum-{name}": b64(digest) for name, digest in DIGESTS.items()},
}
WRONG = {
    "Content-MD5": wrong(DIGESTS["md5"]),
    "x-ms-blob-content-md5": wrong(DIGESTS["md5"]),
    **{f"x-amz-checksum-{name}": wrong(digest) for name, digest in DIGESTS.items()},
}
GOOG_RIGHT = [
    f"crc32c={b64(DIGESTS['crc32c'])}",
    f"md5={b64(DIGESTS['md5'])}",
    f"crc32c={b64(DIGESTS['crc32c'])},md5={b64(DIGESTS['md5'])}",
    f"md5={b64(DIGESTS['md5'])} , crc32c={b64(DIGESTS['crc32c'])}",
    "sha999=AAAA",
    "",
]
GOOG_WRONG = [
    f"crc32c={wrong(DIGESTS['crc32c'])}",
    f"md5={wrong(DIGESTS['md5'])}",
    f"crc32c={b64(DIGESTS['crc32c'])},md5={wrong(DIGESTS['md5'])}",
    f"crc32c={wrong(DIGESTS['crc32c'])}, md5={b64(DIGESTS['md5'])}",
]
RANGE = "x-goog-content-length-range"


def refusal(
    query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> RefusedError | None:
    pairs = [f"{name}={quote(value, safe='')}" for name, value in (query or {}).items()]
    url = parse("https://store.example/key?" + "&".join([*pairs, "X-Amz-Signature=5f2b77c1"]))
    try:
        check_expected(url, headers or {}, len(DATA), DIGESTS.__getitem__)
    except RefusedError as refused:
        error = refused
    else:
        return None
    assert error.hint
    assert error.exit_code == 6
    for secret in secrets_of(url.url) - {*map(b64, DIGESTS.values())}:
        assert secret not in error.message + error.hint
    return error


@pytest.mark.parametrize("case", [str, str.lower, str.upper])
@pytest.mark.parametrize("name", RIGHT)
def test_a_digest_that_was_signed_or_passed_is_compared(name: str, case: type[str]) -> None:
    right, bad = {case(name): RIGHT[name]}, {case(name): WRONG[name]}
    assert refusal(query=right, headers=right) is None
    signed, sent = refusal(query=bad), refusal(headers=bad)
    assert signed is not None
    assert f"the signed {name.lower()} is not the archive's" in signed.message
    assert sent is not None
    assert f"the header {name.lower()} is not the archive's" in sent.message
    assert RIGHT[name] in signed.hint
    assert RIGHT[name] in sent.hint


@pytest.mark.parametrize("value", GOOG_RIGHT)
def test_googs_hash_of_the_archive_is_let_through(value: str) -> None:
    assert refusal(query={"X-Goog-Hash": value}, headers={"X-Goog-Hash": value}) is None


@pytest.mark.parametrize("value", GOOG_WRONG)
def test_googs_hash_of_something_else_is_refused(value: str) -> None:
    for error in (refusal(query={"X-Goog-Hash": value}), refusal(headers={"x-goog-hash": value})):
        assert error is not None
        assert "x-goog-hash is not the archive's" in error.message


def test_sigv4s_own_sha256_is_compared_where_it_is_a_header() -> None:
    right, other = DIGESTS["sha256"].hex(), hashlib.sha256(b"").hexdigest()
    name = "x-amz-content-sha256"
    for value in (right, right.upper(), "UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"):
        assert refusal(headers={name: value}) is None
    error = refusal(headers={name: other})
    assert error is not None
    assert right in error.hint
    assert refusal(query={name: other}) is None  # not every store compares it


@pytest.mark.parametrize(
    "value", ["", "=", "none", "é", b64(bytes(3)), b64(bytes(33)), b64(DIGESTS["md5"]) + "-2"]
)
@pytest.mark.parametrize("name", RIGHT)
def test_what_is_no_digest_is_refused_where_it_is_sent(name: str, value: str) -> None:
    assert refusal(query={name: value}) is None
    error = refusal(headers={name: value})
    assert error is not None
    assert "is malformed" in error.message
    assert RIGHT[name] in error.hint


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("0,100", True),
        ("20,20", True),
        (" 0, 20", True),
        ("0,19", False),
        ("21,100", False),
        ("100,0", False),
        (f"0,{10**17}", True),
    ],
)
def test_a_range_that_the_size_does_not_fit_is_refused(value: str, *, fits: bool) -> None:
    for error in (refusal(query={RANGE.title(): value}), refusal(headers={RANGE: value})):
        assert (error is None) is fits
        assert error is None or "20 bytes does not fit the" in error.message


@pytest.mark.parametrize("value", ["", "0", "0-100", "a,b", "0,1e9", "-1,100", "0,100,200"])
def test_what_is_no_range_is_refused_where_it_is_sent(value: str) -> None:
    assert refusal(query={RANGE: value}) is None
    error = refusal(headers={RANGE: value})
    assert error is not None
    assert "is malformed" in error.message


def test_digests_are_computed_only_to_be_compared() -> None:
    def digest(algorithm: Algorithm) -> bytes:
        raise AssertionError(algorithm)

    url = parse(
        "https://h/k?X-Amz-Checksum-Sha256=none&x-amz-checksum-mode=ENABLED&x-amz-checksum-crc32="
        "AAAAAA==&x-amz-checksum-crc32=BBBBBB==&x-amz-sdk-checksum-algorithm=CRC32&Content-MD5="
    )
    headers = {"x-amz-checksum-type": "FULL_OBJECT", "Content-Type": "a", RANGE: "0,20"}
    check_expected(url, headers, len(DATA), digest)


@given(
    query=st.dictionaries(st.sampled_from([*RIGHT, "x-goog-hash", RANGE]), st.text(max_size=60)),
    headers=st.dictionaries(st.sampled_from([*RIGHT, "x-goog-hash", RANGE]), st.text(max_size=60)),
)
def test_any_values_are_read(query: dict[str, str], headers: dict[str, str]) -> None:
    query = {name: value.encode("utf-8", "replace").decode() for name, value in query.items()}
    error = refusal(query, headers)
    assert error is None or error.message.isprintable()


def test_nothing_is_sent(small: Path) -> None:
    with raw_server(answer(200)) as server:
        for headers, query in (
            ({"Content-MD5": WRONG["Content-MD5"]}, ""),
            ({RANGE: "0,1"}, ""),
            ({}, f"x-amz-checksum-crc64nvme={quote(WRONG['x-amz-checksum-crc64nvme'])}"),
        ):
            error = failure_of(small, f"{server.url}/key?{query}", headers=headers)
            assert error.exit_code == 6
        assert not server.requests


def test_a_dry_run_refuses_as_well(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    for name in ("Content-MD5", "x-amz-checksum-crc32c"):
        with pytest.raises(RefusedError, match=name.lower()):
            build(tmp_path, "https://h/k", dry_run=True, headers={name: WRONG[name]})
