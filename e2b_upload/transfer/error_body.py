"""What an error says for itself: the code and the message of XML, JSON, HTML or plain text.

Everything here comes from outside. It is bounded, and the secrets of the URL are removed before
anything is cut, because half a secret would not be found. Nothing here parses XML: a search has no
entities to expand.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from e2b_upload.errors import printable
from e2b_upload.transfer.redaction import blot_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from e2b_upload.transfer.answer import Answer
    from e2b_upload.transfer.url import PresignedUrl

_MAX_INFLATED = 64 * 1024  # bytes of an answer that is compressed and does not say so
_MAX_CHARS = 500  # of a server's text that are shown
_MAX_ELEMENT = 4096  # and that are looked at
_ESCAPED = 3  # characters for one of a secret, on average: most are sent as they are
# How often text is unescaped: HTML in JSON is escaped twice.
_MAX_ESCAPES = 4
_MAX_LAYERS = 4  # objects in objects: Google's error has three

_REQUEST_ID = ("x-amz-request-id", "x-ms-request-id", "x-guploader-uploadid", "x-oss-request-id")
# Azure's, S3's for websites, and that of Amazon's JSON services. An answer to HEAD, or a 304 or a
# 412, often has no body but these.
CODE_HEADERS = ("x-ms-error-code", "x-amz-error-code", "x-amzn-errortype")
_MESSAGE_HEADERS = ("x-amz-error-message",)

# Where JSON errors have their code and message, in lower case, the most telling name first.
# Google: error.errors[].reason, error.status. Amazon: __type. Supabase and NestJS: error beside
# message. OAuth: error and error_description. RFC 9457: detail and title.
_CODE_NAMES = ("reason", "__type", "error_code", "errorcode", "code", "error", "status")
_MESSAGE_NAMES = ("message", "error_description", "error_message", "detail", "title", "msg")
_STATUS_NAMES = ("status", "code", "statuscode")
_STATUS = re.compile("[1-5][0-9][0-9]")
_REQUEST_ID_NAMES = ("request_id", "requestid")
_INNER_NAMES = ("error", "errors", "detail")
_CODE = re.compile(r"[A-Za-z0-9_.:#/-]{1,200}")

_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
_ENDPOINT = re.compile(r"(?:https?://)?[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?/?")

_TITLE = re.compile(rf"<title(?:\s[^>]{{0,200}})?>([^<]{{,{_MAX_ELEMENT}}})<", re.IGNORECASE)
_BACKSLASH = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([/\"'\\]))")


class ErrorBody(NamedTuple):
    """What a server says about an error: bounded, printable, without secrets.

    Attributes:
        code: its name for the error, such as ``AccessDenied``.
        message: its words.
        request_id: what its operators ask for.
        region: where the bucket is, if the request went elsewhere.
        endpoint: the host to send the request to, if it is another.
        status: an HTTP status that JSON names; it differs from the answer's if that is a 2xx.
    """

    code: str | None
    message: str | None
    request_id: str | None
    region: str | None
    endpoint: str | None
    status: int | None


def decoded(body: bytes) -> str:
    """Return a body as text, also if no header says that it is UTF-16 or gzip."""
    if body.startswith(b"\x1f\x8b"):
        with contextlib.suppress(zlib.error):
            body = zlib.decompressobj(31).decompress(body, _MAX_INFLATED)
    encoding = json.detect_encoding(body)
    text = body.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    if encoding.endswith(("le", "be")) and not text.startswith(("<", "{", "[")):  # binary
        return body.decode("utf-8", "replace")
    return text


def read_error(answer: Answer, url: PresignedUrl) -> ErrorBody:
    """Read the body and the headers of an error.

    Args:
        answer: of any status.
        url: its secrets, in any escaping, are not part of the result.
    """
    text = blot_out(decoded(answer.body), url.secrets)
    reader = _Reader(text, answer, url)
    code, message, request_id = reader.xml() or reader.json() or (None, None, None)
    if code is None and message is None:
        message = reader.title() if text.startswith("<") else reader.plain()
    if message and message.startswith(f"{answer.http_status} "):  # "502 Bad Gateway"
        message = message.partition(" ")[2]
    region, endpoint = reader.element("Region"), reader.element("Endpoint")
    region = region or reader.header("x-amz-bucket-region")
    return ErrorBody(
        code or _without_namespace(reader.header(*CODE_HEADERS)),
        message or reader.header(*_MESSAGE_HEADERS),
        request_id or reader.header(*_REQUEST_ID),
        region if region and _REGION.fullmatch(region) else None,
        endpoint if endpoint and _ENDPOINT.fullmatch(endpoint) else None,
        reader.status(),
    )


class _Reader:
    """Reads one answer in each of the known ways."""

    def __init__(self, text: str, answer: Answer, url: PresignedUrl) -> None:
        self._text = text
        self._answer = answer
        self._url = url

    def xml(self) -> tuple[str | None, str | None, str | None] | None:
        """Return code, message and request id of a store's XML; None if there is none of it."""
        if not self._text.startswith("<"):
            return None
        message = self.element("Message")
        # Azure repeats the request id and the time on lines of their own.
        message = message and message.partition(" RequestId:")[0]
        if detail := self.element("AuthenticationErrorDetail"):  # Azure's reason for a 403
            message = self._bounded(f"{message} {detail}" if message else detail)
        found = self.element("Code"), message, self.element("RequestId")
        return found if any(found[:2]) else None

    def json(self) -> tuple[str | None, str | None, str | None] | None:
        """Return code, message and request id of an object of JSON; None if there is none."""
        layers = _layers(self._text)
        if not layers:
            return None
        codes = filter(_CODE.fullmatch, self._values(layers, _CODE_NAMES))
        status = str(self._answer.http_status)
        named = sorted((code for code in codes if code != status), key=str.isdecimal)
        code = _without_namespace(next(iter(named), None))  # a name tells more than a number
        messages = self._values(layers, (*_MESSAGE_NAMES, "error"))
        message = next((message for message in messages if message not in {code, status}), None)
        return code, message, next(self._values(layers, _REQUEST_ID_NAMES), None)

    def status(self) -> int | None:
        """Return the HTTP status that JSON names; that of the innermost object counts."""
        named = [*self._values(_layers(self._text), _STATUS_NAMES)]
        return next((int(value) for value in named if _STATUS.fullmatch(value)), None)

    def title(self) -> str | None:
        """Return the title of a page."""
        match = _TITLE.search(self._text)
        return self._shown(match[1]) if match else None

    def plain(self) -> str | None:
        """Return the beginning of plain text; nothing of what is not text."""
        text = self._text
        if not self._answer.whole:  # it breaks off, and may do so within a secret
            text = self._without_end(text)
        return None if "\0" in text else self._shown(text)

    def element(self, name: str) -> str | None:
        """Return the text of an element of XML."""
        prefix = r"(?:[\w.-]{1,40}:)?"
        match = re.search(rf"<{prefix}{name}\s{{,9}}>([^<]{{,{_MAX_ELEMENT}}})(<?)", self._text)
        if match is None:
            return None
        words, end = match.groups()
        return self._shown(words if end else self._without_end(words))

    def header(self, *names: str) -> str | None:
        """Return the first of these headers that is there."""
        headers = self._answer.headers
        return self._shown(next((headers[name] for name in names if name in headers), ""))

    def _values(self, layers: list[Mapping[str, Any]], names: Iterable[str]) -> Iterator[str]:
        """Yield what an error says under these names, of the innermost object first."""
        for value in (layer.get(name) for layer in reversed(layers) for name in names):
            if isinstance(value, (str, int)) and not isinstance(value, bool):
                yield from filter(None, [self._shown(str(value))])

    def _shown(self, words: str) -> str | None:
        """Return words without secrets, however these were escaped, on one line and bounded."""
        if len(words) > _MAX_ELEMENT:
            words = self._without_end(words[:_MAX_ELEMENT])
        for _ in range(_MAX_ESCAPES):
            words, before = html.unescape(_BACKSLASH.sub(_unescaped, words)), words
            if words == before:
                break
        return self._bounded(self._url.redact(words))

    @staticmethod
    def _bounded(words: str) -> str | None:
        return printable(" ".join(words.split())[:_MAX_CHARS]) or None

    def _without_end(self, words: str) -> str:
        longest = max(map(len, self._url.secrets), default=0)
        return words[: -_ESCAPED * longest or None]


def _layers(text: str) -> list[Mapping[str, Any]]:
    """Return an object of JSON and those that it holds about its error, the outermost first."""
    if not text.startswith(("{", "[")):
        return []
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return []
    layers: list[Mapping[str, Any]] = []
    while said and len(layers) < _MAX_LAYERS:
        if isinstance(said, list):
            said = said[0]
        elif isinstance(said, dict):
            layers.append({name.lower(): value for name, value in said.items()})
            inner = (layers[-1].get(name) for name in _INNER_NAMES)
            said = next((value for value in inner if isinstance(value, (dict, list))), None)
        else:
            break
    return layers


def _without_namespace(code: str | None) -> str | None:
    """Return the name in one of Amazon's, such as ``com.amazon.s3#AccessDenied:http://…``."""
    return code and (code.rpartition("#")[2].partition(":")[0] or None)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else match[3]
