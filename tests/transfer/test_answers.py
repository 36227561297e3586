"""What every answer, and every way of not answering, comes to: kind, words, next step."""

import errno
import gc
import gzip
import hashlib
import html
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e2b_upload import Archive, RefusedError, UnavailableError, UploadError, put
from e2b_upload.transfer.answer import Answer, failure
from e2b_upload.transfer.receipt import DamagedError
from e2b_upload.transfer.url import parse
from tests.support.rawserver import (
    ClientGoneError,
    Connection,
    Script,
    answer,
    garbage,
    raw_server,
    reset_after,
    response,
    silent,
    stall_sending,
)
from tests.transfer.common import (
    KIB,
    MIB,
    PATH,
    SECRETS,
    TARGET,
    Chameleon,
    Serve,
    Tls,
    assert_kept,
    early,
    failure_of,
    pausing,
    raw,
    tunnel,
    xml,
)

EXIT = {UnavailableError: 5, DamagedError: 5, RefusedError: 6}
ESC = "\x1b"


@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize("body", [b"", b"<PutObjectResult/>"], ids=["empty", "words"])
def test_success(status: int, body: bytes, serve: Serve, small: Path) -> None:
    with serve(answer(status, body, {"x-amz-request-id": "1"} if body else {})) as server:
        receipt = put(small, server.url + TARGET)
    assert (receipt.http_status, receipt.url) == (status, server.url + PATH)
    assert receipt.verified == "content-md5"
    assert len(server.requests) == 1


class Case(NamedTuple):
    """An answer, and what is said of it."""

    answer: bytes
    error: type[UploadError]
    status: int
    code: str | None = None
    request_id: str | None = None
    words: tuple[str, ...] = ()
    hint: str = ""


def bare(
    status: int, error: type[UploadError], hint: str = "", headers: dict[str, str] | None = None
) -> Case:
    """Answer with no more than a status."""
    return Case(response(status, b"", headers), error, status, words=(f": {status}",), hint=hint)


def s3(
    status: int, code: str, message: str, error: type[UploadError] = RefusedError, hint: str = ""
) -> Case:
    """Answer as S3 does."""
    body = xml(code, html.escape(message, quote=False), "4442587FB7D0A2F9")
    words = f": {status} {code}: {message} (request id 4442587FB7D0A2F9)"
    return Case(response(status, body), error, status, code, "4442587FB7D0A2F9", (words,), hint)


def said_in_json(status: int, said: object, code: str | None, message: str | None) -> Case:
    """Answer with JSON."""
    words = f": {status}" + (f" {code}" if code else "") + (f": {message}" if message else "")
    return Case(
        response(status, json.dumps(said).encode()), RefusedError, status, code, None, (words,)
    )


ACCESS_DENIED = xml("AccessDenied", "Request has expired")
AZURE = (
    "\N{BYTE ORDER MARK}"
    '<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code>'
    "<Message>Server failed to authenticate the request. Make sure the value is formed correctly.\n"
    "RequestId:aa2e4f8c-301e-0046\nTime:2026-01-01T00:00:00.0000000Z</Message>"
    "<AuthenticationErrorDetail>Signature did not match.</AuthenticationErrorDetail></Error>"
).encode()
GCS = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>ExpiredToken</Code>"
    b"<Message>Invalid argument.</Message><Details>Request signature expired at: 2026</Details>"
    b"</Error>"
)
PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lollollol">'
    b'<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    b"<Error><Code>Bomb</Code><Message>&c;</Message></Error>"
)

