"""Whether a 2xx answer is the store's own word that it took the upload. Pure.

A success can carry an error document: AWS documents it for Complete Multipart Upload, and gateways
do it for PUT. A captive portal or a proxy can answer in the store's place with a page of its own.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING

from e2b_upload.transfer.error_body import read_error

if TYPE_CHECKING:
    from e2b_upload.transfer.answer import Answer
    from e2b_upload.transfer.url import PresignedUrl

SUCCESS = frozenset({200, 201, 204})
CONFLICT, PRECONDITION_FAILED = 409, 412
# Azure's and OSS's codes of a 409 for an object that exists.
_EXISTS = frozenset({"BlobAlreadyExists", "FileAlreadyExists"})
# S3's and Google's, Azure's, and that of Google's JSON.
_NOT_MET = frozenset({"PreconditionFailed", "ConditionNotMet", "conditionNotMet"})
_ERROR_HEADERS = ("x-ms-error-code", "x-amz-error-code")
# What may come before the first element: a byte order mark, white space, declarations, comments.
_BEFORE = rb"(?:\xef\xbb\xbf)?(?:\s|<\?[^>]{0,200}>|<!--[^>]{0,4096}-->)*+"
_ERROR = re.compile(
    _BEFORE + rb"(?:<!doctype[^>]{0,200}>\s*)?<(?:[\w.-]{1,40}:)?Error(?:Response)?[\s/>]",
    re.IGNORECASE,
)
_PAGE = re.compile(_BEFORE + rb"<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)
_STORE = re.compile("etag|x-(?:amz|goog|guploader|ms|oss|obs|cos)-.*")


def is_error_document(answer: Answer) -> bool:
    """Whether the answer is an error: in XML, as stores write it, in JSON, or in a header."""
    body = answer.body
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        body = body.decode("utf-16", "replace").encode()
    return (
        _ERROR.match(body) is not None
        or _is_json_error(body)
        or not answer.headers.keys().isdisjoint(_ERROR_HEADERS)
    )


def _is_json_error(body: bytes) -> bool:
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return False
    said = {name.lower(): value for name, value in said.items()}
    return bool(said.get("error") or said.get("errors")) or said.get("success") is False


def is_page(answer: Answer) -> bool:
    """Whether the body is an HTML page and no header is one that only a store sends."""
    html = answer.headers.get("content-type", "").strip().lower().startswith("text/html")
    page = _PAGE.match(answer.body) is not None or (html and bool(answer.body.strip()))
    return page and not any(map(_STORE.fullmatch, answer.headers))


def says_that_it_exists(answer: Answer, url: PresignedUrl) -> bool:
    """Whether the answer to an upload on a condition says that the object exists.

    A 412 can have other causes, and come from a proxy: it counts only with a code or words that
    stores send for this, or without any.
    """
    said = read_error(answer, url)
    if answer.http_status == CONFLICT:
        return said.code in _EXISTS
    if answer.http_status != PRECONDITION_FAILED:
        return False
    words = (said.message or "").lower()
    return said.code in _NOT_MET or (
        said.code is None and (not words or "precondition failed" in words)
    )
