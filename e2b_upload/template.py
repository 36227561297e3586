"""What a template of E2B's copies: hash → ask → pack → put, for several COPYs at once.

Where the files of a COPY are stored already, nothing is packed. A later build by E2B's SDK finds
what was put here under the same hash, and uploads nothing.

One COPY at a time is hashed or packed, which takes all the cores there are and the disk; meanwhile
others wait for E2B's API and the store, which answer each the sooner for being asked together.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from e2b_upload.archive.pack import pack_entries
from e2b_upload.archive.spool import Spool
from e2b_upload.context.collect import read_rules
from e2b_upload.context.explain import explain_paths
from e2b_upload.context.problems import Problem
from e2b_upload.context.root import Root
from e2b_upload.context.secrets import guard
from e2b_upload.e2b.files_hash import FilesHash, calculate, read_ignore_patterns, select
from e2b_upload.e2b.merge import Merged
from e2b_upload.errors import RefusedError, SourceError, SpoolError, UsageError, printable
from e2b_upload.events import Finished, Progress, Started, ignore_events
from e2b_upload.pipeline import Packed, Receipt, Seconds, Target, receipt_of, whole
from e2b_upload.transfer.deadline import AbandonedError
from e2b_upload.transfer.headers import checked_headers
from e2b_upload.transfer.retry import CONNECT_TIMEOUT, RETRIES, STALL_TIMEOUT, Patience
from e2b_upload.transfer.url import parse

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from typing import Unpack

    from e2b_upload.archive.deflate import Compression
    from e2b_upload.archive.pack import Archive
    from e2b_upload.context.collect import Entry
    from e2b_upload.context.explain import Decision
    from e2b_upload.context.secrets import Secrets
    from e2b_upload.e2b.api import Link
    from e2b_upload.e2b.files_hash import Copy
    from e2b_upload.events import OnEvent
    from e2b_upload.pipeline import Path

Status: TypeAlias = Literal["present", "uploaded", "dry-run"]

_NOT_FOUND = 404
_NOT_SIGNED = {401, 403}  # what a store says of a URL that does not fit
_AT_ONCE = 4  # COPYs on their way: as many archives may be on the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReceipt:
    """What came of one COPY.

    Attributes:
        copy: what was copied, and where to.
        files_hash: 64 lower-case hexadecimal digits, those of E2B's SDK.
        status: ``present`` where the files were stored before, ``uploaded``, or ``dry-run``.
        receipt: of the upload, or of the dry run; None where nothing was packed.
    """

    copy: Copy
    files_hash: str
    status: Status
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateReceipt:
    """What came of the files of a template.

    Attributes:
        template_id: E2B's; None only where a dry run meets a template that is not there yet.
        copies: one for each COPY that was asked for, in their order.
    """

    template_id: str | None
    copies: tuple[CopyReceipt, ...]

    @property
    def status(self) -> Status:
        """``present`` only if all are; else what became of the others."""
        return next((each.status for each in self.copies if each.status != "present"), "present")


class TemplateOptions(TypedDict, total=False):
    """What :func:`build_template` takes beside its arguments; none is needed.

    Attributes:
        api_url: where E2B's API is. Default: ``https://api.DOMAIN``.
        domain: Default: ``e2b.app``.
        force: upload what is present, too.
        create: request the template where there is none.
        dry_run: do all but the PUTs, and request nothing.
        exclude: patterns after those of ``.dockerignore``; the SDK's ``file_ignore_patterns``.
        follow_symlinks: the SDK's ``resolve_symlinks``.
        compression: ``fast``, ``default`` or ``small``.
        threads: as for :func:`e2b_upload.build`.
        mtime: as for :func:`e2b_upload.build`.
        spool_dir: as for :func:`e2b_upload.build`.
        secrets: as for :func:`e2b_upload.build`.
        headers: as for :func:`e2b_upload.put`, beside those that E2B asks for.
        retries: as for :func:`e2b_upload.put`; they hold for each call of E2B's API, too.
        connect_timeout: as ``retries``.
        stall_timeout: as ``retries``.
        max_time: as ``retries``.
        max_size: as for :func:`e2b_upload.put`.
        on_event: told of progress.
    """

    api_url: str | None
    domain: str | None
    force: bool
    create: bool
    dry_run: bool
    exclude: Iterable[str]
    follow_symlinks: bool
    compression: Compression
    threads: int | None
    mtime: int | None
    spool_dir: Path | None
    secrets: Secrets
    headers: Mapping[str, str] | None
    retries: int
    connect_timeout: float
    stall_timeout: float
    max_time: float | None
    max_size: int | None
    on_event: OnEvent


def build_template(
    context: Path,
    template: str,
    copies: Sequence[Copy],
    *,
    api_key: str | None,
    **options: Unpack[TemplateOptions],
) -> TemplateReceipt:
    """Put the files of a template where a build by E2B's SDK looks for them.

    Args:
        context: the directory; the SDK's ``file_context_path``.
        template: its name or id.
        copies: what it copies; one that is there twice is uploaded once.
        api_key: of a team of E2B's.
        options: those of ``e2b_upload.template.TemplateOptions``.

    Raises:
        UsageError: nothing to copy, no key, a source that leads out of the context, a pattern that
            does not parse, the extra ``e2b`` not installed.
        SourceError: a COPY that selects nothing; files that cannot be read, or changed between
            hashing and packing: nothing is stored of that COPY then.
        SpoolError: an archive cannot be written.
        UnavailableError: the network, E2B's API or the store kept failing.
        RefusedError: a wrong key, no such template, or the store refuses.
    """
    if not copies:
        raise UsageError(
            "there is nothing to copy into the template", hint="Name it, such as .:/app."
        )
    return _Building(context, template, copies, api_key, **options).build()


def files_hash(
    context: Path,
    copy: Copy,
    *,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
    on_event: OnEvent = ignore_events,
) -> str:
    """Return the hash that E2B's SDK has for the files of a COPY: 64 lower-case hex digits.

    Args:
        context: the directory.
        copy: what is copied, and where to, which is part of the hash.
        exclude: patterns after those of ``.dockerignore``.
        follow_symlinks: the SDK's ``resolve_symlinks``.
        on_event: told of progress.

    Raises:
        UsageError, SourceError: as :func:`build_template`.
    """
    root = Root(context, follow_symlinks=follow_symlinks)
    hashed, _ = _hash(root, copy, read_ignore_patterns(root, exclude), on_event)
    return hashed


def collect_copies(
    context: Path,
    copies: Sequence[Copy],
    *,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
    secrets: Secrets = "warn",
    on_event: OnEvent = ignore_events,
) -> Iterator[Entry]:
    """Return what the copies take of a context, each entry once, COPY by COPY.

    Args:
        context: the directory.
        copies: what is copied.
        exclude: patterns after those of ``.dockerignore``.
        follow_symlinks: the SDK's ``resolve_symlinks``.
        secrets: as for :func:`e2b_upload.collect`.
        on_event: told of files that look like credentials.

    Raises:
        UsageError: at once, as :func:`build_template`.
        SourceError: at the end, when all else was returned.
    """
    root = Root(context, follow_symlinks=follow_symlinks)
    patterns = read_ignore_patterns(root, exclude)
    selections = [select(root, copy, patterns) for copy in copies]
    return whole(guard(_once(selections), root, secrets, on_event=on_event))


def explain_copies(
    context: Path,
    copies: Sequence[Copy],
    paths: Iterable[str],
    *,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
) -> Iterator[Decision]:
    """Return for each path whether one of the copies takes it, and the pattern that keeps it out.

    Args:
        context: the directory.
        copies: what is copied.
        paths: relative to the context, or absolute and in it; what is not there is not taken.
        exclude: patterns after those of ``.dockerignore``.
        follow_symlinks: the SDK's ``resolve_symlinks``.

    Raises:
        UsageError: as :func:`build_template`, or a path lies outside of the context.
        SourceError: the context or its ignore file cannot be read.
    """
    root = Root(context, follow_symlinks=follow_symlinks)
    exclude = [*exclude]
    patterns = read_ignore_patterns(root, exclude)
    decisions = [*explain_paths(root, read_rules(root, exclude=exclude), paths)]
    asked = {decision.path for decision in decisions}
    taken: set[str] = set()
    for copy in copies:
        with closing(select(root, copy, patterns)) as found:
            taken |= {entry.path for entry in found if entry.type != "problem"} & asked
    return (_with_copies(decision, copied=decision.path in taken) for decision in decisions)


def _with_copies(decision: Decision, *, copied: bool) -> Decision:
    """Return a decision of Docker's rules as one of the copies'."""
    if copied:  # what the SDK takes, whatever it is
        left_out = not decision.kept or decision.comes_along
        return replace(
            decision,
            kept=True,
            copied=True,
            comes_along=False,
            unfit=None,
            rule=None if left_out else decision.rule,
            matched=None if left_out else decision.matched,
        )
    if decision.kept and not decision.comes_along:  # no pattern keeps it out
        decision = replace(decision, rule=None, matched=None)
    return replace(decision, kept=False, copied=False, comes_along=False)


def _once(selections: Sequence[Generator[Entry | Problem]]) -> Generator[Entry | Problem]:
    seen: set[str] = set()
    for selection in selections:
        with closing(selection):
            for entry in selection:
                if isinstance(entry, Problem):
                    yield entry
                elif entry.path not in seen:
                    if len(selections) > 1:  # else each path comes once anyway
                        seen.add(entry.path)
                    yield entry


def _hash(root: Root, copy: Copy, patterns: Sequence[str], on_event: OnEvent) -> tuple[str, int]:
    """Return the hash of a COPY, and of how many bytes of content it is."""
    start = time.monotonic()
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        on_event(Progress(step="hash", done=done))

    on_event(Started(step="hash", target=printable(copy.src)))
    hashed = calculate(root, copy, patterns, on_bytes=on_bytes)
    on_event(Finished(step="hash", done=done, entries=0, seconds=time.monotonic() - start))
    return hashed, done


class _Building:
    """The files of one template on their way."""

    def __init__(
        self,
        context: Path,
        template: str,
        copies: Sequence[Copy],
        api_key: str | None,
        *,
        api_url: str | None = None,
        domain: str | None = None,
        force: bool = False,
        create: bool = False,
        dry_run: bool = False,
        exclude: Iterable[str] = (),
        follow_symlinks: bool = False,
        compression: Compression = "default",
        threads: int | None = None,
        mtime: int | None = None,
        spool_dir: Path | None = None,
        secrets: Secrets = "warn",
        headers: Mapping[str, str] | None = None,
        retries: int = RETRIES,
        connect_timeout: float = CONNECT_TIMEOUT,
        stall_timeout: float = STALL_TIMEOUT,
        max_time: float | None = None,
        max_size: int | None = None,
        on_event: OnEvent = ignore_events,
    ) -> None:
        if compression == "none":
            raise UsageError(
                "E2B takes no plain tar", hint="Leave --compression out, or let it be fast."
            )
        self._patience = Patience(
            retries=retries,
            connect_timeout=connect_timeout,
            stall_timeout=stall_timeout,
            max_time=max_time,
        )
        self._headers = checked_headers(headers or {})
        self._max_size = max_size
        self._copies = copies
        self._distinct = list(dict.fromkeys(copies))
        self._cancelled = threading.Event()
        self._merged = Merged(len(self._distinct), on_event, self._cancelled)
        self._machine = threading.Lock()  # held by who hashes or packs
        self._force, self._dry_run = force, dry_run
        self._compression, self._threads, self._mtime = compression, threads, mtime
        self._spool_dir, self._secrets = spool_dir, secrets
        from e2b_upload.e2b.api import Api  # noqa: PLC0415  (to hash needs no network)

        self._api = Api(
            api_key,
            url=api_url,
            domain=domain,
            patience=self._patience,
            on_event=self._merged.tell,
            cancelled=self._cancelled,
        )
        self._root = Root(context, follow_symlinks=follow_symlinks)
        self._patterns = read_ignore_patterns(self._root, exclude)
        self._template_id = self._find(template, create=create)

    def _find(self, template: str, *, create: bool) -> str | None:
        try:
            return self._api.template_id(template, create=create and not self._dry_run)
        except RefusedError as error:
            if self._dry_run and create and error.http_status == _NOT_FOUND:
                return None
            raise

    def build(self) -> TemplateReceipt:
        """Bring each COPY where it belongs.

        Where one fails the others are given up, and the error of the first of them is raised.
        """
        pool = ThreadPoolExecutor(min(len(self._distinct), _AT_ONCE), thread_name_prefix="copy")
        brought: list[Future[CopyReceipt]] = []
        try:
            for number, copy in enumerate(self._distinct):
                brought.append(pool.submit(self._bring, copy, number))
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
            hashed, content = _hash(self._root, copy, self._patterns, on_event)
            took = time.monotonic() - start
        link = self._link(hashed)
        if link is not None and not self._is_wanted(link):
            self._merged.skip(number, ["pack", "put"])
            return CopyReceipt(copy=copy, files_hash=hashed, status="present")
        with Spool(self._spool_dir) as spool:
            with self._machine:
                start = time.monotonic()
                archive = self._pack(copy, hashed, content, spool, on_event)
                seconds = Seconds(collect=took, pack=time.monotonic() - start)
            if self._dry_run or link is None:
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
        return link.url is not None and (self._force or not link.present)

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
            compression=self._compression,
            threads=self._threads,
            mtime=self._mtime,
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
        target = self._target(link, on_event)
        with suppress(_ExpiredError):
            return self._put_to(target, packed)
        fresh = self._link(hashed)
        if fresh is None or not self._is_wanted(fresh):
            return None
        return self._put_to(self._target(fresh, on_event), packed, again=True)

    def _put_to(self, target: Target, packed: Packed, *, again: bool = False) -> Receipt:
        if target.is_expired() and not again:
            raise _ExpiredError
        try:
            target.check()
            sent = target.put(packed.spool.fileno(), lambda: packed.archive, hashed=True)
        except RefusedError as error:
            expired = target.is_expired() or "expired" in error.message.lower()
            if expired and not again:
                raise _ExpiredError from error
            if error.http_status in _NOT_SIGNED:  # nobody here can ask for another URL
                error.hint = (
                    "E2B gave the URL just now: is this machine's clock right, and does a proxy "
                    "change what is sent?"
                )
            raise
        return receipt_of(sent, packed.archive, packed.seconds)

    def _target(self, link: Link, on_event: OnEvent) -> Target:
        headers = checked_headers({**self._headers, **link.headers})
        url = parse(link.url or "", headers)
        return Target(url, headers, self._patience, self._max_size, on_event, self._cancelled)


def _raise_first(brought: Sequence[Future[CopyReceipt]]) -> None:
    """Raise what the first that failed came to, which is not that it was given up."""
    failures = [each.exception() for each in brought if each.done() and not each.cancelled()]
    for failure in failures:
        if failure is not None and not isinstance(failure, AbandonedError):
            raise failure


class _ExpiredError(Exception):
    """The link has expired: another one may do."""
