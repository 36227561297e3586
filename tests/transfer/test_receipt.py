"""What an answer claims of the stored bytes, and what that proves."""

import base64
import hashlib
import tempfile
import zlib
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e2b_upload.transfer import body
from e2b_upload.transfer.receipt import (
    Algorithm,
    DamagedError,
    check_size_told,
    read_claims,
    verify,
)
from tests.support.crc import crc32c, crc64ecma, crc64nvme

DATA = b"not quite an archive"
DIGESTS: dict[Algorithm, bytes] = {
    "sha256": hashlib.sha256(DATA).digest(),
    "md5": hashlib.new("md5", DATA, usedforsecurity=False).digest(),
    "sha1": hashlib.new("sha1", DATA, usedforsecurity=False).digest(),
    "crc64nvme": crc64nvme(DATA),
    "crc64ecma": crc64ecma(DATA),
    "crc32c": crc32c(DATA),
    "crc32": zlib.crc32(DATA).to_bytes(4, "big"),
}
MD5 = DIGESTS["md5"].hex()
OTHER = "0123456789abcdef0123456789abcdef"
OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
CRC64 = str(int.from_bytes(DIGESTS["crc64ecma"]))


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def of(algorithm: Algorithm) -> dict[str, str]:
    return {f"x-amz-checksum-{algorithm}": b64(DIGESTS[algorithm])}


