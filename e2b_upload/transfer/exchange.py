"""One request and its answer: what a PUT to a store and a question to an API have in common."""

from __future__ import annotations

import contextlib
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import requests
import urllib3

from e2b_upload import __version__
from e2b_upload.errors import UploadError
from e2b_upload.transfer.answer import MAX_ANSWER_BYTES, Answer, broken
from e2b_upload.transfer.body import Body
from e2b_upload.transfer.connection import SendingAdapter
from e2b_upload.transfer.headers import encoded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from e2b_upload.transfer.deadline import Deadline
    from e2b_upload.transfer.retry import Patience
    from e2b_upload.transfer.url import PresignedUrl


NO_CONTENT = 204
_USER_AGENT = f"e2b-upload/{__version__} {requests.utils.default_user_agent()}"


class _Session(requests.Session):
    """A session that leaves redirects alone: requests would read all of their answers' bodies."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Find none."""
        del resp


class Request(NamedTuple):
    """A request.

    Attributes:
        method: ``GET``, ``PUT``, …
        url: where to.
        headers: sent in addition to requests' own.
        body: what to send; empty for nothing.
    """

    method: str
    url: PresignedUrl
    headers: Mapping[str, str]
    body: Body | bytes = b""


def exchange(request: Request, patience: Patience, deadline: Deadline) -> Answer:
    """Send one request and return the answer, whatever it is.

    No redirect is followed, and ~/.netrc is not asked for a password.

    Args:
        request: what to send, and where to.
        patience: how long to wait for a connection, and for a byte to move.
        deadline: of all of it.

    Raises:
        UnavailableError: no answer, or half of one.
        RefusedError: a certificate or a proxy that will be the same the next time.
        UsageError: a URL, proxy or CA bundle that cannot be used.
        Carried: with what ends it before its time.
    """
    method, url, headers, body = request
    with _Session() as session:
        session.headers["User-Agent"] = _USER_AGENT
        adapter = SendingAdapter(url.target, patience.stall_timeout, deadline)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        try:
            response = session.request(
                method,
                url.origin,  # the adapter adds the target: requests would rewrite it
                data=cast("Iterable[bytes] | bytes", body),  # a Body's views are sent as they are
                headers=encoded(headers),
                auth=_no_auth,
                allow_redirects=False,  # requests turns 301 into an empty PUT, 302 into a GET
                stream=True,
                timeout=(patience.connect_timeout, patience.stall_timeout),
            )
        except UploadError:
            raise
        # TypeError: requests on a proxy's address without a host.
        except (OSError, ValueError, TypeError, urllib3.exceptions.HTTPError) as error:
            progress = body.progress if isinstance(body, Body) else ""
            raise broken(error, url, progress) from None
        with response:
            # A 204 has no body, even if its headers announce one (RFC 9112, 6.3).
            text, whole = (b"", True) if response.status_code == NO_CONTENT else _read(response.raw)
            unsent = cast("Any", response.raw)._original_response.unsent  # noqa: SLF001
            if isinstance(body, Body):
                unsent += len(body) - body.sent
            return Answer(
                http_status=response.status_code,
                headers={name.lower(): value for name, value in response.headers.items()},
                body=text,
                time=time.time(),
                whole=whole,
                unsent=unsent,
            )


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add nothing. Without any auth requests would take one for the host from ~/.netrc."""
    return request


def _read(raw: urllib3.HTTPResponse) -> tuple[bytes, bool]:
    """Return what came of an answer's body, up to a bound, and whether that is all of it.

    It may break off or stall.
    """
    text = b""
    with contextlib.suppress(OSError, HTTPException, urllib3.exceptions.HTTPError):
        while piece := raw.read1(MAX_ANSWER_BYTES - len(text), decode_content=True):
            text = text + piece if text else piece.lstrip()  # S3 may send white space for minutes
            if len(text) >= MAX_ANSWER_BYTES:
                return text, False
        return text, True
    return text, False
