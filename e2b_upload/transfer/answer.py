"""What an answer or a broken connection means: a failure with its kind, its words, a next step.

Pure: values in, an error out. The store's words are shown, its URL's query never is.
"""

from __future__ import annotations

import html
import re
import socket
import ssl
from dataclasses import dataclass
from http.client import BadStatusLine, RemoteDisconnected
from typing import TYPE_CHECKING

import requests
import urllib3

from e2b_upload.errors import RefusedError, UnavailableError, UsageError, printable
from e2b_upload.transfer.receipt import DamagedError
from e2b_upload.transfer.redaction import REDACTED, blot_out, redact
from e2b_upload.transfer.retry import read_date, read_retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from e2b_upload.errors import UploadError
    from e2b_upload.transfer.url import PresignedUrl

SUCCESS = frozenset({200, 201, 204})
FOLLOWED = frozenset({307, 308})
# Worth another attempt. All that is not named here is not.
PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504, 509})
PASSING_CODE = frozenset({"RequestTimeout", "SlowDown", "InternalError"})
# What came is not what its Content-MD5 says: S3's, Azure's.
DAMAGED_CODE = frozenset({"BadDigest", "Md5Mismatch"})
# A signature's time is judged by the store's clock, a URL's expiry also by this machine's.
_MAYBE_SKEW = frozenset({400, 401, 403})
_SKEW_SECONDS = 300

# What OpenSSL says, on this side or for the other, of bytes that were damaged on the way.
_DAMAGED_TLS = ("BAD_RECORD_MAC", "DECRYPT", "DECODE_ERROR", "BAD_LENGTH")

MAX_ANSWER_BYTES = 64 * 1024
_MAX_WORDS = 500  # characters of a store's text that are shown
_MAX_ELEMENT = 4096  # and that are looked at
_ESCAPED = 3  # characters for one that a store escapes
_REQUEST_ID = ("x-amz-request-id", "x-ms-request-id", "x-guploader-uploadid", "x-oss-request-id")

