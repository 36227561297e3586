"""What an answer or a broken connection means: a failure with its kind, its words, a next step.

Pure: values in, an error out. The store's words are shown, its URL's query never is.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from dataclasses import dataclass
from http.client import BadStatusLine, RemoteDisconnected
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from e2b_upload.errors import RefusedError, UnavailableError, UsageError, printable
from e2b_upload.transfer.error_body import read_error
from e2b_upload.transfer.receipt import DamagedError
from e2b_upload.transfer.redaction import REDACTED, blot_out, redact
from e2b_upload.transfer.retry import read_date, read_retry_after
from e2b_upload.transfer.success import PRECONDITION_FAILED, SUCCESS, is_page
from e2b_upload.transfer.trust import BUNDLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from e2b_upload.errors import UploadError
    from e2b_upload.transfer.error_body import ErrorBody
    from e2b_upload.transfer.url import PresignedUrl

FOLLOWED = frozenset({307, 308})
# Transient statuses; no other is retried. Google documents 408, 429 and all of 5xx ("Retry
# strategy"), which covers Cloudflare's 520 to 530, and RFC 8470 adds 425. The same request would
# get 501 and 505 again.
PASSING_STATUS = frozenset({408, 425, 429, *range(500, 600)} - {501, 505})
# Transient codes, whatever the status they come with.
PASSING_CODE = frozenset(
    {
        # Amazon, "Error responses" and the reference of PutObject. Other stores use the same names.
        *("ConditionalRequestConflict", "IncompleteBody", "InternalError", "OperationAborted"),
        *("RequestTimeout", "ServiceUnavailable", "SlowDown"),
        # botocore's standard retry mode, except what only DynamoDB and EC2 answer.
        *("BandwidthLimitExceeded", "PriorRequestNotComplete", "RequestLimitExceeded"),
        *("RequestThrottled", "RequestThrottledException", "RequestTimeoutException"),
        *("ThrottledException", "Throttling", "ThrottlingException", "TooManyRequestsException"),
        # Azure, "Common REST API error codes".
        *("OperationTimedOut", "ServerBusy"),
        # Cloudflare R2, "Error codes": the first one comes with 400.
        *("ClientDisconnect", "TooManyRequests"),
    }
)
# What came is not what its checksum says: S3's, Azure's.
DAMAGED_CODE = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "Crc64Mismatch", "Md5Mismatch"})
# The code decides whether these are transient, and is lost if the answer breaks off before it.
_CODE_DECIDES = frozenset({400, 403, 409, PRECONDITION_FAILED})
# A signature's time is judged by the store's clock, a URL's expiry also by this machine's.
_MAYBE_SKEW = frozenset({400, 401, 403})
_SKEW_SECONDS = 300

# The bucket is in another region, or has another endpoint, than the URL was signed for.
_ELSEWHERE = frozenset(
    {
        *("AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"),
        *("EndpointNotFound", "IllegalLocationConstraintException", "InvalidRegionName"),
        *("PermanentRedirect", "Redirect", "TemporaryRedirect"),
    }
)

# What OpenSSL says, on this side or for the other, of bytes that were damaged on the way.
_DAMAGED_TLS = ("BAD_RECORD_MAC", "DECRYPT", "DECODE_ERROR", "BAD_LENGTH")
# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_ANOTHER_HOST = frozenset({62, 64})
# Alerts of a server that got no client certificate. TLS 1.2 has none for it: Go's servers send
# bad_certificate, and OpenSSL's handshake_failure, which has other causes, too.
_CLIENT_CERTIFICATE = ("ALERT_CERTIFICATE_REQUIRED", "ALERT_BAD_CERTIFICATE")
_HANDSHAKE_FAILURE = "ALERT_HANDSHAKE_FAILURE"

MAX_ANSWER_BYTES = 64 * 1024
_LOGIN = re.compile(
    "(?<![a-z])(?:log-?[io]n|sign-?in|portal|captive|sso|o?auth[0-9a-z]*)(?![a-z])", re.IGNORECASE
)
_MAX_WORDS = 500  # characters of a Location that are shown

_NO_TUNNEL = "The proxy does not allow this host: use another proxy, or bypass it with NO_PROXY."
_TRY_LATER = "The error is transient: try again later."
_HINT_ELSEWHERE = "Ask for a URL of the right endpoint or region."
NETWORK_LOGIN = (
    "Does this network ask for a login first, or does a proxy answer in the store's place? Check "
    "the network and HTTPS_PROXY, then try again."
)
_FIREWALL = (
    "A proxy or a firewall may have answered in the store's place: check the network and "
    "HTTPS_PROXY. If it was the store, ask for a fresh URL."
)
_FRESH_URL = "Ask for a fresh URL: this one expired, or was not signed for this PUT."
_HINT = {
    **dict.fromkeys(_ELSEWHERE, _HINT_ELSEWHERE),
    "AuthorizationQueryParametersError": (
        "The URL's query is incomplete or was changed: pass the URL as it was signed, and on a "
        "command line in quotes. Or sign it again."
    ),
    "AccessDenied": _FRESH_URL,
    "AuthenticationFailed": _FRESH_URL,
    "AuthorizationFailure": _FRESH_URL,
    "EntityTooLarge": "The store takes no object of this size in one PUT: send less.",
    "ExpiredRequest": _FRESH_URL,  # R2's
    "ExpiredToken": _FRESH_URL,
    "InvalidAccessKeyId": "The key that signed the URL is not valid there: sign with another.",
    "MissingContentLength": "Something on the way took Content-Length out: look at the proxy.",
    "NoSuchBucket": "Create the bucket, or sign a URL for one that exists.",
    "NotImplemented": "The store does not support this request: is it a presigned PUT URL?",
    "RequestTimeTooSkewed": "This machine's clock is wrong: set it and try again.",
    "SignatureDoesNotMatch": (
        "Was the URL signed for PUT? Send every signed header with `headers`, exactly as it was "
        "signed, and the URL exactly as it was given."
    ),
}
_DENIED = frozenset({401, 403})
_LOGIN_REQUIRED = 511
_HINT_STATUS = {
    401: _FRESH_URL,
    403: _FRESH_URL,
    404: "Is the URL right? Nothing takes a PUT there.",
    405: "Is it a URL for PUT? This one does not allow the method.",
    407: "Put the proxy's user and password into HTTPS_PROXY, or go around it with NO_PROXY.",
    411: "Something on the way took Content-Length out: look at the proxy.",
    412: "A condition that was signed or sent with `headers` does not hold.",
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
        unsent: bytes of the request that had not left this machine when the answer came.
    """

    http_status: int
    headers: Mapping[str, str]
    body: bytes
    time: float
    whole: bool = True
    unsent: int = 0

    @property
    def is_cut(self) -> bool:
        """Whether the connection broke or stalled within the body."""
        return not self.whole and len(self.body) < MAX_ANSWER_BYTES