CASES = {
    # Answers that no PUT should get, though some call them success.
    "202": bare(202, RefusedError, "may be stored or not"),
    "203": bare(203, RefusedError, "may be stored or not"),
    "206": bare(206, RefusedError, "may be stored or not"),
    "300": bare(300, RefusedError, "right endpoint or region"),
    "301": bare(301, RefusedError, "right endpoint or region"),
    "302": bare(302, RefusedError, "right endpoint or region"),
    "303": bare(303, RefusedError, "right endpoint or region"),
    "304": bare(304, RefusedError, "right endpoint or region"),
    "307 to nowhere": bare(307, RefusedError, "right endpoint or region"),
    "308 to nowhere": bare(308, RefusedError, "right endpoint or region"),
    # The status alone.
    "400": bare(400, RefusedError, "look at the URL"),
    "401": bare(401, RefusedError, "fresh URL"),
    "403": bare(403, RefusedError, "fresh URL"),
    "404": bare(404, RefusedError, "Is the URL right?"),
    "405": bare(405, RefusedError, "URL for PUT?"),
    "407": bare(407, RefusedError, "proxy's user and password"),
    "408": bare(408, UnavailableError, "try again later"),
    "409": bare(409, RefusedError, "look at the URL"),
    "411": bare(411, RefusedError, "look at the proxy"),
    "412": bare(412, RefusedError, "condition"),
    "413": bare(413, RefusedError, "send less"),
    "418": bare(418, RefusedError, "look at the URL"),
    "429": bare(429, UnavailableError, "try again later", {"Retry-After": "1"}),
    "500": bare(500, UnavailableError, "try again later"),
    "501": bare(501, RefusedError, "presigned PUT URL?"),
    "502": bare(502, UnavailableError, "try again later"),
    "503": bare(503, UnavailableError, "try again later"),
    "504": bare(504, UnavailableError, "try again later"),
    "505": bare(505, RefusedError, "look at the URL"),
    "509": bare(509, UnavailableError, "try again later"),
    "425": bare(425, UnavailableError, "try again later"),
    "507": bare(507, UnavailableError, "try again later"),
    "520": bare(520, UnavailableError, "try again later"),
    "599": bare(599, UnavailableError, "try again later"),
    "511": bare(511, UnavailableError, "ask for a login"),
    "600": bare(600, RefusedError, "look at the URL"),
    "999": bare(999, RefusedError, "look at the URL"),
    # A transient error has the hint of one.
    "403 SlowDown": s3(403, "SlowDown", "Slower", UnavailableError, "try again later"),
    "503 AccessDenied": s3(503, "AccessDenied", "No", UnavailableError, "try again later"),
    "damaged": s3(400, "XAmzContentSHA256Mismatch", "No", DamagedError, "Something on the way"),
    # S3's own words.
    "expired": s3(403, "AccessDenied", "Request has expired", hint="fresh URL"),
    "signature": s3(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided.",
        hint="`headers`",
    ),
    "key": s3(403, "InvalidAccessKeyId", "The AWS Access Key Id does not exist", hint="key"),
    "token": s3(400, "ExpiredToken", "The provided token has expired.", hint="fresh URL"),
    "clock": s3(403, "RequestTimeTooSkewed", "The difference is too large.", hint="clock"),
    "bucket": s3(404, "NoSuchBucket", "The bucket does not exist", hint="Create the bucket"),
    "length": s3(411, "MissingContentLength", "You must provide it", hint="look at the proxy"),
    "precondition": s3(412, "PreconditionFailed", "It did not hold", hint="condition"),
    "size": s3(400, "EntityTooLarge", "Your proposed upload exceeds it", hint="send less"),
    "support": s3(501, "NotImplemented", "Not implemented", hint="presigned PUT URL?"),
    "timeout": s3(400, "RequestTimeout", "It was idle", UnavailableError, "try again later"),
    "slow": s3(503, "SlowDown", "Reduce your request rate.", UnavailableError, "try again later"),
    "internal": s3(500, "InternalError", "Try again.", UnavailableError, "try again later"),
    "entities": s3(400, "InvalidArgument", "a < b && c > \"d\" 'e'", hint="look at the URL"),
    # Other stores, and what stands before them.
    "Azure": Case(
        response(403, AZURE, {"x-ms-request-id": "aa2e4f8c-301e-0046"}),
        RefusedError,
        403,
        "AuthenticationFailed",
        "aa2e4f8c-301e-0046",
        (
            ": 403 AuthenticationFailed: Server failed to authenticate the request. Make sure the ",
            "value is formed correctly. Signature did not match. (request id aa2e4f8c-301e-0046)",
        ),
        "fresh URL",
    ),
    "GCS": Case(
        response(400, GCS, {"X-GUploader-UploadID": "ABPtcPr2c"}),
        RefusedError,
        400,
        "ExpiredToken",
        "ABPtcPr2c",
        (": 400 ExpiredToken: Invalid argument. (request id ABPtcPr2c)",),
        "fresh URL",
    ),
    "a request id beside no body": Case(
        response(500, b"", {"x-amz-request-id": "4442587FB7D0A2F9"}),
        UnavailableError,
        500,
        request_id="4442587FB7D0A2F9",
        words=(": 500 (request id 4442587FB7D0A2F9)",),
    ),
    "a page": Case(response(502, PAGE), UnavailableError, 502, words=(": 502: Bad Gateway",)),
    "a page without a title": Case(
        response(403, b"<html><body>token=abc</body></html>"),
        RefusedError,
        403,
        words=(": 403",),
        hint="A proxy or a firewall may have answered",
    ),
    "a page of a store's": Case(
        response(403, b"<html><title>No</title></html>", {"x-amz-id-2": "1"}),
        RefusedError,
        403,
        hint="Ask for a fresh URL: this one expired",
    ),
    "Azure, a header alone": Case(
        response(409, b"", {"x-ms-error-code": "BlobImmutableDueToPolicy"}),
        RefusedError,
        409,
        "BlobImmutableDueToPolicy",
        words=(": 409 BlobImmutableDueToPolicy",),
    ),
    "Azure, a transient error in a header alone": Case(
        response(400, b"", {"x-ms-error-code": "ServerBusy"}),
        UnavailableError,
        400,
        "ServerBusy",
        hint="later",
    ),
    "S3, a website's headers": Case(
        response(403, b"", {"x-amz-error-code": "AccessDenied", "x-amz-error-message": "No"}),
        RefusedError,
        403,
        "AccessDenied",
        words=(": 403 AccessDenied: No",),
    ),
    # JSON.
    "GCS, JSON": said_in_json(
        403,
        {
            "error": {
                "code": 403,
                "message": "Caller does not have storage.objects.create access",
                "status": "PERMISSION_DENIED",
                "errors": [{"domain": "global", "reason": "forbidden", "message": "Caller"}],
            }
        },
        "forbidden",
        "Caller",
    ),
    "GCS, JSON without reasons": said_in_json(
        400,
        {"error": {"code": 400, "message": "No such field", "status": "INVALID_ARGUMENT"}},
        "INVALID_ARGUMENT",
        "No such field",
    ),
    "GCS, JSON in a list": said_in_json(
        400, [{"error": {"status": "INVALID_ARGUMENT", "message": "No"}}], "INVALID_ARGUMENT", "No"
    ),
    "Supabase": said_in_json(
        400,
        {"statusCode": "403", "error": "Unauthorized", "message": "signature verification failed"},
        "Unauthorized",
        "signature verification failed",
    ),
    "AWS, JSON": said_in_json(
        400,
        {"__type": "com.amazon.coral.service#AccessDeniedException", "Message": "User: no"},
        "AccessDeniedException",
        "User: no",
    ),
    "code and message": said_in_json(
        400, {"code": "InvalidArgument", "message": "no"}, "InvalidArgument", "no"
    ),
    "a number for a code": said_in_json(400, {"code": 10000, "message": "no"}, "10000", "no"),
    "the status for a code": said_in_json(400, {"code": 400, "message": "no"}, None, "no"),
    "Cloudflare": said_in_json(
        400, {"success": False, "errors": [{"code": 7003, "message": "no"}]}, "7003", "no"
    ),
    "FastAPI": said_in_json(400, {"detail": "Token has expired"}, None, "Token has expired"),
    "FastAPI, a field": said_in_json(
        422, {"detail": [{"loc": ["header"], "msg": "Field required"}]}, None, "Field required"
    ),
    "RFC 9457": said_in_json(
        400, {"title": "Bad Request", "status": 400, "detail": "Too old"}, None, "Too old"
    ),
    "an error of one word": said_in_json(400, {"error": "forbidden"}, "forbidden", None),
    "an error of several words": said_in_json(400, {"error": "No bucket"}, None, "No bucket"),
    "JSON that says nothing known": said_in_json(400, {"ok": 0}, None, '{"ok": 0}'),
    "JSON, escaped": said_in_json(400, {"message": "a &amp;lt; b\u003c"}, None, "a < b<"),
    "JSON, SlowDown": Case(
        response(400, b'{"code": "SlowDown"}'), UnavailableError, 400, "SlowDown", hint="later"
    ),
    "JSON, AccessDenied": Case(
        response(400, b'{"code": "AccessDenied"}'), RefusedError, 400, "AccessDenied", hint="fresh"
    ),
    "JSON with a request id": Case(
        response(400, b'{"message": "no", "request_id": "r1"}'), RefusedError, 400, None, "r1"
    ),
    "JSON, deep": Case(response(400, b"[" * 60_000), RefusedError, 400),
    "JSON, a long number": Case(response(400, b'{"code": %s}' % (b"9" * 9000)), RefusedError, 400),
    "JSON, odd types": Case(
        response(400, b'{"code": [true], "message": {"a": null}, "error": 0.5, "detail": []}'),
        RefusedError,
        400,
    ),
    # Plain text.
    "plain text": Case(
        response(403, b"upstream policy\nsays  no\n"),
        RefusedError,
        403,
        words=(": 403: upstream policy says no",),
    ),
    "plain text that begins with the status": Case(
        response(403, b"403 Forbidden"), RefusedError, 403, words=(": 403: Forbidden",)
    ),
    "not text": Case(response(403, bytes(range(256))), RefusedError, 403, words=(": 403",)),
    "a reference to no character": Case(
        response(403, b"&#" + b"9" * 9000 + b";"), RefusedError, 403
    ),
    # Where the bucket is.
    "another region, S3": Case(
        response(
            301,
            b"<Error><Code>PermanentRedirect</Code><Message>Not here.</Message>"
            b"<Endpoint>b.s3.ap-south-1.amazonaws.com</Endpoint></Error>",
            {"x-amz-bucket-region": "ap-south-1"},
        ),
        RefusedError,
        301,
        "PermanentRedirect",
        words=("redirected without a Location instead of confirming",),
        hint="Ask for a URL that is signed for the region ap-south-1 and the endpoint "
        "b.s3.ap-south-1.amazonaws.com.",
    ),
    "another region, 307": Case(
        response(
            307,
            b"<Error><Code>TemporaryRedirect</Code>"
            b"<Endpoint>b.s3-ap-south-1.amazonaws.com</Endpoint></Error>",
        ),
        RefusedError,
        307,
        "TemporaryRedirect",
        hint="signed for the endpoint b.s3-ap-south-1.amazonaws.com.",
    ),
    "another region, a header alone": Case(
        response(301, b"", {"x-amz-bucket-region": "ap-south-1"}),
        RefusedError,
        301,
        hint="signed for the region ap-south-1.",
    ),
    "another region, SigV4": Case(
        response(
            400,
            b"<Error><Code>AuthorizationQueryParametersError</Code><Message>the region 'us-east-1' "
            b"is wrong; expecting 'ap-south-1'</Message><Region>ap-south-1</Region></Error>",
        ),
        RefusedError,
        400,
        "AuthorizationQueryParametersError",
        hint="signed for the region ap-south-1.",
    ),
    "another region that is not told": Case(
        response(400, xml("IllegalLocationConstraintException", "")),
        RefusedError,
        400,
        "IllegalLocationConstraintException",
        "4442587FB7D0A2F9",
        hint="right endpoint or region",
    ),
    "another endpoint, OSS": Case(
        response(
            403,
            b"<Error><Code>AccessDenied</Code><Endpoint>oss-eu-central-1.aliyuncs.com</Endpoint>"
            b"</Error>",
        ),
        RefusedError,
        403,
        "AccessDenied",
        hint="signed for the endpoint oss-eu-central-1.aliyuncs.com.",
    ),
    "an endpoint that is none": Case(
        response(301, b"<Error><Endpoint>\x1b[2J x</Endpoint><Region>a b</Region></Error>"),
        RefusedError,
        301,
        hint="right endpoint or region",
    ),
    "a region that is nothing to the point": Case(
        response(403, xml("AccessDenied"), {"x-amz-bucket-region": "ap-south-1"}),
        RefusedError,
        403,
        "AccessDenied",
        "4442587FB7D0A2F9",
        hint="fresh URL",
    ),
    "not UTF-8": Case(
        response(403, xml("AccessDenied", "\u00fc").decode().encode("latin-1")),
        RefusedError,
        403,
        "AccessDenied",
        "4442587FB7D0A2F9",
        ("AccessDenied: \N{REPLACEMENT CHARACTER}",),
    ),
    "a bomb": Case(response(400, BOMB), RefusedError, 400, "Bomb", words=("Bomb: &c;",)),
    # Ways to send a body.
    "gzip": Case(
        response(403, gzip.compress(ACCESS_DENIED), {"Content-Encoding": "gzip"}),
        RefusedError,
        403,
        "AccessDenied",
        "4442587FB7D0A2F9",
        ("AccessDenied: Request has expired",),
    ),
    "not really gzip": Case(
        response(403, ACCESS_DENIED, {"Content-Encoding": "gzip"}),
        UnavailableError,
        403,
        words=(": 403",),
    ),
    "chunked": Case(
        b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % byte for byte in ACCESS_DENIED)
        + b"0\r\n\r\n",
        RefusedError,
        403,
        "AccessDenied",
        "4442587FB7D0A2F9",
        ("AccessDenied: Request has expired",),
    ),
    "until it closes": Case(
        b"HTTP/1.0 403 Forbidden\r\n\r\n" + ACCESS_DENIED,
        RefusedError,
        403,
        "AccessDenied",
        "4442587FB7D0A2F9",
        ("AccessDenied: Request has expired",),
    ),
    "after 100 Continue": Case(
        b"HTTP/1.1 100 Continue\r\n\r\n" + response(403, ACCESS_DENIED),
        RefusedError,
        403,
        "AccessDenied",
        "4442587FB7D0A2F9",
    ),
    "broken off": Case(
        response(403, ACCESS_DENIED, {"Content-Length": "9999"}),
        RefusedError,
        403,
        "AccessDenied",
        "4442587FB7D0A2F9",
        ("AccessDenied: Request has expired",),
    ),
    "broken off before the code": Case(
        response(400, ACCESS_DENIED[:20], {"Content-Length": "300"}),
        UnavailableError,
        400,
        words=("broke off its answer to the upload",),
        hint="try again later",
    ),
    "broken off in a chunk": Case(
        b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n" + ACCESS_DENIED,
        RefusedError,
        403,
        "AccessDenied",
        "4442587FB7D0A2F9",
    ),
    # Half an answer that says enough: RFC 9112, 8.
    "no words in its status line": Case(b"HTTP/1.1 403\r\n\r\n", RefusedError, 403),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_failure(case: Case, small: Path) -> None:
    with raw_server(raw(case.answer)) as server:
        error = failure_of(small, server.url + TARGET)
    assert type(error) is case.error
    assert error.exit_code == EXIT[case.error]
    assert (error.http_status, error.code) == (case.status, case.code)
    assert error.request_id == case.request_id
    assert error.message.startswith(f"127.0.0.1:{server.port} ")
    assert f"the upload to {server.url}{PATH}: {case.status}" in error.message
    for words in case.words:
        assert words in error.message
    assert case.hint in error.hint
    assert len(server.requests) == 1


