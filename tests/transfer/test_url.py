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
        # Odd, but a signer may have left them as they are.
        (r"https://h/a\b\c?a=\b", r"https://h/a\b\c", "h"),
        ("https://h/a[1]~'(b)'*!$,;=:?a=[1]~'b'", "https://h/a[1]~'(b)'*!$,;=:", "h"),
        ("https://h/100%/%zz?a=%", "https://h/100%/%zz", "h"),
        ('https://h/a"b<c>d^e`f{g}|h?a=b', 'https://h/a"b<c>d^e`f{g}|h', "h"),
        ("https://h/k?u=https://i/k?a=b", "https://h/k", "h"),
        ("https://h/https%3A%2F%2Fi?a=b", "https://h/https%3A%2F%2Fi", "h"),
        ("https://h/NAME=https:k", "https://h/NAME=https:k", "h"),
        ("https://my_store:9000/k", "https://my_store:9000/k", "my_store:9000"),
        (
            "https://[fe80::1%25eth0]:9000/k",
            "https://[fe80::1%25eth0]:9000/k",
            "[fe80::1%25eth0]:9000",
        ),
    ],
)
def test_a_url_shows_without_its_query(url: str, shown: str, host: str) -> None:
    parsed = parse(url)
    assert (parsed.url, parsed.shown, parsed.host) == (url, shown, host)


@pytest.mark.parametrize("before", ["", " ", "\n", "\t \r\n", "\u00a0", "\ufeff", " \ufeff\n"])
@pytest.mark.parametrize("after", ["", " ", "\n", "\r\n", "\r\n\t \u2003"])
def test_white_space_and_a_byte_order_mark_around_a_url_are_removed(
    before: str, after: str
) -> None:
    assert parse(f"{before}https://h/k?a=b{after}") == parse("https://h/k?a=b")


