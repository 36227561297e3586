"""The whole way: collect → pack → put. What the library offers, and what the command line calls.

Each function is complete by itself. Nothing here prints, exits or reads the environment, but
``TMPDIR`` and what requests reads for proxies and CA bundles.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import IO, TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypedDict

from e2b_upload.archive.digest import Digesting
from e2b_upload.archive.pack import Archive, pack_entries
from e2b_upload.archive.spool import Spool
from e2b_upload.context.collect import read_rules, walk
from e2b_upload.context.explain import explain_paths, nothing_to_archive
from e2b_upload.context.problems import Problem, Problems
from e2b_upload.context.root import Root
from e2b_upload.context.secrets import guard
from e2b_upload.context.weight import Droppable, weigh
from e2b_upload.errors import (
    RefusedError,
    SourceError,
    SpoolError,
    UploadError,
    UsageError,
    printable,
)
from e2b_upload.events import Expiring, Finished, Heavy, Kept, Progress, Started, ignore_events
from e2b_upload.transfer.condition import only_if_absent
from e2b_upload.transfer.deadline import AbandonedError
from e2b_upload.transfer.expected import check_expected
from e2b_upload.transfer.headers import checked_headers
from e2b_upload.transfer.presigned import Terms, check_size, check_terms, expired, read_terms
from e2b_upload.transfer.retry import CONNECT_TIMEOUT, RETRIES, STALL_TIMEOUT, Patience
from e2b_upload.transfer.url import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from typing import Unpack

    from e2b_upload.archive.deflate import Compression
    from e2b_upload.archive.digest import Digests
    from e2b_upload.context.collect import Entry
    from e2b_upload.context.explain import Decision
    from e2b_upload.context.secrets import Secrets
    from e2b_upload.events import Event, OnEvent
    from e2b_upload.transfer.put import Sent, Source
    from e2b_upload.transfer.receipt import Algorithm
    from e2b_upload.transfer.url import PresignedUrl

Path: TypeAlias = str | os.PathLike[str]

_ENTRIES_AN_EVENT = 1024
_HEAVIEST = 5  # as many as are read
_MAYBE_EXPIRED = frozenset({400, 401, 403})  # what stores answer to a URL that expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Wall time of each step.

    Attributes:
        collect: to read the rules and to open the context; the walk goes on while packing.
        pack: until the archive was whole.
        put: until the store had answered.
    """

    collect: float = 0.0
    pack: float = 0.0
    put: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What came of a build or a put.

    Attributes:
        status: ``uploaded``; ``present`` if the object exists, with ``if_absent``; ``dry-run``.
        url: where it was put, without its query; None where nothing was.
        http_status: the store's answer; None where nothing was put.
        attempts: how many requests it took, redirects not counted.
        verified: the check that proved the stored bytes, or None if the answer proves nothing.
        archive: what was packed and sent.
        seconds: how long it took.
    """

    status: Literal["uploaded", "present", "dry-run"] = "dry-run"
    url: str | None = None
    http_status: int | None = None
    attempts: int = 0
    verified: str | None = None
    archive: Archive
    seconds: Seconds = field(default_factory=Seconds)


class _PackOptions(TypedDict, total=False):
    ignore_file: Path | IO[bytes] | None
    no_ignore: bool
    exclude: Iterable[str]
    follow_symlinks: bool
    allow_empty: bool
    compression: Compression
    threads: int | None
    mtime: int | None
    spool_dir: Path | None
    count_first: bool
    secrets: Secrets
    warn_size: int | None


class PackOptions(_PackOptions, total=False):
    """What :func:`pack` and :func:`build` take beside their arguments; none is needed.

    Attributes:
        ignore_file: as for :func:`collect`.
        no_ignore: as for :func:`collect`.
        exclude: as for :func:`collect`.
        follow_symlinks: as for :func:`collect`.
        allow_empty: accept a context without entries, which is a ``SourceError`` otherwise.
        compression: ``fast``, ``default`` or ``small`` for gzip, ``none`` for a plain tar.
        threads: how many compress. Default: one less than the cores that this process may use, at
            least one and at most four; for ``small`` all of them, at most 16. Each holds 2 MiB and
            what comes of them. The bytes of the archive do not depend on it.
        mtime: seconds since the epoch; a later time is written as this one, so that the same files
            give the same bytes on every machine.
        spool_dir: where the archive is written first. Default: the folder of ``output``, else
            ``TMPDIR``, else a temporary folder that is on a disk.
        count_first: walk the context twice, so that the progress of packing has a total.
        secrets: as for :func:`collect`.
        warn_size: bytes of content; where there are more, ``on_event`` is told of
            :class:`~e2b_upload.events.Heavy`. Default: any number is fine.
        on_event: told of progress and of what is left out.
    """

    on_event: OnEvent


class PutOptions(TypedDict, total=False):
    """What :func:`put` and :func:`build` take beside their arguments; none is needed.

    Attributes:
        headers: sent beside requests' own; not Content-Length and Transfer-Encoding.
        retries: further attempts after the first, where one may help. Default: 4.
        connect_timeout: seconds to connect, all of the host's addresses together. Default: 10.
        stall_timeout: seconds in which a byte must move, the wait for the answer included.
            Default: 60.
        max_time: seconds for the whole put, all attempts and waits. Default: any.
        max_size: bytes; a larger archive is not sent. Default: what the store takes in one PUT,
            where the URL tells.
        if_absent: upload only if the object does not exist; otherwise the receipt's status is
            ``present``. Google Cloud Storage and OSS need a URL that was signed for it.
        ignore_checksum: do not compare the store's digests with the archive's, for stores whose
            ETags look like an MD5 and are not.
        on_event: told of progress, redirects and retries.
    """

    headers: Mapping[str, str] | None
    retries: int
    connect_timeout: float
    stall_timeout: float
    max_time: float | None
    max_size: int | None
    if_absent: bool
    ignore_checksum: bool
    on_event: OnEvent


class BuildOptions(_PackOptions, PutOptions, total=False):
    """What :func:`build` takes beside its arguments: the options of both, and two of its own.

    Attributes:
        output: also keep the archive there, whatever becomes of the upload.
        dry_run: do all but the PUT.
    """

    output: Path | IO[bytes] | None
    dry_run: bool


def collect(
    context: Path,
    *,
    ignore_file: Path | IO[bytes] | None = None,
    no_ignore: bool = False,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
    secrets: Secrets = "warn",
    on_event: OnEvent = ignore_events,
) -> Iterator[Entry]:
    """Return what would be archived of a context, one entry at a time, in a fixed order.

    The patterns are those of Docker; the context's own root is no entry.

    Args:
        context: the directory.
        ignore_file: read instead of ``context/.dockerignore``: a path, or a file open for reading
            bytes.
        no_ignore: read no ignore file.
        exclude: patterns after the file's.
        follow_symlinks: what links point to, instead of the links. One that dangles or loops stays.
        secrets: what becomes of files that look like credentials. ``warn`` tells ``on_event`` of
            :class:`~e2b_upload.events.LooksSecret`, ``deny`` makes them an error, ``off`` does not
            look for them.
        on_event: told of what is left out: FIFOs, sockets, devices.

    Raises:
        UsageError: at once, for a context that is no directory or a pattern that does not parse.
        SourceError: at the end, when all else was returned, for everything that cannot be: folders
            that cannot be listed, what vanished meanwhile, credentials that are denied. At once for
            the context itself and its ignore file.
    """
    root = Root(context, follow_symlinks=follow_symlinks)
    rules = read_rules(root, ignore_file=ignore_file, no_ignore=no_ignore, exclude=exclude)
    found = walk(root, rules, on_event=on_event)
    return whole(guard(found, root, secrets, on_event=on_event))


def whole(found: Generator[Entry | Problem]) -> Iterator[Entry]:
    """Return the entries of a walk; what it met beside them is raised at its end, all at once."""
    problems = Problems()
    with closing(found):
        for entry in found:
            if isinstance(entry, Problem):
                problems.add(entry.error)
            else:
                yield entry
    if problems:
        problems.raise_as_one()


def explain(
    context: Path,
    paths: Iterable[str],
    *,
    ignore_file: Path | IO[bytes] | None = None,
    no_ignore: bool = False,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
) -> Iterator[Decision]:
    """Return for each path whether it is part of a context, and the pattern that decided.

    Args:
        context: the directory.
        paths: relative to the context, or absolute and in it; they need not be there.
        ignore_file: as for :func:`collect`.
        no_ignore: as for :func:`collect`.
        exclude: as for :func:`collect`.
        follow_symlinks: as for :func:`collect`.

    Raises:
        UsageError: the context is no directory, a pattern does not parse, or a path lies outside.
        SourceError: the context or its ignore file cannot be read.
    """
    root = Root(context, follow_symlinks=follow_symlinks)
    rules = read_rules(root, ignore_file=ignore_file, no_ignore=no_ignore, exclude=exclude)
    return explain_paths(root, rules, paths)


def pack(context: Path, output: Path | IO[bytes], **options: Unpack[PackOptions]) -> Archive:
    """Pack a context into a file, as a tar.gz.

    The same files give the same bytes. A file that is there is replaced only by a whole archive.

    Args:
        context: the directory.
        output: the file's path, or a file open for writing bytes.
        options: those of ``e2b_upload.pipeline.PackOptions``.

    Raises:
        UsageError: the context is no directory, or a pattern does not parse.
        SourceError: files that cannot be read, or changed while they were read; all of them. Or
            the context has no entries.
        SpoolError: the output cannot be written.
    """
    with _packed(context, output, **options) as packed:
        return packed.archive


def put(
    archive: Archive | Path | IO[bytes],
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    retries: int = RETRIES,
    connect_timeout: float = CONNECT_TIMEOUT,
    stall_timeout: float = STALL_TIMEOUT,
    max_time: float | None = None,
    max_size: int | None = None,
    if_absent: bool = False,
    ignore_checksum: bool = False,
    spool_dir: Path | None = None,
    on_event: OnEvent = ignore_events,
) -> Receipt:
    """PUT an archive that exists to a presigned URL.

    Args:
        archive: a file's path, what :func:`pack` returned, or a stream open for reading bytes,
            which is spooled first: its length must be known before it is sent.
        url: the presigned URL.
        headers: sent beside requests' own; not Content-Length and Transfer-Encoding.
        retries: further attempts after the first, where one may help.
        connect_timeout: seconds to connect, all of the host's addresses together.
        stall_timeout: seconds in which a byte must move, the wait for the answer included.
        max_time: seconds for all of it, attempts and waits; None for any.
        max_size: bytes; a larger archive is not sent. None: what the store takes in one PUT, where
            the URL tells.
        if_absent: upload only if the object does not exist; otherwise the receipt's status is
            ``present``. Google Cloud Storage and OSS need a URL that was signed for it.
        ignore_checksum: do not compare the store's digests with the archive's, for stores whose
            ETags look like an MD5 and are not.
        spool_dir: where a stream is written first; as for :func:`pack`.
        on_event: told of progress, redirects and retries.

    Raises:
        UsageError: a URL or header that cannot be used, no such file, an empty one, or another one
            by now.
        SourceError: the file changed while it was sent, or the stream cannot be read.
        SpoolError: the stream cannot be spooled.
        UnavailableError: the network or the store kept failing; it may work later.
        RefusedError: the store refuses, or surely will.
    """
    patience = Patience(
        retries=retries,
        connect_timeout=connect_timeout,
        stall_timeout=stall_timeout,
        max_time=max_time,
    )
    checked = checked_headers(headers or {})
    target = Target(
        parse(url, checked),
        checked,
        patience,
        max_size,
        on_event,
        cancelled=None,
        if_absent=if_absent,
        ignore_checksum=ignore_checksum,
    )
    target.check()
    if isinstance(archive, Archive):
        if archive.path is None:
            raise UsageError(
                "the archive was not kept: there is no file to put",
                hint="Pack it into a file, or let build do both.",
            )
        return _put_file(target, archive.path, archive)
    if isinstance(archive, (str, os.PathLike)):
        return _put_file(target, os.fspath(archive), None)
    with Spool(spool_dir) as spool:
        spool.copy_from(archive)
        return _put_open(target, spool.fileno(), None, path=None)


def _put_file(target: Target, path: str, expected: Archive | None) -> Receipt:
    """PUT a file, which must be what it was when it was packed."""
    try:
        # Not to wait for whoever writes to a FIFO: it is refused below.
        file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115  (closed by the with below)
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        why = error.strerror if isinstance(error, OSError) else "there is no such name"
        raise UsageError(
            f"the archive {printable(path)} cannot be opened: {why}",
            hint="Name an archive that is there and may be read.",
        ) from error
    with file:
        found = os.stat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(
                f"the archive {printable(path)} is not a regular file",
                hint="Its length must be known before it is sent: write it to a file first.",
            )
        if expected is not None and found.st_size != expected.bytes:
            raise UsageError(
                f"the archive {printable(path)} was replaced: it has {found.st_size} bytes, "
                f"and {expected.bytes} when it was packed",
                hint="Pack it again, or put the file by its path.",
            )
        try:
            receipt = _put_open(target, file.fileno(), expected, path=path)
        except SpoolError as error:
            if os.stat(file.fileno()).st_size >= found.st_size:
                raise
            raise SourceError(error.message, hint=error.hint) from error
        if receipt.status != "present" and not _is_still_what_was_sent(
            file.fileno(), found, receipt, expected
        ):
            raise SourceError(
                f"the archive {printable(path)} changed before or while it was sent",
                hint="The stored object may be corrupt: pack the archive again, and upload that.",
            )
    return receipt


def _is_still_what_was_sent(
    descriptor: int, before: os.stat_result, receipt: Receipt, expected: Archive | None
) -> bool:
    """Return whether a file that was sent holds the bytes that the receipt tells of.

    A touched or linked file holds the same bytes as before, so only its content decides. A file
    that was changed and changed back might have been sent in between: if the store has not
    verified the upload, no write at all is accepted.
    """
    sha256, now = receipt.archive.sha256, os.stat(descriptor)
    if expected is not None and _is_hashed(expected) and sha256 != expected.sha256:
        return False
    written = (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns)
    if not written and before.st_ctime_ns == now.st_ctime_ns:
        return True
    if now.st_size != before.st_size or (written and receipt.verified is None):
        return False
    with Digesting(descriptor) as digesting:
        digesting.grown(now.st_size)
        return digesting.result().sha256 == sha256


def _put_open(
    target: Target, descriptor: int, expected: Archive | None, *, path: str | None
) -> Receipt:
    """PUT what a descriptor leads to, and tell the digests of what was sent."""
    size = os.stat(descriptor).st_size
    if not size:  # what comes out of a pipe or a redirection when the command before it failed
        name = "" if path is None else f" {printable(path)}"
        raise UsageError(
            f"the archive{name} is empty",
            hint="Did what should have written it fail? Pack it again.",
        )
    with Digesting(descriptor) as digesting:  # while it is sent
        digesting.grown(size)
        known = cache(digesting.result)
        if expected is not None and _is_hashed(expected):
            sent = target.put(descriptor, lambda: expected, hashed=True)
        else:
            sent = target.put(descriptor, known, hashed=False)
        sha256, md5 = known()
    if expected is not None:
        return receipt_of(sent, replace(expected, sha256=sha256, md5=md5))
    return receipt_of(sent, Archive(bytes=size, sha256=sha256, md5=md5, path=path))


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _is_hashed(archive: Archive) -> bool:
    """Whether an archive brings its digests, as one of somebody else's making may not."""
    try:
        lengths = len(bytes.fromhex(archive.md5)), len(bytes.fromhex(archive.sha256))
    except ValueError:
        return False
    return lengths == (16, 32)


