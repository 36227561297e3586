"""Entries become an archive in a spool."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, get_args

from e2b_upload.archive import tar
from e2b_upload.archive.blocks import BlockWriter
from e2b_upload.archive.cores import usable_cores
from e2b_upload.archive.deflate import Compression, codec_for
from e2b_upload.archive.digest import Digesting
from e2b_upload.context.problems import Problems
from e2b_upload.context.root import has_changed
from e2b_upload.errors import SourceError, UsageError, how_to_read
from e2b_upload.events import Finished, Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from e2b_upload.archive.deflate import Buffer
    from e2b_upload.archive.spool import Spool
    from e2b_upload.context.collect import Entry
    from e2b_upload.context.problems import Problem
    from e2b_upload.context.root import Root
    from e2b_upload.events import OnEvent

# More would only wait: one thread reads what all compress, and one computes MD5, at some 780 MB/s.
# ISA-L's 550 MB/s a core outrun both soon. `small` is a tenth as fast; for each thread there are
# 2 MiB to compress and what comes of them, so it has an end, too.
_MOST_FAST_THREADS, _MOST_THREADS = 4, 16
_ENTRIES_AN_EVENT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSettings:
    """How an archive is written.

    Attributes:
        compression: ``fast``, ``default`` or ``small`` for gzip, ``none`` for a plain tar.
        threads: how many compress; None for :attr:`workers` to decide.
        mtime: seconds since the epoch; no time in the archive is later.
        spool_dir: where the spool is; None for ``TMPDIR`` or a temporary directory on a disk.

    Raises:
        UsageError: unknown compression, or no threads.
    """

    compression: Compression = "default"
    threads: int | None = None
    mtime: int | None = None
    spool_dir: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.compression not in get_args(Compression):
            raise UsageError(
                f"{self.compression!r} is no compression",
                hint=f"Choose {', '.join(get_args(Compression))}.",
            )
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"{self.threads} is no number of threads", hint="Give 1 or more.")

    @property
    def workers(self) -> int:
        """How many threads compress; 0 for a plain tar.

        By default as many as the usable cores are worth: at ISA-L's speed the thread that reads
        keeps one core busy itself.
        """
        if self.compression == "none":
            return 0
        if self.threads is not None:
            return self.threads
        cores = usable_cores()
        if self.compression == "small":
            return min(cores, _MOST_THREADS)
        return min(max(cores - 1, 1), _MOST_FAST_THREADS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive that is written.

    Attributes:
        bytes: its size.
        sha256: its SHA-256, 64 hex digits.
        md5: its MD5, 32 hex digits.
        files: regular files in it; None where only the archive itself is known.
        directories: directories in it.
        symlinks: symbolic links in it.
        hardlinks: further names of files that are in it.
        content_bytes: what the files hold, before compression.
        path: where it was kept, or None where it is gone with the spool.
    """

    bytes: int
    sha256: str
    md5: str
    files: int | None = None
    directories: int | None = None
    symlinks: int | None = None
    hardlinks: int | None = None
    content_bytes: int | None = None
    path: str | None = None


class Hashing(Protocol):
    """What takes a hash of the entries, of the very bytes that go into the archive."""

    def entry(self, entry: Entry, /) -> None:
        """Take an entry, before what it holds."""

    def content(self, data: Buffer, /) -> None:
        """Take the next bytes of a file."""

    def read(self, root: Root, entry: Entry, /) -> None:
        """Take what a hard link holds: it is in the archive once, under its first name."""


