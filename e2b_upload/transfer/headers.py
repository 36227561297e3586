"""The headers that a caller has sent with the PUT."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from e2b_upload.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110: token
_FRAMING = frozenset({"content-length", "transfer-encoding"})


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
        if re.search(r"[\r\n\0]|^\s", value) or not _is_encodable(value):
            raise UsageError(
                f"the header {name} holds a line break, a NUL or half a character, "
                "or begins with white space",
                hint="Encode the value as the store documents it.",
            )
        checked[name] = value
    return checked


def encoded(headers: Mapping[str, str]) -> dict[str, bytes]:
    """Return header values as they are sent: UTF-8, with surrogate escapes as their bytes.

    Stores read metadata as UTF-8, while http.client would send ``str`` as Latin-1. An argument that
    is not UTF-8 has surrogate escapes (PEP 383): its bytes go out as they came in.
    """
    return {name: value.encode("utf-8", "surrogateescape") for name, value in headers.items()}


def _is_encodable(value: str) -> bool:
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