@pytest.mark.parametrize(
    ("headers", "proof"),
    [
        ({"etag": f'"{MD5}"'}, "md5"),
        ({"etag": MD5}, "md5"),
        ({"etag": f'"{MD5.upper()}"'}, "md5"),
        ({"etag": f'"{MD5}"', "x-amz-server-side-encryption": "AES256"}, "md5"),
        ({"etag": f'W/"{MD5}"'}, "md5"),
        # A match proves, whatever else is said.
        ({"etag": f'"{MD5}"', "x-amz-server-side-encryption": "aws:kms"}, "md5"),
        ({"etag": f'"{MD5}"', "x-goog-hash": "crc32c=n03x6A=="}, "md5"),
        # An ETag that is not an MD5 does not weigh against a checksum.
        (of("crc32") | {"etag": f'"{OTHER}"'}, "crc32"),
        (of("crc64nvme") | {"etag": f'"{OTHER}"'}, "crc64nvme"),
        # Encrypted by any vendor, or in parts: a mismatch says nothing.
        ({"etag": f'"{OTHER}"', "x-obs-server-side-encryption": "kms"}, None),
        ({"etag": f'"{OTHER}"', "x-oss-server-side-encryption": "AES256"}, None),
        ({"etag": f'"{OTHER}"', "x-cos-server-side-encryption": "AES256"}, None),
        ({"etag": f'"{OTHER}"', "x-amz-server-side-encryption": "AES256"}, None),
        ({"etag": f'"{OTHER}"', "x-goog-encryption-kms-key-name": "projects/p"}, None),
        ({"etag": f'"{OTHER}"', "x-amz-mp-parts-count": "2"}, None),
        ({"etag": f'"{OTHER}"', "x-amz-storage-class": "EXPRESS_ONEZONE"}, None),
        # As long as an MD5, and none.
        ({"etag": f'"{OTHER}"', "x-amz-server-side-encryption": "aws:kms"}, None),
        ({"etag": f'"{OTHER}"', "x-amz-server-side-encryption": "aws:kms:dsse"}, None),
        (
            {"etag": f'"{OTHER}"', "x-amz-server-side-encryption-customer-algorithm": "AES256"},
            None,
        ),
        ({"etag": f'"{OTHER}"', "x-goog-hash": "crc32c=none"}, None),
        # Other stores' and servers' ETags.
        ({"etag": '"0x8DC583C2DD0D3E5"'}, None),
        ({"etag": '"65f1a2b3-14"'}, None),
        # A weak one beside a body may be that of the answer.
        ({"etag": f'W/"{OTHER}"', "content-length": "15"}, None),
        ({"etag": f'W/"{OTHER}"', "transfer-encoding": "chunked"}, None),
        ({"x-oss-hash-crc64ecma": CRC64}, "crc64ecma"),
        ({"x-cos-hash-crc64ecma": CRC64, "etag": f'"{OTHER}-2"'}, "crc64ecma"),
        ({"x-oss-hash-crc64ecma": "none"}, None),
        ({"x-oss-hash-crc64ecma": str(2**64)}, None),
        ({"etag": f'"{OTHER}-3"'}, None),
        ({"etag": ""}, None),
        ({}, None),
        # Google's, in one header or in two that were joined.
        ({"x-goog-hash": f"crc32c=n03x6A==,md5={b64(DIGESTS['md5'])}"}, "md5"),
        ({"x-goog-hash": f"crc32c=n03x6A==, md5={b64(DIGESTS['md5'])}"}, "md5"),
        ({"x-goog-hash": f"md5={b64(DIGESTS['md5'])}", "etag": f'"{OTHER}"'}, "md5"),
        ({"x-goog-hash": "md5=none"}, None),
        ({"x-goog-hash": f"crc32c={b64(DIGESTS['crc32c'])}"}, "crc32c"),
        ({"x-goog-hash": f"crc32c={b64(DIGESTS['crc32c'])}, md5=none"}, "crc32c"),
        # Azure's.
        ({"content-md5": b64(DIGESTS["md5"]), "x-ms-request-id": "aa2e4f8c"}, "md5"),
        ({"content-md5": b64(DIGESTS["md5"]), "content-length": "0"}, "md5"),
        # Of the answer's own body.
        ({"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg==", "content-length": "0"}, None),
        (
            {
                "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg==",
                "content-length": "0",
                "etag": f'"{MD5}"',
            },
            "md5",
        ),
        ({"content-md5": b64(bytes(16)), "content-length": "12"}, None),
        ({"content-md5": b64(bytes(16)), "transfer-encoding": "chunked"}, None),
        # S3's, where the signer asked for them.
        (of("sha256"), "sha256"),
        (of("sha1"), "sha1"),
        (of("crc32"), "crc32"),
        (of("sha256") | of("crc32") | {"etag": f'"{MD5}"'}, "sha256"),
        (of("crc32") | {"etag": f'"{MD5}"'}, "md5"),
        # The strongest decides.
        (of("sha256") | {"etag": f'"{OTHER}"'}, "sha256"),
        (
            of("crc32") | {"etag": f'"{OTHER}"', "x-amz-server-side-encryption": "aws:kms"},
            "crc32",
        ),
        (of("crc32c"), "crc32c"),
        (of("crc64nvme"), "crc64nvme"),
        (of("crc32") | of("crc32c") | of("crc64nvme"), "crc64nvme"),
        (of("crc32") | of("crc32c"), "crc32c"),
        (of("crc64nvme") | of("sha1"), "sha1"),
        ({"x-amz-checksum-crc32c": "AAAAAAAAAAA="}, None),
        ({"x-amz-checksum-crc64nvme": "AAAAAA=="}, None),
        ({"x-amz-checksum-crc64nvme": b64(DIGESTS["crc64nvme"]) + "-2"}, None),
        ({"x-amz-checksum-sha256": b64(DIGESTS["sha256"]) + "-2"}, None),
        ({"x-amz-checksum-sha256": b64(bytes(31))}, None),
        ({"x-amz-checksum-sha256": "\xff"}, None),
    ],
    ids=str,
)
def test_what_an_answer_proves(headers: dict[str, str], proof: Algorithm | None) -> None:
    assert verify(read_claims(headers), DIGESTS.__getitem__, "store.example") == proof


