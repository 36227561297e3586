"""A 2xx is a success only if it is the store's own word that it took the archive."""

import base64
import gzip
import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2b_upload import RefusedError, UnavailableError, build, put
from e2b_upload.events import PageAnswered
from tests.support.rawserver import Connection, Script, answer, raw_server, response
from tests.transfer.common import PATH, TARGET, Serve, failure_of, xml

if TYPE_CHECKING:
    from e2b_upload.events import Event

UNKNOWN = "/upload/key.tar.gz?ticket=1"
GCS = "/b/k?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-SignedHeaders=host&X-Goog-Signature=ab"
SAS = "/c/k?sv=2022-11-02&sr=b&sp=cw&sig=Zm9y&se=2099-01-01"
SIGNED_V2 = "/b/k?AWSAccessKeyId=AKIA&Signature=ab&Expires=4102444800"
SIGNED_MD5 = TARGET.replace("SignedHeaders=host", "SignedHeaders=content-md5%3Bhost")
CLOUDFRONT = "/k?Key-Pair-Id=K1&Signature=ab&Expires=4102444800"
E2B = "/k?expires=4102444800&token=ab"
MD5 = partial(hashlib.md5, usedforsecurity=False)
BLOB = {"x-ms-blob-type": "BlockBlob"}
PAGE = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head></html>"
OTHER = '"0123456789abcdef0123456789abcdef"'
KMS = {"ETag": OTHER, "x-amz-server-side-encryption": "aws:kms"}


@pytest.mark.parametrize("target", [TARGET, UNKNOWN])
@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (xml("InternalError", "Try again"), UnavailableError, "InternalError"),
        (xml("SlowDown"), UnavailableError, "SlowDown"),
        (xml("AccessDenied"), RefusedError, "AccessDenied"),
        (b"  \n\n" + xml("InternalError").partition(b"?>")[2], UnavailableError, "InternalError"),
        (b"\xef\xbb\xbf<!-- x -->" + xml("AccessDenied"), RefusedError, "AccessDenied"),
        (
            b'<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code>Odd</Code></Error>',
            RefusedError,
            "Odd",
        ),
        (b"<ErrorResponse><Error><Code>Odd</Code></Error></ErrorResponse>", RefusedError, "Odd"),
        (b"<Error/>", RefusedError, None),
        (b" " * 70_000 + xml("SlowDown"), UnavailableError, "SlowDown"),
        (b"<!DOCTYPE Error><Error><Code>Odd</Code></Error>", RefusedError, "Odd"),
        (b"<s:Error><s:Code>SlowDown</s:Code></s:Error>", UnavailableError, "SlowDown"),
        ("<Error><Code>Odd</Code></Error>".encode("utf-16"), RefusedError, "Odd"),
        ("<Error><Code>Odd</Code></Error>".encode("utf-16-le"), RefusedError, "Odd"),
        (gzip.compress(xml("SlowDown")), UnavailableError, "SlowDown"),
        (
            b"<Response><Errors><Error><Code>Throttling</Code></Error></Errors></Response>",
            UnavailableError,
            "Throttling",
        ),
        (b"<S:Envelope><S:Body><S:Fault><Code>Odd</Code></S:Fault>", RefusedError, "Odd"),
        (b'[{"error": {"code": 503, "message": "Busy"}}]', UnavailableError, "503"),
        (
            b'{"code": "internal_error", "message": "x", "status": 500}',
            UnavailableError,
            "internal_error",
        ),
        (b'{"code": "AccessForbidden", "message": "x"}', RefusedError, "AccessForbidden"),
        (b'{"code": "InternalError", "message": "x"}', UnavailableError, "InternalError"),
        (b'{"message": "Forbidden"}', RefusedError, None),
        (b'{"Message": "User is not authorized"}', RefusedError, None),
        (b'{"title": "Busy", "status": 503}', UnavailableError, "503"),
        (b'{"fault": {"faultstring": "Quota"}}', RefusedError, None),
        (b'{"status": "error", "message": "no space"}', RefusedError, "error"),
        (b'{"ok": false}', RefusedError, None),
        (b'{"Error": {"Code": "SlowDown"}}', UnavailableError, "SlowDown"),
        (b'{"error": {"code": 403, "status": "DENIED"}}', RefusedError, "DENIED"),
        (b'\n{"errors": [{"reason": "quota"}]}', RefusedError, "quota"),
        (b'{"success": false, "message": "no space"}', RefusedError, None),
    ],
)
def test_an_error_document_is_the_failure_that_it_names(
    target: str, body: bytes, kind: type[Exception], code: str | None, *, serve: Serve, small: Path
) -> None:
    with serve(answer(200, body, {"ETag": OTHER})) as server:
        error = failure_of(small, server.url + target)
    assert (type(error), error.code, error.http_status) == (kind, code, 200)


def test_a_problem_is_known_by_its_type(small: Path) -> None:
    problem = answer(200, b'{"title": "No"}', {"Content-Type": "application/problem+json"})
    with raw_server(problem) as server:
        assert "200: No" in failure_of(small, server.url + UNKNOWN).message


