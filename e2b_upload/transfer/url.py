"""A URL to PUT to, and how it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from e2b_upload.errors import UsageError, printable
from e2b_upload.transfer.redaction import blot_out, header_secrets, redact, secrets_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

_DOT_SEGMENT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


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

    White space around it, which a shell or a file leaves, is taken off. What would break the
    signature on the way through an HTTP library is refused here, by name.

    Args:
        url: the text.
        headers: those sent with it, of which some are secrets as well.

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
    return PresignedUrl(url, shown, frozenset(header_secrets(headers or {})))


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
