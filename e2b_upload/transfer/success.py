"""Whether a 2xx answer is the store's own word that it took the upload. Pure.

A success can carry an error document: AWS documents it for Complete Multipart Upload, and gateways
do it for PUT. A captive portal or a proxy can answer in the store's place with a page of its own.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2b_upload.transfer.answer import Answer

SUCCESS = frozenset({200, 201, 204})
# What may come before the first element: a byte order mark, white space, declarations, comments.
_BEFORE = rb"(?:\xef\xbb\xbf)?(?:\s|<\?[^>]{0,200}>|<!--[^>]{0,4096}-->)*+"
_ERROR = re.compile(_BEFORE + rb"<(?:[\w.-]{1,40}:)?Error(?:Response)?[\s/>]")
_PAGE = re.compile(_BEFORE + rb"<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)
_STORE = re.compile("etag|x-(?:amz|goog|guploader|ms|oss|obs|cos)-.*")


def is_error_document(answer: Answer) -> bool:
    """Whether the body is an error in XML, as stores write it, or in JSON, as brokers do."""
    return _ERROR.match(answer.body) is not None or _is_json_error(answer.body)


def _is_json_error(body: bytes) -> bool:
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return bool(said.get("error") or said.get("errors")) or said.get("success") is False


def is_page(answer: Answer) -> bool:
    """Whether the body is an HTML page and no header is one that only a store sends."""
    return _PAGE.match(answer.body) is not None and not any(map(_STORE.fullmatch, answer.headers))
