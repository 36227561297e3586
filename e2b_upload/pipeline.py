"""The library's functions: collect → pack → upload.

The public functions take keywords and make option values of them; the command line makes the same
values from its own options and calls the functions named ``run_…``. Nothing here prints, exits, or
reads the environment, except for ``TMPDIR`` and what requests reads for proxies and CA bundles.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from contextvars import copy_context
from dataclasses import replace
from functools import cache, wraps
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from e2b_upload.archive.deflate import Compression
from e2b_upload.archive.digest import Digesting
from e2b_upload.archive.pack import Archive, PackSettings
from e2b_upload.archive.spool import Spool
from e2b_upload.context.collect import Entry, walk
from e2b_upload.context.explain import Decision, explain_paths
from e2b_upload.context.problems import Problem, Problems
from e2b_upload.context.secrets import Secrets, guard
from e2b_upload.context.selection import Selection
from e2b_upload.errors import SourceError, SpoolError, UploadError, UsageError, printable
from e2b_upload.events import OnEvent, ignore_events
from e2b_upload.packing import Path, packed
from e2b_upload.receipts import Receipt
from e2b_upload.transfer.body import Source
from e2b_upload.transfer.deadline import AbandonedError, cancelled_by
from e2b_upload.transfer.presigned import check_max_size
from e2b_upload.transfer.retry import CONNECT_TIMEOUT, RETRIES, STALL_TIMEOUT, Patience
from e2b_upload.transfer.settings import UploadSettings
from e2b_upload.transfer.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from e2b_upload.events import Event
    from e2b_upload.packing import Packed

Options = ParamSpec("Options")
Result = TypeVar("Result")


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

    Patterns work as in Docker. The context's own root is not an entry.

    Args:
        context: the directory.
        ignore_file: read instead of ``context/.dockerignore``: a path, or a file open for reading
            bytes.
        no_ignore: read no ignore file.
        exclude: patterns after those of the ignore file.
        follow_symlinks: return what links point to, instead of the links. A link that dangles or
            loops stays a link.
        secrets: what to do about files that look like credentials. ``warn`` calls ``on_event`` with
            :class:`~e2b_upload.events.LooksSecret`, ``deny`` makes them an error, ``off`` does not
            look for them.
        on_event: called with an event for each FIFO, socket and device, which are left out.

    Raises:
        UsageError: at once, if the context is not a directory or a pattern does not parse.
        SourceError: at once, if the context or its ignore file cannot be read. At the end, after
            all entries, for directories that cannot be listed, files that vanished during the walk,
            and denied credentials.
    """
    selection = Selection(
        ignore_file=ignore_file,
        no_ignore=no_ignore,
        exclude=exclude,
        follow_symlinks=follow_symlinks,
        secrets=secrets,
    )
    return run_collect(context, selection, on_event)


def run_collect(context: Path, selection: Selection, on_event: OnEvent) -> Iterator[Entry]:
    """Run :func:`collect` on option values."""
    root, rules = selection.open(context)
    found = walk(root, rules, on_event=on_event)
    return without_problems(guard(found, root, selection.secrets, on_event=on_event))


