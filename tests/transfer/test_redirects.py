"""The same PUT elsewhere, or nowhere: what is followed, with what, and how often."""

import hashlib
from pathlib import Path

import pytest

from e2b_upload import Archive, RefusedError, put
from tests.support.rawserver import Connection, Recorded, Script, answer, raw_server, response
from tests.transfer.common import PATH, TARGET, Serve, Tls, early, failure_of, redirect

KEPT = {"X-Asked": "for", "x-amz-meta-author": "me", "x-amz-acl": "private"}
ASKED = {**KEPT, "Authorization": "Bearer asked-for", "x-amz-security-token": "asked-for"}
UNKNOWN = "/upload/key?ticket=1"
ELSEWHERE_SECRET = "9c2d1f7b4e8a6053"
ELSEWHERE = f"/elsewhere?X-Amz-Signature={ELSEWHERE_SECRET}"


def asked(request: Recorded) -> dict[str, str]:
    """Return what came of the headers that the caller asked for."""
    return {name: value for name, value in request.headers if name in ASKED}


def other_name(url: str) -> str:
    """Return where the same server is under its other name."""
    host, other = ("localhost", "127.0.0.1") if "localhost" in url else ("127.0.0.1", "localhost")
    return url.replace(host, other)


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    ("location", "target"),
    [
        (ELSEWHERE, ELSEWHERE),
        ("next.tar.gz", "/bucket/next.tar.gz"),
        ("../up?a=b", "/up?a=b"),
        ("?a=b%2Fc", f"{PATH}?a=b%2Fc"),
        ("//{host}/a//b%20c?d=e", "/a//b%20c?d=e"),
        ("{url}/absolute", "/absolute"),
        ("{url}", "/"),
        (" /spaces ", "/spaces"),
    ],
)
def test_the_same_put_goes_where_the_same_host_says(
    status: int, location: str, target: str, serve: Serve, small: Path
) -> None:
    def script(connection: Connection) -> None:
        host = dict(line.split(b": ") for line in connection.read_head().split(b"\r\n")[1:-2])
        name = host[b"Host"].decode()
        scheme = "https" if name.startswith("localhost") else "http"
        connection.read_body()
        there = location.format(host=name, url=f"{scheme}://{name}")
        connection.send(response(status, b"<Error/>", {"Location": there}))

    with serve(script, answer(200)) as server:
        receipt = put(small, server.url + TARGET, headers=ASKED)
    first, second = server.requests
    assert (first.target, second.target) == (TARGET, target)
    assert first.method == second.method == "PUT"
    # Some of the targets do not say that they take Content-MD5.
    others = [
        [each for each in sent.headers if each[0] != "Content-MD5"] for sent in (first, second)
    ]
    assert others[0] == others[1]
    assert asked(second) == ASKED
    assert first.body == second.body == small.read_bytes()
    assert (receipt.http_status, receipt.attempts) == (200, 1)


def test_a_receipt_names_where_it_was_put_in_the_end(small: Path) -> None:
    with raw_server(redirect(307, ELSEWHERE), answer(200)) as server:
        receipt = put(small, server.url + TARGET)
    assert receipt.url == f"{server.url}/elsewhere"


@pytest.mark.parametrize("status", [307, 308])
def test_another_host_is_told_how_to_store_and_no_secret(
    status: int, serve: Serve, small: Path
) -> None:
    with serve(answer(200)) as there:
        elsewhere = other_name(there.url) + ELSEWHERE
        back = answer(status, b"", {"Location": elsewhere})
        with serve(back) as here:
            put(small, here.url + TARGET, headers=ASKED)
    (first,), (second,) = here.requests, there.requests
    assert (asked(first), asked(second)) == (ASKED, KEPT)
    assert (second.method, second.target) == ("PUT", ELSEWHERE)
    assert second.body == small.read_bytes()
    assert [name for name, _ in second.headers] == [
        name for name, _ in first.headers if name not in ASKED.keys() - KEPT.keys()
    ]