def test_an_answer_that_is_no_refusal_is_not_called_one(small: Path) -> None:
    with raw_server(answer(202, b"Accepted")) as server:
        error = failure_of(small, server.url + TARGET)
    words = (
        "answered the upload to {}: 202, which does not say that the archive is stored: Accepted"
    )
    assert words.format(server.url + PATH) in error.message


def test_what_a_terminal_obeys_is_not_passed_on(small: Path) -> None:
    message = f"{ESC}[2J[bold]x[/bold] \x9b31m\r\n\u202edlrow\u2066 &#27;]0;t&#7;&#155;&#x202e;"
    with raw_server(answer(403, xml("AccessDenied", message))) as server:
        error = failure_of(small, server.url + TARGET)
    assert r"\x1b[2J[bold]x[/bold] \x9b31m" in error.message
    assert r"\u202edlrow" in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize("escape", [str, html.escape, partial(html.escape, quote=False)])
@pytest.mark.parametrize("place", ["Code", "Message", "RequestId", "x-amz-request-id"])
def test_a_store_that_repeats_the_url_is_not_quoted(
    place: str, escape: Callable[[str], str], small: Path
) -> None:
    def script(connection: Connection) -> None:
        target = connection.read_head().split()[1].decode()
        connection.read_body()
        said = f"No: PUT 'http://store.invalid{escape(target)}', really"
        body = f"<Error><{place}>{said}</{place}></Error>".encode()
        connection.send(response(403, body, {"x-amz-request-id": said}))

    with raw_server(script) as server:
        error = failure_of(small, server.url + TARGET)
    assert type(error) is RefusedError
    assert "No: PUT" in error.message
    assert "really" in error.message