def test_an_error_that_only_a_header_names(small: Path) -> None:
    with raw_server(answer(201, b"", {"x-ms-error-code": "ServerBusy"})) as server:
        error = failure_of(small, server.url + TARGET)
    assert (type(error), error.code, error.http_status) == (UnavailableError, "ServerBusy", 201)


@pytest.mark.parametrize(
    "body", [b"<head><title>Log in</title>", b"<script>x</script>", b"Please log in"]
)
def test_a_page_is_known_by_its_type(body: bytes, small: Path) -> None:
    html = {"Content-Type": "text/html; charset=utf-8"}
    with raw_server(answer(503), answer(200, body, html)) as server:
        error = failure_of(small, server.url + TARGET, retries=1)
    assert (error.exit_code, error.http_status) == (6, 200)


def test_an_error_document_with_bad_digest_is_retried_once(small: Path) -> None:
    with raw_server(answer(200, xml("BadDigest"))) as server:
        error = failure_of(small, server.url + TARGET, retries=4)
    assert (error.exit_code, error.code, len(server.requests)) == (5, "BadDigest", 2)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<Errors/>", b"OK <Error>", b'{"key": "<Error>"}', b"<CopyResult/>", b"\xff\xfe"),
        *(b'{"error": null, "errors": [], "success": true}', b"[1]", b"{", b'{"a":' * 20_000),
        *(b'{"status": "ok"}', b'{"code": 0, "message": "success"}', b'{"code": 200}', b"[]"),
        *(b'{"message": "uploaded"}', b'{"code": "OK", "message": "no error"}', b'{"status": 200}'),
        *(b'{"code": "a1b2", "message": "stored"}', b"\x1f\x8bx", b"[{}]", b'{"message": null}'),
        b'{"message": "stored without error"}',
        b'{"status": "ok", "message": "replaced an expired file"}',
    ],
)
def test_other_words_are_a_success(body: bytes, small: Path) -> None:
    with raw_server(answer(200, body)) as server:
        assert put(small, server.url + UNKNOWN, retries=0).http_status == 200


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<script>location='/login'</script>", {}),
        (PAGE.decode().encode("utf-16"), {}),
        (b"<WISPAccessGatewayParam/>", {"Content-Type": "text/xml"}),
        (b"Web authentication required", {"Content-Type": "text/plain"}),
        (b'{"status": "ok"}', {}),
        (b"", {"Content-Type": "text/html"}),
        (b"", {"Content-Type": "application/xml, text/html"}),
    ],
)
def test_a_text_in_the_place_of_a_known_store_is_refused(
    body: bytes, headers: dict[str, str], small: Path
) -> None:
    with raw_server(answer(200, body, headers)) as server:
        error = failure_of(small, server.url + TARGET, retries=4)
        assert (error.exit_code, error.http_status, len(server.requests)) == (6, 200, 1)
        assert "nothing shows that the archive is stored" in error.message
        for target in (UNKNOWN, E2B):
            if body != PAGE.decode().encode("utf-16") or target == UNKNOWN:
                assert put(small, server.url + target, retries=0).http_status == 200


def test_a_long_answer_is_a_success(serve: Serve, small: Path) -> None:
    with serve(answer(200, b"x" * 1_000_000)) as server:
        assert put(small, server.url + UNKNOWN, retries=0).http_status == 200


@pytest.mark.parametrize("target", [TARGET, GCS, SAS, SIGNED_V2, CLOUDFRONT])
@pytest.mark.parametrize(
    "page", [PAGE, PAGE.upper(), b"\n <!-- portal --><html>\n</html>", b"\xef\xbb\xbf" + PAGE]
)
def test_a_page_in_the_place_of_a_known_store_is_refused(
    page: bytes, target: str, small: Path
) -> None:
    headers = BLOB if target == SAS else {}
    with raw_server(answer(200, page)) as server:
        error = failure_of(small, server.url + target, headers=headers, retries=4)
    assert (type(error), error.exit_code, error.http_status) == (RefusedError, 6, 200)
    assert "HTML page" in error.message
    assert "login" in error.hint
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ETag", "own"),
        ("ETag", '"0123456789abcdef0123456789abcdef-2"'),
        ("ETag", '"0x8DC583C2DD0D3E5"'),
        ("x-amz-request-id", "1"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-goog-generation", "1"),
        ("X-GUploader-UploadID", "1"),
        ("x-ms-version", "1"),
        ("x-oss-request-id", "1"),
    ],
)
def test_a_page_beside_a_stores_own_header_is_a_success(
    header: str, value: str, small: Path
) -> None:
    value = f'"{MD5(small.read_bytes()).hexdigest()}"' if value == "own" else value
    with raw_server(answer(200, PAGE, {header: value})) as server:
        assert put(small, server.url + TARGET, retries=0).http_status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Amz-Cf-Id": "1", "X-Amz-Cf-Pop": "FRA1"},
        {"x-amz-id-2": "1", "ETag": OTHER, "X-Cache": "Error from cloudfront"},
        {"ETag": '"5f3a1b2c-264"'},
        {"ETag": 'W/"264-4fVm0M6mJ2rL0hOaYtF0Zg"'},
        {"x-goog-iap-generated-response": "true"},
        {"x-ms-ests-server": "2.1", "x-ms-request-id": "1"},
    ],
)
def test_a_page_beside_headers_of_others_is_refused(headers: dict[str, str], small: Path) -> None:
    with raw_server(answer(200, PAGE, headers)) as server:
        assert failure_of(small, server.url + TARGET).exit_code == 6


