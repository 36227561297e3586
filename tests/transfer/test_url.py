"""What is a URL to PUT to, which headers may go with it, and that its query never shows."""

import html
import logging
import re
import string
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, unquote_plus, unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e2b_upload import UploadError, UsageError, put
from e2b_upload.transfer.answer import MAX_ANSWER_BYTES
from e2b_upload.transfer.headers import checked_headers
from e2b_upload.transfer.redaction import redact
from e2b_upload.transfer.url import PresignedUrl, parse
from tests.support.rawserver import Connection, Script, answer, raw_server, response
from tests.transfer.common import (
    SECRETS,
    TARGET,
    Chameleon,
    assert_kept,
    failure_of,
    leaked,
    raw,
    xml,
)

ANY_TEXT = st.text(st.characters())  # lone surrogates too


# --- parse


@pytest.mark.parametrize(
    ("url", "shown", "host"),
    [
        ("https://h/k?a=b", "https://h/k", "h"),
        ("http://h/k?a=b", "http://h/k", "h"),
        ("HTTPS://Bucket.Example/K?a=b", "https://bucket.example/K", "bucket.example"),
        ("https://h:8443/k?a=b", "https://h:8443/k", "h:8443"),
        ("https://h:/k", "https://h/k", "h"),
        ("https://h", "https://h", "h"),
        ("https://h?a=b", "https://h", "h"),
        ("https://[::1]:8443/k?a=b", "https://[::1]:8443/k", "[::1]:8443"),
        ("https://[2001:DB8::1]/k", "https://[2001:db8::1]/k", "[2001:db8::1]"),
        ("https://h/a%20b%2Bc//d~%C3%BC/@?a=@", "https://h/a%20b%2Bc//d~%C3%BC/@", "h"),
        ("https://h/.../..a/a../.b/a.b?c=./../d", "https://h/.../..a/a../.b/a.b", "h"),
        ("https://h/k?a=%26amp;b", "https://h/k", "h"),
    ],
)
def test_a_url_shows_without_its_query(url: str, shown: str, host: str) -> None:
    parsed = parse(url)
    assert (parsed.url, parsed.shown, parsed.host) == (url, shown, host)


@pytest.mark.parametrize("before", ["", " ", "\n", "\t \r\n", "\u00a0"])
@pytest.mark.parametrize("after", ["", " ", "\n", "\r\n", "\r\n\t \u2003"])
def test_white_space_around_a_url_is_taken_off(before: str, after: str) -> None:
    assert parse(f"{before}https://h/k?a=b{after}") == parse("https://h/k?a=b")


EMPTY = ("the URL is empty", "--url-file")
SCHEME = ("must begin with https:// or http://", "as it was given, in quotes")
PARSE = ("the URL does not parse", "as it was given, in quotes")
HOST = ("has no host", "as it was given, in quotes")
USER = ("holds a user name or password", "carries its permission in the query")
LETTER = ("a space, a control character or a letter that is not ASCII", "percent-encoded")
ENTITY = ("it holds &amp;", "Replace each &amp; by &")
SEGMENT = ("holds a . or .. segment", "sign again")
FRAGMENT = ("#", "")
SECRET = "Zm9yLXlvdXItZXllcw"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", EMPTY),
        (" \r\n", EMPTY),
        ("ftp://h/k", SCHEME),
        ("file:///etc/passwd", SCHEME),
        ("s3://bucket/key", SCHEME),
        ("h/k?a=b", SCHEME),
        ("//h/k?a=b", SCHEME),
        ("$URL", SCHEME),
        ("'https://h/k?a=b'", SCHEME),
        ("\ufeffhttps://h/k?a=b", SCHEME),
        ("https://h:99999/k", PARSE),
        ("https://h:port/k", PARSE),
        ("https://h:-1/k", PARSE),
        ("https://[::1/k", PARSE),
        ("https://::1]/k", PARSE),
        ("https://[::g]/k", PARSE),
        (f"https://me:{SECRET}@h\u2100/k", PARSE),
        (f"https://me:{SECRET}/k", PARSE),
        ("https://", HOST),
        ("https:///k?a=b", HOST),
        ("https:/h/k?a=b", HOST),
        ("https:h/k?a=b", HOST),
        ("https://:443/k", HOST),
        ("https://?a=b", HOST),
        (f"https://me:{SECRET}@h/k", USER),
        (f"https://{SECRET}@h/k", USER),
        (f"https://me:a@{SECRET}@h/k", USER),
        ("https://@h/k", USER),
        ("https://h/a b?a=b", LETTER),
        ("https://h/k?a=b c", LETTER),
        ("https://h/k?a=\nb", LETTER),
        ("https://h/k\r\nHost: evil", LETTER),
        ("https://h/k\tb", LETTER),
        ("https://h/k\x00", LETTER),
        ("https://h/k?a=\x1b[2J", LETTER),
        ("https://h/k\x7fb", LETTER),
        ("https://h/ü", LETTER),
        ("https://bücher.example/k", LETTER),
        ("https://h/k?a=\udcff", LETTER),
        ("https://h/k?a=b&amp;c=d", ENTITY),
        ("https://h/./k", SEGMENT),
        ("https://h/../k", SEGMENT),
        ("https://h/a/./b?a=b", SEGMENT),
        ("https://h/a/../b?a=b", SEGMENT),
        ("https://h/a/..", SEGMENT),
        ("https://h/a/.?a=b", SEGMENT),
        ("https://h/%2e%2e/k", SEGMENT),
        ("https://h/%2E/k", SEGMENT),
        ("https://h/.%2e/k", SEGMENT),
        ("https://h/a#b?a=b", FRAGMENT),
        ("https://h/k?a=b#c", FRAGMENT),
    ],
)
def test_what_is_no_url_to_put_to_is_refused_by_name(url: str, says: tuple[str, str]) -> None:
    words, hint = says
    with pytest.raises(UsageError) as caught:
        parse(url)
    assert words in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.hint
    assert caught.value.message.isprintable()
    assert_kept(caught.value, SECRET)