def failure(answer: Answer, url: PresignedUrl, *, known: bool = False) -> UploadError:
    """Return the error that an answer other than success means.

    Args:
        answer: of any status.
        url: which answered.
        known: whether the URL is of a known kind of store.
    """
    status, said = answer.http_status, read_error(answer, url)
    code = said.code
    named = " ".join(filter(None, [str(status), code]))
    if status < 300 and status not in SUCCESS:  # noqa: PLR2004
        named += ", which does not say that the archive is stored"
    told = ": ".join(filter(None, [named, said.message]))
    if said.request_id:
        told += f" (request id {said.request_id})"
    kind, verb, hint = _judged(answer, said, url, known=known)
    if kind is RefusedError:
        hint = _elsewhere(status, said) or hint
    hint += _skew(answer)
    error = kind(
        printable(f"{url.host} {verb} the upload to {url.shown}: {told}"),
        hint=hint,
        http_status=status,
        code=code,
        request_id=said.request_id,
    )
    if isinstance(error, UnavailableError):
        error.retry_after = read_retry_after(answer.headers, answer.time)
    elif isinstance(error, RefusedError):  # stores have no code of their own for an expired URL
        error.expired = "expired" in f"{code} {said.message}".lower()
    return error


def _judged(
    answer: Answer, said: ErrorBody, url: PresignedUrl, *, known: bool
) -> tuple[type[UploadError], str, str]:
    """Return the kind of an error, its verb and its hint."""
    status, code = answer.http_status, said.code
    is_success = status in SUCCESS  # with an error document
    meant = said.status or status if is_success else status
    verb = f"answered {status} with an error instead of taking" if is_success else ""
    if code in DAMAGED_CODE:
        return DamagedError, verb or "refused", "Something on the way changes what is sent."
    if meant in PASSING_STATUS or code in PASSING_CODE:
        hint = NETWORK_LOGIN if status == _LOGIN_REQUIRED else _TRY_LATER
        return UnavailableError, verb or "failed", hint
    if answer.is_cut and code is None and status in _CODE_DECIDES:
        return UnavailableError, "broke off its answer to", _TRY_LATER
    if status < 300 and not is_success:  # noqa: PLR2004
        hint = "The archive may be stored or not: look at the object before you delete the source."
        return RefusedError, "answered", hint
    hint = "The same request will be refused again: look at the URL."
    if 300 <= status < 400:  # noqa: PLR2004
        where = "without a Location"
        if "location" in answer.headers:
            where = f"(to {redact_location(answer, url)})"
        verb = f"redirected {where} instead of confirming"
        hint = redirect_hint(answer, url, known=known)
    if status in _DENIED and is_page(answer):
        return RefusedError, "refused", _FIREWALL
    return RefusedError, verb or "refused", _HINT.get(code or "", _HINT_STATUS.get(meant, hint))