def build(context: Path, url: str | None, **options: Unpack[BuildOptions]) -> Receipt:
    """Pack a context into a spool that nothing can leave behind, and PUT it to a presigned URL.

    Args:
        context: the directory.
        url: the presigned URL; None only for a dry run.
        options: those of ``e2b_upload.pipeline.BuildOptions``.

    Raises:
        UploadError: as :func:`pack` and :func:`put`; URL and headers are looked at first.
    """
    return _build(context, url, None, **options)


async def build_async(context: Path, url: str | None, **options: Unpack[BuildOptions]) -> Receipt:
    """Do as :func:`build` in a thread, beside an event loop that goes on.

    Cancelling it stops packing or the PUT within a second, and frees the spool. Who watches is
    called in that thread.

    Args:
        context: the directory.
        url: the presigned URL; None only for a dry run.
        options: those of ``e2b_upload.pipeline.BuildOptions``.

    Raises:
        UploadError: as :func:`build`.
        asyncio.CancelledError: when all is freed.
    """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    cancelled = threading.Event()
    watch = options.get("on_event", ignore_events)

    def on_event(event: Event) -> None:
        if cancelled.is_set():
            raise AbandonedError
        watch(event)

    options["on_event"] = on_event
    # A thread of its own: one of the loop's might have to wait for other builds.
    executor = ThreadPoolExecutor(1, "e2b-upload")
    work = asyncio.get_running_loop().run_in_executor(
        executor, partial(_build, context, url, cancelled, **options)
    )
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        while not work.done():
            with suppress(asyncio.CancelledError):  # once more: it is freed all the same
                await asyncio.wait([work])
        work.cancelled() or work.exception()  # heard: nobody wants it any more
        raise
    finally:
        executor.shutdown(wait=False)


