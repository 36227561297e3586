"""Uploads what the COPY instructions of a template take: hash → ask E2B → pack → upload.

If the files of a COPY are stored already, nothing is packed. A later build by the E2B SDK finds
what was uploaded under the same hash, and uploads nothing.

One COPY at a time is hashed or packed, which keeps all cores and the disk busy; meanwhile others
wait for the E2B API and the store, whose latencies overlap.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from e2b_upload.archive.deflate import Compression
from e2b_upload.archive.pack import PackSettings, pack_entries
from e2b_upload.archive.spool import Spool
from e2b_upload.context.root import Root
from e2b_upload.context.secrets import Secrets, guard
from e2b_upload.context.selection import Selection
from e2b_upload.e2b.copies import Copy
from e2b_upload.e2b.hash import FilesHash
from e2b_upload.e2b.ignore import Ignored, read_ignore_patterns
from e2b_upload.e2b.listing import hash_copy
from e2b_upload.e2b.merge import Merged
from e2b_upload.e2b.receipts import CopyReceipt, TemplateReceipt
from e2b_upload.e2b.select import select
from e2b_upload.errors import RefusedError, SourceError, SpoolError, UsageError, printable
from e2b_upload.events import OnEvent, Started, ignore_events
from e2b_upload.packing import Packed, Path
from e2b_upload.receipts import Receipt, Seconds
from e2b_upload.transfer.deadline import AbandonedError, cancellation, cancelled_by
from e2b_upload.transfer.retry import CONNECT_TIMEOUT, RETRIES, STALL_TIMEOUT, Patience
from e2b_upload.transfer.settings import UploadSettings
from e2b_upload.transfer.target import Target

if TYPE_CHECKING:
    from concurrent.futures import Future

    from e2b_upload.archive.pack import Archive
    from e2b_upload.e2b.api import Link
    from e2b_upload.receipts import Status

_NOT_FOUND = 404
_NOT_SIGNED = {401, 403}  # a store's answers to a signature that does not fit
_AT_ONCE = 4  # COPYs in progress: as many archives may be on the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateOptions:
    """Which template, how to reach the E2B API, and what to do about present or missing ones.

    Attributes:
        template: name or id.
        api_key: the key of an E2B team.
        api_url: address of the E2B API. Default: ``https://api.DOMAIN``.
        domain: default: ``e2b.app``.
        force: upload even if E2B already has the files.
        create: create the template if it does not exist.
        dry_run: do everything except for the PUTs, and create nothing.
    """

    template: str
    api_key: str | None = field(repr=False)
    api_url: str | None = None
    domain: str | None = None
    force: bool = False
    create: bool = False
    dry_run: bool = False


def build_template(
    context: Path,
    template: str,
    copies: Sequence[Copy],
    *,
    api_key: str | None,
    api_url: str | None = None,
    domain: str | None = None,
    force: bool = False,
    create: bool = False,
    dry_run: bool = False,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
    secrets: Secrets = "warn",
    compression: Compression = "default",
    threads: int | None = None,
    mtime: int | None = None,
    spool_dir: Path | None = None,
    headers: Mapping[str, str] | None = None,
    retries: int = RETRIES,
    connect_timeout: float = CONNECT_TIMEOUT,
    stall_timeout: float = STALL_TIMEOUT,
    max_time: float | None = None,
    max_size: int | None = None,
    on_event: OnEvent = ignore_events,
) -> TemplateReceipt:
    """Upload the files of a template to where a build by the E2B SDK looks for them.

    Args:
        context: the directory; the SDK's ``file_context_path``.
        template: its name or id.
        copies: what it copies; duplicates are uploaded once.
        api_key: the key of an E2B team.
        api_url: address of the E2B API. Default: ``https://api.DOMAIN``.
        domain: default: ``e2b.app``.
        force: upload even if E2B already has the files.
        create: create the template if it does not exist.
        dry_run: do everything except for the PUTs, and create nothing.
        exclude: patterns after those of ``.dockerignore``; the SDK's ``file_ignore_patterns``.
        follow_symlinks: the SDK's ``resolve_symlinks``.
        secrets: as for :func:`e2b_upload.collect`.
        compression: ``fast``, ``default`` or ``small``.
        threads: as for :func:`e2b_upload.pack`.
        mtime: as for :func:`e2b_upload.pack`.
        spool_dir: as for :func:`e2b_upload.pack`.
        headers: as for :func:`e2b_upload.put`, in addition to those that E2B asks for.
        retries: as for :func:`e2b_upload.put`, and for each request to the E2B API.
        connect_timeout: as ``retries``.
        stall_timeout: as ``retries``.
        max_time: as ``retries``.
        max_size: as for :func:`e2b_upload.put`.
        on_event: called with progress.

    Raises:
        UsageError: nothing to copy, no key, a source outside the context, a pattern that does not
            parse, the extra ``e2b`` not installed.
        SourceError: a COPY that selects nothing; files that cannot be read, or that changed between
            hashing and packing, in which case nothing of that COPY is stored.
        SpoolError: an archive cannot be written.
        UnavailableError: the network, the E2B API or the store kept failing.
        RefusedError: a wrong key, no such template, or the store refuses.
    """
    return run_build_template(
        context,
        copies,
        options=TemplateOptions(
            template=template,
            api_key=api_key,
            api_url=api_url,
            domain=domain,
            force=force,
            create=create,
            dry_run=dry_run,
        ),
        selection=Selection(exclude=exclude, follow_symlinks=follow_symlinks, secrets=secrets),
        settings=PackSettings(
            compression=compression, threads=threads, mtime=mtime, spool_dir=spool_dir
        ),
        upload=UploadSettings(
            headers=headers or {},
            patience=Patience(
                retries=retries,
                connect_timeout=connect_timeout,
                stall_timeout=stall_timeout,
                max_time=max_time,
            ),
            max_size=max_size,
        ),
        on_event=on_event,
    )


def run_build_template(
    context: Path,
    copies: Sequence[Copy],
    *,
    options: TemplateOptions,
    selection: Selection,
    settings: PackSettings,
    upload: UploadSettings,
    on_event: OnEvent,
) -> TemplateReceipt:
    """Run :func:`build_template` on option values."""
    if not copies:
        raise UsageError(
            "there is nothing to copy into the template", hint="Name it, such as .:/app."
        )
    with cancelled_by(cancellation()):  # a COPY that fails cancels the others
        building = _Building(
            copies,
            Root(context, follow_symlinks=selection.follow_symlinks),
            options=options,
            selection=selection,
            settings=settings,
            upload=upload,
            on_event=on_event,
        )
        return building.build()


class _Building:
    """The files of one template on their way."""

    def __init__(
        self,
        copies: Sequence[Copy],
        root: Root,
        *,
        options: TemplateOptions,
        selection: Selection,
        settings: PackSettings,
        upload: UploadSettings,
        on_event: OnEvent,
    ) -> None:
        if settings.compression == "none":
            raise UsageError(
                "E2B does not accept a plain tar",
                hint="Leave `compression` out, or set it to fast.",
            )
        self._options, self._settings, self._upload = options, settings, upload
        self._root, self._secrets = root, selection.secrets
        self._copies = copies
        self._distinct = list(dict.fromkeys(copies))
        self._cancelled = cancellation()
        self._merged = Merged(len(self._distinct), on_event, self._cancelled)
        self._machine = threading.Lock()  # held by who hashes or packs
        from e2b_upload.e2b.api import Api

        self._api = Api(
            options.api_key,
            url=options.api_url,
            domain=options.domain,
            patience=upload.patience,
            on_event=self._merged.tell,
        )
        self._patterns = read_ignore_patterns(self._root, selection.exclude)
        # A missing extra or a pattern that does not parse shows before any request.
        Ignored(self._patterns, os.path.abspath(root.path))
        self._template_id: str | None = None

    def _find(self) -> str | None:
        options = self._options
        try:
            return self._api.template_id(
                options.template, create=options.create and not options.dry_run
            )
        except RefusedError as error:
            if options.dry_run and options.create and error.http_status == _NOT_FOUND:
                return None
            raise

    def build(self) -> TemplateReceipt:
        """Bring each COPY where it belongs.

        Where one fails the others are given up, and the error of the first of them is raised.
        """
        self._template_id = self._find()
        pool = ThreadPoolExecutor(min(len(self._distinct), _AT_ONCE), thread_name_prefix="copy")
        brought: list[Future[CopyReceipt]] = []
        try:
            for number, copy in enumerate(self._distinct):
                brought.append(pool.submit(copy_context().run, self._bring, copy, number))
            wait(brought, return_when=FIRST_EXCEPTION)
        except RuntimeError as error:  # of submit: what the work raises is in its future
            raise SpoolError(
                "the system starts no more threads",
                hint="Allow more processes (ulimit -u) or memory.",
            ) from error
        finally:  # all is freed before anybody hears of it
            self._cancelled.set()
            pool.shutdown(cancel_futures=True)
        _raise_first(brought)
        receipts = {receipt.copy: receipt for receipt in (each.result() for each in brought)}
        return TemplateReceipt(
            template_id=self._template_id, copies=tuple(receipts[copy] for copy in self._copies)
        )

    def _bring(self, copy: Copy, number: int) -> CopyReceipt:
        on_event = self._merged.of(number)
        with self._machine:
            start = time.monotonic()
            hashed, content = hash_copy(self._root, copy, self._patterns, on_event)
            took = time.monotonic() - start
        link = self._link(hashed)
        if link is not None and not self._is_wanted(link):
            self._merged.skip(number, ["pack", "put"])
            return CopyReceipt(copy=copy, files_hash=hashed, status="present")
        with Spool(self._settings.spool_dir) as spool:
            with self._machine:
                start = time.monotonic()
                archive = self._pack(copy, hashed, content, spool, on_event)
                seconds = Seconds(collect=took, pack=time.monotonic() - start)
            if self._options.dry_run or link is None:
                receipt = Receipt(archive=archive, seconds=seconds)
                return CopyReceipt(copy=copy, files_hash=hashed, status="dry-run", receipt=receipt)
            packed = Packed(spool, archive, seconds)
            sent = self._put(packed, hashed, link, on_event)
        if sent is None:
            self._merged.skip(number, ["put"])
        status: Status = "uploaded" if sent else "present"
        return CopyReceipt(copy=copy, files_hash=hashed, status=status, receipt=sent)

    def _link(self, hashed: str) -> Link | None:
        if self._template_id is None:
            return None
        return self._api.upload_link(self._template_id, hashed)

    def _is_wanted(self, link: Link) -> bool:
        return link.url is not None and (self._options.force or not link.present)

    def _pack(
        self, copy: Copy, hashed: str, content: int, spool: Spool, on_event: OnEvent
    ) -> Archive:
        """Pack what a COPY takes, and make sure that it is what was hashed."""
        again = FilesHash(copy)
        on_event(Started(step="pack", total=content, target=printable(copy.src)))
        found = select(self._root, copy, self._patterns)
        archive = pack_entries(
            guard(found, self._root, self._secrets, on_event=on_event),
            self._root,
            spool,
            self._settings,
            hashing=again,
            on_event=on_event,
        )
        if again.hexdigest() != hashed:
            # Stored under a hash that is not theirs, they would be in every later build.
            raise SourceError(
                f"the files of {printable(copy.src)} changed after they were hashed",
                hint="Nothing of them is stored: run again when nothing writes to them.",
            )
        return archive

    def _put(self, packed: Packed, hashed: str, link: Link, on_event: OnEvent) -> Receipt | None:
        """PUT an archive, to a fresh link if the first expired; None where there is no need now."""
        try:
            target = self._target(link, on_event)
            if not target.is_expired():
                return self._put_to(target, packed)
        except RefusedError as error:
            if not error.expired:
                raise self._explained(error) from None
        fresh = self._link(hashed)
        if fresh is None or not self._is_wanted(fresh):
            return None
        try:
            return self._put_to(self._target(fresh, on_event), packed)
        except RefusedError as error:
            raise self._explained(error) from None

    def _target(self, link: Link, on_event: OnEvent) -> Target:
        upload = replace(self._upload, headers={**self._upload.headers, **link.headers})
        return Target(link.url or "", upload, on_event)

    @staticmethod
    def _put_to(target: Target, packed: Packed) -> Receipt:
        return Receipt.of(target.put(packed.source), packed.archive, packed.seconds)

    @staticmethod
    def _explained(error: RefusedError) -> RefusedError:
        if error.http_status in _NOT_SIGNED:  # nobody here can ask for another URL
            error.hint = (
                "E2B gave the URL just now: is this machine's clock right, and does a proxy "
                "change what is sent?"
            )
        return error


def _raise_first(brought: Sequence[Future[CopyReceipt]]) -> None:
    """Raise what the first that failed came to, which is not that it was given up."""
    failures = [each.exception() for each in brought if each.done() and not each.cancelled()]
    for failure in failures:
        if failure is not None and not isinstance(failure, AbandonedError):
            raise failure