EMPTY = ("the URL is empty", "Pass a URL.")
SCHEME = ("must begin with https:// or http://", "exactly as the signer gave it")
PARSE = ("the URL does not parse", "exactly as the signer gave it")
HOST = ("has no host", "exactly as the signer gave it")
LETTER_IN_HOST = ("the URL has a character in its host", "exactly as the signer gave it")
USER = ("holds a user name or password", "carries its permission in the query")
LETTER = ("a space, a control character or a letter that is not ASCII", "percent-encoded")
QUOTES = ("the URL has quotes around it", "--env-file keeps quotes")
NAME = ("the URL has a name before it", "Pass only what follows the name")
JSON = ("the URL was copied from JSON", "jq -r")
SHELL = ("the URL has a shell's escapes in it", r"Write & instead of \&")
ENTITY = ("the URL was copied from HTML", "Replace each &amp; with &")
TEXT = ("the URL is part of a longer text", "`headers`")
MARKDOWN = ("the URL is a Markdown link", "between the parentheses")
ENCODED = ("the URL is percent-encoded as a whole", "Decode it once")
SEVERAL = ("the URL is followed by another URL", "Pass one URL")
LINES = ("the URL is broken into several lines", "Join the lines")
UTF_16 = ("the URL is UTF-16 text", "UTF-8")
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
        ("ftp://h/k?a=https://h/k", SCHEME),
        (f"'https://h/k?a={SECRET}'", QUOTES),
        (f'"https://h/k?a={SECRET}"', QUOTES),
        ("'https://h/k?a=b", QUOTES),
        ('https://h/k?a=b"', QUOTES),
        ('https://h/k?a=b",', QUOTES),
        ("`https://h/k?a=b`", QUOTES),
        ("\u201chttps://h/k?a=b\u201d", QUOTES),
        ("\u00abhttps://h/k?a=b\u00bb", QUOTES),
        ("'$URL'", QUOTES),
        (f"E2B_UPLOAD_URL=https://h/k?a={SECRET}", NAME),
        ("E2B_UPLOAD_URL='https://h/k?a=b'", NAME),
        ("export URL=https://h/k?a=b", NAME),
        ('$env:URL = "https://h/k?a=b"', NAME),
        ("--url=https://h/k?a=b", NAME),
        ("url: https://h/k?a=b", NAME),
        ('"url": "https://h/k?a=b",', NAME),
        (rf"https://h/k?a=b\u0026c={SECRET}", JSON),
        (r"https://h/k?a\u003Db", JSON),
        (rf"https:\/\/h\/k?a={SECRET}", JSON),
        (r"https://h/k?a=b\x26c=d", JSON),
        (f'{{"url":"https://h/k?a={SECRET}"}}', JSON),
        ('["https://h/k?a=b"]', JSON),
        (rf"https://h/k?a=b\&c={SECRET}", SHELL),
        (r"https://h/k\?a\=b", SHELL),
        ("https://h/k?a=b^&c=d", SHELL),
        ("https://h/k?a=b`&c=d", SHELL),
        (f"<https://h/k?a={SECRET}>", ("in angle brackets", "around the URL")),
        (f"[here](https://h/k?a={SECRET})", MARKDOWN),
        ("![](https://h/k?a=b)", MARKDOWN),
        (f"https%3A%2F%2Fh%2Fk%3Fa%3D{SECRET}", ENCODED),
        ("https%3a//h/k?a=b", SCHEME),
        ("https:%2F%2Fh/k?a=b", ENCODED),
        ("HTTPS%253A%252F%252Fh%252Fk", ENCODED),
        (f"curl -X PUT -T f 'https://h/k?a={SECRET}'", TEXT),
        (f"curl 'https://h/k?a={SECRET}' -T f", TEXT),
        (f"PUT https://h/k?a={SECRET}", TEXT),
        (f"# the URL\nhttps://h/k?a={SECRET}", TEXT),
        (f"https://h/k?a={SECRET} https://h/l?a={SECRET}", SEVERAL),
        (f"https://h/k?a={SECRET}\r\nhttps://h/l?a={SECRET}\r\n", SEVERAL),
        (f"https://h/k?a={SECRET}&\nb=c", LINES),
        ("\udcff\udcfehttps://h/k", UTF_16),
        ("\xff\xfeh\x00t\x00t\x00p\x00", UTF_16),
        (rf"https://h\k?a={SECRET}", LETTER_IN_HOST),
        (rf"https://h\.evil.example/k?a={SECRET}", LETTER_IN_HOST),
        (f"https://h%2Fk%3Fa%3D{SECRET}", LETTER_IN_HOST),
        (f"https://h&a={SECRET}/k", LETTER_IN_HOST),
        ("https://a h/k", LETTER_IN_HOST),
        ("https://h\x00/k", LETTER_IN_HOST),
        ("https://{bucket}.example/k", LETTER_IN_HOST),
        ("https://*.example/k", LETTER_IN_HOST),
        ("https://a[::1]/k", LETTER_IN_HOST),
        (r"https://[::1%\]/k", LETTER_IN_HOST),
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
        ("https://h/k?a=\nb", LINES),
        ("https://h/k\r\nHost: evil", LINES),
        ("https://h/k\tb", LETTER),
        ("https://h/k\x00", LETTER),
        ("https://h/k?a=\x1b[2J", LETTER),
        ("https://h/k\x7fb", LETTER),
        ("https://h/ü", LETTER),
        ("https://bücher.example/k", LETTER_IN_HOST),
        ("https://h/k?a=\udcff", LETTER),
        ("https://h/k?a=b&amp;c=d", ENTITY),
        (f"https://h/k?a=b&#38;c={SECRET}", ENTITY),
        ("https://h/k?a=b&#x26;c=d", ENTITY),
        ("https://h/k?a=b&quot;", ENTITY),
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
    assert parsed.url == text.strip().removeprefix("\ufeff").strip()
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
@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", ["https://", "https%3a", "%25", "\\", "&#", "& ", " ", "a\n", "a=", "[", "[](", '"']
)
@pytest.mark.parametrize("before", ["", "https://h/", "x ", "x="])
def test_no_url_takes_long_to_read(before: str, piece: str) -> None:
    parsed_or_not(before + piece * ((1 << 20) // len(piece)))


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
@pytest.mark.slow
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
@pytest.mark.slow
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


@pytest.mark.parametrize("mark", ["%3F", "%3f", "%253F", "&"])
@pytest.mark.parametrize("equals", ["=", "%3D"])
def test_a_query_without_its_question_mark_is_not_shown(mark: str, equals: str) -> None:
    url = parse(f"http://store.invalid/bucket/key{mark}X-Amz-Signature{equals}5f3a19c0e7b84d62")
    assert url.shown == "http://store.invalid/bucket/key?…"
    assert "5f3a19c0" not in repr(url)


def test_a_key_with_an_ampersand_is_shown() -> None:
    assert parse("http://store.invalid/a&b/c?d=e").shown == "http://store.invalid/a&b/c"


@pytest.mark.parametrize("signer", ["Amz", "Goog"])
def test_a_url_that_a_shell_cut_at_its_first_ampersand(signer: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(f"https://store.invalid/k?X-{signer}-Algorithm=AWS4-HMAC-SHA256")
    assert "ends after its first parameter" in caught.value.message
    assert "quotes" in caught.value.hint