ESCAPES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "HTML": html.escape,
    "HTML, twice": lambda text: html.escape(html.escape(text)),
    "HTML, numbers": lambda text: re.sub(r"\W", lambda m: f"&#{ord(m[0])};", text),
    "HTML, numbers in base 16": lambda text: re.sub(r"\W", lambda m: f"&#x{ord(m[0]):x};", text),
    "JSON, numbers": lambda text: re.sub(r"\W", lambda m: f"\\u{ord(m[0]):04X}", text),
    "JSON, slashes": lambda text: text.replace("/", "\\/"),
    "C": lambda text: re.sub(r"\W", lambda m: f"\\x{ord(m[0]):02x}", text),
    "read": unquote,
    "read, JSON": lambda text: json.dumps(unquote(text))[1:-1].replace("/", "\\/"),
    "read, HTML": lambda text: html.escape(unquote(text)).replace("/", "&#x2F;"),
    "quoted": lambda text: quote(text, safe=""),
}
PLACES: dict[str, Callable[[str], tuple[str, dict[str, str]]]] = {
    "JSON": lambda said: ('{"code": "No", "message": "' + said + '"}', {}),
    "JSON, deeper": lambda said: ('{"error": {"errors": [{"message": "' + said + '"}]}}', {}),
    "JSON, unknown": lambda said: ('{"who": "' + said + '"}', {}),
    "JSON, broken off": lambda said: ('{"message": "' + said + '", ', {}),
    "text": lambda said: (said, {}),
    "text, much of it": lambda said: ("x" * 400 + said + "y" * 400, {}),
    "title": lambda said: (f"<html><title>{said}</title>", {}),
    "AuthenticationErrorDetail": lambda said: (
        f"<Error><AuthenticationErrorDetail>{said}</AuthenticationErrorDetail></Error>",
        {},
    ),
    "Endpoint": lambda said: (f"<Error><Endpoint>{said}</Endpoint></Error>", {}),
    "Region": lambda said: (f"<Error><Region>{said}</Region></Error>", {}),
    "x-ms-error-code": lambda said: ("", {"x-ms-error-code": said}),
    "x-amz-bucket-region": lambda said: ("", {"x-amz-bucket-region": said}),
}


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES.keys())
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("status", [301, 403])
def test_no_escaping_brings_a_secret_back(
    status: int,
    place: Callable[[str], tuple[str, dict[str, str]]],
    escape: Callable[[str], str],
) -> None:
    url = parse(f"https://store.invalid{TARGET}")
    for echoed in (TARGET, *SECRETS):
        body, headers = place(escape(echoed))
        for whole in (True, False):
            error = failure(Answer(status, headers, body.encode(), 0.0, whole), url)
            assert_kept(error, *SECRETS)
            assert error.message.isprintable()
            assert (error.code or "").isprintable()
            assert len(error.message) < 2 * KIB