_FRESH_URL = "Ask for a fresh URL: this one expired, or was not signed for this PUT."
_HINT = {
    "AccessDenied": _FRESH_URL,
    "AuthenticationFailed": _FRESH_URL,
    "AuthorizationFailure": _FRESH_URL,
    "EntityTooLarge": "The store takes no object of this size in one PUT: send less.",
    "ExpiredToken": _FRESH_URL,
    "InvalidAccessKeyId": "The key that signed the URL is not valid there: sign with another.",
    "MissingContentLength": "Something on the way took Content-Length out: look at the proxy.",
    "NoSuchBucket": "Create the bucket, or sign a URL for one that exists.",
    "NotImplemented": "The store does not support this request: is it a presigned PUT URL?",
    "RequestTimeTooSkewed": "This machine's clock is wrong: set it and try again.",
    "SignatureDoesNotMatch": (
        "Was the URL signed for PUT? Send every header that was signed with -H, exactly as it was "
        "signed, and the URL exactly as it was given."
    ),
}
_HINT_STATUS = {
    401: _FRESH_URL,
    403: _FRESH_URL,
    404: "Is the URL right? Nothing takes a PUT there.",
    405: "Is it a URL for PUT? This one does not allow the method.",
    407: "Put the proxy's user and password into HTTPS_PROXY, or go around it with NO_PROXY.",
    411: "Something on the way took Content-Length out: look at the proxy.",
    412: "A condition that was signed or sent with -H does not hold.",
    413: "The store takes no object of this size in one PUT: send less.",
    501: "The store does not support this request: is it a presigned PUT URL?",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a store answered.

    Attributes:
        http_status: the status line's number.
        headers: names in lower case.
        body: the beginning of it, ``MAX_ANSWER_BYTES`` at most.
        time: when it came, seconds since the epoch by this machine's clock.
        whole: whether ``body`` is all that was to come.
    """

    http_status: int
    headers: Mapping[str, str]
    body: bytes
    time: float
    whole: bool = True


def failure(answer: Answer, url: PresignedUrl) -> UploadError:
    """Return the error that an answer other than success stands for."""
    status = answer.http_status
    # Before anything is cut out of it: half a secret would not be found.
    text = blot_out(answer.body.decode("utf-8", "replace"), url.secrets)
    code, words, request_id = (
        _element(text, name, url) for name in ("Code", "Message", "RequestId")
    )
    if request_id is None:
        named = (answer.headers[name] for name in _REQUEST_ID if name in answer.headers)
        request_id = url.redact(next(named, ""))[:_MAX_WORDS] or None
    told = ": ".join(filter(None, [" ".join(filter(None, [str(status), code])), words]))
    if request_id:
        told += f" (request id {request_id})"
    kind: type[UploadError] = RefusedError
    verb, hint = "refused", "The same request will be refused again: look at the URL."
    if status in PASSING_STATUS or code in PASSING_CODE:
        kind, verb, hint = UnavailableError, "failed", "It may pass: try again later."
    if 300 <= status < 400:  # noqa: PLR2004
        verb = f"redirected (to {redact_location(answer, url)}) and did not take"
        hint = "The PUT is not sent on there: ask for a URL of the right endpoint or region."
    if code in DAMAGED_CODE:
        kind, verb, hint = DamagedError, "refused", "Something on the way changes what is sent."
    hint = _HINT.get(code or "", _HINT_STATUS.get(status, hint)) + _skew(answer)
    error = kind(
        printable(f"{url.host} {verb} the upload to {url.shown}: {told}"),
        hint=hint,
        http_status=status,
        code=code,
        request_id=request_id,
    )
    if isinstance(error, UnavailableError):
        error.retry_after = read_retry_after(answer.headers, answer.time)
    return error


def _skew(answer: Answer) -> str:
    """Return words about a clock that is wrong, where the answer tells another time."""
    date = read_date(answer.headers.get("date", ""))
    if answer.http_status not in _MAYBE_SKEW or date is None:
        return ""
    ahead = answer.time - date
    if abs(ahead) < _SKEW_SECONDS:
        return ""
    how = "ahead of" if ahead > 0 else "behind"
    return f" This machine's clock is {abs(ahead) / 60:.0f} minutes {how} the store's."


def redact_location(answer: Answer, url: PresignedUrl) -> str:
    """Return where a redirect points, without its query, and without what is secret of a URL."""
    location = blot_out(answer.headers.get("location") or "nowhere", url.secrets)
    where, query, _ = location.partition("?")
    return printable(redact(where[:_MAX_WORDS]) + (REDACTED if query else ""))


def broken(error: BaseException, url: PresignedUrl, progress: str) -> UploadError:
    """Return the error that a request without an answer stands for.

    Args:
        error: what requests raised; its own words hold the URL and are not shown.
        url: where to.
        progress: how much of an archive was sent, for the message; empty where none was to be.
    """
    causes = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if caused_by(urllib3.exceptions.InvalidHeader):  # the answer's; requests has one of its own
        return _broken_connection(causes, url, progress)
    if type(error) in {TypeError, ValueError} or caused_by(
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.InvalidHeader,
        urllib3.exceptions.LocationParseError,
        UnicodeError,
    ):
        # Without the library's words: they may hold a proxy's password.
        return UsageError(
            f"{url.shown} cannot be requested: the proxy's address, or the URL, does not parse",
            hint="Look at HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; socks5:// needs the extra socks.",
        )
    if certificate := caused_by(ssl.SSLCertVerificationError):
        why = getattr(certificate, "verify_message", "") or str(certificate)
        return RefusedError(
            printable(f"the certificate of {url.host} does not verify: {why}"),
            hint="Name the CA that signed it in REQUESTS_CA_BUNDLE, or look at the clock.",
        )
    if (proxy := caused_by(urllib3.exceptions.ProxyError)) is not None:
        return _broken_proxy(proxy, causes, url)
    return _broken_connection(causes, url, progress)


def _broken_proxy(
    proxy: BaseException, causes: list[BaseException], url: PresignedUrl
) -> UploadError:
    refusal = re.search(r"Tunnel connection failed: (\d{3})", " ".join(map(str, [proxy, *causes])))
    if refusal is None:
        return UnavailableError(
            printable(f"the proxy on the way to {url.host} cannot be reached: {_words(causes)}"),
            hint="Look at HTTPS_PROXY and HTTP_PROXY, or go around it with NO_PROXY.",
        )
    status = int(refusal[1])
    kind = UnavailableError if status in PASSING_STATUS else RefusedError
    return kind(
        f"the proxy refused the way to {url.host}: {status}",
        hint=_HINT_STATUS[407],
        http_status=status,
    )


def _broken_connection(
    causes: list[BaseException], url: PresignedUrl, progress: str
) -> UploadError:
    errors = urllib3.exceptions
    words = _words(causes)
    stalled, broke = f"{url.host} stalled", f"the connection to {url.host} broke"
    hint = "Try again."
    if progress:
        stalled, broke = f"the upload to {stalled} after {progress}", f"{broke} after {progress}"
        hint = "Try again: what is stored is the whole of it, or what was there before."

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if caused_by(socket.gaierror, errors.NameResolutionError):
        return UnavailableError(
            printable(f"the name {url.host} cannot be resolved: {words}"),
            hint="Is the host right, and is there a network?",
        )
    if caused_by(errors.NewConnectionError):  # urllib3 derives it from ConnectTimeoutError
        return UnavailableError(
            printable(f"no connection to {url.host}: {words}"),
            hint="Are host and port right, and is the server up? Try again later.",
        )
    if caused_by(errors.ConnectTimeoutError):
        return UnavailableError(
            f"{url.host} does not answer: no connection in time",
            hint="Is there a network, or a firewall on the way? Try again later.",
        )
    if caused_by(TimeoutError, errors.TimeoutError):
        return UnavailableError(
            f"{stalled}: no byte moved in time",
            hint="Try again, wait for longer with --stall-timeout, or use another network.",
        )
    for cause in causes:
        if (
            isinstance(cause, ssl.SSLError)
            and not isinstance(
                cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
            )
            and not any(word in str(cause.reason) for word in _DAMAGED_TLS)
        ):
            return RefusedError(
                printable(f"no TLS with {url.host}: {cause.reason or cause}"),
                hint="Is it https there at all?",
            )
    return UnavailableError(
        printable(f"{broke}: {words}"),
        hint=hint,
    )


def _words(causes: list[BaseException]) -> str:
    """Return the plainest words among the causes: the system's, else what went wrong in HTTP."""
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror and cause.errno:
            return cause.strerror
    for cause in causes:
        if isinstance(cause, RemoteDisconnected):
            return "closed without an answer"
        if isinstance(cause, BadStatusLine):
            return "the answer is not HTTP"
    return type(causes[-1]).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it wraps, as requests and urllib3 do: in four ways."""
    found: list[BaseException] = [error]
    for cause in found:
        yield cause
        wrapped = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        found.extend(
            inner
            for inner in wrapped
            if isinstance(inner, BaseException) and not any(inner is seen for seen in found)
        )


def _element(text: str, name: str, url: PresignedUrl) -> str | None:
    """Return the text of an element of a store's XML error.

    Not an XML parser: the answer comes from outside, and a search has no entities to expand.
    """
    match = re.search(rf"<{name}>([^<]{{,{_MAX_ELEMENT}}})(<?)", text)
    if match is None:
        return None
    words, end = match.groups()
    if not end:  # it breaks off, and may do so within a secret
        words = words[: -_ESCAPED * max(map(len, url.secrets), default=0) or None]
    # As it reads now: a secret may have been escaped.
    return " ".join(url.redact(html.unescape(words)).split())[:_MAX_WORDS] or None
