"""What a presigned URL says about itself, what may go with it, and how it shows.

A URL's query is a secret: whoever has it can write. So nothing but :attr:`PresignedUrl.shown`
and text that went through :func:`redact` may reach a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from e2b_upload.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from urllib.parse import SplitResult

REDACTED = "?…"
# All that follows a question mark and a name with an equals sign. The name is bounded: text that
# comes from outside may be made of question marks.
_QUERY = re.compile(r"(?<=[^\s'\"(<])\?[^\s'\"<>=]{0,200}=[^\s'\"<>]*")
_USER_INFO = re.compile(r"(?<=//)[^\s/?#]*@")
# Shorter values (an algorithm's name, 86400, host) are no secrets, and would blot out words.
_SECRET_CHARS = 12
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110: token
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_DOT_SEGMENT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` without the query and the user info of any URL in it, and without secrets."""
    return _USER_INFO.sub("…@", _QUERY.sub(REDACTED, blot_out(text, secrets)))


def blot_out(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` without secrets, and otherwise as it is."""
    for secret in sorted(secrets, key=len, reverse=True):  # a short one may be part of another
        text = text.replace(secret, "…")
    return text


def secrets_of(url: str) -> set[str]:
    """Return what must not show of a URL, or of what was to be one: its query, and user info."""
    query = url.strip().partition("?")[2]
    values = [query, *(pair.partition("=")[2] for pair in query.split("&"))]
    values += _USER_INFO.findall(url)
    forms = {form for value in values for form in (value, unquote(value))}
    return {form for form in forms if len(form) >= _SECRET_CHARS}


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """A URL that may be PUT to.

    Attributes:
        url: all of it. A secret: see ``repr``.
        shown: scheme, host and path, for messages and JSON.
    """

    url: str = field(repr=False)
    shown: str

    @property
    def host(self) -> str:
        """Host, and port where one is named."""
        return urlsplit(self.shown).netloc

    def redact(self, text: str) -> str:
        """Return ``text`` without any URL's query, and without any value of this one's."""
        return redact(text, secrets_of(self.url))


def parse(url: str) -> PresignedUrl:
    """Read a URL as a user or a redirect gives it.

    White space around it, which a shell or a file leaves, is taken off. What would break the
    signature on the way through an HTTP library is refused here, by name.

    Raises:
        UsageError: it is no URL to PUT to.
    """
    url = url.strip()
    if not url:
        raise UsageError(
            "the URL is empty", hint="Was the variable set? Pass --url, --url - or --url-file."
        )
    try:
        parts = urlsplit(url)
        shown = _shown(parts)
        (parts.hostname or "").encode("idna")  # an empty or a long label, as in a..b
    except ValueError:  # its words may hold a password
        raise UsageError(
            "the URL does not parse: look at its host and port",
            hint="Pass the presigned URL as it was given, in quotes.",
        ) from None
    if parts.scheme.lower() not in {"http", "https"}:
        raise UsageError(
            "the URL must begin with https:// or http://",
            hint="Pass the presigned URL as it was given, in quotes.",
        )
    if why := _wrong(url, parts):
        raise UsageError(f"the URL {shown} {why[0]}", hint=why[1])
    return PresignedUrl(url, shown)


def _shown(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port is not None else ""
    return printable(f"{parts.scheme}://{host}{port}{parts.path}")


def _wrong(url: str, parts: SplitResult) -> tuple[str, str] | None:
    """Return what is wrong with a URL, and what to do about it."""
    if not parts.hostname:
        return "has no host", "Pass the presigned URL as it was given, in quotes."
    if "@" in parts.netloc:
        return (
            "holds a user name or password",
            "Leave them out: a presigned URL carries its permission in the query.",
        )
    if re.search(r"[\x00-\x20\x7f]", url) or not url.isascii():
        return (
            "holds a space, a control character or a letter that is not ASCII",
            "Pass the URL as the signer gave it: percent-encoded, on one line, in quotes.",
        )
    if "#" in url:
        return (
            "holds a #: nothing after it is sent",
            "Write it as %23 where it is part of the key, before the URL is signed.",
        )
    if "&amp;" in url:
        return (
            "was copied out of HTML or XML: it holds &amp;",
            "Replace each &amp; by & and try again.",
        )
    if _DOT_SEGMENT.search(parts.path):
        return (
            "holds a . or .. segment, which HTTP clients resolve: its signature would break",
            "Choose a key without such a segment and sign again.",
        )
    return None


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that can be sent as they are.

    Raises:
        UsageError: a name or value that is none, or a header that frames the body.
    """
    checked = {}
    for name, raw in headers.items():
        value = raw.strip(" \t")
        if not _HEADER_NAME.fullmatch(name):
            raise UsageError(
                f"'{printable(name)}' is not the name of a header",
                hint="Write 'Name: value'.",
            )
        if name.lower() in _FRAMING:
            raise UsageError(
                f"the header {name} cannot be set by hand",
                hint="Leave it out: the archive's exact length is sent as Content-Length.",
            )
        # What http.client and requests would refuse later, in words that hold the value.
        if re.search(r"[\r\n\0]|^\s", value) or not _is_latin1(value):
            raise UsageError(
                f"the header {name} holds a line break, a NUL or a letter outside Latin-1, "
                "or begins with white space",
                hint="Encode the value as the store documents it.",
            )
        checked[name] = value
    return checked


def _is_latin1(value: str) -> bool:
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
