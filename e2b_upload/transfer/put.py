"""A file goes to a presigned URL, in as many attempts as it takes; the answer is its receipt."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from e2b_upload.errors import RefusedError, UnavailableError
from e2b_upload.events import Finished, PageAnswered, Redirected, Started
from e2b_upload.transfer.answer import FOLLOWED, NETWORK_LOGIN, failure, redirect_hint
from e2b_upload.transfer.attempts import Attempts
from e2b_upload.transfer.body import Body
from e2b_upload.transfer.condition import only_if_absent
from e2b_upload.transfer.deadline import Carried
from e2b_upload.transfer.exchange import Request
from e2b_upload.transfer.expected import check_expected
from e2b_upload.transfer.presigned import check_size, check_terms, read_query, read_terms
from e2b_upload.transfer.receipt import DamagedError, check_size_told, read_claims, verify
from e2b_upload.transfer.redirect import headers_for_another_host, redirect_target
from e2b_upload.transfer.success import (
    CONFLICT,
    PRECONDITION_FAILED,
    SUCCESS,
    has_store_header,
    is_error_document,
    is_foreign,
    is_html,
    is_page,
    says_that_it_exists,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2b_upload.errors import UploadError
    from e2b_upload.events import Event, OnEvent
    from e2b_upload.transfer.answer import Answer
    from e2b_upload.transfer.attempts import Plan
    from e2b_upload.transfer.body import Source
    from e2b_upload.transfer.presigned import Terms
    from e2b_upload.transfer.receipt import Algorithm
    from e2b_upload.transfer.settings import UploadSettings
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
        settings: how to upload.
        on_event: told of progress, redirects and retries.
    """

    def __init__(
        self, source: Source, url: PresignedUrl, settings: UploadSettings, on_event: OnEvent
    ) -> None:
        self._source = source
        self._url = url
        self._settings = settings
        self._on_event = on_event
        self._attempts = Attempts(settings.patience, f"the upload to {url.host}", on_event)
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
        sent = self._attempts.run(self._attempt, self._failed)
        sent = sent._replace(seconds=time.monotonic() - start)
        if not sent.present:
            self._on_event(
                Finished(step="put", done=len(self._body), entries=0, seconds=sent.seconds)
            )
        return sent

    def _failed(self, error: UploadError) -> None:
        """Say in the hint what this attempt and those before it may have stored; remember it."""
        self._recall(error)
        if not isinstance(error, DamagedError):
            self._sent_whole |= self._body.sent == len(self._body)
        elif error.code is None:  # with a code the store has refused it
            self._damaged = error

    def _recall(self, error: UploadError) -> None:
        """Say in the hint what attempts before this one may have stored."""
        if self._damaged and error is not self._damaged:
            error.hint += (
                " An attempt before this one was answered with success for other bytes: the "
                "object may be damaged."
            )
        elif self._sent_whole and error.hint != _PROBABLY:
            error.hint += (
                " An attempt before this one sent the whole archive: the object may be stored."
            )

    def _attempt(self) -> Plan[Sent]:
        """PUT once, following 307 and 308."""
        url, headers = self._url, dict(self._settings.headers)
        redirects, store = 0, ""  # the last host whose URL was of a known kind of store
        while True:
            terms = read_terms(url)
            store = url.host if terms.dialect else store
            answer, sent = yield from self._request(url, terms, self._checked(url, terms, headers))
            if answer.http_status in SUCCESS:
                return self._accepted(answer, url, terms, sent, store)
            if answer.http_status not in FOLLOWED or not answer.headers.get("location"):
                return self._refused(answer, url, known=bool(store))
            if redirects == MAX_REDIRECTS:
                raise RefusedError(
                    f"{url.host} redirected the upload more than {MAX_REDIRECTS} times",
                    hint=redirect_hint(answer, url, known=bool(store)),
                    http_status=answer.http_status,
                )
            redirects += 1
            target = redirect_target(answer, url, known=bool(store))
            if target.host != url.host:
                headers = headers_for_another_host(headers, url, target, terms.required_headers)
            url = target
            self._tell(Redirected(http_status=answer.http_status, target=url.shown))

    def _checked(self, url: PresignedUrl, terms: Terms, headers: dict[str, str]) -> dict[str, str]:
        """Return the headers for a URL, if the store will not surely refuse them."""
        if self._settings.if_absent:
            headers = only_if_absent(headers, terms, url)
        check_terms(terms, url, headers, now=time.time())
        check_size(terms, url, len(self._body), self._settings.max_size)
        check_expected(url, headers, len(self._body), self._source.digest_of)
        return headers

    def _request(
        self, url: PresignedUrl, terms: Terms, headers: dict[str, str]
    ) -> Plan[tuple[Answer, dict[str, str]]]:
        """Send one request; return the answer, and the headers that it was sent with."""
        headers = self._with_md5(terms, headers)
        own = next((name for name in headers if name.lower() == "expect"), None)
        if own and not headers[own]:  # as with curl, -H 'Expect:' turns it off
            headers = {name: headers[name] for name in headers if name != own}
        while True:
            expect = EXPECT if self._expects and own is None else {}
            self._body.sent = 0
            self._tell(Started(step="put", total=len(self._body), target=url.shown))
            answer = yield Request("PUT", url, {**headers, **expect}, self._body)
            if answer.http_status != EXPECTATION_FAILED or not expect:
                return answer, headers
            self._expects = False

    def _with_md5(self, terms: Terms, headers: dict[str, str]) -> dict[str, str]:
        """Return headers with a Content-MD5, by which a store refuses what was damaged.

        Only if the signature allows it. A file that is not hashed yet is read once before it is
        sent: a store that checks the header proves what it stored.
        """
        wanted = terms.needs_md5 or terms.takes_md5
        if not wanted or "content-md5" in map(str.lower, headers):
            return headers
        return {**headers, "Content-MD5": base64.b64encode(self._source.digest("md5")).decode()}

    def _accepted(
        self,
        answer: Answer,
        url: PresignedUrl,
        terms: Terms,
        headers: Mapping[str, str],
        store: str,
    ) -> Sent:
        """Return the result of a 2xx, unless it does not mean that the archive is stored."""
        status = answer.http_status
        if is_error_document(answer):
            # A code that breaks off names another error, or none.
            raise _broken_off(answer, url) if answer.is_cut else failure(answer, url)
        page = is_page(answer)
        # A server of the dialect E2B may be the user's own, and answer with a text.
        is_text = not answer.unsent and terms.dialect != "E2B" and is_foreign(answer)
        if store and (page or is_text):
            raise _not_stored(answer, url)
        if answer.unsent:
            sent = max(len(self._body) - answer.unsent, 0)
            raise DamagedError(
                f"{url.host} answered {status} after {sent} of {len(self._body)} bytes: "
                "what it stored is not the archive",
                hint="Try again. If it happens again, a proxy or the server on the way is broken.",
                http_status=status,
            )
        verified = self._verified(answer, url, terms, headers)
        left = store and store != url.host  # for a host that may be no store
        if left and verified is None and not has_store_header(answer):
            raise _not_stored(answer, url)
        if page:
            self._tell(PageAnswered(host=url.host, http_status=status))
        return Sent(url, status, self._attempts.count, verified, 0.0)

    def _verified(
        self, answer: Answer, url: PresignedUrl, terms: Terms, headers: Mapping[str, str]
    ) -> Proof | None:
        """Return what proves that the store holds the archive."""
        sent = {name.lower(): value for name, value in headers.items()}
        check_size_told(answer.headers, len(self._body), url.host)
        if not self._settings.ignore_checksum:
            claims = read_claims(answer.headers, url.host, {**read_query(url), **sent})
            if proof := verify(claims, self._source.digest_of, url.host):
                return proof
        if answer.is_cut:  # the rest may be an error document
            raise _broken_off(answer, url)
        return "content-md5" if terms.checks_md5 and "content-md5" in sent else None

    def _refused(self, answer: Answer, url: PresignedUrl, *, known: bool) -> Sent:
        """Raise what any other answer means, unless the object exists and that is fine."""
        error = failure(answer, url, known=known)
        exists = says_that_it_exists(answer, url, known=known)
        if exists and self._damaged:
            if self._sent_whole:
                self._damaged.hint = (
                    "The object exists now. It is either damaged, or this archive from an attempt "
                    "whose answer was lost: compare its MD5 or size with the archive's."
                )
            raise self._damaged
        if exists and self._settings.if_absent:
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


def _not_stored(answer: Answer, url: PresignedUrl) -> RefusedError:
    body = " with a text" if answer.body.strip() else ""
    if is_html(answer):
        body = " with an HTML page"
    return RefusedError(
        f"{url.host} answered {answer.http_status}{body}, without any header that a store sends: "
        "nothing shows that the archive is stored",
        hint=NETWORK_LOGIN,
        http_status=answer.http_status,
    )


def _broken_off(answer: Answer, url: PresignedUrl) -> UnavailableError:
    return UnavailableError(
        f"{url.host} answered {answer.http_status}, and broke off within its answer: "
        "the archive may be stored or not",
        hint="Try again.",
        http_status=answer.http_status,
    )
