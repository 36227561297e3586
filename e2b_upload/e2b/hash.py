"""The hash by which the E2B SDK (2.63.0) names the files of a COPY.

One SHA-256 takes everything without separators: ``COPY SRC DEST``; then for each path, sorted as
strings: the path, ``st_mode``, ``st_size`` unless it is a directory, and the file's content or the
link's target.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from mmap import mmap
from typing import TYPE_CHECKING

from e2b_upload.context.problems import Problems
from e2b_upload.context.root import has_changed
from e2b_upload.e2b.select import is_utf8, select
from e2b_upload.errors import SourceError, UsageError, how_to_read, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from e2b_upload.archive.deflate import Buffer
    from e2b_upload.context.collect import Entry
    from e2b_upload.context.root import Root
    from e2b_upload.e2b.copies import Copy

_PIECE_BYTES = 1024 * 1024  # as in the SDK; anything from 64 KiB to 2 MiB took as long


class FilesHash:
    """The running hash of a COPY: fed an entry, and then what it holds.

    Args:
        copy: what is hashed before all files.

    Raises:
        UsageError: it holds what is not UTF-8.
    """

    def __init__(self, copy: Copy) -> None:
        text = f"COPY {copy.src} {copy.dest}"
        if not is_utf8(text):
            raise UsageError(
                f"{printable(text)} is not UTF-8", hint="E2B's hash needs a name that is."
            )
        self._sha256 = hashlib.sha256(text.encode())
        # Whole pages: into a bytearray, which starts 16 bytes after one, it took a third longer.
        self._buffer = memoryview(mmap(-1, _PIECE_BYTES))

    def entry(self, entry: Entry) -> None:
        """Take an entry's path, mode, size, and where it points.

        What a ``file`` and a ``hardlink`` hold comes next: by :meth:`content`, or :meth:`read`.
        """
        path, kind, _, _, target, stat = entry
        if kind == "directory":
            piece = f"{path}{stat.st_mode}"
        elif kind == "symlink":
            piece = f"{path}{stat.st_mode}{stat.st_size}{target}"
        else:
            piece = f"{path}{stat.st_mode}{stat.st_size}"
        self._sha256.update(piece.encode())

    def content(self, data: Buffer) -> None:
        """Take the next bytes of a file."""
        self._sha256.update(data)

    def read(
        self, root: Root, entry: Entry, *, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Take all that a file holds, whichever of its names this is.

        Args:
            root: where it is.
            entry: the file.
            on_bytes: told of the bytes of each piece.

        Raises:
            SourceError: it cannot be read, or is not what it was when it was selected.
        """
        descriptor = _opened(root, entry)
        try:
            left = entry.stat.st_size
            # What is empty is read once, too: files of /proc say so of themselves.
            while count := os.readv(descriptor, [self._buffer]):
                self._sha256.update(self._buffer[:count])
                if on_bytes:
                    on_bytes(count)
                left -= count
                if left <= 0:
                    break
            after = os.fstat(descriptor)
        except OSError as error:  # also BlockingIOError: it is a FIFO now
            raise _cannot_be_read(root, entry, error) from error
        finally:
            os.close(descriptor)
        if left or has_changed(entry.stat, after):
            raise SourceError(
                f"{root.shown(entry.path)} changed while it was hashed "
                f"({entry.stat.st_size} bytes before, {after.st_size} after)",
                hint="Run again when nothing writes to it, or exclude it in .dockerignore.",
            )

    def hexdigest(self) -> str:
        """Return the 64 digits of all that was taken."""
        return self._sha256.hexdigest()


def _opened(root: Root, entry: Entry) -> int:
    try:
        return root.open(entry.path)
    except OSError as error:
        raise _cannot_be_read(root, entry, error) from error


def _cannot_be_read(root: Root, entry: Entry, error: OSError) -> SourceError:
    return SourceError(
        f"{root.shown(entry.path)} cannot be read: {error.strerror}",
        hint=how_to_read(error),
    )


def calculate(
    root: Root,
    copy: Copy,
    patterns: Sequence[str],
    *,
    on_bytes: Callable[[int], None] | None = None,
) -> str:
    """Return what the SDK's ``calculate_files_hash`` returns: 64 lower-case hex digits.

    Args:
        root: the context; links are followed where it follows them: the SDK's
            ``resolve_symlinks``.
        copy: what to hash.
        patterns: what to leave out, as :func:`read_ignore_patterns` returns them.
        on_bytes: told of the bytes of each piece of content.

    Raises:
        UsageError: as :func:`select`.
        SourceError: nothing is selected; or all that cannot be hashed: what cannot be read, changed
            while it was read, or has a name that is not UTF-8.
    """
    hashing = FilesHash(copy)
    problems = Problems()
    entry = None
    with closing(select(root, copy, patterns)) as entries:
        for entry in entries:
            try:
                if entry.type == "problem":
                    raise entry.error
                hashing.entry(entry)
                if entry.type in {"file", "hardlink"}:
                    if problems:  # only to tell them all
                        os.close(_opened(root, entry))
                    else:
                        hashing.read(root, entry, on_bytes=on_bytes)
            except SourceError as error:
                problems.add(error)
    if problems:
        problems.raise_as_one()
    if entry is None:
        raise SourceError(
            f"the source {printable(copy.src)} matches nothing in the context "
            f"{printable(root.path)}",
            hint="Is it excluded in .dockerignore? A source is a path or a glob in the context.",
        )
    return hashing.hexdigest()