def pack_entries(
    entries: Iterable[Entry | Problem],
    root: Root,
    spool: Spool,
    settings: PackSettings,
    *,
    hashing: Hashing | None = None,
    on_event: OnEvent,
) -> Archive:
    """Write entries to a spool, and return what the archive came to.

    After the first thing that cannot be archived nothing more is written, and the rest only looked
    at: whoever mends it is told of all.

    Args:
        entries: what to archive, in this order; consumed as it is written, and a
            generator closed.
        root: where the entries' files are; the one they were collected from, for speed.
        spool: empty.
        settings: how to compress; its ``spool_dir`` is not looked at.
        hashing: fed all that is packed.
        on_event: told of progress.

    Raises:
        SourceError: files that cannot be read, or are not what they were when they were collected,
            and the problems among the entries.
        SpoolError: the disk is full.
    """
    start = time.monotonic()
    counts = {"file": 0, "directory": 0, "symlink": 0, "hardlink": 0, "special": 0}
    number = 0

    def report() -> None:
        on_event(Progress(step="pack", done=packing.content, entries=number))

    def write(data: Buffer) -> None:
        spool.write(data)
        digesting.grown(spool.written)

    # The walk holds folders open: closed at once, also after a failure.
    with closing(entries) if isinstance(entries, Generator) else nullcontext():
        rest = enumerate(entries, start=1)
        try:
            with Digesting(spool.fileno()) as digesting:
                with BlockWriter(
                    codec_for(settings.compression),
                    write,
                    threads=settings.workers,
                    on_block=report,
                ) as out:
                    packing = _Packing(root, out, settings.mtime, hashing)
                    for number, entry in rest:
                        packing.add(entry)
                        counts[entry.type] += 1
                        if number % _ENTRIES_AN_EVENT == 0:
                            report()
                    out.write(tar.END)
                digests = digesting.result()
        except SourceError as error:
            problems = Problems()
            problems.add(error)
            for number, entry in rest:
                try:
                    _look(root, entry)
                except SourceError as another:
                    problems.add(another)
                if number % _ENTRIES_AN_EVENT == 0:
                    report()
            problems.raise_as_one()
    archive = Archive(
        bytes=spool.size,
        sha256=digests.sha256,
        md5=digests.md5,
        files=counts["file"],
        directories=counts["directory"],
        symlinks=counts["symlink"],
        hardlinks=counts["hardlink"],
        content_bytes=packing.content,
    )
    on_event(
        Finished(
            step="pack",
            done=packing.content,
            entries=number,
            seconds=time.monotonic() - start,
            result=archive.bytes,
        )
    )
    return archive


class _Packing:
    """One archive while it is written."""

    def __init__(
        self, root: Root, out: BlockWriter, mtime: int | None, hashing: Hashing | None
    ) -> None:
        self._root = root
        self._out = out
        self._mtime = mtime
        self._hashing = hashing
        self.content = 0

    def add(self, entry: Entry | Problem) -> None:
        """Write an entry, and make sure that a file stood still meanwhile."""
        if entry.type != "file":
            if entry.type == "problem":
                raise entry.error
            self._out.write(tar.header(entry, self._mtime))
            if self._hashing:
                self._hashing.entry(entry)
                if entry.type == "hardlink":
                    self._hashing.read(self._root, entry)
            return
        self._out.write(tar.header(entry, self._mtime))
        if self._hashing:
            self._hashing.entry(entry)
        try:
            descriptor = self._root.open(entry.path)
        except OSError as error:
            raise _cannot_be_opened(self._root, entry, error) from error
        try:
            size = self._read(entry, descriptor)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        before = entry.stat
        if (
            size != entry.size
            or after.st_mtime_ns != before.st_mtime_ns
            or after.st_ctime_ns != before.st_ctime_ns
            or after.st_size != before.st_size
            or after.st_ino != before.st_ino
            or after.st_dev != before.st_dev
        ):
            raise _changed(self._root, entry, after)
        self._out.write(tar.padding(size))

    def _read(self, entry: Entry, descriptor: int) -> int:
        """Append as much as a file was said to hold, and return how much it held."""
        out = self._out
        left = entry.size
        while left:
            room = out.room(left)
            try:
                count = os.readv(descriptor, [room])
            except BlockingIOError:  # it is a FIFO now, and who writes to it has nothing to say
                break
            except OSError as error:
                raise SourceError(
                    f"{self._root.shown(entry.path)} cannot be read: {error.strerror}",
                    hint="Exclude it in .dockerignore, or look at the disk.",
                ) from error
            if not count:
                break
            left -= count
            self.content += count
            if self._hashing:
                self._hashing.content(room[:count])
            out.advance(count)
        return entry.size - left


def _look(root: Root, entry: Entry | Problem) -> None:
    """Raise what stands against packing an entry, as far as it shows without reading it."""
    if entry.type == "problem":
        raise entry.error
    if entry.type != "file":
        return
    try:
        descriptor = root.open(entry.path)
    except OSError as error:
        raise _cannot_be_opened(root, entry, error) from error
    try:
        now = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if has_changed(entry.stat, now):
        raise _changed(root, entry, now)


def _cannot_be_opened(root: Root, entry: Entry, error: OSError) -> SourceError:
    return SourceError(
        f"{root.shown(entry.path)} cannot be opened: {error.strerror}",
        hint=how_to_read(error),
    )


def _changed(root: Root, entry: Entry, now: os.stat_result) -> SourceError:
    return SourceError(
        f"{root.shown(entry.path)} changed while it was packed "
        f"({entry.size} bytes before, {now.st_size} after)",
        hint="Run again when nothing writes to it, or exclude it in .dockerignore.",
    )
