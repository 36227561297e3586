"""What E2B's API may answer, by scripts of a raw server, and what it does, by a stand-in."""

import gzip
import json
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from e2b_upload import RefusedError, UnavailableError, UploadError, UsageError
from e2b_upload.e2b.api import Api, Link
from e2b_upload.events import Event, Retrying
from e2b_upload.transfer.deadline import AbandonedError, cancelled_by
from e2b_upload.transfer.retry import Patience
from tests.support.rawserver import (
    Connection,
    Script,
    answer,
    garbage,
    raw_server,
    silent,
    tls_context,
)
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
    retries: int = 0,
    **patience: float,
) -> Api:
    return Api(
        key,
        url=url,
        patience=Patience(retries=retries, **patience),
        on_event=(events if events is not None else []).append,
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
    "an error's own name": Refused(
        refusal(400, "no", error_code="files_hash_invalid"),
        "refuses the request: 400 files_hash_invalid: no",
        "refused again",
        400,
        "files_hash_invalid",
    ),
    "an error without words": Refused(answer(400), "refuses the request: 400", "again", 400),
    "an error in odd JSON": Refused(
        says({"code": [1], "message": {"a": 1}, "error_code": True}, 400), "request: 400", "", 400
    ),
    "it says not to retry": Refused(
        says({}, 503, {"Should-Retry": "false"}), "refuses the request: 503", "again", 503
    ),
    "301": Refused(
        answer(301, headers={"Location": f"https://other.example/{KEY}/a?b=c"}),
        "redirects to https://other.example/…/a?…, where the key does not go: 301",
        http_status=301,
    ),
    "302 to nowhere": Refused(answer(302), "redirects to nowhere", http_status=302),
    "no body": Refused(answer(204), "answered 204 without an object of JSON", http_status=204),
    "HTML": Refused(says(b"<h1>Welcome", 200), "200 without an object of JSON", http_status=200),
    "not UTF-8": Refused(says(b'{"present": "\xff\xfe"}'), "without an object of JSON"),
    "deeper than any stack": Refused(says(b"[" * 60_000), "without an object of JSON"),
    "a list": Refused(says([GOOD]), "without an object of JSON"),
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
    "no URL": Refused(says({"present": False}), "it gave no URL to upload to"),
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
    **{str(status): (refusal(status), status) for status in (408, 425, 429, 500, 599)},
    "it says to retry": (says({}, 409, {"Should-Retry": "True"}), 409),
    "reset": (Connection.reset, None),
    "no answer": (hang_up, None),
    "half a head": (raw(b"HTTP/1.1 201 Created\r\nContent-"), None),
    "half a body": (raw(b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{}"), 201),
    "no HTTP": (garbage(), None),
    "silence": (silent(), None),
}


@pytest.mark.parametrize(("script", "status"), PASSING.values(), ids=PASSING.keys())
def test_a_transient_error_is_retried(script: Script, status: int | None) -> None:
    events: list[Event] = []
    with raw_server(script, says(GOOD)) as server:
        api = asking(server.url, events, retries=2, stall_timeout=0.3)
        link = api.upload_link(TEMPLATE, HASH)
    assert link == Link(present=False, url=URL, headers=HEADERS)
    (first,) = events
    assert isinstance(first, Retrying)
    assert (first.attempt, first.attempts) == (2, 3)
    assert first.reason
    assert status in {None, 201} or str(status) in first.reason


@pytest.mark.parametrize(("script", "status"), PASSING.values(), ids=PASSING.keys())
def test_an_error_that_stays_is_unavailable(script: Script, status: int | None) -> None:
    with raw_server(script) as server:
        api = asking(server.url, retries=1, stall_timeout=0.2)
        failed = failure_of(lambda: api.upload_link(TEMPLATE, HASH))
    assert (type(failed), failed.exit_code, failed.http_status) == (UnavailableError, 5, status)
    assert server.url.partition("//")[2] in failed.message
    assert "upload to" not in failed.message
    assert failed.hint.startswith("Tried 2 times. ")
    assert len(server.requests) in {0, 2}  # a reset comes before anything is read


def test_retry_after_is_respected() -> None:
    events: list[Event] = []
    busy = says({"code": 429, "message": "slow"}, 429, {"Retry-After": "1"})
    with raw_server(busy, says(GOOD)) as server:
        start = time.monotonic()
        asking(server.url, events, retries=1).upload_link(TEMPLATE, HASH)
        seconds = time.monotonic() - start
    assert seconds >= 1
    assert [event.seconds for event in events if isinstance(event, Retrying)] == [1.0]
    with raw_server(says({}, 429, {"Retry-After": "60"})) as server:
        api = asking(server.url, retries=1, max_time=1)
        failed = failure_of(lambda: api.upload_link(TEMPLATE, HASH))
    assert (failed.exit_code, failed.http_status) == (5, 429)
    assert failed.hint.startswith("`max_time` leaves no time")


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
def test_a_cancellation_ends_a_wait(script: Script) -> None:
    cancelled = threading.Event()
    with raw_server(script) as server:
        api = asking(server.url, retries=1)
        threading.Timer(0.3, cancelled.set).start()
        start = time.monotonic()
        with cancelled_by(cancelled), pytest.raises(AbandonedError):
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


def test_a_certificate_that_does_not_verify() -> None:
    context, _ = tls_context()
    with raw_server(says(GOOD), tls=context) as server:
        failed = failure_of(lambda: asking(server.url, retries=2).upload_link(TEMPLATE, HASH))
    assert failed.exit_code == 6
    assert "does not verify" in failed.message
    assert not server.requests


def test_what_a_server_says_shows_no_secret_and_obeys_no_one() -> None:
    told = f"{KEY} \x1b[2J\r\n\u202e at {URL} " + "word " * 5000
    headers = {"X-Request-Id": f"id of {KEY}"}
    body = {"code": 400, "message": told, "error_code": f"of {KEY}"}
    with raw_server(says(body, 400, headers)) as server:
        failed = failure_of(lambda: asking(server.url).upload_link(TEMPLATE, HASH))
    assert "400 of …: … \\x1b[2J \\u202e at https://bucket.example.com/key?… word" in failed.message
    assert (failed.code, failed.request_id) == ("of …", "id of …")
    assert "(request id id of …)" in failed.message


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
def test_a_link(case: Given) -> None:
    with raw_server(says(case.said)) as server:
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


def test_an_invalid_hash_is_not_sent() -> None:
    with raw_server(says(GOOD)) as server:
        for wrong in ("", HASH[:-1], HASH.upper(), f"{HASH}\n", "../" + HASH[3:], "٣" * 64):
            failed = failure_of(partial(asking(server.url).upload_link, TEMPLATE, wrong))
            assert failed.exit_code == 2
    assert not server.requests


@pytest.mark.parametrize("name", ["", ":tag", ".", "..", "a\x1bb", "\udcff", "a" * 257])
def test_an_invalid_name_is_not_sent(name: str) -> None:
    with raw_server(says(GOOD)) as server:
        api = asking(server.url)
        failed = failure_of(lambda: api.template_id(name, create=True))
        if ":" not in name:
            failure_of(lambda: api.upload_link(name, HASH))
    assert type(failed) is UsageError
    assert "is not the name or the id of a template" in failed.message
    assert not server.requests


def test_no_key() -> None:
    for key in (None, "", " \n"):
        failed = failure_of(partial(Api, key, patience=Patience(), on_event=print))
        assert (type(failed), failed.exit_code) == (UsageError, 2)
        assert failed.message == "there is no API key of E2B"
        assert "E2B_API_KEY" in failed.hint
        assert "https://e2b.dev/dashboard" in failed.hint


def test_a_key_that_cannot_be_sent() -> None:
    for more in ("\r\nX: y", " y", "\x00", "ü"):
        failed = failure_of(partial(asking, "https://host", key=KEY + more + KEY))
        assert (type(failed), failed.exit_code) == (UsageError, 2)


@pytest.mark.parametrize(
    ("url", "domain", "words"),
    [
        ("ftp://host", None, "must begin with https:// or http://"),
        (KEY, None, "must begin with"),
        ("https://", None, "has no host"),
        ("https://me:secret@host", None, "user name or password"),
        ("https://host/a?b=c", None, "holds a query"),
        ("https://host/#a", None, "holds a #"),
        ("https://host/../a", None, "segment"),
        ("https://host/a b", None, "space"),
        (None, "https://e2b.app", "is not a domain"),
        (None, "e2b.app/a", "is not a domain"),
        (None, "e2b.app\r\nA", "is not a domain"),
        (None, "a..b", "does not parse"),
    ],
)
def test_an_invalid_address(url: str | None, domain: str | None, words: str) -> None:
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


@pytest.mark.parametrize("bad", [None, 5, "", "..", "a\nb", "a" * 257, "\udcff"])
def test_an_answer_without_an_id(bad: object) -> None:
    with raw_server(says({"templateID": bad}, 200)) as server:
        failed = failure_of(lambda: asking(server.url, retries=1).template_id("app"))
    assert (failed.exit_code, failed.http_status) == (6, 200)
    assert "its answer has no template's id" in failed.message
    assert len(server.requests) == 1


def test_names_and_ids_are_escaped() -> None:
    with raw_server(says({"templateID": "../x?y"}, 200), says(GOOD)) as server:
        api = asking(server.url)
        api.upload_link(api.template_id("team/app:v1"), HASH)
    assert [request.target for request in server.requests] == [
        "/templates/aliases/team%2Fapp",
        f"/templates/..%2Fx%3Fy/files/{HASH}",
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


def test_a_template_that_cannot_be_created() -> None:
    with raw_server(NONE, NONE, refusal(403)) as server:
        failed = failure_of(lambda: asking(server.url).template_id("app:v2", create=True))
    assert (failed.exit_code, failed.http_status) == (6, 403)
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
def test_a_failing_server_is_not_a_missing_template(status: int, code: int) -> None:
    with raw_server(NONE, answer(status)) as server:
        failed = failure_of(lambda: asking(server.url).template_id("app", create=True))
    assert (failed.exit_code, failed.http_status) == (code, status)
    assert len(server.requests) == 2
