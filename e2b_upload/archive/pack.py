"""Entries become an archive in a spool."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from e2b_upload.archive import tar
from e2b_upload.archive.blocks import BlockWriter, default_threads
from e2b_upload.archive.deflate import Gzip, Plain
from e2b_upload.errors import SourceError
from e2b_upload.events import Finished, Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from e2b_upload.archive.deflate import Codec
    from e2b_upload.archive.spool import Spool
    from e2b_upload.context.collect import Entry
    from e2b_upload.context.root import Root
    from e2b_upload.events import OnEvent

Compression: TypeAlias = Literal["fast", "default", "small", "none"]
# Levels of ISA-L. Its 0 is left out: it grows random data by 23%.
_LEVEL = {"fast": 1, "default": 2, "small": 3}
_ENTRIES_AN_EVENT = 256


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


def pack_entries(
    entries: Iterable[Entry],
    root: Root,
    spool: Spool,
    *,
    compression: Compression = "default",
    mtime: int | None = None,
    on_event: OnEvent,
) -> Archive:
    """Write entries to a spool, and return what the archive came to.

    Args:
        entries: what to archive, in this order; consumed as it is written, and a
            generator closed.
        root: where the entries' files are; the one they were collected from, for speed.
        spool: empty.
        compression: ``none`` is a plain tar.
        mtime: seconds since the epoch; no time in the archive is later.
        on_event: told of progress.

    Raises:
        SourceError: a file cannot be read, or is not what it was when it was collected.
        SpoolError: the disk is full.
    """
    start = time.monotonic()
    counts = {"file": 0, "directory": 0, "symlink": 0, "hardlink": 0}
    number = 0

    def report() -> None:
        on_event(Progress(step="pack", done=packing.content, entries=number))

    codec: Codec = Plain() if compression == "none" else Gzip(_LEVEL[compression])
    with (
        # The walk holds folders open: closed at once, also after a failure.
        closing(entries) if isinstance(entries, Generator) else nullcontext(),
        BlockWriter(codec, spool.write, threads=default_threads(), on_block=report) as out,
    ):
        packing = _Packing(root, out, mtime)
        for number, entry in enumerate(entries, start=1):
            packing.add(entry)
            counts[entry.type] += 1
            if number % _ENTRIES_AN_EVENT == 0:
                report()
        out.write(tar.END)
    archive = Archive(
        bytes=spool.size,
        sha256=spool.sha256,
        md5=spool.md5,
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

    def __init__(self, root: Root, out: BlockWriter, mtime: int | None) -> None:
        self._root = root
        self._out = out
        self._mtime = mtime
        self.content = 0

    def add(self, entry: Entry) -> None:
        """Write an entry, and make sure that a file stood still meanwhile."""
        if entry.type != "file":
            self._out.write(tar.header(entry, self._mtime))
            return
        descriptor = self._open(entry)
        try:
            self._out.write(tar.header(entry, self._mtime))
            count = self._read(entry, descriptor)
            self._out.write(tar.padding(entry.size))
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        found = entry.stat
        if (
            count != entry.size
            or after.st_mtime_ns != found.st_mtime_ns
            or after.st_ctime_ns != found.st_ctime_ns
            or after.st_size != found.st_size
            or after.st_ino != found.st_ino
            or after.st_dev != found.st_dev
        ):
            raise SourceError(
                f"{self._root.shown(entry.path)} changed while it was packed "
                f"({entry.size} bytes before, {after.st_size} after)",
                hint="Run again when nothing writes to it, or exclude it in .dockerignore.",
            )

    def _open(self, entry: Entry) -> int:
        try:
            return self._root.open(entry.path)
        except OSError as error:
            raise SourceError(
                f"{self._root.shown(entry.path)} cannot be opened: {error.strerror}",
                hint="Make it readable for this user, or exclude it in .dockerignore.",
            ) from error

    def _read(self, entry: Entry, descriptor: int) -> int:
        """Append as much as a file was said to hold, and return how much it held."""
        left = entry.size
        while left:
            try:
                count = os.readv(descriptor, [self._out.room(left)])
            except OSError as error:
                raise SourceError(
                    f"{self._root.shown(entry.path)} cannot be read: {error.strerror}",
                    hint="Exclude it in .dockerignore, or look at the disk.",
                ) from error
            if not count:
                break
            left -= count
            self.content += count
            self._out.advance(count)
        return entry.size - left