@pytest.mark.parametrize(
    "body",
    [
        b"<Code>" * 10_000,
        b"<title " * 9_000,
        b"<title>" + b"a" * 65_000,
        b"?" * 65_000,
        b"?a" * 32_000,
        b"&" * 65_000,
        b"&#" * 32_000,
        b"&amp;" * 13_000,
        b"\\" * 65_000,
        b"\\u005c" * 10_000,
        b"/" * 65_000,
        b'{"a":' * 10_000,
        b'{"error":' * 7_000 + b"1" + b"}" * 7_000,
        b'{"error": ' * 100 + b"{}" + b"}" * 100,
        b"[" * 900 + b"]" * 900,
        b'"' * 65_000,
        b"\xf0\x9f" * 32_000,
        b"\xc2\x85" * 32_000,
        b'{"message": "\\ud800\\udc00\\udfff"}',
        b'{"message": "' + b"\\u001b" * 9_000 + b'"}',
        b'{"code": NaN, "message": Infinity}',
        b'{"code": "\\u202e"}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_hostile_body_takes_no_time_and_says_little(body: bytes) -> None:
    url = parse(f"https://store.invalid{TARGET}")
    start = time.process_time()
    error = failure(Answer(403, {}, body[: 64 * KIB], 0.0), url)
    assert time.process_time() - start < 1
    assert error.message.isprintable()
    assert (error.code or "").isprintable()
    assert len(error.message) < 8 * KIB


@pytest.mark.parametrize("before", range(470, 501, 5))
def test_a_secret_where_the_words_are_cut_is_not_shown_in_part(before: int, small: Path) -> None:
    def script(connection: Connection) -> None:
        signature = connection.read_head().split()[1].decode().rpartition("=")[2]
        connection.read_body()
        connection.send(response(403, xml("No", "." * before + signature)))

    with raw_server(script) as server:
        failure_of(small, server.url + TARGET)


def test_of_long_words_the_beginning_is_shown(small: Path) -> None:
    with raw_server(answer(403, xml("No", "long " * 10_000))) as server:
        error = failure_of(small, server.url + TARGET)
    assert "No: long long " in error.message
    assert len(error.message) < KIB


class Promised:
    """Promise 1 GiB of words and send them for as long as they are taken, at most 64 MiB."""

    def __init__(self, head: bytes, words: bytes = ACCESS_DENIED) -> None:
        self.head = head + b"\r\nContent-Length: 1073741824\r\n\r\n" + words
        self.sent = 0

    def __call__(self, connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.send(self.head)
        while self.sent < 64 * MIB:
            connection.send(b" " * (64 * KIB))
            self.sent += 64 * KIB


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"HTTP/1.1 403 Forbidden", "AccessDenied"),
        (b"HTTP/1.1 503 Slow Down", "AccessDenied"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /next", "AccessDenied"),
        (b"HTTP/1.1 307 Moved\r\nLocation: ftp://elsewhere.invalid/", None),
        (b"HTTP/1.1 307 Moved\r\nLocation: /next", None),
    ],
)
def test_of_a_huge_answer_a_small_part_is_read(head: bytes, code: str | None, small: Path) -> None:
    promised = Promised(head)
    with raw_server(promised, answer(403)) as server:
        error = failure_of(small, server.url + TARGET)
    assert error.code == code
    assert promised.sent < 32 * MIB  # what the kernel buffers, and not all of it


def test_of_a_huge_answer_of_success_nothing_is_needed(serve: Serve, small: Path) -> None:
    promised = Promised(b"HTTP/1.1 200 OK\r\nx-amz-id-2: 1", b"<PutObjectResult>")
    with serve(promised) as server:
        assert put(small, server.url + TARGET).http_status == 200
    assert promised.sent < 32 * MIB


def test_a_little_gzip_does_not_become_a_lot_of_memory(small: Path) -> None:
    bomb = gzip.compress(ACCESS_DENIED + bytes(256 * MIB), compresslevel=1)
    with raw_server(answer(403, bomb, {"Content-Encoding": "gzip"})) as server:
        tracemalloc.start()
        try:
            error = failure_of(small, server.url + TARGET)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert error.code == "AccessDenied"
    assert peak < 16 * MIB


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "framing", ["Content-Length: 9999", "Transfer-Encoding: chunked", "Connection: close"]
)
def test_words_before_a_stall_are_shown(framing: str, small: Path) -> None:
    body = b"fff\r\n" + ACCESS_DENIED if "chunked" in framing else ACCESS_DENIED
    head = f"HTTP/1.1 403 Forbidden\r\n{framing}\r\n\r\n".encode()
    with raw_server(raw(head + body, hold=True)) as server:
        error = failure_of(small, server.url + TARGET)
    assert (error.http_status, error.code) == (403, "AccessDenied")


