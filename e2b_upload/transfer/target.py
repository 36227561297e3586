"""Where an archive is uploaded to, and what is known of it before a byte is sent."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

from e2b_upload.errors import RefusedError, UsageError
from e2b_upload.events import Expiring
from e2b_upload.transfer.condition import only_if_absent
from e2b_upload.transfer.expected import check_expected
from e2b_upload.transfer.presigned import check_size, check_terms, expired, read_terms
from e2b_upload.transfer.url import parse

if TYPE_CHECKING:
    from e2b_upload.events import OnEvent
    from e2b_upload.transfer.body import Source
    from e2b_upload.transfer.presigned import Terms
    from e2b_upload.transfer.put import Sent
    from e2b_upload.transfer.settings import UploadSettings

_MAYBE_EXPIRED = frozenset({400, 401, 403})  # what stores answer to a URL that expired


class Target:
    """A presigned URL, and how to upload to it.

    Args:
        url: the presigned URL.
        settings: how to upload.
        on_event: told of progress, redirects and retries.

    Raises:
        UsageError: the URL cannot be used.
        RefusedError: the store will certainly refuse the upload.
    """

    def __init__(self, url: str, settings: UploadSettings, on_event: OnEvent) -> None:
        try:
            self.url = parse(url, settings.headers)
        except UsageError as error:
            error.parameter = "url"
            raise
        self._settings = settings
        self._on_event = on_event
        headers = settings.headers
        if settings.if_absent:
            headers = only_if_absent(headers, self._terms, self.url)
        check_terms(self._terms, self.url, headers, now=time.time())

    @cached_property
    def _terms(self) -> Terms:
        return read_terms(self.url)

    def check_archive(self, source: Source) -> None:
        """Check that an archive fits the URL, without sending it.

        Raises:
            RefusedError: it is too large, or not the one that was signed for.
        """
        check_size(self._terms, self.url, source.size, self._settings.max_size)
        check_expected(self.url, self._settings.headers, source.size, source.digest_of)

    def warn_if_expiring(self, seconds: float) -> None:
        """Send an event if the URL expires within as many seconds."""
        if self._terms.expiry is not None and (left := self._terms.expiry - time.time()) < seconds:
            self._on_event(Expiring(seconds=max(left, 0.0)))

    def is_expired(self) -> bool:
        """Return whether the URL has expired, by this machine's clock."""
        return bool(expired(self._terms, now=time.time()))

    def put(self, source: Source) -> Sent:
        """Upload. Nothing else in the library sends an archive.

        Raises:
            UploadError: as :meth:`e2b_upload.transfer.put.Putting.put`.
        """
        from e2b_upload.transfer.put import Putting  # noqa: PLC0415  (it imports requests)

        try:
            return Putting(source, self.url, self._settings, self._on_event).put()
        except RefusedError as error:
            if error.http_status in _MAYBE_EXPIRED and (
                ago := expired(self._terms, now=time.time())
            ):
                error.expired = True
                error.hint += f" By this machine's clock the URL {ago}."
            raise