@pytest.mark.parametrize(
    ("headers", "algorithm"),
    [
        ({"etag": f'"{OTHER}"'}, "md5"),
        ({"etag": f'W/"{OTHER}"'}, "md5"),
        ({"etag": f'W/"{OTHER}"', "content-length": "0"}, "md5"),
        ({"etag": OF_NOTHING, "x-amz-server-side-encryption": "aws:kms"}, "md5"),
        ({"etag": OTHER, "x-amz-server-side-encryption": ""}, "md5"),
        ({"etag": OTHER, "x-amz-server-side-encryption": "None"}, "md5"),
        ({"etag": OTHER, "x-amz-server-side-encryption-bucket-key-enabled": "false"}, "md5"),
        ({"x-oss-hash-crc64ecma": "1"}, "crc64ecma"),
        ({"x-goog-hash": f"md5={b64(bytes(16))}"}, "md5"),
        ({"content-md5": b64(bytes(16)), "content-length": "0"}, "md5"),
        ({"content-md5": b64(bytes(16)), "x-ms-request-id": "aa2e4f8c"}, "md5"),
        ({"x-amz-checksum-sha256": b64(bytes(32))}, "sha256"),
        ({"x-amz-checksum-sha1": b64(bytes(20))}, "sha1"),
        ({"x-amz-checksum-crc32": b64(bytes(4))}, "crc32"),
        ({"x-amz-checksum-crc32c": b64(bytes(4))}, "crc32c"),
        ({"x-goog-hash": f"crc32c={b64(bytes(4))}"}, "crc32c"),
        ({"x-amz-checksum-crc64nvme": b64(bytes(8))}, "crc64nvme"),
    ],
    ids=str,
)
def test_other_bytes_are_told_with_both_digests(headers: dict[str, str], algorithm: str) -> None:
    with pytest.raises(DamagedError) as caught:
        verify(read_claims(headers), DIGESTS.__getitem__, "store.example")
    message = caught.value.message
    assert message.startswith("store.example stored something else than the archive")
    assert f"its {algorithm} is " in message
    assert caught.value.exit_code == 5
    assert ("`ignore_checksum`" in caught.value.hint) == ("etag" in headers)


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("b.s3.eu-west-3.amazonaws.com", {"x-amz-server-side-encryption": "AES256"}),
        ("b.s3.cn-north-1.amazonaws.com.cn:443", {"x-amz-server-side-encryption": "AES256"}),
        ("store.example", {"x-amz-storage-class": "STANDARD"}),
        ("store.example", {"server": "encryption"}),
    ],
)
def test_another_etag_condemns_where_it_is_an_md5(host: str, headers: dict[str, str]) -> None:
    with pytest.raises(DamagedError) as caught:
        verify(read_claims({"etag": f'"{OTHER}"', **headers}, host), DIGESTS.__getitem__, host)
    assert "`ignore_checksum`" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "headers", "asked"),
    [
        ("b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", {}, {}),
        ("b.s3.amazonaws.com", {"x-amz-server-side-encryption": "aws:kms"}, {}),
        ("amazonaws.com.example", {"x-amz-server-side-encryption": "AES256"}, {}),
        ("b.s3.amazonaws.com", {}, {"x-amz-server-side-encryption": "aws:kms"}),
        ("store.example", {}, {"x-amz-server-side-encryption-customer-algorithm": "AES256"}),
    ],
)
def test_another_etag_says_nothing_where_it_may_be_none(
    host: str, headers: dict[str, str], asked: dict[str, str]
) -> None:
    claims = read_claims({"etag": f'"{OTHER}"', **headers}, host, asked)
    assert verify(claims, DIGESTS.__getitem__, host) is None


def test_digests_are_asked_for_only_where_they_are_claimed() -> None:
    def digest(algorithm: Algorithm) -> bytes:
        raise AssertionError(algorithm)

    assert verify(read_claims({}), digest, "store.example") is None


@pytest.mark.parametrize("name", ["x-goog-stored-content-length", "x-amz-object-size"])
def test_another_size_is_damage(name: str) -> None:
    for told in (str(len(DATA)), "", "many"):
        check_size_told({name: told}, len(DATA), "store.example")
    with pytest.raises(DamagedError) as caught:
        check_size_told({name: "1234"}, len(DATA), "store.example")
    assert "1,234 bytes, and the archive has 20" in caught.value.message


NAMES = ["etag", "x-goog-hash", "content-md5", "content-length", *of("sha256"), *of("crc32c")]
NAMES += ["x-oss-hash-crc64ecma", "x-amz-server-side-encryption"]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(st.characters(max_codepoint=255))))
def test_any_headers_are_read(headers: dict[str, str]) -> None:
    for claim in read_claims(headers):
        assert len(claim.digest) == len(DIGESTS[claim.algorithm])


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=600), read=st.integers(1, 300))
@example(data=b"123456789", read=4)
@example(data=b"", read=1)
def test_the_rare_digests_are_those_of_their_definition(data: bytes, read: int) -> None:
    with tempfile.TemporaryFile() as file, mock.patch.object(body, "_READ_BYTES", read):
        file.write(data)
        file.flush()
        source = body.Source(file.fileno(), DIGESTS.__getitem__)
        assert source.digest_of("crc32") == zlib.crc32(data).to_bytes(4)
        assert source.digest_of("crc32c") == crc32c(data)
        assert source.digest_of("crc64nvme") == crc64nvme(data)
        assert source.digest_of("crc64ecma") == crc64ecma(data)
        assert source.digest_of("sha1") == hashlib.sha1(data, usedforsecurity=False).digest()