@pytest.mark.parametrize("kept", [20, 40, 63])
@pytest.mark.parametrize("code", ["AccessDenied", None])
def test_words_that_break_off_within_a_secret_show_none_of_it(
    code: str | None, kept: int, small: Path
) -> None:
    words = f"no match: {SECRETS[2][:kept]}".encode()
    if code:
        words = xml(code, words.decode()).partition(b"</Message>")[0]
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9999\r\n\r\n"
    with raw_server(raw(head + words)) as server:
        assert failure_of(small, server.url + TARGET).code == code


@pytest.mark.slow
def test_a_refusal_amid_the_body_is_heard_every_time(serve: Serve, huge: Archive) -> None:
    with serve(early(403, ACCESS_DENIED)) as server:
        errors = [failure_of(huge, server.url + TARGET) for _ in range(20)]
    assert {type(error) for error in errors} == {RefusedError}
    assert {error.code for error in errors} == {"AccessDenied"}
    assert [request.body_bytes for request in server.requests] == [0] * 20


@pytest.mark.parametrize("status", [200, 201, 204])
def test_success_before_the_body_was_sent_is_none(status: int, serve: Serve, huge: Archive) -> None:
    with serve(early(status)) as server:
        error = failure_of(huge, server.url + TARGET)
    assert isinstance(error, UnavailableError)
    assert error.http_status == status
    assert f"answered {status} after " in error.message
    assert "of 200000000 bytes" in error.message


def hear_and_close(connection: Connection) -> None:
    connection.read_head()
    connection.read_body()


