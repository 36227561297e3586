"""What of a URL must not show: its query, and user info.

A URL's query is a secret: whoever has it can write. So nothing but
:attr:`~e2b_upload.transfer.url.PresignedUrl.shown` and text that went through :func:`redact` may
reach a message.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

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
# A percent sign that was escaped itself, any number of times.
_PERCENT = "%(?:25)*"
# Nobody knows into how many characters these are read, if it is wrong UTF-8.
_NOT_ASCII = rf"(?:{_PERCENT}[89a-f][0-9a-f]|[^\x00-\x7f])+"
_CHAR = re.compile(rf"{_NOT_ASCII}|{_PERCENT}([0-9a-f]{{2}})|(.)", re.IGNORECASE | re.DOTALL)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` without the query and the user info of any URL in it, and without secrets."""
    return _USER_INFO.sub("…@", _QUERY.sub(REDACTED, blot_out(text, secrets)))


def blot_out(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` without secrets, in whatever case and however often they are escaped."""
    for secret in sorted(secrets, key=len, reverse=True):  # a short one may be part of another
        text = _wherever(secret).sub("…", text)
    return text


@lru_cache(maxsize=64)  # one URL has a few; who puts for ever has many
def _wherever(secret: str) -> re.Pattern[str]:
    """Return what a secret is found by: as it was, read, and written again."""
    return re.compile("".join(map(_any_form, _CHAR.finditer(secret))), re.IGNORECASE)


def _any_form(char: re.Match[str]) -> str:
    escape, plain = char.groups()
    if not (escape or plain):
        return _NOT_ASCII
    read = plain or chr(int(escape, 16))
    if read in "+ ":
        return f"(?:[+ ]|{_PERCENT}(?:20|2b))"
    if read == "%":
        return _PERCENT
    return f"(?:{re.escape(read)}|{_PERCENT}{ord(read):02x})"


def secrets_of(url: str) -> set[str]:
    """Return what must not show of a URL, or of what was to be one: its query, and user info."""
    begin, mark, query = url.strip().partition("?")
    if not mark and "&" in begin:  # a piece of one
        query = begin.partition("&")[2]
    values = [query, *(pair.partition("=")[2] for pair in query.split("&"))]
    values += _USER_INFO.findall(url)
    return {value for value in values if len(value) >= _SECRET_CHARS}


def has_secret_name(name: str) -> bool:
    """Whether a header's name says that its value is a secret."""
    return _SECRET_NAME.search(name) is not None


def header_secrets(headers: Mapping[str, str]) -> set[str]:
    """Return what must not show of headers: the values whose names say so."""
    values = (value for name, value in headers.items() if has_secret_name(name))
    return {form for value in values for form in (value, *value.split()) if len(form) >= 8}  # noqa: PLR2004
