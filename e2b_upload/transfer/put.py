"""A file goes to a presigned URL, in as many attempts as it takes; the answer is its receipt."""

from __future__ import annotations

import base64
import hashlib
import os
import time
import zlib
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin, urlsplit

from e2b_upload.errors import RefusedError, SpoolError, UploadError, UsageError
from e2b_upload.events import Finished, Redirected, Started
from e2b_upload.transfer.answer import FOLLOWED, SUCCESS, failure, redact_location
from e2b_upload.transfer.attempts import Attempts
from e2b_upload.transfer.body import Body
from e2b_upload.transfer.deadline import Carried, Deadline
from e2b_upload.transfer.exchange import exchange
from e2b_upload.transfer.expected import check_expected
from e2b_upload.transfer.presigned import check_terms, read_terms
from e2b_upload.transfer.receipt import DamagedError, read_claims, verify
from e2b_upload.transfer.url import parse

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from e2b_upload.events import Event, OnEvent
    from e2b_upload.transfer.answer import Answer
    from e2b_upload.transfer.receipt import Algorithm
    from e2b_upload.transfer.retry import Patience
    from e2b_upload.transfer.url import PresignedUrl

MAX_REDIRECTS = 5
_READ_BYTES = 1024 * 1024
_CRC_BYTES: dict[Algorithm, int] = {"crc32": 4, "crc32c": 4, "crc64nvme": 8}


class Source(NamedTuple):
    """What is put.

    Attributes:
        descriptor: of a regular file; its position does not matter.
        digest: gives its SHA-256 or MD5 as bytes; may wait until they are computed.
        hashed: whether it does not.
    """

    descriptor: int
    digest: Callable[[Algorithm], bytes]
    hashed: bool

    @property
    def size(self) -> int:
        """Bytes."""
        return os.stat(self.descriptor).st_size

    def digest_of(self, algorithm: Algorithm) -> bytes:
        """Return any digest that a store may tell; the rare ones take another pass."""
        if algorithm in _CRC_BYTES:
            calc = _crc(algorithm)
            crc = reduce(lambda crc, piece: calc(piece, crc), self._pieces(), 0)
            return crc.to_bytes(_CRC_BYTES[algorithm])
        if algorithm == "sha1":
            sha1 = hashlib.sha1(usedforsecurity=False)
            for piece in self._pieces():
                sha1.update(piece)
            return sha1.digest()
        return self.digest(algorithm)

    def _pieces(self) -> Iterator[bytes]:
        offset = 0
        try:
            while piece := os.pread(self.descriptor, _READ_BYTES, offset):
                offset += len(piece)
                yield piece
        except OSError as error:
            raise SpoolError(
                f"the archive cannot be read back: {error.strerror}", hint="Look at the disk."
            ) from error


def _crc(algorithm: Algorithm) -> Callable[[bytes, int], int]:
    """Return a function that continues a CRC, from 0."""
    if algorithm == "crc32":
        return zlib.crc32
    import anycrc  # noqa: PLC0415  (only a rare store asks for it)

    calc: Callable[[bytes, int], int] = anycrc.Model(
        "CRC32C" if algorithm == "crc32c" else "CRC64-NVME"
    ).calc
    return calc


class Sent(NamedTuple):
    """What came of it.

    Attributes:
        url: where it was put in the end.
        http_status: the store's answer.
        attempts: how many requests it took, redirects not counted.
        verified: the check that proved it, or None where the answer proves nothing.
        seconds: how long all of it took.
    """

    url: PresignedUrl
    http_status: int
    attempts: int
    verified: Algorithm | None
    seconds: float


