"""One PUT of a file to a presigned URL, with one exact Content-Length."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, cast
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from e2b_upload.errors import (
    RefusedError,
    SpoolError,
    UnavailableError,
    UploadError,
    UsageError,
)
from e2b_upload.events import Finished, Progress, Redirected, Started
from e2b_upload.transfer.answer import (
    FOLLOWED,
    MAX_ANSWER_BYTES,
    SUCCESS,
    Answer,
    broken,
    failure,
    redact_location,
)
from e2b_upload.transfer.connection import SendingAdapter
from e2b_upload.transfer.url import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from e2b_upload.events import OnEvent
    from e2b_upload.transfer.url import PresignedUrl

CONNECT_TIMEOUT = 10.0
STALL_TIMEOUT = 60.0
MAX_REDIRECTS = 5
# Small enough that progress shows on a slow link, and that the one buffer stays in a core's cache.
PIECE_BYTES = 256 * 1024


class _StoppedByWatcher(BaseException):
    """Carries what a callback raised past urllib3, which takes an OSError for the network's."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Session(requests.Session):
    """A session that leaves redirects alone: requests would read all of their answers' bodies."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Find none."""
        del resp


class Body:
    """A file as requests must see it to send one Content-Length: sized, and iterable anew.

    A file object would be chunked or read in pieces of 16 KiB; a bare generator is chunked, which
    S3 answers with 501; a generator with a Content-Length by hand sends both headers.

    Args:
        descriptor: of a regular file; its position does not matter.
        on_event: told of each piece that was sent.

    Attributes:
        sent: bytes that the last iteration handed over.
    """

    def __init__(self, descriptor: int, on_event: OnEvent) -> None:
        self._descriptor = descriptor
        self._size = os.stat(descriptor).st_size
        self._on_event = on_event
        self.sent = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[memoryview]:
        self.sent = 0
        # One buffer for all: it is sent when the next piece is asked for, and stays in the cache.
        buffer = memoryview(bytearray(min(PIECE_BYTES, self._size)))
        while self.sent < self._size:
            piece = buffer[: self._size - self.sent]
            try:
                count = os.preadv(self._descriptor, [piece], self.sent)
            except OSError as error:
                raise SpoolError(
                    f"the archive cannot be read back: {error.strerror}", hint="Look at the disk."
                ) from error
            if not count:
                raise SpoolError(
                    f"the archive shrank while it was sent: {self.sent} of {self._size} bytes",
                    hint="Something else writes to it: make a new one.",
                )
            yield piece[:count]
            self.sent += count
            try:
                self._on_event(Progress(step="put", done=self.sent))
            except BaseException as error:  # noqa: BLE001
                raise _StoppedByWatcher(error) from None

    @property
    def progress(self) -> str:
        """How far it came, for messages."""
        return f"{self.sent} of {self._size} bytes"


def put_once(
    descriptor: int, url: PresignedUrl, *, headers: Mapping[str, str], on_event: OnEvent
) -> tuple[Answer, PresignedUrl]:
    """PUT a file, following 307 and 308; return the store's answer, and where it came from.

    Args:
        descriptor: of a regular file.
        url: where to.
        headers: checked ones, sent beside requests' own.
        on_event: told of progress and of redirects.

    Raises:
        UnavailableError: no answer, or one that may be another the next time.
        RefusedError: an answer that will be the same the next time.
        UsageError: a URL, proxy or CA bundle that cannot be used.
    """
    start = time.monotonic()
    redirects = 0
    while True:
        body = Body(descriptor, on_event)
        on_event(Started(step="put", total=len(body), target=url.shown))
        answer = _send(body, url, headers)
        if answer.http_status in SUCCESS:
            break
        if answer.http_status not in FOLLOWED or not answer.headers.get("location"):
            raise failure(answer, url)
        if redirects == MAX_REDIRECTS:
            raise RefusedError(
                f"{url.host} redirected the upload more than {MAX_REDIRECTS} times",
                hint="Ask for a URL of the right endpoint or region.",
                http_status=answer.http_status,
            )
        redirects += 1
        target = _redirected(answer, url)
        if target.host != url.host:
            headers = {}  # meant for the first host, and perhaps for nobody else's eyes
        url = target
        on_event(Redirected(http_status=answer.http_status, target=url.shown))
    if body.sent < len(body):
        raise UnavailableError(
            f"{url.host} answered {answer.http_status} after {body.progress}: "
            "what it stored is not the archive",
            hint="Try again. If it stays so, something on the way is broken: a proxy?",
            http_status=answer.http_status,
        )
    seconds = time.monotonic() - start
    on_event(Finished(step="put", done=body.sent, entries=0, seconds=seconds))
    return answer, url


def _redirected(answer: Answer, url: PresignedUrl) -> PresignedUrl:
    """Return where a redirect leads, if a secret may go there."""
    why = "and it is no URL to PUT to"
    try:
        target = parse(urljoin(url.url, answer.headers["location"]))
        if urlsplit(url.url).scheme == "http" or urlsplit(target.url).scheme == "https":
            return target
        why = "which is not encrypted"
    except (UsageError, ValueError):
        pass
    raise RefusedError(
        f"{url.host} redirected the upload to {redact_location(answer)}, {why}",
        hint="Ask for a URL of the right endpoint or region.",
        http_status=answer.http_status,
    )


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add nothing. Without any auth requests would take one for the host from ~/.netrc."""
    return request


def _send(body: Body, url: PresignedUrl, headers: Mapping[str, str]) -> Answer:
    """Send one request and return what was answered, whatever it was."""
    with _Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, SendingAdapter(STALL_TIMEOUT))
        try:
            response = session.put(
                url.url,
                data=cast("Iterable[bytes]", body),  # its views are sent as they are
                headers=dict(headers),
                auth=_no_auth,
                allow_redirects=False,  # requests turns 301 into an empty PUT, 302 into a GET
                stream=True,
                timeout=(CONNECT_TIMEOUT, STALL_TIMEOUT),
            )
        except UploadError:
            raise
        except _StoppedByWatcher as stopped:
            raise stopped.error from None
        # TypeError: requests on a proxy's address without a host.
        except (OSError, ValueError, TypeError, urllib3.exceptions.HTTPError) as error:
            raise broken(error, url, body.progress) from None
        with response:
            text = b"" if response.status_code in SUCCESS else _beginning(response.raw)
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status_code, lower, text)


def _beginning(raw: urllib3.HTTPResponse) -> bytes:
    """Return what came of an answer's body, up to a bound. It may break off or stall."""
    text = b""
    with contextlib.suppress(Exception):
        while piece := raw.read1(MAX_ANSWER_BYTES - len(text), decode_content=True):
            text += piece
            if len(text) >= MAX_ANSWER_BYTES:
                break
    return text