SEPARATORS = [":", "//", "/", "\\", "[", "]", "@", "?", "&", "&amp;", "#", ";", "%", ".", ".."]
PARTS = ["https", "http", "ftp", "::1", "127.0.0.1", "h", "me:", ":0", ":-1", "99999", "a=b", "%2e"]
LETTERS = [" ", "\t", "\n", "\x00", "\x7f", "%00", "\u2100", "\uff0f", "\u00fc", "\udcff"]
NEARLY_URLS = st.lists(st.sampled_from([*SEPARATORS, *PARTS, *LETTERS])).map("".join)


def parsed_or_not(text: str) -> PresignedUrl | UsageError:
    try:
        return parse(text)
    except UsageError as error:
        return error


@given(ANY_TEXT | NEARLY_URLS | NEARLY_URLS.map("https://".__add__))
@example("https://[")
@example("https://[v1.a]/")
@example("https://h:٣/")
def test_any_text_is_a_url_that_can_be_shown_or_an_error_of_usage(text: str) -> None:
    parsed = parsed_or_not(text)
    if isinstance(parsed, UsageError):
        assert parsed.hint
        assert parsed.message.isprintable()
        return
    assert parsed == parse(parsed.url)
    assert parsed.url == text.strip()
    assert parsed.shown.isprintable()
    assert parsed.host
    assert "?" not in parsed.shown
    assert "@" not in parsed.host


# --- redact


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("", ""),
        ("no URL, is it? a=b", "no URL, is it? a=b"),
        ("https://h/k", "https://h/k"),
        ("https://h/k?a=b", "https://h/k?…"),
        ("PUT 'https://h/k?a=b&c=d' failed", "PUT 'https://h/k?…' failed"),
        ('PUT "https://h/k?a=b&c=d" failed', 'PUT "https://h/k?…" failed'),
        ("<a>https://h/k?a=b</a>", "<a>https://h/k?…</a>"),
        ("two: https://h/k?a=b https://i/l?c=d", "two: https://h/k?… https://i/l?…"),
        ("with url: /k?a=b (Caused by x)", "with url: /k?… (Caused by x)"),
        ("https://me:pass@h/k?a=b", "https://…@h/k?…"),
        ("https://me@h", "https://…@h"),
        ("https://me:p@ss@h/k", "https://…@h/k"),
        ("https://h/k@l?a=b@c", "https://h/k@l?…"),
        ("mail me@example.com", "mail me@example.com"),
    ],
)
def test_redact(text: str, redacted: str) -> None:
    assert redact(text) == redacted


# Whatever is secret here is a capital or a digit, and nothing else is.
CAPITAL = re.compile("[A-Z0-9]")
SECRET_VALUES = st.lists(
    st.sampled_from([*string.ascii_uppercase, *string.digits, *"-._~!$'()*+,;:@/?=\"<>"])
    | st.sampled_from(["%2F", "%2B", "%3D", "%26", "%22", "%27", "%3C", "%20", "%C3%9C"]),
    min_size=12,
).map("".join)
PLAIN = st.text(string.ascii_lowercase + " \n.,:;'\"()<>[]/?=&%@-")


