"""A file goes to a presigned URL, in as many attempts as it takes; the answer is its receipt."""

from __future__ import annotations

import base64
import hashlib
import os
import time
import zlib
from functools import reduce
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from e2b_upload.errors import RefusedError, SpoolError, UnavailableError, UploadError
from e2b_upload.events import Finished, PageAnswered, Redirected, Started
from e2b_upload.transfer.answer import FOLLOWED, failure
from e2b_upload.transfer.attempts import Attempts
from e2b_upload.transfer.body import Body
from e2b_upload.transfer.condition import only_if_absent
from e2b_upload.transfer.deadline import Carried, Deadline
from e2b_upload.transfer.exchange import exchange
from e2b_upload.transfer.expected import check_expected
from e2b_upload.transfer.presigned import check_size, check_terms, read_query, read_terms
from e2b_upload.transfer.receipt import DamagedError, read_claims, verify
from e2b_upload.transfer.redirect import headers_for_another_host, redirect_target
from e2b_upload.transfer.success import (
    CONFLICT,
    PRECONDITION_FAILED,
    SUCCESS,
    is_error_document,
    is_page,
    says_that_it_exists,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from e2b_upload.events import Event, OnEvent
    from e2b_upload.transfer.answer import Answer
    from e2b_upload.transfer.presigned import Terms
    from e2b_upload.transfer.receipt import Algorithm
    from e2b_upload.transfer.retry import Patience
    from e2b_upload.transfer.url import PresignedUrl

EXPECT_BYTES = 4 * 1024 * 1024
"""The smallest body that waits for ``100 Continue``: a smaller one costs less than the wait."""
EXPECT = {"Expect": "100-continue"}
EXPECTATION_FAILED = 417
MAX_REDIRECTS = 5
_PROBABLY = (
    "The object is probably this archive: an attempt before this one sent all of it and was not "
    "told that it failed for good. Compare the object's MD5 or size with the archive's."
)
Proof: TypeAlias = "Algorithm | Literal['content-md5']"
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
    """The result of an upload.

    Attributes:
        url: where it was put in the end.
        http_status: the store's answer.
        attempts: how many requests it took, redirects not counted.
        verified: the check that proved it, or None if the answer proves nothing.
        seconds: how long all of it took.
        present: True if nothing was stored, because the object existed.
    """

    url: PresignedUrl
    http_status: int
    attempts: int
    verified: Proof | None
    seconds: float
    present: bool = False


class Putting:
    """One upload.

    Args:
        source: what to put.
        url: where to.
        headers: checked ones, sent beside requests' own.
        patience: how often, and how long.
        if_absent: store it only if the object does not exist.
        ignore_checksum: do not compare the store's digests with the archive's.
        max_size: bytes that the caller allows; None for what the store takes in one PUT.
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
        if_absent: bool = False,
        ignore_checksum: bool = False,
        max_size: int | None = None,
        cancelled: threading.Event | None = None,
        on_event: OnEvent,
    ) -> None:
        self._source = source
        self._url = url
        self._headers = headers
        self._patience = patience
        self._if_absent = if_absent
        self._ignore_checksum = ignore_checksum
        self._max_size = max_size
        self._deadline = Deadline(patience.max_time, cancelled, f"the upload to {url.host}")
        self._on_event = on_event
        self._attempts = Attempts(patience, self._deadline, on_event)
        self._body = Body(source.descriptor, self._tell)
        self._expects = len(self._body) >= EXPECT_BYTES
        self._sent_whole = False  # in an attempt before this one, whose outcome is not known
        self._damaged: DamagedError | None = None  # an attempt before this one stored other bytes

    def put(self) -> Sent:
        """Upload, retrying transient failures.

        Raises:
            UnavailableError: no answer, or one that may be another the next time.
            RefusedError: an answer that will be the same the next time, or the archive is not
                the one that was signed for.
            UsageError: a URL, proxy or CA bundle that cannot be used.
            AbandonedError: it was cancelled.
        """
        start = time.monotonic()
        while True:
            try:
                sent = self._attempt()._replace(seconds=time.monotonic() - start)
            except Carried as carried:
                raise carried.error from None
            except UploadError as error:
                self._recall(error)
                self._attempts.wait(error)
                if not isinstance(error, DamagedError):
                    self._sent_whole |= self._body.sent == len(self._body)
                elif error.code is None:  # with a code the store has refused it
                    self._damaged = error
            else:
                if not sent.present:
                    self._on_event(
                        Finished(step="put", done=len(self._body), entries=0, seconds=sent.seconds)
                    )
                return sent

    def _recall(self, error: UploadError) -> None:
        """Say in the hint what attempts before this one may have stored."""
        if self._damaged and error is not self._damaged:
            error.hint += (
                " An attempt before this one was answered with success for other bytes: the "
                "object may be damaged."
            )
        elif self._sent_whole and isinstance(error, RefusedError) and error.hint != _PROBABLY:
            error.hint += (
                " An attempt before this one sent the whole archive: the object may be stored."
            )

    def _attempt(self) -> Sent:
        """PUT once, following 307 and 308."""
        url, headers = self._url, dict(self._headers)
        redirects = 0
        while True:
            terms = read_terms(url)
            answer, sent = self._request(url, terms, self._checked(url, terms, headers))
            if answer.http_status in SUCCESS:
                return self._accepted(answer, url, terms, sent)
            if answer.http_status not in FOLLOWED or not answer.headers.get("location"):
                return self._refused(answer, url)
            if redirects == MAX_REDIRECTS:
                raise RefusedError(
                    f"{url.host} redirected the upload more than {MAX_REDIRECTS} times",
                    hint="Ask for a URL of the right endpoint or region.",
                    http_status=answer.http_status,
                )
            redirects += 1
            target = redirect_target(answer, url)
            if target.host != url.host:
                headers = headers_for_another_host(headers, url, target, terms.required_headers)
            url = target
            self._tell(Redirected(http_status=answer.http_status, target=url.shown))

    def _checked(self, url: PresignedUrl, terms: Terms, headers: dict[str, str]) -> dict[str, str]:
        """Return the headers for a URL, if the store will not surely refuse them."""
        if self._if_absent:
            headers = only_if_absent(headers, terms, url)
        check_terms(terms, url, headers, now=time.time())
        check_size(terms, url, len(self._body), self._max_size)
        check_expected(url, headers, len(self._body), self._source.digest_of)
        return headers

    def _request(
        self, url: PresignedUrl, terms: Terms, headers: dict[str, str]
    ) -> tuple[Answer, dict[str, str]]:
        """Send one request; return the answer, and the headers that it was sent with."""
        headers = self._with_md5(terms, headers)
        own = next((name for name in headers if name.lower() == "expect"), None)
        if own and not headers[own]:  # as with curl, -H 'Expect:' turns it off
            headers = {name: headers[name] for name in headers if name != own}
        while True:
            expect = EXPECT if self._expects and own is None else {}
            self._body.sent = 0
            self._tell(Started(step="put", total=len(self._body), target=url.shown))
            answer = exchange(
                "PUT",
                url,
                self._body,
                headers={**headers, **expect},
                patience=self._patience,
                deadline=self._deadline,
            )
            if answer.http_status != EXPECTATION_FAILED or not expect:
                return answer, headers
            self._expects = False

    def _with_md5(self, terms: Terms, headers: dict[str, str]) -> dict[str, str]:
        """Return headers with a Content-MD5, by which a store refuses what was damaged.

        Only where the signature allows it. A file that is hashed while it is sent goes out without
        one the first time, unless it is signed.
        """
        known = self._source.hashed or self._attempts.count > 1
        wanted = terms.needs_md5 or (terms.takes_md5 and known)
        if not wanted or "content-md5" in map(str.lower, headers):
            return headers
        return {**headers, "Content-MD5": base64.b64encode(self._source.digest("md5")).decode()}

    def _accepted(
        self, answer: Answer, url: PresignedUrl, terms: Terms, headers: Mapping[str, str]
    ) -> Sent:
        """Return the result of a 2xx, unless it does not mean that the archive is stored."""
        status = answer.http_status
        if is_error_document(answer):
            # A code that breaks off names another error, or none.
            raise _broken_off(answer, url) if answer.is_cut else failure(answer, url)
        page = is_page(answer)
        if page and terms.dialect is not None:
            raise RefusedError(
                f"{url.host} answered {status} with an HTML page, not as a store does: "
                "nothing shows that the archive is stored",
                hint="Does this network ask for a login first, or does a proxy answer in the "
                "store's place? Check the network and HTTPS_PROXY, then try again.",
                http_status=status,
            )
        if answer.unsent:
            sent = max(len(self._body) - answer.unsent, 0)
            raise DamagedError(
                f"{url.host} answered {status} after {sent} of {len(self._body)} bytes: "
                "what it stored is not the archive",
                hint="Try again. If it happens again, a proxy or the server on the way is broken.",
                http_status=status,
            )
        verified = self._verified(answer, url, terms, headers)
        if page:
            self._tell(PageAnswered(host=url.host, http_status=status))
        return Sent(url, status, self._attempts.count, verified, 0.0)

    def _verified(
        self, answer: Answer, url: PresignedUrl, terms: Terms, headers: Mapping[str, str]
    ) -> Proof | None:
        """Return what proves that the store holds the archive."""
        sent = {name.lower(): value for name, value in headers.items()}
        if not self._ignore_checksum:
            claims = read_claims(answer.headers, url.host, {**read_query(url), **sent})
            if proof := verify(claims, self._source.digest_of, url.host):
                return proof
        if answer.is_cut:  # the rest may be an error document
            raise _broken_off(answer, url)
        return "content-md5" if terms.checks_md5 and "content-md5" in sent else None

    def _refused(self, answer: Answer, url: PresignedUrl) -> Sent:
        """Raise what any other answer means, unless the object exists and that is fine."""
        error = failure(answer, url)
        exists = says_that_it_exists(answer, url)
        if exists and self._damaged:
            if self._sent_whole:
                self._damaged.hint = (
                    "The object exists now. It is either damaged, or this archive from an attempt "
                    "whose answer was lost: compare its MD5 or size with the archive's."
                )
            raise self._damaged
        if exists and self._if_absent:
            return Sent(url, answer.http_status, self._attempts.count, None, 0.0, present=True)
        if (
            answer.http_status in {PRECONDITION_FAILED, CONFLICT}
            and isinstance(error, RefusedError)
            and self._sent_whole
        ):
            error.hint = _PROBABLY
        raise error

    def _tell(self, event: Event) -> None:
        """Call the callback; what it raises ends the upload, whatever it is."""
        try:
            self._on_event(event)
        except BaseException as error:  # noqa: BLE001
            raise Carried(error) from None


def _broken_off(answer: Answer, url: PresignedUrl) -> UnavailableError:
    return UnavailableError(
        f"{url.host} answered {answer.http_status}, and broke off within its answer: "
        "the archive may be stored or not",
        hint="Try again.",
        http_status=answer.http_status,
    )