def without_problems(found: Generator[Entry | Problem]) -> Iterator[Entry]:
    """Return the entries of a walk, and raise its problems as one error at the end."""
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
        paths: relative to the context, or absolute and inside it. They need not exist.
        ignore_file: as for :func:`collect`.
        no_ignore: as for :func:`collect`.
        exclude: as for :func:`collect`.
        follow_symlinks: as for :func:`collect`.

    Raises:
        UsageError: the context is not a directory, a pattern does not parse, or a path lies outside
            the context.
        SourceError: the context or its ignore file cannot be read.
    """
    selection = Selection(
        ignore_file=ignore_file,
        no_ignore=no_ignore,
        exclude=exclude,
        follow_symlinks=follow_symlinks,
    )
    return run_explain(context, paths, selection)


def run_explain(context: Path, paths: Iterable[str], selection: Selection) -> Iterator[Decision]:
    """Run :func:`explain` on option values."""
    root, rules = selection.open(context)
    return explain_paths(root, rules, paths)


def pack(
    context: Path,
    output: Path | IO[bytes],
    *,
    ignore_file: Path | IO[bytes] | None = None,
    no_ignore: bool = False,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
    allow_empty: bool = False,
    secrets: Secrets = "warn",
    warn_size: int | None = None,
    compression: Compression = "default",
    threads: int | None = None,
    mtime: int | None = None,
    spool_dir: Path | None = None,
    count_first: bool = False,
    on_event: OnEvent = ignore_events,
) -> Archive:
    """Pack a context into a file, as a tar.gz.

    The same files give the same bytes. An existing file is replaced only by a complete archive.

    Args:
        context: the directory.
        output: the file's path, or a file open for writing bytes.
        ignore_file: as for :func:`collect`.
        no_ignore: as for :func:`collect`.
        exclude: as for :func:`collect`.
        follow_symlinks: as for :func:`collect`.
        allow_empty: accept a context without entries, which is a ``SourceError`` otherwise.
        secrets: as for :func:`collect`.
        warn_size: bytes of content above which ``on_event`` is called with
            :class:`~e2b_upload.events.Heavy`. Default: never.
        compression: ``fast``, ``default`` or ``small`` for gzip, ``none`` for a plain tar.
        threads: compression threads, at least 1. By default one less than the usable cores, between
            one and four; for ``small`` all of them, at most 16. Each takes a few MiB of memory. The
            bytes of the archive do not depend on it.
        mtime: seconds since the epoch. Later times are written as this one, so that the same files
            give the same bytes on every machine.
        spool_dir: where the archive is written first. Default: the directory of ``output``, else
            ``TMPDIR``, else a temporary directory on a disk.
        count_first: walk the context twice, so that the progress of packing has a total.
        on_event: called with progress and with what is left out.

    Raises:
        UsageError: the context is not a directory, a pattern does not parse, or an option is not
            valid.
        SourceError: files that cannot be read or that changed while they were read, all in one
            error. Or the context has no entries.
        SpoolError: the output cannot be written.
    """
    selection = Selection(
        ignore_file=ignore_file,
        no_ignore=no_ignore,
        exclude=exclude,
        follow_symlinks=follow_symlinks,
        secrets=secrets,
        allow_empty=allow_empty,
    )
    settings = PackSettings(
        compression=compression, threads=threads, mtime=mtime, spool_dir=spool_dir
    )
    return run_build(
        context,
        None,
        selection,
        settings,
        output=output,
        warn_size=warn_size,
        count_first=count_first,
        dry_run=True,
        on_event=on_event,
    ).archive


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
    """Upload an existing archive to a presigned URL.

    Args:
        archive: a file's path, the result of :func:`pack`, or a stream open for reading bytes,
            which is spooled first: its length must be known before it is sent.
        url: the presigned URL.
        headers: sent with the PUT. Content-Length and Transfer-Encoding are refused.
        retries: further attempts after a transient failure.
        connect_timeout: seconds to connect, for all of the host's addresses together.
        stall_timeout: seconds without a byte sent or received before an attempt is given up.
        max_time: seconds for the whole upload, with all attempts and waits. None: no limit.
        max_size: bytes; a larger archive is not sent. None: the store's limit for one PUT, if the
            URL shows which store it is.
        if_absent: upload only if the object does not exist; otherwise the receipt's status is
            ``present``. Google Cloud Storage and OSS need a URL that was signed for it.
        ignore_checksum: do not compare the store's digests with the archive's, for stores whose
            ETags look like an MD5 and are not.
        spool_dir: where a stream is written first; as for :func:`pack`.
        on_event: called with progress, redirects and retries.

    Raises:
        UsageError: a URL, header or number that cannot be used; the file is missing, empty, or was
            replaced since it was packed.
        SourceError: the file changed while it was sent, or the stream cannot be read.
        SpoolError: the stream cannot be spooled.
        UnavailableError: the upload failed after all retries; trying again later may work.
        RefusedError: the store refuses, or certainly will.
    """
    settings = UploadSettings(
        headers=headers or {},
        patience=Patience(
            retries=retries,
            connect_timeout=connect_timeout,
            stall_timeout=stall_timeout,
            max_time=max_time,
        ),
        max_size=max_size,
        if_absent=if_absent,
        ignore_checksum=ignore_checksum,
    )
    return run_put(archive, url, settings, spool_dir=spool_dir, on_event=on_event)


def run_put(
    archive: Archive | Path | IO[bytes],
    url: str,
    settings: UploadSettings,
    *,
    spool_dir: Path | None,
    on_event: OnEvent,
) -> Receipt:
    """Run :func:`put` on option values."""
    target = Target(url, settings, on_event)
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
    """Upload a file, which must still be what it was when it was packed."""
    try:
        # A FIFO without a writer would block; it is refused below.
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115  (closed by the with)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
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
        with _unchanged(file.fileno(), path, expected) as check:
            return check(_put_open(target, file.fileno(), expected, path=path))


@contextmanager
def _unchanged(
    descriptor: int, path: str, expected: Archive | None
) -> Iterator[Callable[[Receipt], Receipt]]:
    """Yield a function that returns the receipt of a file, if nobody wrote to it meanwhile.

    Raises:
        SourceError: the file shrank or changed.
    """
    before = os.stat(descriptor)

    def check(receipt: Receipt) -> Receipt:
        if receipt.status == "present" or _is_still_what_was_sent(
            descriptor, before, receipt, expected
        ):
            return receipt
        raise SourceError(
            f"the archive {printable(path)} changed before or while it was sent",
            hint="The stored object may be corrupt: pack the archive again, and upload that.",
        )

    try:
        yield check
    except SpoolError as error:
        if os.stat(descriptor).st_size >= before.st_size:
            raise
        raise SourceError(error.message, hint=error.hint) from error


def _is_still_what_was_sent(
    descriptor: int, before: os.stat_result, receipt: Receipt, expected: Archive | None
) -> bool:
    """Return whether a file that was sent holds the bytes that the receipt tells of.

    A touched or linked file holds the same bytes as before, so only its content decides. A file
    that was changed and changed back might have been sent in between: if the store has not
    verified the upload, no write at all is accepted.
    """
    sha256, now = receipt.archive.sha256, os.stat(descriptor)
    if expected is not None and _has_digests(expected) and sha256 != expected.sha256:
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
    """Upload an open file, and hash what is sent meanwhile."""
    size = os.stat(descriptor).st_size
    if not size:  # the result of a pipe or a redirection whose command failed
        name = "" if path is None else f" {printable(path)}"
        raise UsageError(
            f"the archive{name} is empty",
            hint="Did what should have written it fail? Pack it again.",
        )
    with Digesting(descriptor) as digesting:
        digesting.grown(size)
        hashed = cache(digesting.result)
        known = expected is not None and _has_digests(expected)
        source = Source(
            descriptor,
            lambda algorithm: bytes.fromhex(getattr(expected if known else hashed(), algorithm)),
        )
        sent = target.put(source)
        sha256, md5 = hashed()
    if expected is not None:
        return Receipt.of(sent, replace(expected, sha256=sha256, md5=md5))
    return Receipt.of(sent, Archive(bytes=size, sha256=sha256, md5=md5, path=path))


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _has_digests(archive: Archive) -> bool:
    """Return whether an archive carries its digests; one that the caller made up may not."""
    try:
        lengths = len(bytes.fromhex(archive.md5)), len(bytes.fromhex(archive.sha256))
    except ValueError:
        return False
    return lengths == (16, 32)


def build(
    context: Path,
    url: str | None,
    *,
    ignore_file: Path | IO[bytes] | None = None,
    no_ignore: bool = False,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
    allow_empty: bool = False,
    secrets: Secrets = "warn",
    warn_size: int | None = None,
    compression: Compression = "default",
    threads: int | None = None,
    mtime: int | None = None,
    spool_dir: Path | None = None,
    output: Path | IO[bytes] | None = None,
    count_first: bool = False,
    headers: Mapping[str, str] | None = None,
    retries: int = RETRIES,
    connect_timeout: float = CONNECT_TIMEOUT,
    stall_timeout: float = STALL_TIMEOUT,
    max_time: float | None = None,
    max_size: int | None = None,
    if_absent: bool = False,
    ignore_checksum: bool = False,
    dry_run: bool = False,
    on_event: OnEvent = ignore_events,
) -> Receipt:
    """Pack a context into a spool file and upload it to a presigned URL.

    URL and headers are checked first. The spool is freed whatever happens.

    Args:
        context: the directory.
        url: the presigned URL; None only for a dry run.
        ignore_file: as for :func:`collect`.
        no_ignore: as for :func:`collect`.
        exclude: as for :func:`collect`.
        follow_symlinks: as for :func:`collect`.
        allow_empty: as for :func:`pack`.
        secrets: as for :func:`collect`.
        warn_size: as for :func:`pack`.
        compression: as for :func:`pack`.
        threads: as for :func:`pack`.
        mtime: as for :func:`pack`.
        spool_dir: as for :func:`pack`.
        output: also keep the archive there, whatever happens to the upload: a path, or a file open
            for writing bytes.
        count_first: as for :func:`pack`.
        headers: as for :func:`put`.
        retries: as for :func:`put`.
        connect_timeout: as for :func:`put`.
        stall_timeout: as for :func:`put`.
        max_time: as for :func:`put`.
        max_size: as for :func:`put`.
        if_absent: as for :func:`put`.
        ignore_checksum: as for :func:`put`.
        dry_run: do everything except for the PUT.
        on_event: called with progress, with what is left out, and with redirects and retries.

    Raises:
        UploadError: as :func:`pack` and :func:`put`.
    """
    selection = Selection(
        ignore_file=ignore_file,
        no_ignore=no_ignore,
        exclude=exclude,
        follow_symlinks=follow_symlinks,
        secrets=secrets,
        allow_empty=allow_empty,
    )
    settings = PackSettings(
        compression=compression, threads=threads, mtime=mtime, spool_dir=spool_dir
    )
    upload = UploadSettings(
        headers=headers or {},
        patience=Patience(
            retries=retries,
            connect_timeout=connect_timeout,
            stall_timeout=stall_timeout,
            max_time=max_time,
        ),
        max_size=max_size,
        if_absent=if_absent,
        ignore_checksum=ignore_checksum,
    )
    return run_build(
        context,
        url,
        selection,
        settings,
        upload,
        output=output,
        warn_size=warn_size,
        count_first=count_first,
        dry_run=dry_run,
        on_event=on_event,
    )


def run_build(
    context: Path,
    url: str | None,
    selection: Selection,
    settings: PackSettings,
    upload: UploadSettings = UploadSettings(),  # noqa: B008  (a frozen value)
    *,
    output: Path | IO[bytes] | None = None,
    warn_size: int | None = None,
    count_first: bool = False,
    dry_run: bool = False,
    on_event: OnEvent,
) -> Receipt:
    """Run :func:`build` on option values."""
    if url is None and not dry_run:
        raise UsageError("there is no URL to put to", hint="Name one, or make it a dry run.")
    target = None if url is None else Target(url, upload, on_event)
    with packed(
        context,
        selection,
        settings,
        output=output,
        warn_size=warn_size,
        count_first=count_first,
        on_event=on_event,
    ) as pack:
        if target is None:
            check_max_size(pack.archive.bytes, upload.max_size)
        elif dry_run:
            target.check_archive(pack.source)
        if target is None or dry_run:
            return Receipt(archive=pack.archive, seconds=pack.seconds)
        target.warn_if_expiring(pack.seconds.pack)
        return _put_packed(target, pack)


def _put_packed(target: Target, pack: Packed) -> Receipt:
    archive = pack.archive
    try:
        if archive.path is None:
            return Receipt.of(target.put(pack.source), archive, pack.seconds)
        with _unchanged(pack.spool.fileno(), archive.path, archive) as check:
            return check(Receipt.of(target.put(pack.source), archive, pack.seconds))
    except SourceError:  # the file is not the archive any more
        raise
    except UploadError as error:
        if archive.path is not None:
            error.hint += (
                f" The archive is kept as {printable(archive.path)}: upload it to a fresh URL "
                "without packing again."
            )
        elif target.is_expired():
            error.hint += (
                " With `output` the archive is kept, so that it can be uploaded to a fresh URL."
            )
        raise


def in_thread(
    function: Callable[Options, Result],
) -> Callable[Options, Coroutine[Any, Any, Result]]:
    """Return a coroutine function that runs a function of the library in a worker thread."""

    @wraps(function)
    async def run(*args: Options.args, **options: Options.kwargs) -> Result:
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        cancelled = threading.Event()
        callback = cast("OnEvent", options.get("on_event", ignore_events))

        def on_event(event: Event) -> None:
            if cancelled.is_set():
                raise AbandonedError
            callback(event)

        options["on_event"] = on_event
        # Its own thread: one of the loop's pool might have to wait for other builds.
        executor = ThreadPoolExecutor(1, "e2b-upload")
        with cancelled_by(cancelled):
            work = asyncio.get_running_loop().run_in_executor(
                executor, lambda context: context.run(function, *args, **options), copy_context()
            )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled.set()
            while not work.done():
                with suppress(asyncio.CancelledError):  # cancelled again: it is freed all the same
                    await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # retrieved, so that asyncio does not complain
            raise
        finally:
            executor.shutdown(wait=False)

    run.__name__ = run.__qualname__ = f"{function.__name__}_async"
    run.__doc__ = (
        f"Run :func:`{function.__name__}` in a worker thread.\n\n"
        "    Cancelling it stops the work within a second and frees the spool before\n"
        "    ``asyncio.CancelledError`` is raised. ``on_event`` is called in the worker thread.\n\n"
        f"    {function.__doc__}"
    )
    return run


build_async = in_thread(build)
