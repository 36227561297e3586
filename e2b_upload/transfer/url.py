"""A URL to PUT to, and how it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from e2b_upload.errors import UsageError, printable
from e2b_upload.transfer.redaction import (
    REDACTED,
    blot_out,
    header_secrets,
    redact,
    secrets_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

_DOT_SEGMENT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
# URL parsers disagree about any other character: some end the host at a backslash, some do not.
_AUTHORITY = re.compile(
    r"(?:[a-z0-9._-]+|\[[0-9a-f:.]+(?:%[a-z0-9._~%-]+)?\])(?::[0-9]*)?", re.IGNORECASE
)
# Signers put the algorithm first.
_CUT = re.compile(r"\?X-(?:Amz|Goog)-Algorithm=[^&]*\Z", re.IGNORECASE)
# A query after an escaped question mark, or after an ampersand in its place.
_LOST_QUERY = re.compile(
    r"(?:%(?:25){0,9}3f|&)[^=%]{0,200}(?:=|%(?:25){0,9}3d).*", re.IGNORECASE | re.DOTALL
)
_EXACTLY = "Pass the presigned URL exactly as the signer gave it."
# The usual URL. It is checked first because compiling the patterns below takes 5 ms.
_PLAIN = re.compile(r"https?://[A-Za-z0-9._~:/?@!$&'()*+,=%-]+")
# What only an accident in copying leaves in a URL, and the cure. The first match counts. A lone
# backslash, percent sign, bracket, tilde or apostrophe is not here: some signers leave them as
# they are. Each pattern takes linear time.
_MISCOPIED = (
    (
        r"\A(?:\xff\xfe|\xfe\xff|\udcff\udcfe|\udcfe\udcff)",
        "is UTF-16 text",
        "Save it as UTF-8 and try again.",
    ),
    (
        r"\A(?:\S{1,9}\s{1,9})?[$-]{0,2}[\"']?[a-z_][\w.:-]{0,99}[\"']?\s{0,9}[=:]\s{0,9}[\"']?https?:",
        "has a name before it, as in NAME=https://…",
        "Pass only what follows the name, without quotes.",
    ),
    (
        r"\A(?![\"'`<{[(]|https?://)(?=.*https?://).*\s",
        "is part of a longer text, such as a curl command",
        "Pass the URL alone, and a command's headers with `headers`.",
    ),
    (
        r"\A[\"'`\u2018-\u201f\u00ab\u2039]|[\"`\u2018-\u201f\u00bb\u203a][,;]?\Z",
        "has quotes around it, which are part of the value",
        "Remove them. docker run --env-file keeps quotes: write NAME=https://… in that file.",
    ),
    (r"\A<", "is in angle brackets", "Remove them, and whatever else is around the URL."),
    (
        r"\A!?\[[^\]]{0,999}\]\(|\A\(",
        "is a Markdown link",
        "Pass only what is between the parentheses.",
    ),
    (
        r"\Ahttps?(?::|%(?:25){0,9}3a)(?:%(?:25){0,9}2f){2}",
        "is percent-encoded as a whole",
        "Decode it once: it must begin with https:// or http://.",
    ),
    (
        r"\A[{\[]|\Ahttps?:\\/|\\u00[0-9a-f]{2}|\\x(?:26|3d)",
        r"was copied from JSON or source code: it has brackets around it or escapes such as \u0026",
        "Let a JSON parser decode it, for example jq -r.",
    ),
    (
        r"[\\^`]&|\\=",
        r"has a shell's escapes in it, such as \&",
        r"Write & instead of \&, and put the URL in quotes on the command line.",
    ),
    (
        r"&(?:amp|lt|gt|quot|apos|equals|#[0-9]{1,7}|#x[0-9a-f]{1,6});",
        "was copied from HTML or XML: it has references such as &amp;",
        "Replace each &amp; with & and try again.",
    ),
    (r"\shttps?://", "is followed by another URL", "Pass one URL."),
    (
        r"[^\r\n][\r\n]",
        "is broken into several lines",
        "Join the lines: a presigned URL has no white space.",
    ),
)


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """A URL that may be PUT to.

    Attributes:
        url: all of it. A secret: see ``repr``.
        shown: scheme, host and path, for messages and JSON.
        more_secrets: what else must not show: of a URL that led here, of headers.
    """

    url: str = field(repr=False)
    shown: str
    more_secrets: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def host(self) -> str:
        """Host, and port where one is named."""
        return urlsplit(self.shown).netloc

    @property
    def origin(self) -> str:
        """The URL of the host's root: where to connect."""
        return self._split()[0] + "/"

    @property
    def target(self) -> str:
        """Path and query exactly as they were given: what to request (RFC 9112, 3.2)."""
        target = self._split()[1]
        return target if target.startswith("/") else f"/{target}"

    def _split(self) -> tuple[str, str]:
        # Not urlsplit, which drops an empty query and what it takes for white space.
        begin = self.url.index("://") + len("://")
        end = begin + len(re.split("[/?#]", self.url[begin:], maxsplit=1)[0])
        return self.url[:end], self.url[end:]

    @property
    def secrets(self) -> frozenset[str]:
        """All that must not show."""
        return self.more_secrets | secrets_of(self.url)

    def redact(self, text: str) -> str:
        """Return ``text`` without any URL's query, and without any value of this one's."""
        return redact(text, self.secrets)

    def beside(self, other: PresignedUrl) -> PresignedUrl:
        """Return this one, with nothing shown that is secret of another."""
        return PresignedUrl(self.url, blot_out(self.shown, other.secrets), other.secrets)