def _build(
    context: Path,
    url: str | None,
    cancelled: threading.Event | None,
    *,
    output: Path | IO[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    dry_run: bool = False,
    retries: int = RETRIES,
    connect_timeout: float = CONNECT_TIMEOUT,
    stall_timeout: float = STALL_TIMEOUT,
    max_time: float | None = None,
    max_size: int | None = None,
    if_absent: bool = False,
    ignore_checksum: bool = False,
    on_event: OnEvent = ignore_events,
    **options: Unpack[_PackOptions],
) -> Receipt:
    patience = Patience(
        retries=retries,
        connect_timeout=connect_timeout,
        stall_timeout=stall_timeout,
        max_time=max_time,
    )
    checked = checked_headers(headers or {})
    if url is None and not dry_run:
        raise UsageError("there is no URL to put to", hint="Name one, or make it a dry run.")
    target = None
    if url is not None:
        target = Target(
            parse(url, checked),
            checked,
            patience,
            max_size,
            on_event,
            cancelled,
            if_absent=if_absent,
            ignore_checksum=ignore_checksum,
        )
        target.check()
    with _packed(context, output, on_event=on_event, **options) as packed:
        archive = packed.archive
        if target is None or dry_run:
            terms = read_terms(target.url) if target else Terms()
            check_size(terms, target.url if target else None, archive.bytes, max_size)
            if target is not None:
                target.check_archive(packed.spool.fileno(), archive)
            return Receipt(archive=archive, seconds=packed.seconds)
        target.foresee(packed.seconds.pack)
        try:
            sent = target.put(packed.spool.fileno(), lambda: archive, hashed=True)
        except UploadError as error:
            if archive.path is not None:
                error.hint += (
                    f" The archive is kept as {printable(archive.path)}: e2b-upload put sends it "
                    "to a fresh URL without packing again."
                )
            elif target.is_expired():
                error.hint += " With -o FILE the archive is kept, for e2b-upload put FILE."
            raise
        return receipt_of(sent, archive, packed.seconds)


class Target(NamedTuple):
    """Where to put, and how."""

    url: PresignedUrl
    headers: Mapping[str, str]
    patience: Patience
    max_size: int | None
    on_event: OnEvent
    cancelled: threading.Event | None
    if_absent: bool = False
    ignore_checksum: bool = False

    def check(self) -> None:
        """Refuse what the store will surely refuse."""
        headers = self.headers
        if self.if_absent:
            headers = only_if_absent(headers, self._terms, self.url)
        check_terms(self._terms, self.url, headers, now=time.time())

    def check_archive(self, descriptor: int, archive: Archive) -> None:
        """Refuse an archive that is not the one that was signed for."""

        def digest(algorithm: Algorithm) -> bytes:
            return _source(descriptor, lambda: archive, hashed=True).digest_of(algorithm)

        check_expected(self.url, self.headers, archive.bytes, digest)

    def foresee(self, took: float) -> None:
        """Warn where the URL expires within as many seconds as packing took."""
        if self._terms.expiry is not None and (left := self._terms.expiry - time.time()) < took:
            self.on_event(Expiring(seconds=max(left, 0.0)))

    def is_expired(self) -> bool:
        """Whether the URL has expired by now, by this machine's clock."""
        return bool(expired(self._terms, now=time.time()))

    def put(
        self, descriptor: int, digests: Callable[[], Digests | Archive], *, hashed: bool
    ) -> Sent:
        """PUT: the one place where the library goes to the network."""
        from e2b_upload.transfer.put import Putting

        putting = Putting(
            _source(descriptor, digests, hashed=hashed),
            self.url,
            headers=self.headers,
            patience=self.patience,
            if_absent=self.if_absent,
            ignore_checksum=self.ignore_checksum,
            max_size=self.max_size,
            cancelled=self.cancelled,
            on_event=self.on_event,
        )
        try:
            return putting.put()
        except RefusedError as error:
            if error.http_status in _MAYBE_EXPIRED and (
                ago := expired(self._terms, now=time.time())
            ):
                error.hint += f" By this machine's clock the URL {ago}."
            raise

    @property
    def _terms(self) -> Terms:
        return read_terms(self.url)


def _source(descriptor: int, digests: Callable[[], Digests | Archive], *, hashed: bool) -> Source:
    from e2b_upload.transfer.put import Source

    return Source(descriptor, lambda name: bytes.fromhex(getattr(digests(), name)), hashed)


def receipt_of(sent: Sent, archive: Archive, packed: Seconds | None = None) -> Receipt:
    """Return what came of a PUT."""
    return Receipt(
        url=sent.url.shown,
        http_status=sent.http_status,
        attempts=sent.attempts,
        verified=sent.verified,
        status="present" if sent.present else "uploaded",
        archive=archive,
        seconds=replace(packed or Seconds(), put=sent.seconds),
    )


class Packed(NamedTuple):
    """An archive on the spool, and how long it took."""

    spool: Spool
    archive: Archive
    seconds: Seconds


@contextmanager
def _packed(
    context: Path,
    output: Path | IO[bytes] | None,
    *,
    ignore_file: Path | IO[bytes] | None = None,
    no_ignore: bool = False,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
    allow_empty: bool = False,
    compression: Compression = "default",
    threads: int | None = None,
    mtime: int | None = None,
    spool_dir: Path | None = None,
    count_first: bool = False,
    secrets: Secrets = "warn",
    warn_size: int | None = None,
    on_event: OnEvent = ignore_events,
) -> Iterator[Packed]:
    """Pack, keep the archive where it is wanted, and free the spool whatever happens."""
    start = time.monotonic()
    root = Root(context, follow_symlinks=follow_symlinks)
    rules = read_rules(root, ignore_file=ignore_file, no_ignore=no_ignore, exclude=exclude)
    file = _file_to_keep(output)
    if spool_dir is None and file is not None:
        spool_dir = os.path.dirname(file)
    collected = time.monotonic()
    walked = partial(walk, root, rules, output=file)
    entries = guard(walked(on_event=on_event), root, secrets, on_event=on_event)
    heaviest = Droppable(_HEAVIEST, rules)
    if warn_size is not None:
        entries = weigh(entries, heaviest)
    with Spool(spool_dir) as spool:
        total = _count(walked(on_event=ignore_events), on_event) if count_first else None
        on_event(Started(step="pack", total=total, target=printable(root.path)))
        archive = pack_entries(
            entries,
            root,
            spool,
            compression=compression,
            threads=threads,
            mtime=mtime,
            on_event=on_event,
        )
        counts = (archive.files, archive.directories, archive.symlinks, archive.hardlinks)
        if not (allow_empty or any(counts)):
            raise nothing_to_archive(root, rules, file)
        if warn_size is not None and (content := archive.content_bytes or 0) > warn_size:
            on_event(Heavy(content_bytes=content, limit=warn_size, largest=heaviest.result()))
        if file is not None:
            spool.keep(file)
            archive = replace(archive, path=file)
            on_event(Kept(path=file))
        elif output is not None:
            spool.copy_to(output)
        packed = time.monotonic()
        yield Packed(spool, archive, Seconds(collect=collected - start, pack=packed - collected))


def _file_to_keep(output: Path | IO[bytes] | None) -> str | None:
    """Return the regular file that an output names, through links; None for a stream.

    A device or a FIFO is a stream: it is written to, and never replaced.
    """
    if not isinstance(output, (str, os.PathLike)):
        return None
    name = os.fspath(output)
    if os.path.isdir(name):
        raise SpoolError(
            f"the archive cannot be kept as {printable(name)}: it is a folder",
            hint="Name a file with -o.",
        )
    if os.path.exists(name) and not os.path.isfile(name):
        return None
    try:
        path = os.path.realpath(name)
    except FileNotFoundError:
        raise UsageError(
            "the working folder does not exist any more", hint="Change to one that does."
        ) from None
    except ValueError:  # a zero byte
        raise UsageError(
            f"{printable(name)} is no name of a file", hint="Name a file with -o."
        ) from None
    # What ends so names a folder, though realpath makes a file's name of it.
    if os.path.basename(name) in {"", ".", ".."} or not os.path.isdir(os.path.dirname(path)):
        raise SpoolError(
            f"the archive cannot be kept as {printable(name)}: there is no such folder",
            hint="Create the folder, or name another file with -o.",
        )
    return path


def _count(entries: Generator[Entry | Problem], on_event: OnEvent) -> int:
    """Return how many bytes of content there are. Nothing is kept of the walk.

    Nor does it tell of problems: packing meets them, too, and others beside.
    """
    start = time.monotonic()
    on_event(Started(step="collect"))
    total = number = 0
    with closing(entries):
        for number, entry in enumerate(entries, start=1):
            total += entry.size
            if number % _ENTRIES_AN_EVENT == 0:
                on_event(Progress(step="collect", done=total, entries=number))
    seconds = time.monotonic() - start
    on_event(Finished(step="collect", done=total, entries=number, seconds=seconds))
    return total
