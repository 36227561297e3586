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