@given(
    values=st.lists(SECRET_VALUES, min_size=1, max_size=3),
    path=st.text(string.ascii_lowercase + "/(.'", max_size=5),
    template=st.lists(PLAIN | st.integers(0, 8), min_size=1, max_size=6),
)
@example(values=["A" * 12 + "'" + "B" * 12], path="", template=[0])
@example(values=["A" * 12, "B" * 12 + "A" * 12 + "C" * 12], path="", template=[5])
def test_no_text_around_a_secret_lets_it_show(
    values: list[str], path: str, template: list[str | int]
) -> None:
    query = "&".join(f"{name}={value}" for name, value in zip("xyz", values, strict=False))
    url = PresignedUrl(f"https://h/{path}?{query}", f"https://h/{path}")
    forms = [url.url, f"/{path}?{query}", query]
    forms += [form for value in values for form in (value, unquote(value))]
    text = "".join(forms[x % len(forms)] if isinstance(x, int) else x for x in template)
    assert not CAPITAL.search(url.redact(text))
    assert not CAPITAL.search(f"{url!r} {url}".replace("PresignedUrl", ""))


@given(ANY_TEXT, ANY_TEXT)
def test_redacting_again_changes_nothing(before: str, after: str) -> None:
    url = parse(f"https://h/k?a={SECRET}")
    redacted = url.redact(before + url.url + after)
    assert SECRET not in redacted
    assert url.redact(redacted) == redacted


@pytest.mark.parametrize(
    "change",
    [
        str.swapcase,
        unquote,
        unquote_plus,
        lambda query: quote(query, safe=""),
        lambda query: quote(quote(query)),
        lambda query: quote(quote(quote(query, safe=""))).swapcase(),
        lambda query: "".join(f"%{byte:02x}" for byte in unquote_to_bytes(query)),
    ],
)
@pytest.mark.parametrize("before", ["", "%", "%25"])
def test_a_secret_is_known_in_another_form(before: str, change: Callable[[str], str]) -> None:
    url = parse("https://h/k?a=AbC%2FdEf%2bGhI%20j%C3%9Ck/LmN+oPq==")
    said = url.redact(f"no {before}{change(url.url.partition('a=')[2])}, sorry")
    assert said == f"no {before}…, sorry"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["%", "%25", "25", "%C3", "é", "a", "a%", "?", "//", "@"])
def test_no_text_takes_long(piece: str) -> None:
    url = parse(f"https://h/k?a={'%25' * 500}&b={'%C3' * 500}&c={'a' * 2000}")
    url.redact(piece * (MAX_ANSWER_BYTES // len(piece)))


# --- what a failure says


def repeat(status: int, escape: Callable[[str], str]) -> Script:
    """Answer with words that hold all of the URL that the server saw."""

    def script(connection: Connection) -> None:
        target = connection.read_head().split()[1].decode()
        connection.read_body()
        signature = target.partition("Signature=")[2]
        thrice = quote(quote(quote(signature)))
        words = f"http://store.invalid{target} \"{target}' {unquote(target)} {signature} {thrice}."
        headers = {"Location": target, "x-amz-request-id": words}
        connection.send(response(status, xml("No", escape(words), escape(words)), headers))

    return script


def echo(connection: Connection) -> None:
    """Be no HTTP server, and repeat the request."""
    connection.send(connection.read_head())


FAILURES: dict[str, Script] = {
    "repeated": repeat(403, str),
    "repeated, escaped": repeat(503, html.escape),
    "redirected": repeat(301, html.escape),
    "redirected to itself": repeat(307, html.escape),
    "echoed": echo,
    "reset": Connection.reset,
    "no answer": lambda connection: connection.close(),
}


@settings(deadline=None, max_examples=25)
@given(
    secret=st.lists(
        st.sampled_from([*string.ascii_uppercase, *string.digits, *"-._~!$'()*+,;:@/?="])
        | st.sampled_from(["%2F", "%2B", "%3D", "%26", "%22", "%27", "%3C"]),
        min_size=16,
        max_size=64,
    ).map("".join)
)
@pytest.mark.parametrize("name", FAILURES)
def test_no_failure_shows_a_secret(
    name: str, secret: str, chameleon: Chameleon, small: Path
) -> None:
    chameleon.script = FAILURES[name]
    url = f"{chameleon.server.url}/bucket/key?X-Amz-Date=20260101T000000Z&X-Amz-Signature={secret}"
    failure_of(small, url, secret)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (f"http://a..b{TARGET}", "usage"),
        (f"http://{'a' * 64}.invalid{TARGET}", "usage"),
        (f"http://*.invalid{TARGET}", "usage"),
        (f"http://[v1.a]{TARGET}", "usage"),
        (f"http://\\{TARGET}", "usage"),
        (f"http://127.0.0.1:0{TARGET}", "unavailable"),
        (f"https://nothing.invalid{TARGET}", "unavailable"),
    ],
)
def test_what_cannot_be_requested_is_said_without_the_query(
    url: str, kind: str, small: Path
) -> None:
    assert failure_of(small, url).kind == kind