def parse(url: str, headers: Mapping[str, str] | None = None) -> PresignedUrl:
    """Read a URL as a user or a redirect gives it.

    White space and a byte order mark around it, which a shell or a file leaves, are removed. What
    cannot be sent, and what only an accident in copying produces, is refused by name.

    Args:
        url: the text.
        headers: those sent with it, of which some are secrets as well.

    Raises:
        UsageError: it is no URL to PUT to.
    """
    url = url.strip().removeprefix("\ufeff").strip()
    if not url:
        raise UsageError("the URL is empty", hint="Was the variable set? Pass a URL.")
    for pattern, what, cure in () if _PLAIN.fullmatch(url) else _MISCOPIED:
        # Nothing of it is shown: what the query is cannot be known.
        if re.search(pattern, url, re.IGNORECASE | re.DOTALL):
            raise UsageError(f"the URL {what}", hint=cure)
    try:
        parts = urlsplit(url)
        shown = _shown(parts)
        (parts.hostname or "").encode("idna")  # an empty or a long label, as in a..b
    except ValueError:  # its words may hold a password
        raise UsageError(
            "the URL does not parse: look at its host and port",
            hint=_EXACTLY,
        ) from None
    if parts.scheme.lower() not in {"http", "https"}:
        raise UsageError(
            "the URL must begin with https:// or http://",
            hint=_EXACTLY,
        )
    if parts.hostname and not _AUTHORITY.fullmatch(parts.netloc.rpartition("@")[2]):
        raise UsageError("the URL has a character in its host that no host name has", hint=_EXACTLY)
    if why := _wrong(url, parts):
        raise UsageError(f"the URL {shown} {why[0]}", hint=why[1])
    return PresignedUrl(url, shown, frozenset(header_secrets(headers or {})))


def _shown(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port is not None else ""
    # A query may have lost its question mark: nothing that looks like one is shown.
    path = _LOST_QUERY.sub(REDACTED, parts.path)
    return printable(f"{parts.scheme}://{host}{port}{path}")


def _wrong(url: str, parts: SplitResult) -> tuple[str, str] | None:
    """Return what is wrong with a URL, and what to do about it."""
    if not parts.hostname:
        return "has no host", _EXACTLY
    if "@" in parts.netloc:
        return (
            "holds a user name or password",
            "Leave them out: a presigned URL carries its permission in the query.",
        )
    if re.search(r"[\x00-\x20\x7f]", url) or not url.isascii():
        return (
            "holds a space, a control character or a letter that is not ASCII",
            "Pass the URL exactly as the signer gave it: percent-encoded and on one line.",
        )
    if _CUT.search(url):
        return (
            "ends after its first parameter",
            "Put it in quotes on the command line: a shell takes & for the end of a command.",
        )
    if "#" in url:
        return (
            "holds a #: nothing after it is sent",
            "Write it as %23 where it is part of the key, before the URL is signed.",
        )
    if _DOT_SEGMENT.search(parts.path):
        return (
            "holds a . or .. segment, which HTTP clients resolve: its signature would break",
            "Choose a key without such a segment and sign again.",
        )
    return None
