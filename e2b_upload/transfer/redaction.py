"""What of a URL must not show: its query, and user info.

A URL's query is a secret: whoever has it can write. So nothing but
:attr:`~e2b_upload.transfer.url.PresignedUrl.shown` and text that went through :func:`redact` may
reach a message.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REDACTED = "?…"
# All that follows a question mark and a name with an equals sign. The name is bounded: text that
# comes from outside may be made of question marks.
_QUERY = re.compile(r"(?<=[^\s'\"(<])\?[^\s'\"<>=]{0,200}=[^\s'\"<>]*")
_USER_INFO = re.compile(r"(?<=//)[^\s/?#]*@")
_SECRET_NAME = re.compile(
    "auth|token|key|secret|cookie|credential|signature|password", re.IGNORECASE
)
# Shorter values (an algorithm's name, 86400, host) are no secrets, and would blot out words.
_SECRET_CHARS = 12


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
    begin, mark, query = url.strip().partition("?")
    if not mark and "&" in begin:  # a piece of one
        query = begin.partition("&")[2]
    values = [query, *(pair.partition("=")[2] for pair in query.split("&"))]
    values += _USER_INFO.findall(url)
    return {form for value in values for form in _forms(value) if len(form) >= _SECRET_CHARS}


def header_secrets(headers: Mapping[str, str]) -> set[str]:
    """Return what must not show of headers: the values whose names say so."""
    values = (value for name, value in headers.items() if _SECRET_NAME.search(name))
    return {form for value in values for form in (value, *value.split()) if len(form) >= 8}  # noqa: PLR2004


def _forms(value: str) -> set[str]:
    """Return how a value may come back: as it was, read, and written again."""
    read = unquote(value)
    written = quote(read, safe="")
    lower = re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), written)
    return {value, read, unquote_plus(value), written, lower, quote(value, safe="")}