@pytest.mark.parametrize("there", ["another name", "another port"])
def test_nor_is_the_first_host_told_again_when_another_sends_it_back(
    there: str, small: Path
) -> None:
    with raw_server(answer(200)) as last:
        back = answer(307, b"", {"Location": last.url + ELSEWHERE})
        with raw_server(back) as other:
            url = other_name(other.url) if there == "another name" else other.url
            with raw_server(answer(308, b"", {"Location": url + ELSEWHERE})) as first:
                put(small, first.url + TARGET, headers=ASKED)
    requests = [*first.requests, *other.requests, *last.requests]
    assert [asked(request) for request in requests] == [ASKED, KEPT, KEPT]


def test_from_http_to_https_is_followed(
    small: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    with raw_server(answer(200), tls=tls.context) as secure:
        with raw_server(answer(307, b"", {"Location": secure.url + ELSEWHERE})) as plain:
            assert put(small, plain.url + TARGET).http_status == 200
        assert secure.requests[0].body == small.read_bytes()


def test_from_https_to_http_is_refused(
    small: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    with raw_server(answer(200)) as plain:
        away = answer(307, b"", {"Location": plain.url + ELSEWHERE})
        with raw_server(away, tls=tls.context) as secure:
            error = failure_of(small, secure.url + TARGET, ELSEWHERE_SECRET)
    assert type(error) is RefusedError
    assert (error.exit_code, error.http_status) == (6, 307)
    assert f"{plain.url}/elsewhere" in error.message
    assert "not encrypted" in error.message
    assert plain.requests == []


def test_a_redirect_amid_the_body_is_followed(serve: Serve, huge: Archive) -> None:
    with serve(early(307, headers={"Location": ELSEWHERE}), answer(200)) as server:
        put(huge, server.url + TARGET, headers=ASKED)
    first, second = server.requests
    assert (first.body_bytes, second.body_bytes) == (0, huge.bytes)
    assert asked(second) == ASKED


@pytest.mark.parametrize("status", [307, 308])
def test_five_are_followed(status: int, serve: Serve, small: Path) -> None:
    with serve(*[redirect(status, f"/{n}") for n in range(5)], answer(200)) as server:
        put(small, server.url + TARGET)
    assert [request.target for request in server.requests] == [TARGET, *map("/{}".format, range(5))]
    assert {request.body for request in server.requests} == {small.read_bytes()}


@pytest.mark.parametrize(
    "scripts",
    [
        pytest.param([redirect(307, f"/{n}") for n in range(6)], id="a sixth"),
        pytest.param([redirect(308, TARGET)], id="to itself"),
        pytest.param([redirect(307, "/ping"), redirect(307, "/pong")] * 9, id="to and fro"),
    ],
)
def test_more_than_five_are_refused(scripts: list[Script], serve: Serve, small: Path) -> None:
    with serve(*scripts) as server:
        error = failure_of(small, server.url + TARGET)
    assert type(error) is RefusedError
    assert error.exit_code == 6
    assert error.http_status in {307, 308}
    assert "redirected the upload more than 5 times" in error.message
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("ftp://store.invalid/key", "ftp://store.invalid/key"),
        ("javascript:alert(1)", "javascript:alert(1)"),
        (f"http://me:{ELSEWHERE_SECRET}@store.invalid/k", "@store.invalid/k"),
        (f"http://me:pass@{ELSEWHERE_SECRET}@store.invalid/k", "@store.invalid/k"),
        (f"http://store.invalid/a b?sig={ELSEWHERE_SECRET}", "http://store.invalid/a b"),
        (f"http://store.invalid:99999/?sig={ELSEWHERE_SECRET}", "http://store.invalid:99999/"),
        (f"ftp://store.invalid/k?{ELSEWHERE_SECRET}", "ftp://store.invalid/k"),
        ("http://a..b/key", "http://a..b/key"),
        ("http://[", "http://["),
        ("http://store.invalid/\x1b[2J", r"http://store.invalid/\x1b[2J"),
        ("\xff", "\xff"),
        ("", ""),
    ],
)
def test_where_no_put_can_go_is_refused(
    status: int, location: str, named: str, small: Path
) -> None:
    with raw_server(redirect(status, location)) as server:
        error = failure_of(small, server.url + TARGET, ELSEWHERE_SECRET)
    assert type(error) is RefusedError
    assert (error.exit_code, error.http_status) == (6, status)
    assert f"127.0.0.1:{server.port} redirected" in error.message
    assert named in error.message
    assert "right endpoint or region" in error.hint
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305])
@pytest.mark.parametrize(
    ("location", "named"),
    [
        (f"http://store.invalid{ELSEWHERE}", "(to http://store.invalid/elsewhere?…)"),
        (f"http://store.invalid/k?{ELSEWHERE_SECRET}", "(to http://store.invalid/k"),
        (f"http://store.invalid/k?a='{ELSEWHERE_SECRET}", "(to http://store.invalid/k"),
        (ELSEWHERE, "(to /elsewhere?…)"),
        (f"?X-Amz-Signature={ELSEWHERE_SECRET}", "redirected (to "),
        (TARGET, f"(to {PATH}?…)"),
        ("http://[", "(to http://[)"),
        ("\xff", "(to \xff)"),
    ],
)
def test_what_would_become_another_request_is_refused_by_its_location(
    status: int, location: str, named: str, small: Path
) -> None:
    with raw_server(redirect(status, location), answer(200)) as server:
        error = failure_of(small, server.url + TARGET, ELSEWHERE_SECRET)
    assert type(error) is RefusedError
    assert (error.exit_code, error.http_status) == (6, status)
    assert named in error.message
    assert f"instead of confirming the upload to {server.url}{PATH}: {status}" in error.message
    assert "right endpoint or region" in error.hint
    assert [request.method for request in server.requests] == ["PUT"]


