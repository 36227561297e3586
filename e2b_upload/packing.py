"""A context becomes an archive: walk → look for credentials → weigh → pack → keep."""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, TypeAlias

from e2b_upload.archive.pack import pack_entries
from e2b_upload.archive.spool import Spool
from e2b_upload.context.collect import walk
from e2b_upload.context.explain import nothing_to_archive
from e2b_upload.context.secrets import guard
from e2b_upload.context.weight import Droppable, weigh
from e2b_upload.errors import SpoolError, UsageError, printable
from e2b_upload.events import Finished, Heavy, Kept, Progress, Started, ignore_events
from e2b_upload.receipts import Seconds
from e2b_upload.transfer.body import Source

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from e2b_upload.archive.pack import Archive, PackSettings
    from e2b_upload.context.collect import Entry
    from e2b_upload.context.problems import Problem
    from e2b_upload.context.selection import Selection
    from e2b_upload.events import OnEvent

Path: TypeAlias = str | os.PathLike[str]

_ENTRIES_AN_EVENT = 1024
_HEAVIEST = 5  # as many as are read


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive in the spool, and how long it took."""

    spool: Spool
    archive: Archive
    seconds: Seconds

    @property
    def source(self) -> Source:
        """The archive as an upload takes it."""
        return Source(
            self.spool.fileno(),
            lambda algorithm: bytes.fromhex(getattr(self.archive, algorithm)),
        )


@contextmanager
def packed(
    context: Path,
    selection: Selection,
    settings: PackSettings,
    *,
    output: Path | IO[bytes] | None,
    warn_size: int | None = None,
    count_first: bool = False,
    on_event: OnEvent,
) -> Iterator[Packed]:
    """Pack a context, and keep the archive if it is wanted; leaving the block frees the spool.

    Args:
        context: the directory.
        selection: which of its files.
        settings: how to pack.
        output: where to keep the archive: a path, or a file open for writing bytes.
        warn_size: bytes of content above which the largest items are reported.
        count_first: walk the context twice, so that the progress of packing has a total.
        on_event: the callback.
    """
    start = time.monotonic()
    root, rules = selection.open(context)
    file = _file_to_keep(output)
    spool_dir = settings.spool_dir
    if spool_dir is None and file is not None:
        spool_dir = os.path.dirname(file)
    collected = time.monotonic()
    walked = partial(walk, root, rules, output=file)
    entries = guard(walked(on_event=on_event), root, selection.secrets, on_event=on_event)
    heaviest = Droppable(_HEAVIEST, rules)
    if warn_size is not None:
        entries = weigh(entries, heaviest)
    with Spool(spool_dir) as spool:
        total = _count(walked(on_event=ignore_events), on_event) if count_first else None
        on_event(Started(step="pack", total=total, target=printable(root.path)))
        archive = pack_entries(entries, root, spool, settings, on_event=on_event)
        counts = (archive.files, archive.directories, archive.symlinks, archive.hardlinks)
        if not (selection.allow_empty or any(counts)):
            raise nothing_to_archive(root, rules, file)
        if warn_size is not None and (content := archive.content_bytes or 0) > warn_size:
            on_event(Heavy(content_bytes=content, limit=warn_size, largest=heaviest.result()))
        if file is not None:
            spool.keep(file)
            archive = replace(archive, path=file)
            on_event(Kept(path=file))
        elif output is not None:
            spool.copy_to(output)
        done = time.monotonic()
        yield Packed(spool, archive, Seconds(collect=collected - start, pack=done - collected))


def _file_to_keep(output: Path | IO[bytes] | None) -> str | None:
    """Return the regular file that an output names, through links; None for a stream.

    A device or a FIFO is a stream: it is written to, and never replaced.
    """
    if not isinstance(output, (str, os.PathLike)):
        return None
    name = os.fspath(output)
    if os.path.isdir(name):
        raise SpoolError(
            f"the archive cannot be kept as {printable(name)}: it is a directory",
            hint="Name a file with `output`.",
        )
    if os.path.exists(name) and not os.path.isfile(name):
        return None
    try:
        path = os.path.realpath(name)
    except FileNotFoundError:
        raise UsageError(
            "the current directory no longer exists", hint="Change to one that does."
        ) from None
    except ValueError:  # a zero byte
        raise UsageError(
            f"{printable(name)} is not a valid file name", hint="Name a file with `output`."
        ) from None
    # What ends so names a folder, though realpath makes a file's name of it.
    if os.path.basename(name) in {"", ".", ".."} or not os.path.isdir(os.path.dirname(path)):
        raise SpoolError(
            f"the archive cannot be kept as {printable(name)}: there is no such directory",
            hint="Create the directory, or name another file with `output`.",
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