@pytest.mark.parametrize(
    "script",
    [
        answer(200),
        answer(403, xml("AccessDenied")),
        raw(b"HTTP/1.1 200 OK\r\nno header at all\r\n\r\n"),
        raw(response(403, b"", {"Transfer-Encoding": "chunked"})),
        Connection.reset,
    ],
    ids=["success", "refusal", "headers that do not parse", "two framings", "reset"],
)
def test_no_log_holds_a_secret(
    script: Script, small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with raw_server(script) as server, suppress(UploadError):
        put(small, server.url + TARGET)
    for secret in SECRETS:
        assert not leaked(secret, caplog.text)


# --- headers


def test_headers_go_as_they_are_but_for_white_space_around() -> None:
    headers = {
        "Content-Type": "application/gzip",
        "x-ms-blob-type": " BlockBlob\t",
        "X-Unicode": "gr\u00fcn \u20ac",
        "X-Raw": "gr\udcfcn",
        "X-Empty": "",
        "X-Inside": "a \t b: c",
        "!#$%&'*+-.^_`|~09azAZ": "every character of a name",
        "Content-Length-Of": "not framing",
    }
    checked = checked_headers(headers)
    assert checked == headers | {"x-ms-blob-type": "BlockBlob"}
    assert list(checked) == list(headers)
    assert checked_headers({}) == {}


@pytest.mark.parametrize(
    "name", ["", " ", "A B", "A:", "A\n", "A\r\nB", "(A)", "Ä", "A\x00", "\x1b[2J"]
)
def test_what_is_no_name_of_a_header_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a header") as caught:
        checked_headers({name: "value"})
    assert caught.value.hint == "Write 'Name: value'."
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "TRANSFER-ENCODING"])
def test_no_header_may_frame_the_body(name: str) -> None:
    with pytest.raises(UsageError, match=f"the header {name} cannot be set by hand") as caught:
        checked_headers({name: "1"})
    assert "Content-Length" in caught.value.hint


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nb", "a\r", "\n", "a\x00b", "\udc0a"])
def test_what_is_no_value_of_a_header_is_refused(value: str) -> None:
    with pytest.raises(
        UsageError, match="the header X-Secret holds a line break, a NUL or"
    ) as caught:
        checked_headers({"X-Ok": "ok", "X-Secret": value})
    assert caught.value.hint
    assert value not in caught.value.message


@settings(deadline=None)
@given(
    name=st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1),
    value=st.text(),
)
@example(name="A", value="\x0ba")
@example(name="A", value="\xa0a")
@example(name="A", value="a\x85b")
def test_a_header_that_is_let_through_arrives_as_it_is(
    name: str, value: str, chameleon: Chameleon, small: Path
) -> None:
    chameleon.script = answer(200)
    try:
        checked = checked_headers({f"X-{name}": value})
    except UsageError:
        return
    put(small, f"{chameleon.server.url}/k", headers=checked)
    request = chameleon.server.requests[-1]
    sent = value.strip(" \t").encode("utf-8", "surrogateescape")
    assert (f"X-{name}", sent.decode("latin-1")) in request.headers
    assert len(request.headers) == 7
    assert request.body == small.read_bytes()


@given(st.dictionaries(ANY_TEXT, ANY_TEXT))
def test_any_headers_are_let_through_or_an_error_of_usage(headers: dict[str, str]) -> None:
    try:
        checked = checked_headers(headers)
    except UsageError as error:
        said = error.message
    else:
        said = ""
        assert checked == {name: value.strip(" \t") for name, value in headers.items()}
        assert b"\n" not in "".join([*checked, *checked.values()]).encode(
            "utf-8", "surrogateescape"
        )
    assert said.isprintable()