@pytest.mark.parametrize(
    ("target", "location", "words"),
    [
        (TARGET, "https://{host}/k", ["with https://"]),
        (UNKNOWN, "https://{host}/k", ["with https://"]),
        (UNKNOWN, "/login?next=/k", ["ask for a login", "right endpoint"]),
        (UNKNOWN, "http://sso.example.com/k", ["ask for a login", "right endpoint"]),
        (TARGET, "http://store.invalid/k", ["ask for a login", "right endpoint"]),
        (UNKNOWN, "http://store.invalid/blogin", ["right endpoint"]),
        (TARGET, "/k", ["right endpoint"]),
    ],
)
def test_what_to_do_about_a_redirect(
    target: str, location: str, words: list[str], small: Path
) -> None:
    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        host = f"127.0.0.1:{connection._socket.getsockname()[1]}"
        connection.send(response(302, b"", {"Location": location.format(host=host)}))

    with raw_server(script) as server:
        hint = failure_of(small, server.url + target).hint
    all_words = {"with https://", "ask for a login", "right endpoint"}
    assert {each for each in all_words if each in hint} == set(words)


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({}, b"", 6),
        ({}, b"<html><title>Log in</title></html>", 6),
        ({}, b'{"status": "ok"}', 6),
        ({"Server": "nginx", "ETag": '"5f3a1b2c-264"'}, b"", 6),
        ({"x-amz-request-id": "1"}, b"", 0),
        ({"ETag": "own"}, b"", 0),
    ],
)
@pytest.mark.parametrize("between", [[], ["/next?ticket=1"]])
def test_a_redirect_from_a_known_store_needs_a_stores_answer(
    between: list[str], headers: dict[str, str], body: bytes, code: int, *, small: Path
) -> None:
    own = f'"{hashlib.md5(small.read_bytes(), usedforsecurity=False).hexdigest()}"'
    headers = {name: own if value == "own" else value for name, value in headers.items()}
    with raw_server(answer(200, body, headers)) as there:
        hops = [*between, other_name(there.url) + "/portal"]
        with raw_server(*(redirect(307, hop) for hop in hops)) as here:
            if code:
                error = failure_of(small, here.url + TARGET)
                assert (error.exit_code, error.http_status) == (code, 200)
                assert "nothing shows that the archive is stored" in error.message
            else:
                assert put(small, here.url + TARGET, retries=0).http_status == 200