class Putting:
    """One upload.

    Args:
        source: what to put.
        url: where to.
        headers: checked ones, sent beside requests' own.
        patience: how often, and how long.
        cancelled: set by another thread that does not want it any more.
        on_event: told of progress, redirects and retries.
    """

    def __init__(
        self,
        source: Source,
        url: PresignedUrl,
        *,
        headers: Mapping[str, str],
        patience: Patience,
        cancelled: threading.Event | None = None,
        on_event: OnEvent,
    ) -> None:
        self._source = source
        self._url = url
        self._headers = headers
        self._patience = patience
        self._deadline = Deadline(patience.max_time, cancelled, f"the upload to {url.host}")
        self._on_event = on_event
        self._attempts = Attempts(patience, self._deadline, on_event)

    def put(self) -> Sent:
        """Put it, again and again where that may help.

        Raises:
            UnavailableError: no answer, or one that may be another the next time.
            RefusedError: an answer that will be the same the next time, or the archive is not
                the one that was signed for.
            UsageError: a URL, proxy or CA bundle that cannot be used.
            AbandonedError: it was cancelled.
        """
        start = time.monotonic()
        terms = read_terms(self._url)
        source = self._source
        check_expected(self._url, self._headers, source.size, source.digest_of)
        while True:
            check_terms(terms, self._url, self._headers, now=time.time())
            try:
                answer, url = self._attempt()
                claims = read_claims(answer.headers, url.host)
                verified = verify(claims, self._source.digest_of, url.host)
            except Carried as carried:
                raise carried.error from None
            except UploadError as error:
                self._attempts.wait(error)
            else:
                seconds = time.monotonic() - start
                size = self._source.size
                self._on_event(Finished(step="put", done=size, entries=0, seconds=seconds))
                return Sent(url, answer.http_status, self._attempts.count, verified, seconds)

    def _attempt(self) -> tuple[Answer, PresignedUrl]:
        """PUT once, following 307 and 308; return the answer, and where it came from."""
        url, headers = self._url, self._headers
        redirects = 0
        while True:
            body = Body(self._source.descriptor, self._tell)
            self._tell(Started(step="put", total=len(body), target=url.shown))
            answer = exchange(
                "PUT",
                url,
                body,
                headers=self._with_md5(url, headers),
                patience=self._patience,
                deadline=self._deadline,
                unread=SUCCESS,
            )
            if answer.http_status in SUCCESS:
                _took_all(body, answer, url)
                return answer, url
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
            self._tell(Redirected(http_status=answer.http_status, target=url.shown))

    def _tell(self, event: Event) -> None:
        """Call who watches; what that raises ends the put, whatever it is."""
        try:
            self._on_event(event)
        except BaseException as error:  # noqa: BLE001
            raise Carried(error) from None

    def _with_md5(self, url: PresignedUrl, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers with a Content-MD5, by which a store refuses what was damaged.

        Only where the signature allows it. A file that is hashed while it is sent goes out without
        one the first time, unless it is signed.
        """
        terms = read_terms(url)
        known = self._source.hashed or self._attempts.count > 1
        wanted = terms.needs_md5 or (terms.takes_md5 and known)
        if not wanted or any(name.lower() == "content-md5" for name in headers):
            return dict(headers)
        return {**headers, "Content-MD5": base64.b64encode(self._source.digest("md5")).decode()}


def _took_all(body: Body, answer: Answer, url: PresignedUrl) -> None:
    if body.sent < len(body):
        raise DamagedError(
            f"{url.host} answered {answer.http_status} after {body.progress}: "
            "what it stored is not the archive",
            hint="Try again. If it stays so, something on the way is broken: a proxy?",
            http_status=answer.http_status,
        )


def _redirected(answer: Answer, url: PresignedUrl) -> PresignedUrl:
    """Return where a redirect leads, if a secret may go there."""
    why = "and it is no URL to PUT to"
    try:
        target = parse(urljoin(url.url, answer.headers["location"]))
        if urlsplit(url.url).scheme == "http" or urlsplit(target.url).scheme == "https":
            return target.beside(url)
        why = "which is not encrypted"
    except (UsageError, ValueError):
        pass
    raise RefusedError(
        f"{url.host} redirected the upload to {redact_location(answer, url)}, {why}",
        hint="Ask for a URL of the right endpoint or region.",
        http_status=answer.http_status,
    )