def test_a_page_of_an_unknown_server_is_a_success_with_a_warning(small: Path) -> None:
    events: list[Event] = []
    with raw_server(answer(201, PAGE)) as server:
        receipt = put(small, server.url + UNKNOWN, retries=0, on_event=events.append)
    assert receipt.http_status == 201
    (warning,) = (event for event in events if isinstance(event, PageAnswered))
    assert warning == PageAnswered(host=f"127.0.0.1:{server.port}", http_status=201)


@pytest.mark.parametrize(
    ("target", "headers", "answered", "proof"),
    [
        (TARGET, {}, {}, "content-md5"),
        (GCS, {}, {}, "content-md5"),
        (SAS, BLOB, {}, "content-md5"),
        (SIGNED_MD5, {}, {}, "content-md5"),
        (SIGNED_V2, {"Content-MD5": "own"}, {}, "content-md5"),
        (SIGNED_V2, {}, {}, None),
        (CLOUDFRONT, {"Content-MD5": "own"}, {}, None),
        (UNKNOWN, {"Content-MD5": "own"}, {}, None),
        (TARGET, {}, KMS, "content-md5"),
        (TARGET, {}, {"ETag": "own"}, "md5"),
        (TARGET, {}, {"ETag": "own", "x-obs-server-side-encryption": "kms"}, "md5"),
        (UNKNOWN, {}, {"ETag": "own"}, "md5"),
    ],
)
def test_what_proves_a_build(
    target: str,
    headers: dict[str, str],
    answered: dict[str, str],
    proof: str | None,
    *,
    tmp_path: Path,
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_bytes(b"content")
    md5 = build(context, None, dry_run=True).archive.md5 or ""
    own = {"Content-MD5": base64.b64encode(bytes.fromhex(md5)).decode()}
    headers = {name: own.get(name, value) for name, value in headers.items()}
    answered = {name: f'"{md5}"' if value == "own" else value for name, value in answered.items()}
    with raw_server(answer(200, b"", answered)) as server:
        assert build(context, server.url + target, headers=headers, retries=0).verified == proof


def test_without_content_md5_a_2xx_proves_nothing(small: Path) -> None:
    with raw_server(answer(200)) as server:
        assert put(small, server.url + UNKNOWN, retries=0).verified is None


def claiming(algorithm: str) -> Script:
    headers = {
        "etag": {"ETag": OTHER},
        "sha256": {"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()},
        "goog": {"x-goog-hash": "md5=" + base64.b64encode(bytes(16)).decode()},
    }[algorithm]
    return answer(200, b"", headers)


@pytest.mark.parametrize("algorithm", ["etag", "sha256", "goog"])
def test_ignore_checksum_compares_nothing(algorithm: str, small: Path) -> None:
    with raw_server(claiming(algorithm)) as server:
        assert failure_of(small, server.url + TARGET).exit_code == 5
        receipt = put(small, server.url + TARGET, retries=0, ignore_checksum=True)
    assert (receipt.http_status, receipt.verified) == (200, "content-md5")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-server-side-encryption": "aws:kms"},
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
    ],
)
def test_a_store_need_not_repeat_that_it_encrypts(headers: dict[str, str], small: Path) -> None:
    with raw_server(claiming("etag")) as server:
        receipt = put(small, server.url + UNKNOWN, headers=headers, retries=0)
    assert receipt.verified is None


def test_nor_that_the_url_asked_for_it(small: Path) -> None:
    with raw_server(claiming("etag")) as server:
        url = f"{server.url}{TARGET}&x-amz-server-side-encryption=aws%3Akms"
        assert put(small, url, retries=0).verified == "content-md5"


def test_aws_ends_its_default_encryption_header_to_an_md5(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy, so that the host is one of AWS'."""
    headers = {"ETag": OTHER, "x-amz-server-side-encryption": "AES256"}
    with raw_server(answer(200, b"", headers)) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        error = failure_of(small, f"http://b.s3.us-east-1.amazonaws.com{TARGET}")
        receipt = put(small, f"http://store.invalid{TARGET}", retries=0)
    assert receipt.verified == "content-md5"  # the ETag is not compared
    assert (error.exit_code, type(error).__name__) == (5, "DamagedError")


def test_the_object_is_what_was_sent(serve: Serve, small: Path) -> None:
    def store(connection: Connection) -> None:
        connection.read_head()
        md5 = MD5(connection.read_body()).hexdigest()
        connection.send(response(200, b"", {"ETag": f'"{md5}"'}))

    with serve(store) as server:
        receipt = put(small, server.url + TARGET)
    assert (receipt.verified, receipt.url) == ("md5", server.url + PATH)