def test_what_the_last_host_says_is_said_of_the_last_host(small: Path) -> None:
    with (
        raw_server(answer(404)) as there,
        raw_server(redirect(307, other_name(there.url) + ELSEWHERE)) as here,
    ):
        error = failure_of(small, here.url + TARGET, ELSEWHERE_SECRET)
    assert error.message.startswith(f"localhost:{there.port} refused the upload to ")
    assert f"http://localhost:{there.port}/elsewhere: 404" in error.message


STORAGE = {
    "If-None-Match": "*",
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:eu-west-3:1:key/a",
    "x-amz-server-side-encryption-bucket-key-enabled": "true",
    "x-amz-acl": "bucket-owner-full-control",
    "x-amz-meta-author": "somebody with a name",
    "x-ms-blob-type": "BlockBlob",
    "Content-Type": "application/gzip",
}
DROPPED = {
    "Authorization": "Bearer for-the-first-host",
    "Cookie": "session=for-the-first-host",
    "x-amz-security-token": "for-the-first-host",
    "X-Api-Key": "for-the-first-host",
    "Host": "first.example",
}


def test_another_host_is_told_how_to_store(small: Path) -> None:
    with (
        raw_server(answer(200)) as there,
        raw_server(redirect(307, other_name(there.url) + ELSEWHERE)) as here,
    ):
        put(small, here.url + TARGET, headers=STORAGE | DROPPED)
    sent = dict(there.requests[0].headers)
    assert STORAGE.items() <= sent.items()
    assert sent.keys() & DROPPED.keys() == {"Host"}
    assert sent["Host"] == f"localhost:{there.port}"
    assert not any("for-the-first-host" in value for value in sent.values())


@pytest.mark.parametrize(
    ("name", "signed"),
    [
        ("x-amz-security-token", True),
        ("authorization", True),
        ("x-amz-server-side-encryption-customer-key", False),
        ("x-ms-encryption-key", False),
        ("x-goog-encryption-key", False),
    ],
)
def test_a_header_that_the_object_needs_is_not_lost(
    name: str, small: Path, *, signed: bool
) -> None:
    target = TARGET.replace("Headers=host", f"Headers=host%3B{name}") if signed else TARGET
    secret = "a2V5LW9mLXRoZS1vYmplY3Q="
    with (
        raw_server(answer(200)) as there,
        raw_server(redirect(307, other_name(there.url) + ELSEWHERE)) as here,
    ):
        error = failure_of(small, here.url + target, secret, headers={name: secret})
    assert (type(error), error.exit_code) == (RefusedError, 6)
    assert f"the header {name} is meant for the first host only" in error.message
    assert there.requests == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("X-Amz-Date=20200101T000000Z&X-Amz-Expires=60&X-Amz-Signature=ab", "expired"),
        ("sv=2022-11-02&sr=b&sig=Zm9y&se=2099-01-01&sp=r", "no permission to write"),
        ("X-Amz-SignedHeaders=content-type%3Bhost&X-Amz-Signature=ab", "content-type"),
        ("x-amz-checksum-crc32=AAAAAA%3D%3D", "checksum"),
    ],
)
@pytest.mark.parametrize("same_host", [True, False])
def test_the_terms_of_the_target_are_checked_as_well(
    query: str, words: str, small: Path, *, same_host: bool
) -> None:
    with raw_server(answer(200)) as there:
        location = f"/k?{query}" if same_host else f"{there.url}/k?{query}"
        with raw_server(redirect(307, location), answer(200)) as here:
            error = failure_of(small, here.url + TARGET)
    assert type(error) is RefusedError
    assert words in error.message
    assert (len(here.requests), there.requests) == (1, [])


def test_so_is_its_limit(huge: Archive) -> None:
    with (
        raw_server(answer(200)) as there,
        raw_server(early(307, headers={"Location": there.url + ELSEWHERE})) as here,
    ):
        error = failure_of(huge, here.url + TARGET, max_size=1)
    assert "larger than the 1" in error.message
    assert (here.requests, there.requests) == ([], [])
