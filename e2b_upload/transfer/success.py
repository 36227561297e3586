"""Whether an answer is the store's own word, and what it says. Pure.

A success can carry an error document: AWS documents it for Complete Multipart Upload, and gateways
do it for PUT. A captive portal or a proxy can answer in the store's place with a page of its own.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from e2b_upload.transfer.error_body import CODE_HEADERS, decoded, read_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2b_upload.transfer.answer import Answer
    from e2b_upload.transfer.url import PresignedUrl

SUCCESS = frozenset({200, 201, 204})
CONFLICT, PRECONDITION_FAILED = 409, 412
# Azure's and OSS's codes of a 409 for an object that exists.
_EXISTS = frozenset({"BlobAlreadyExists", "FileAlreadyExists"})
# S3's and Google's, Azure's, and that of Google's JSON.
_NOT_MET = frozenset({"PreconditionFailed", "ConditionNotMet", "conditionNotMet"})

# What may come before the first element: a byte order mark, white space, declarations, comments.
_BEFORE = r"\ufeff?(?:\s|<\?[^>]{0,200}>|<!--[^>]{0,4096}-->)*+"
_XML = re.compile(_BEFORE + r"<[!\w]")
# S3 has Error as the root, Amazon's query API <Response><Errors><Error>, SOAP a Fault.
_ERROR = re.compile(r"<(?:[\w.-]{1,40}:)?(?:Error(?:Response)?|Fault)[\s/>]", re.IGNORECASE)
_PAGE = re.compile(_BEFORE + r"<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)

_FAILED = frozenset({"error", "fail", "failed", "failure"})
_SUCCEEDED = re.compile(r"ok|succe\w+|created|uploaded|stored|complete\w*|done|none", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z][A-Za-z_.-]*")
# What API gateways say in a `message` without a code.
_SAYS_ERROR = re.compile(
    r"(?<!\bno )(?<!without )\b(?:denied|error|exceeded|expired|fail(?:ed|ure)|forbidden|invalid|"
    r"missing|not (?:authorized|found)|refused|rejected|timed out|too (?:large|long|many)|"
    r"unauthorized|unavailable)\b",
    re.IGNORECASE,
)

# Headers that stores send with a PUT. Their prefixes are not enough: CloudFront sends x-amz-cf-id,
# Google's identity proxy x-goog-iap-generated-response, and Microsoft's login x-ms-request-id.
_STORE = re.compile(
    r"""
    x-amz-(?:request-id|id-2|version-id|expiration|object-size|checksum-.*)
    |x-goog-(?:generation|metageneration|hash|stored-.*)|x-guploader-uploadid
    |x-ms-(?:version|version-id|content-crc64|request-server-encrypted)
    |x-(?:oss|obs|cos|tos|bce)-(?:request-id|id-2|version-id|hash-.*)
    |x-(?:amz|oss|obs|cos|tos)-server-side-encryption.*
    |x-trans-id|opc-request-id  # OpenStack Swift, Oracle
    """,
    re.VERBOSE,
)
# An MD5 or what looks like one, one of parts, Azure's. Web servers have other forms for files.
_STORE_ETAG = re.compile(
    r'(?:W/)?"?(?:[0-9a-f]{32}(?:-[0-9]{1,5})?|0x[0-9a-f]{15,16})"?', re.IGNORECASE
)


def has_store_header(answer: Answer) -> bool:
    """Whether a header shows that a store answered.

    CloudFront passes a store's headers on with its own error pages, and marks these.
    """
    headers = answer.headers
    if headers.get("x-cache", "").lower().startswith("error from cloudfront"):
        return False
    return _STORE_ETAG.fullmatch(headers.get("etag", "")) is not None or any(
        map(_STORE.fullmatch, headers)
    )


def is_error_document(answer: Answer) -> bool:
    """Whether the answer is an error: in XML, in JSON, by its type, or by a header."""
    body = decoded(answer.body)
    return (
        not answer.headers.keys().isdisjoint(CODE_HEADERS)
        or answer.headers.get("content-type", "").lower().startswith("application/problem+")
        or bool(_XML.match(body) and not _PAGE.match(body) and _ERROR.search(body))
        or _is_json_error(body)
    )


def _is_json_error(body: str) -> bool:
    if not body.startswith(("{", "[")):
        return False
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if isinstance(said, list) and said:  # Google's
        said = said[0]
    return isinstance(said, dict) and _is_error({key.lower(): said[key] for key in said})


def _is_error(said: Mapping[str, Any]) -> bool:
    """Whether a JSON object says that something failed; its names are in lower case."""
    if any(said.get(name) for name in ("error", "errors", "fault")):
        return True
    if any(said.get(name) is False for name in ("success", "ok")):
        return True
    outcome = [said.get(name) for name in ("status", "result", "code", "statuscode", "__type")]
    words = [str(value) for value in outcome if isinstance(value, (str, int))]
    if any(is_error_status(word) or word.lower() in _FAILED for word in words):
        return True
    message = said.get("message")
    if not isinstance(message, str) or any(map(_SUCCEEDED.fullmatch, words)):
        return False
    code = said.get("code") or said.get("__type") or ""
    return (isinstance(code, str) and _NAME.fullmatch(code) is not None) or (
        _SAYS_ERROR.search(message) is not None
    )


def is_error_status(word: str) -> bool:
    """Whether a word is the number of an HTTP status that is an error."""
    return re.fullmatch("[45][0-9][0-9]", word) is not None


def is_html(answer: Answer) -> bool:
    """Whether the type or the beginning of the body is that of an HTML page."""
    html = "text/html" in answer.headers.get("content-type", "").lower()
    return html or _PAGE.match(decoded(answer.body)) is not None


def is_page(answer: Answer) -> bool:
    """Whether the body is an HTML page, and no header shows that a store answered."""
    return bool(answer.body.strip()) and is_html(answer) and not has_store_header(answer)


def is_foreign(answer: Answer) -> bool:
    """Whether no store answers a PUT so: with a text or as HTML, and no header of its own."""
    text = bool(answer.body.strip()) and not answer.is_cut
    return (text or is_html(answer)) and not has_store_header(answer)


def says_that_it_exists(answer: Answer, url: PresignedUrl, *, known: bool) -> bool:
    """Whether the answer to an upload on a condition says that the object exists.

    A 412 can have other causes, and come from a proxy. One with a body counts only with a code of
    such a condition. One without counts if a store sent it, or the kind of store is not known.

    Args:
        answer: of any status.
        url: which answered.
        known: whether the URL is of a known kind of store.
    """
    code = read_error(answer, url).code
    if answer.http_status == CONFLICT:
        return code in _EXISTS
    if answer.http_status != PRECONDITION_FAILED:
        return False
    if code is None and not answer.body.strip():
        return not known or has_store_header(answer)
    return code in _NOT_MET
