"""What E2B's API may answer, by scripts of a raw server, and what it does, by a stand-in."""

import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2b_upload import RefusedError, UnavailableError, UploadError, UsageError, put
from e2b_upload.e2b.api import Api, Link
from e2b_upload.events import Event, Retrying
from e2b_upload.transfer.deadline import AbandonedError
from e2b_upload.transfer.retry import Patience
from tests.support.e2b import (
    Standin,
    error,
    huge,
    late,
    standin,
    text,
    with_members,
    without_members,
)
from tests.support.rawserver import (
    Connection,
    Recorded,
    Script,
    answer,
    garbage,
    raw_server,
    response,
    silent,
    tls_context,
)
from tests.support.seaweed import Seaweed
from tests.transfer.common import assert_kept, raw

KEY = "e2b_7d2f9c41b8e6305ad1c7f4928e0b6d53a9f81c27"
TEMPLATE = "z9y8x7w6v5u4t3s2r1q0"
HASH = "0123456789abcdef" * 4
URL = "https://bucket.example.com/key?X-Amz-Signature=fe5f80f77d5fa3beca038a248ff027d0"
HEADERS = {"x-ms-blob-type": "BlockBlob"}
GOOD = {"present": False, "url": URL, "headers": HEADERS}


@pytest.fixture(autouse=True)
def _machine_without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("E2B_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("e2b_upload.transfer.retry.BASE_SECONDS", 0.01)


def asking(
    url: str,
    events: list[Event] | None = None,
    *,
    key: str = KEY,
    cancelled: threading.Event | None = None,
    retries: int = 0,
    **patience: float,
) -> Api:
    return Api(
        key,
        url=url,
        patience=Patience(retries=retries, **patience),
        on_event=(events if events is not None else []).append,
        cancelled=cancelled,
    )


def says(said: object, status: int = 201, headers: dict[str, str] | None = None) -> Script:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return answer(status, body, headers)


def refusal(status: int, message: str = "made up", **more: object) -> Script:
    return says({"code": status, "message": message, **more}, status)


def failure_of(ask: Callable[[], object]) -> UploadError:
    """Return how it failed: with a hint, and without a word of what is secret."""
    with pytest.raises(UploadError) as caught:
        ask()
    assert caught.value.hint
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 2000
    assert_kept(caught.value, KEY, URL.partition("=")[2])
    return caught.value


class Refused(NamedTuple):
    """An answer that will be the same the next time: words of the error, and of the hint."""

    script: Script
    message: str
    hint: str = "E2B_API_URL"
    http_status: int | None = 201
    code: str | None = None


def said(status: int, message: str, hint: str) -> Refused:
    return Refused(
        refusal(status, "the \x1b server's words"),
        f"{message}: {status}: the \\x1b server's words",
        hint,
        status,
        str(status),
    )


LINKS = {
    "401": said(401, "refuses the API key", "E2B_API_KEY"),
    "403": said(403, "refuses the API key", "E2B_API_KEY"),
    "404": said(404, f"the template '{TEMPLATE}' is not this team's, or is gone", "right template"),
    "400": said(400, "refuses the request", "will be refused again"),
    "409": said(409, "refuses the request", "will be refused again"),
    "an error's own name": Refused(
        refusal(400, "no", error_code="files_hash_invalid"),
        "refuses the request: 400 files_hash_invalid: no",
        "refused again",
        400,
        "files_hash_invalid",
    ),
    "an error without words": Refused(answer(400), "refuses the request: 400", "again", 400),
    "an error in HTML": Refused(answer(405, b"<h1>Not allowed"), "request: 405", "again", 405),
    "an error in odd JSON": Refused(
        says({"code": [1], "message": {"a": 1}, "error_code": True}, 400), "request: 400", "", 400
    ),
    "it says not to retry": Refused(
        says({}, 503, {"Should-Retry": "false"}), "refuses the request: 503", "again", 503
    ),
    "301": Refused(
        answer(301, headers={"Location": "https://other.example/a?b=c"}),
        "redirects to https://other.example/a?…, where the key does not go: 301",
        http_status=301,
    ),
    "302 to nowhere": Refused(answer(302), "redirects to nowhere", http_status=302),
    "no body": Refused(answer(204), "answered 204 without an object of JSON", http_status=204),
    "HTML": Refused(says(b"<h1>Welcome", 200), "200 without an object of JSON", http_status=200),
    "not UTF-8": Refused(says(b'{"present": "\xff\xfe"}'), "without an object of JSON"),
    "half an object": Refused(says(b'{"present": tru'), "without an object of JSON"),
    "deeper than any stack": Refused(says(b"[" * 60_000), "without an object of JSON"),
    "a list": Refused(says([GOOD]), "without an object of JSON"),
    "null": Refused(says(None), "without an object of JSON"),
    "too long": Refused(says({**GOOD, "more": "x" * 70_000}), "without an object of JSON"),
    "a bomb of gzip": Refused(
        says(
            gzip.compress(json.dumps({**GOOD, "more": "x" * 9_000_000}).encode()),
            headers={"Content-Encoding": "gzip"},
        ),
        "without an object of JSON",
    ),
    "nothing": Refused(says({}), "does not tell whether the files are present"),
    "present is no truth": Refused(
        says({**GOOD, "present": "no"}), "whether the files are present"
    ),
    "present is a number": Refused(says({**GOOD, "present": 0}), "whether the files are present"),
    "no URL": Refused(says({"present": False}), "it gave no URL to upload to"),
    "a URL of null": Refused(says({**GOOD, "url": None}), "it gave no URL to upload to"),
    "a URL that is a number": Refused(says({**GOOD, "url": 5}), "the URL that it gave is no text"),
    "an empty URL": Refused(says({**GOOD, "url": ""}), "no URL to upload to: the URL is empty"),
    "a URL of another kind": Refused(
        says({**GOOD, "url": "file:///etc/passwd"}), "the URL must begin with https:// or http://"
    ),
    "a URL without a host": Refused(says({**GOOD, "url": "https:///a"}), "has no host"),
    "a URL with a password": Refused(
        says({**GOOD, "url": "https://me:secret@host/a"}), "holds a user name or password"
    ),
    "a URL with a line break": Refused(says({**GOOD, "url": f"{URL}\r\nA: b"}), "several lines"),
    "a URL where they are present": Refused(says({"present": True, "url": "nonsense"}), "no URL"),
    "headers in a list": Refused(says({**GOOD, "headers": [["a", "b"]]}), "headers that it gave"),
    "a header that is a number": Refused(says({**GOOD, "headers": {"a": 1}}), "are no text"),
    "a header of two lines": Refused(
        says({**GOOD, "headers": {"a": "b\r\nHost: other"}}), "the header a holds a line break"
    ),
    "a header's odd name": Refused(
        says({**GOOD, "headers": {"a b\x1b": ""}}), "'a b\\x1b' is not the name of a header"
    ),
    "a header that frames": Refused(
        says({**GOOD, "headers": {"Transfer-Encoding": "chunked"}}), "cannot be set by hand"
    ),
    "many headers": Refused(
        says({**GOOD, "headers": {f"x-{i}": "" for i in range(65)}}), "too many, or too long"
    ),
    "a long header": Refused(
        says({**GOOD, "headers": {"a": "b" * 20_000}}), "too many, or too long"
    ),
}


@pytest.mark.parametrize("case", LINKS.values(), ids=LINKS.keys())
def test_an_answer_that_gives_no_link_is_not_asked_for_again(case: Refused) -> None:
    events: list[Event] = []
    with raw_server(case.script) as server:
        api = asking(server.url, events, retries=3)
        failed = failure_of(lambda: api.upload_link(TEMPLATE, HASH))
    assert (type(failed), failed.exit_code) == (RefusedError, 6)
    assert case.message in failed.message
    assert case.hint in failed.hint
    assert server.url.partition("//")[2] in failed.message or TEMPLATE in failed.message
    assert (failed.http_status, failed.code) == (case.http_status, case.code)
    assert len(server.requests) == 1
    assert not events


def hang_up(connection: Connection) -> None:
    connection.read_head()


PASSING = {
    **{
        str(status): (refusal(status), status)
        for status in (408, 425, 429, 500, 502, 503, 504, 520, 999)
    },
    "it says to retry": (says({}, 409, {"Should-Retry": "True"}), 409),
    "reset": (Connection.reset, None),
    "no answer": (hang_up, None),
    "half a head": (raw(b"HTTP/1.1 201 Created\r\nContent-"), None),
    "half a body": (raw(b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{}"), 201),
    "half a chunk": (raw(b"HTTP/1.1 201 A\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}"), 201),
    "no HTTP": (garbage(), None),
    "silence": (silent(), None),
}


@pytest.mark.parametrize(("script", "status"), PASSING.values(), ids=PASSING.keys())
def test_what_may_pass_is_asked_for_again(script: Script, status: int | None) -> None:
    events: list[Event] = []
    with raw_server(script, script, says(GOOD)) as server:
        api = asking(server.url, events, retries=2, stall_timeout=0.3)
        link = api.upload_link(TEMPLATE, HASH)
    assert link == Link(present=False, url=URL, headers=HEADERS)
    assert [type(event) for event in events] == [Retrying, Retrying]
    first = events[0]
    assert isinstance(first, Retrying)
    assert (first.attempt, first.attempts) == (2, 3)
    assert first.reason
    assert status in {None, 201} or str(status) in first.reason


@pytest.mark.parametrize(("script", "status"), PASSING.values(), ids=PASSING.keys())
def test_what_does_not_pass_fails_in_the_end(script: Script, status: int | None) -> None:
    with raw_server(script) as server:
        api = asking(server.url, retries=1, stall_timeout=0.2)
        failed = failure_of(lambda: api.upload_link(TEMPLATE, HASH))
    assert (type(failed), failed.exit_code, failed.http_status) == (UnavailableError, 5, status)
    assert server.url.partition("//")[2] in failed.message
    assert "upload to" not in failed.message
    assert failed.hint.startswith("Tried 2 times. ")
    assert len(server.requests) in {0, 2}  # a reset comes before anything is read


def test_a_busy_api_is_waited_for_as_long_as_it_says() -> None:
    events: list[Event] = []
    busy = says({"code": 429, "message": "slow"}, 429, {"Retry-After": "1"})
    with raw_server(busy, says(GOOD)) as server:
        start = time.monotonic()
        asking(server.url, events, retries=1).upload_link(TEMPLATE, HASH)
        seconds = time.monotonic() - start
    assert seconds >= 1
    assert [event.seconds for event in events if isinstance(event, Retrying)] == [1.0]


def test_there_is_time_for_a_wait_or_there_is_none() -> None:
    with raw_server(says({}, 429, {"Retry-After": "60"})) as server:
        api = asking(server.url, retries=1, max_time=1)
        failed = failure_of(lambda: api.upload_link(TEMPLATE, HASH))
    assert (failed.exit_code, failed.http_status) == (5, 429)
    assert failed.hint.startswith("--max-time leaves no time")


def test_an_answer_that_trickles_takes_no_longer_than_allowed() -> None:
    def trickle(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n")
        while True:
            connection.send(b" ")
            connection.wait(0.1)

    with raw_server(trickle) as server:
        failed = failure_of(lambda: asking(server.url, max_time=0.5).upload_link(TEMPLATE, HASH))
    assert failed.exit_code == 5
    assert "was not done in 0.5 seconds" in failed.message


@pytest.mark.parametrize("script", [silent(), says({}, 429, {"Retry-After": "60"})])
def test_who_cancels_waits_no_longer(script: Script) -> None:
    cancelled = threading.Event()
    with raw_server(script) as server:
        api = asking(server.url, cancelled=cancelled, retries=1)
        threading.Timer(0.3, cancelled.set).start()
        start = time.monotonic()
        with pytest.raises(AbandonedError):
            api.upload_link(TEMPLATE, HASH)
    assert time.monotonic() - start < 5


def test_what_the_callback_raises_ends_it() -> None:
    def refuse(event: Event) -> None:
        raise KeyError(event)

    with raw_server(answer(500)) as server:
        api = Api(KEY, url=server.url, patience=Patience(), on_event=refuse)
        with pytest.raises(KeyError):
            api.upload_link(TEMPLATE, HASH)


def test_nobody_there() -> None:
    with raw_server(answer(200)) as server:
        pass
    failed = failure_of(lambda: asking(server.url).upload_link(TEMPLATE, HASH))
    assert (failed.exit_code, failed.http_status) == (5, None)
    assert "no connection to 127.0.0.1" in failed.message


def test_a_certificate_that_the_system_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    context, authority = tls_context()
    (tmp_path / "ca.pem").write_bytes(authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with raw_server(says(GOOD), tls=context) as server:
        asking(server.url).upload_link(TEMPLATE, HASH)
    assert len(server.requests) == 1


def test_a_certificate_that_does_not_verify() -> None:
    context, _ = tls_context()
    with raw_server(says(GOOD), tls=context) as server:
        failed = failure_of(lambda: asking(server.url, retries=2).upload_link(TEMPLATE, HASH))
    assert failed.exit_code == 6
    assert "does not verify" in failed.message
    assert not server.requests


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_goes_nowhere_else(status: int) -> None:
    with raw_server(says(GOOD)) as other:
        there = answer(status, headers={"Location": other.url})
        with raw_server(there) as server:
            failed = failure_of(lambda: asking(server.url).upload_link(TEMPLATE, HASH))
    assert (failed.exit_code, failed.http_status) == (6, status)
    assert other.url in failed.message
    assert not other.requests


def test_what_a_server_says_shows_no_secret_and_obeys_no_one() -> None:
    told = f"{KEY} \x1b[2J\r\n\u202e at {URL} " + "word " * 5000
    headers = {"X-Request-Id": f"id of {KEY}"}
    body = {"code": 400, "message": told, "error_code": f"of {KEY}"}
    with raw_server(says(body, 400, headers)) as server:
        failed = failure_of(lambda: asking(server.url).upload_link(TEMPLATE, HASH))
    assert "400 of …: … \\x1b[2J \\u202e at https://bucket.example.com/key?… word" in failed.message
    assert (failed.code, failed.request_id) == ("of …", "id of …")
    assert "(request id id of …)" in failed.message


def test_a_redirect_that_holds_the_key_does_not_show_it() -> None:
    where = {"Location": f"https://other.example/{KEY}/a"}
    with raw_server(answer(302, headers=where)) as server:
        failed = failure_of(lambda: asking(server.url).upload_link(TEMPLATE, HASH))
    assert "https://other.example/…/a" in failed.message


class Given(NamedTuple):
    said: object
    link: Link


GIVEN = {
    "missing": Given(GOOD, Link(False, URL, HEADERS)),
    "missing, without headers": Given({"present": False, "url": URL}, Link(False, URL, {})),
    "present": Given({"present": True, "url": URL}, Link(True, URL, {})),
    "present, without a URL": Given({"present": True}, Link(True, None, {})),
    "null": Given({"present": True, "url": None, "headers": None}, Link(True, None, {})),
    "more members": Given({**GOOD, "headers": {}, "more": [1]}, Link(False, URL, {})),
    "a length": Given(
        {**GOOD, "headers": {"content-Length": "5", "a": " b "}}, Link(False, URL, {"a": "b"})
    ),
}


@pytest.mark.parametrize("case", GIVEN.values(), ids=GIVEN.keys())
@pytest.mark.parametrize("status", [200, 201])
def test_a_link(case: Given, status: int) -> None:
    with raw_server(says(case.said, status)) as server:
        link = asking(server.url).upload_link(TEMPLATE, HASH)
    assert link == case.link
    assert "X-Amz" not in repr(link)
    assert "BlockBlob" not in repr(link)


def test_what_is_sent(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    with raw_server(says(GOOD)) as server:
        asking(f" {server.url}/e2b/ ", key=f" {KEY}\n").upload_link("a/b ?#%c", HASH)
    (request,) = server.requests
    assert (request.method, request.target) == (
        "GET",
        f"/e2b/templates/a%2Fb%20%3F%23%25c/files/{HASH}",
    )
    headers = {name.lower(): value for name, value in request.headers}
    assert headers["x-api-key"] == KEY
    assert headers["accept"] == "application/json"
    assert "authorization" not in headers
    assert "content-type" not in headers
    assert request.body == b""


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        HASH[:-1],
        HASH + "0",
        HASH.upper(),
        f"{HASH}\n",
        "../" + HASH[3:],
        "g" + HASH[1:],
        "٣" * 64,
    ],
)
def test_what_is_no_hash_is_not_asked_for(wrong: str) -> None:
    with raw_server(says(GOOD)) as server:
        failed = failure_of(lambda: asking(server.url).upload_link(TEMPLATE, wrong))
    assert failed.exit_code == 2
    assert not server.requests


NO_NAMES = ["", ":tag", ".", "..", "..:tag", "a\nb", "a\x1bb", "\udcff", "a" * 257]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    with raw_server(says(GOOD)) as server:
        api = asking(server.url)
        failed = failure_of(lambda: api.template_id(name, create=True))
        if ":" not in name:
            failure_of(lambda: api.upload_link(name, HASH))
    assert type(failed) is UsageError
    assert "is not the name or the id of a template" in failed.message
    assert not server.requests


@pytest.mark.parametrize("key", [None, "", " \n"])
def test_no_key(key: str | None) -> None:
    failed = failure_of(lambda: Api(key, patience=Patience(), on_event=print))
    assert (type(failed), failed.exit_code) == (UsageError, 2)
    assert failed.message == "there is no API key of E2B"
    assert "E2B_API_KEY" in failed.hint
    assert "https://e2b.dev/dashboard" in failed.hint


@pytest.mark.parametrize("more", ["\r\nX: y", " y", "\x00", "ü", "\x7f"])
def test_a_key_that_cannot_be_sent(more: str) -> None:
    failed = failure_of(lambda: asking("https://host", key=KEY + more + KEY))
    assert (type(failed), failed.exit_code) == (UsageError, 2)


@pytest.mark.parametrize(
    ("url", "domain", "words"),
    [
        ("ftp://host", None, "must begin with https:// or http://"),
        ("host", None, "must begin with"),
        (KEY, None, "must begin with"),
        ("https://", None, "has no host"),
        ("https://me:secret@host", None, "user name or password"),
        ("https://host:x", None, "does not parse"),
        ("https://host/a?b=c", None, "holds a query"),
        ("https://host/?", None, "holds a query"),
        ("https://host/#a", None, "holds a #"),
        ("https://host/../a", None, "segment"),
        ("https://host/a b", None, "space"),
        (None, "https://e2b.app", "is no domain"),
        (None, "e2b.app/a", "is no domain"),
        (None, "me@e2b.app", "is no domain"),
        (None, "e2b.app\r\nA", "is no domain"),
        (None, KEY, "is no domain"),
        (None, "a..b", "does not parse"),
    ],
)
def test_an_address_that_is_none(url: str | None, domain: str | None, words: str) -> None:
    failed = failure_of(
        lambda: Api(KEY, url=url, domain=domain, patience=Patience(), on_event=print)
    )
    assert (type(failed), failed.exit_code) == (UsageError, 2)
    assert words in failed.message
    assert "E2B_API_URL" in failed.hint


@pytest.mark.parametrize(
    ("url", "domain", "host"),
    [
        (None, None, "api.e2b.app"),
        ("", "", "api.e2b.app"),
        (None, " e2b.example:8443 ", "api.e2b.example:8443"),
        ("http://control.example/api/", "e2b.example", "control.example"),
    ],
)
def test_where_the_api_is(url: str | None, domain: str | None, host: str) -> None:
    api = Api(KEY, url=url, domain=domain, patience=Patience(retries=0), on_event=print)
    failed = failure_of(lambda: api.upload_link(TEMPLATE, HASH))  # no test asks a name server
    assert failed.exit_code == 5
    assert f"the name {host} cannot be resolved" in failed.message


@pytest.mark.parametrize(
    "said", [{}, {"templateID": None}, {"templateID": 5}]
    + [{"templateID": bad} for bad in ("", ".", "..", "a\nb", "a" * 257, "\udcff")]
)  # fmt: skip
def test_an_answer_without_an_id(said: object) -> None:
    with raw_server(says(said, 200)) as server:
        failed = failure_of(lambda: asking(server.url, retries=1).template_id("app"))
    assert (failed.exit_code, failed.http_status) == (6, 200)
    assert "its answer has no template's id" in failed.message
    assert len(server.requests) == 1


def targets(requests: list[Recorded]) -> list[str]:
    return [f"{request.method} {request.target}" for request in requests]


def test_an_id_from_outside_stays_one_segment() -> None:
    with raw_server(says({"templateID": "../x?y"}, 200), says(GOOD)) as server:
        api = asking(server.url)
        api.upload_link(api.template_id("team/app:v1"), HASH)
    assert targets(server.requests) == [
        "GET /templates/aliases/team%2Fapp",
        f"GET /templates/..%2Fx%3Fy/files/{HASH}",
    ]


@pytest.mark.parametrize(
    ("status", "words", "hint"),
    [
        (401, "refuses the API key", "E2B_API_KEY"),
        (403, "the template 'app' is another team's", "another name"),
        (400, "refuses the request", "again"),
    ],
)
def test_a_look_up_that_is_refused(status: int, words: str, hint: str) -> None:
    with raw_server(refusal(status)) as server:
        failed = failure_of(lambda: asking(server.url).template_id("app", create=True))
    assert (failed.exit_code, failed.http_status) == (6, status)
    assert words in failed.message
    assert hint in failed.hint
    assert len(server.requests) == 1


NONE = refusal(404, "template not found")


@pytest.mark.parametrize("status", [401, 403, 400, 409, 404])
def test_a_template_that_is_not_made(status: int) -> None:
    with raw_server(NONE, NONE, refusal(status)) as server:
        failed = failure_of(lambda: asking(server.url).template_id("app:v2", create=True))
    assert (failed.exit_code, failed.http_status) == (6, status)
    last = server.requests[2]
    assert (last.method, last.target) == ("POST", "/v3/templates")
    assert json.loads(last.body) == {"name": "app:v2"}
    assert ("Content-Type", "application/json") in last.headers


def test_a_request_is_repeated_with_its_body() -> None:
    made = says({"templateID": TEMPLATE, "buildID": "b"}, 202)
    with raw_server(NONE, NONE, hang_up, answer(500), made) as server:
        assert asking(server.url, retries=2).template_id("app", create=True) == TEMPLATE
    assert [json.loads(request.body) for request in server.requests[3:]] == [{"name": "app"}] * 2


@pytest.mark.parametrize(("status", "code"), [(500, 5), (401, 6)])
def test_a_server_that_fails_is_no_server_that_knows_no_such_id(status: int, code: int) -> None:
    with raw_server(NONE, answer(status)) as server:
        failed = failure_of(lambda: asking(server.url).template_id("app", create=True))
    assert (failed.exit_code, failed.http_status) == (code, status)
    assert len(server.requests) == 2


class Chameleon(NamedTuple):
    url: str
    play: Callable[[Script], None]


@pytest.fixture(scope="module")
def chameleon() -> Iterator[Chameleon]:
    def play(connection: Connection) -> None:
        now[-1](connection)

    now: list[Script] = []
    with raw_server(play) as server:
        yield Chameleon(server.url, now.append)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMED = st.fixed_dictionaries(
    {},
    optional={
        "present": st.booleans() | JSON,
        "url": st.sampled_from([URL, "http://host/a"]) | JSON,
        "headers": st.dictionaries(st.text(), st.text(), max_size=3) | JSON,
        "templateID": st.text() | JSON,
        "code": JSON,
        "message": JSON,
        "error_code": JSON,
    },
)


@given(
    said=st.binary(max_size=100) | (NAMED | JSON).map(lambda said: json.dumps(said).encode()),
    status=st.sampled_from([200, 201, 302, 400, 404, 500]),
)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_is_answered_it_is_a_link_or_an_error_of_ours(
    chameleon: Chameleon, said: bytes, status: int
) -> None:
    chameleon.play(answer(status, said))
    api = asking(chameleon.url)
    for ask in (lambda: api.upload_link(TEMPLATE, HASH), lambda: api.template_id("app")):
        with suppress(RefusedError, UnavailableError):
            found: Link | str = ask()
            assert found if isinstance(found, str) else found.present or found.url


@pytest.fixture
def api(s3: Seaweed) -> Iterator[Standin]:
    with standin(s3) as server:
        yield server


def of_team(server: Standin, **patience: Any) -> Api:
    return asking(server.url, key=server.key, **patience)


def asked(server: Standin) -> list[str]:
    return [call.name for call in server.calls]


@pytest.mark.real
@pytest.mark.parametrize("knows_ids", [True, False])
def test_a_template_by_its_name_and_by_its_id(api: Standin, knows_ids: bool) -> None:  # noqa: FBT001
    api.knows_ids = knows_ids
    template_id = api.add("app")
    client = of_team(api)
    assert client.template_id("app") == template_id
    assert client.template_id("app:not-built-yet", create=True) == template_id
    assert asked(api) == ["alias", "alias"]
    assert client.template_id(template_id, create=True) == template_id
    assert asked(api)[2:] == (["alias"] if knows_ids else ["alias", "link"])
    assert api.count("request") == 0


@pytest.mark.real
@pytest.mark.parametrize("knows_ids", [True, False])
def test_another_teams_template(api: Standin, knows_ids: bool) -> None:  # noqa: FBT001
    api.knows_ids = knows_ids
    template_id = api.add("theirs", is_mine=False)
    client = of_team(api)
    failed = failure_of(lambda: client.template_id("theirs", create=True))
    assert (failed.exit_code, failed.http_status) == (6, 403)
    assert "the template 'theirs' is another team's" in failed.message
    assert "you don't have access to template 'theirs'" in failed.message
    failed = failure_of(lambda: client.template_id(template_id))
    assert (failed.exit_code, failed.http_status) == (6, 403 if knows_ids else 404)
    failed = failure_of(lambda: client.upload_link(template_id, HASH))
    assert (failed.exit_code, failed.http_status) == (6, 404)
    assert "is not this team's" in failed.message
    assert api.count("request") == 0


@pytest.mark.real
def test_a_template_that_does_not_exist_is_requested_where_that_is_wanted(api: Standin) -> None:
    client = of_team(api)
    failed = failure_of(lambda: client.template_id("app"))
    assert (failed.exit_code, failed.http_status) == (6, 404)
    assert "this team has no template 'app'" in failed.message
    assert "--create" in failed.hint
    assert asked(api) == ["alias", "link"]
    template_id = client.template_id("app:v2", create=True)
    assert asked(api)[2:] == ["alias", "link", "request"]
    assert api.calls[-1].body == {"name": "app:v2"}
    assert client.template_id("app", create=True) == template_id
    assert api.count("request") == 1


@pytest.mark.real
def test_a_wrong_key(api: Standin) -> None:
    client = asking(api.url)
    for ask in (lambda: client.template_id("app"), lambda: client.upload_link(TEMPLATE, HASH)):
        failed = failure_of(ask)
        assert (failed.exit_code, failed.http_status) == (6, 401)
        assert "refuses the API key: 401: Invalid API key" in failed.message
        assert "E2B_API_KEY" in failed.hint


@pytest.mark.real
def test_what_is_put_is_present(api: Standin, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"archive")
    client = of_team(api)
    template_id = client.template_id("app", create=True)
    api.link_headers = {"Content-Type": "application/gzip"}
    link = client.upload_link(template_id, HASH)
    assert not link.present
    assert link.headers == {"Content-Type": "application/gzip"}
    assert link.url is not None
    put(tmp_path / "archive", link.url, headers=link.headers)
    assert api.archive(template_id, HASH) == b"archive"
    assert [(each.key, each.status) for each in api.puts] == [(api.key_of(template_id, HASH), 200)]
    assert "x-api-key" not in api.puts[0].headers
    assert client.upload_link(template_id, HASH).present
    assert not client.upload_link(template_id, HASH[::-1]).present


@pytest.mark.real
def test_a_link_that_expires(api: Standin, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"archive")
    client = of_team(api)
    template_id = client.template_id("app", create=True)
    api.link_seconds = 1
    link = client.upload_link(template_id, HASH)
    assert link.url is not None
    time.sleep(1.5)
    failed = failure_of(lambda: put(tmp_path / "archive", str(link.url)))
    assert failed.exit_code == 6
    assert not client.upload_link(template_id, HASH).present


@pytest.mark.real
def test_misbehaviour_of_the_stand_in_is_met_call_by_call(api: Standin) -> None:
    client = of_team(api, stall_timeout=1)
    template_id = client.template_id("app", create=True)
    for behaviour, code in [
        (text(b"<h1>Welcome"), 6),
        (late(3), 5),
        (error(401), 6),
        (error(404), 6),
        (error(429), 5),
        (error(500), 5),
        (without_members("url"), 6),
        (with_members(url=5), 6),
        (huge(100_000), 6),
    ]:
        api.script("link", behaviour)
        assert failure_of(lambda: client.upload_link(template_id, HASH)).exit_code == code
    patient = of_team(api, retries=2)
    api.script("link", error(500), error(429, headers={"Retry-After": "0"}))
    assert patient.upload_link(template_id, HASH).url


@pytest.mark.real
def test_several_threads_ask_at_once(api: Standin) -> None:
    client = of_team(api)
    template_id = client.template_id("app", create=True)
    hashes = [f"{number:064x}" for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        links = list(threads.map(lambda each: client.upload_link(template_id, each), hashes))
    for link, files_hash in zip(links, hashes, strict=True):
        assert files_hash in str(link.url)


def test_answers_are_those_of_one_status_line() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    with raw_server(raw(early + response(201, json.dumps(GOOD).encode()))) as server:
        assert asking(server.url).upload_link(TEMPLATE, HASH).url == URL