def redirect_hint(answer: Answer, url: PresignedUrl, *, known: bool) -> str:
    """Return what to do about a redirect that is not followed."""
    location = answer.headers.get("location", "").strip()
    try:
        here, there = urlsplit(url.url), urlsplit(urljoin(url.url, location))
        host, other = here.hostname or "", there.hostname or ""
    except ValueError:
        return _HINT_ELSEWHERE
    if (here.scheme, there.scheme) == ("http", "https") and host == other:
        return "Pass the URL with https://."
    leaves_store = known and _family(host) != _family(other)
    if location and (leaves_store or _LOGIN.search(f"{other}{there.path}")):
        return f"{NETWORK_LOGIN} Otherwise: {_HINT_ELSEWHERE}"
    return _HINT_ELSEWHERE


def _family(host: str) -> str:
    """Return what the hosts of one store have in common: an address, or the end of a name."""
    return host if host[-1:].isdigit() or ":" in host else ".".join(host.split(".")[-2:])


def _elsewhere(status: int, said: ErrorBody) -> str:
    """Return what to sign for, if the answer says that the bucket is elsewhere."""
    if said.endpoint is None and said.code not in _ELSEWHERE and not 300 <= status < 400:  # noqa: PLR2004
        return ""
    region = f"the region {said.region}" if said.region else ""
    endpoint = f"the endpoint {said.endpoint}" if said.endpoint else ""
    if told := " and ".join(filter(None, [region, endpoint])):
        return f"Ask for a URL that is signed for {told}."
    return ""


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
    if any(str(cause).startswith("Missing dependencies for SOCKS") for cause in causes):
        return UsageError(
            "a SOCKS proxy is set, and the package to use it is not installed",
            hint="Install it: pip install 'e2b-upload[socks]'. Or set an http:// proxy in "
            "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY.",
        )
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
        if getattr(certificate, "verify_code", 0) in _ANOTHER_HOST:
            return _another_host(why, url)
        return RefusedError(
            printable(f"the certificate of {url.host} does not verify: {why}"),
            hint=f"{_trust_hint()} Or is this machine's clock wrong?",
        )
    if (proxy := caused_by(urllib3.exceptions.ProxyError)) is not None:
        return _broken_proxy(proxy, causes, url)
    return _broken_connection(causes, url, progress)


def _trust_hint() -> str:
    if name := next(filter(os.environ.get, BUNDLES), None):
        return f"{name} is set, so only its CAs are trusted: add the one that signed it."
    return "Name the CA that signed it in SSL_CERT_FILE."


def _another_host(why: str, url: PresignedUrl) -> UploadError:
    named = re.search(r"not valid for '([^']{1,255})'", why)  # may be the proxy
    host = named[1] if named else urlsplit(url.shown).hostname
    return RefusedError(
        printable(f"the certificate of {url.host} does not cover the host {host}"),
        hint="Is the host right, or does a captive portal or a proxy answer for it? A bucket whose "
        "name has dots needs a path-style URL.",
    )


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
    hint = _HINT_STATUS[407] if status == 407 else _NO_TUNNEL  # noqa: PLR2004
    if kind is UnavailableError:
        hint = _TRY_LATER
    return kind(f"the proxy refused the way to {url.host}: {status}", hint=hint, http_status=status)


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
            hint="Try again, wait for longer with `stall_timeout`, or use another network.",
        )
    for cause in causes:
        if (
            isinstance(cause, ssl.SSLError)
            and not isinstance(
                cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
            )
            and not any(word in str(cause.reason) for word in _DAMAGED_TLS)
        ):
            return _no_tls(str(cause.reason or cause), url)
    return UnavailableError(
        printable(f"{broke}: {words}"),
        hint=hint,
    )


def _no_tls(reason: str, url: PresignedUrl) -> UploadError:
    if any(alert in reason for alert in _CLIENT_CERTIFICATE):
        return RefusedError(
            f"{url.host} requires a client certificate, and e2b-upload cannot send one",
            hint="Use an endpoint that does not require one, or a local proxy that sends it.",
        )
    if _HANDSHAKE_FAILURE in reason:
        return RefusedError(
            f"{url.host} refused the TLS handshake",
            hint="It may require a client certificate, which e2b-upload cannot send, or a TLS "
            "version or cipher that this machine does not offer.",
        )
    return RefusedError(
        printable(f"no TLS with {url.host}: {reason}"), hint="Is it https there at all?"
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