SIZE = MIB


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param(reset_after(0), "", id="reset at 0%"),
        pytest.param(reset_after(SIZE // 2), "", id="reset at 50%"),
        pytest.param(reset_after(SIZE), f"after {SIZE} of {SIZE} bytes", id="reset at 100%"),
        pytest.param(hear_and_close, "closed without an answer", id="no answer"),
        pytest.param(garbage(), "the answer is not HTTP", id="garbage"),
        pytest.param(raw(b"\r\n\r\n"), "the answer is not HTTP", id="empty lines"),
        pytest.param(raw(b"HTTP/1.1 "), "closed amid the answer", id="no status"),
        pytest.param(raw(b"HTTP/1.1 20"), "closed amid the answer", id="half a status"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\n"), "closed amid", id="a status alone"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nETa"), "closed amid", id="half its headers"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nA: b\r\n"), "closed amid", id="no empty line"),
        pytest.param(raw(b"HTTP/1.1 2000 OK\r\n\r\n"), "not HTTP", id="too much of a status"),
        pytest.param(raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP", id="SSH"),
        pytest.param(raw(response(200, b"", {"X": "y" * 99_999})), "", id="a long header"),
        pytest.param(
            raw(response(200, b"", {f"X-{i}": "y" for i in range(999)})), "", id="many headers"
        ),
    ],
)
def test_no_answer(
    script: Script, words: str, serve: Serve, archive: Callable[[int], Archive]
) -> None:
    with serve(script) as server:
        error = failure_of(archive(SIZE), server.url + TARGET)
    assert type(error) is UnavailableError
    assert (error.exit_code, error.http_status, error.code) == (5, None, None)
    assert f"the connection to {server.url.partition('//')[2]} broke after " in error.message
    assert f"of {SIZE} bytes" in error.message
    assert words in error.message


@pytest.mark.parametrize("script", [Connection.close, Connection.reset])
def test_no_ear(script: Script, serve: Serve, small: Path) -> None:
    with serve(script) as server:
        error = failure_of(small, server.url + TARGET)
    assert (type(error), error.http_status) == (UnavailableError, None)
    assert server.url.partition("//")[2] in error.message


def test_an_answer_of_two_lengths_is_the_stores_fault(serve: Serve, small: Path) -> None:
    def put_it(url: str) -> tuple[type[UploadError], str]:
        error = failure_of(small, url)
        return type(error), error.message

    with serve(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n")) as server:
        kind, message = put_it(server.url + TARGET)
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()  # to which urllib3 leaves the socket of such an answer
    assert kind is UnavailableError
    assert f"{server.url.partition('//')[2]} broke after 20 of 20 bytes" in message


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(silent(), id="nothing"),
        pytest.param(raw(b"HTTP/1.1 20", hold=True), id="half a status line"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nETag: ", hold=True), id="half its headers"),
        pytest.param(raw(b"HTTP/1.1 100 Continue\r\n\r\n", hold=True), id="100 Continue"),
    ],
)
def test_a_stall_before_the_answer(script: Script, serve: Serve, small: Path) -> None:
    with serve(script) as server:
        error = failure_of(small, server.url + TARGET)
    assert type(error) is UnavailableError
    assert "stalled after 20 of 20 bytes" in error.message
    assert server.requests[0].body == small.read_bytes()


@pytest.mark.usefixtures("impatient")
def test_a_stall_amid_the_body(serve: Serve, huge: Archive) -> None:
    with serve(stall_sending()) as server:
        error = failure_of(huge, server.url + TARGET)
    assert type(error) is UnavailableError
    assert "stalled after " in error.message
    assert "of 200000000 bytes" in error.message


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("body", [b"", b"<?xml version='1.0'?>\n", b"<Error><Code>Internal"])
def test_half_the_body_of_a_success_is_none(
    body: bytes, serve: Serve, small: Path, *, hold: bool
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
    with serve(raw(head + body, hold=hold)) as server:
        error = failure_of(small, server.url + TARGET)
    assert (type(error), error.http_status) == (UnavailableError, 200)
    assert "the archive may be stored or not" in error.message


def test_headers_that_prove_it_are_enough_of_a_success(serve: Serve, small: Path) -> None:
    md5 = hashlib.md5(small.read_bytes(), usedforsecurity=False).hexdigest()
    head = f'HTTP/1.1 200 OK\r\nContent-Length: 500\r\nETag: "{md5}"\r\n\r\n'.encode()
    with serve(raw(head, hold=True)) as server:
        receipt = put(small, server.url + TARGET, retries=0, stall_timeout=0.3)
    assert (receipt.http_status, receipt.verified) == (200, "md5")


@pytest.mark.parametrize("way", ["tcp", "tls", "tunnel"])
def test_a_pause_amid_the_body_may_be_longer_than_connecting(
    way: str,
    archive: Callable[[int], Archive],
    tls: Tls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    sent, script = archive(16 * MIB), pausing(1.5)
    if way == "tunnel":
        script = tunnel(tls.context, script)
    with raw_server(script, tls=tls.context if way == "tls" else None) as server:
        url = server.url
        if way == "tunnel":
            monkeypatch.setenv("HTTPS_PROXY", server.url)
            url = "https://localhost"
        put(sent, url + TARGET, connect_timeout=0.5, retries=0)
    assert server.requests[-1].body_sha256 == sent.sha256


@pytest.mark.slow
def test_a_slow_way_is_no_stall(
    serve: Serve, archive: Callable[[int], Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One piece takes longer than may pass without any byte."""
    monkeypatch.setattr("e2b_upload.transfer.body.PIECE_BYTES", 16 * MIB)
    sent = archive(16 * MIB)

    def sip(connection: Connection) -> None:
        connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        connection.read_head()
        for _ in range(256):
            connection.read_body(64 * KIB)
            connection.wait(0.01)
        connection.send(response(200))

    with serve(sip) as server:
        put(sent, server.url + TARGET, connect_timeout=0.8, stall_timeout=0.8, retries=0)
    assert server.requests[0].body_sha256 == sent.sha256


def test_a_closed_port(small: Path) -> None:
    with raw_server(answer(200)) as server:
        pass
    error = failure_of(small, server.url + TARGET)
    assert type(error) is UnavailableError
    assert error.message == (
        f"no connection to 127.0.0.1:{server.port}: {os.strerror(errno.ECONNREFUSED)}"
    )


def test_an_unknown_name(small: Path) -> None:
    error = failure_of(small, f"https://nothing.invalid{TARGET}")
    assert type(error) is UnavailableError
    assert "nothing.invalid" in error.message


@pytest.mark.usefixtures("impatient")
def test_a_host_that_takes_no_connection(small: Path) -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # one or two fill the queue
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        error = failure_of(small, f"http://127.0.0.1:{full.getsockname()[1]}{TARGET}")
    assert type(error) is UnavailableError
    assert "does not answer: no connection in time" in error.message


@pytest.mark.usefixtures("impatient")
def test_a_host_that_does_not_shake_hands(small: Path) -> None:
    with raw_server(Connection.wait) as server:
        error = failure_of(small, f"https://127.0.0.1:{server.port}{TARGET}")
    assert type(error) is UnavailableError
    assert "0 of 20 bytes" in error.message


def test_a_server_without_tls_on_an_https_url_is_refused(small: Path) -> None:
    def bad_request(connection: Connection) -> None:
        connection.send(response(400))
        with pytest.raises(ClientGoneError):
            connection.read_head()

    with raw_server(bad_request) as server:
        error = failure_of(small, f"https://127.0.0.1:{server.port}{TARGET}")
    assert type(error) is RefusedError
    assert f"no TLS with 127.0.0.1:{server.port}" in error.message
    assert "https" in error.hint


def test_a_server_with_tls_on_an_http_url_is_unavailable(small: Path, tls: Tls) -> None:
    with raw_server(answer(200), tls=tls.context) as server:
        error = failure_of(small, f"http://localhost:{server.port}{TARGET}")
    assert type(error) is UnavailableError


HEADERS = st.sampled_from(
    b"""
:
 folded
Connection: close
Connection: keep-alive
Content-Encoding: gzip
Content-Encoding: gzip, gzip, \xff
Content-Length
Location:
Location: /\x1b[2J
Location: /next
Location: //
Location: ?a=b
Location: \xc3\xbc
Location: \xff
Location: http://
Location: http://[
Location: http://a..b/
Location: http://h:99999/
Location: javascript:x
Retry-After: never
Set-Cookie: a=b; domain=[
Transfer-Encoding: chunked
Transfer-Encoding: gzip
x-amz-request-id: \xff\x00
x-ms-request-id: \x1b[2J""".split(b"\n")
)
STATUSES = st.sampled_from([b"100", b"103", b"200", b"204", b"301", b"307", b"308", b"403", b"503"])
LENGTHS = st.sampled_from([b"5", b"-1", b"five", b"99999999999999999999"])
BODIES = st.sampled_from([b"5\r\nhello\r\n", b"<Code>&#0;</Code>", ACCESS_DENIED])
ANSWERS = st.tuples(
    st.tuples(st.just(b"HTTP/1.1 "), STATUSES | st.binary(max_size=4), st.just(b" No")).map(
        b"".join
    ),
    st.lists(HEADERS | st.binary(max_size=20), max_size=4).map(b"\r\n".join),
    st.just(b"") | LENGTHS.map(b"Content-Length: ".__add__),  # urllib3 leaks a socket over two
    st.just(b""),
    BODIES | st.binary(),
).map(b"\r\n".join)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(answered=ANSWERS)
@example(answered=b"HTTP/1.1 307 No\r\nLocation: \xff\r\n\r\n")
@example(answered=b"HTTP/1.1 308 No\r\nLocation: http://a..b/\r\n\r\n")
def test_whatever_is_answered_is_a_receipt_or_a_failure_of_the_store(
    answered: bytes, chameleon: Chameleon, small: Path
) -> None:
    chameleon.script = raw(answered)
    failed: UploadError | None = None
    try:
        status = put(small, chameleon.server.url + TARGET, retries=0).http_status
    except (UnavailableError, RefusedError) as error:
        status, failed = error.http_status, error
    if failed is None:
        assert status in {200, 201, 204}
    else:
        assert failed.message.isprintable()
        assert status not in {201, 204}  # a 200 may carry an error document, or break off


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (400, RefusedError, "NO_PROXY"),
        (403, RefusedError, "NO_PROXY"),
        (407, RefusedError, "password"),
        (408, UnavailableError, "later"),
        (425, UnavailableError, "later"),
        (429, UnavailableError, "later"),
        (501, RefusedError, "NO_PROXY"),
        (502, UnavailableError, "later"),
        (505, RefusedError, "NO_PROXY"),
        (522, UnavailableError, "later"),
        (599, UnavailableError, "later"),
    ],
)
def test_a_proxy_that_opens_no_tunnel(
    status: int,
    kind: type[UploadError],
    hint: str,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with raw_server(early(status)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = failure_of(small, f"https://store.invalid{TARGET}")
    assert (type(error), error.http_status) == (kind, status)
    assert error.message == f"the proxy refused the way to store.invalid: {status}"
    assert hint in error.hint


@pytest.mark.parametrize(
    ("newest", "words"),
    [
        (ssl.TLSVersion.TLSv1_3, ("requires a client certificate", "does not require one")),
        (ssl.TLSVersion.TLSv1_2, ("refused the TLS handshake", "client certificate")),
    ],
)
def test_a_server_that_requires_a_client_certificate(
    newest: ssl.TLSVersion,
    words: tuple[str, str],
    archive: Callable[[int], Archive],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("localhost").configure_cert(context)
    with raw_server(answer(200), tls=context) as server:
        errors = [failure_of(archive(size), server.url + TARGET) for size in (20, 8 * MIB)]
    for error in errors:
        assert type(error) is RefusedError
        assert f"localhost:{server.port} {words[0]}" in error.message
        assert words[1] in error.hint


def test_a_socks_proxy_without_the_extra(small: Path) -> None:
    """The package is imported once a process: another process does without it."""
    script = (
        "import sys; sys.modules['socks'] = None\n"
        "import e2b_upload\n"
        "try: e2b_upload.put(sys.argv[1], sys.argv[2])\n"
        "except e2b_upload.UsageError as error: print(error.message, error.hint)"
    )
    command = [sys.executable, "-c", script, str(small), f"http://store.invalid{TARGET}"]
    env = {**os.environ, "ALL_PROXY": "socks5h://me:password@127.0.0.1:9"}
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert "a SOCKS proxy is set" in shown
    assert "pip install 'e2b-upload[socks]'" in shown
    assert "password" not in shown
