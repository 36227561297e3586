"""Standard streams that may be closed, full, or read by nobody, and that spoil nothing."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from typing_extensions import Buffer

STDIN, STDOUT, STDERR = 0, 1, 2


class Forgiving(io.FileIO):
    """A file that takes everything, and remembers what the system said of it first.

    A write that raised in the middle of Rich or Typer would end the build, or be taken for a bug.

    Attributes:
        failure: the first error, or None.
    """

    failure: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Write all of it, or drop it."""
        rest = memoryview(data).cast("B")
        size = rest.nbytes
        try:
            while rest:
                count = super().write(rest)
                if count is None:  # it is not to block, and nobody reads
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                rest = rest[count:]
        except OSError as error:
            self.failure = self.failure or error
        return size


def is_read(stream: TextIO) -> bool:
    """Whether somebody may still read what is written: no error has been met so far."""
    return getattr(getattr(stream, "buffer", None), "failure", None) is None


def take_over() -> Forgiving:
    """Make the standard streams safe to use, and return standard output's file.

    A closed descriptor is opened again, on nothing: else the next file to be opened would be
    standard error, and a warning written into the archive.
    """
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # the lowest that is free; writing to it fails
    if sys.stdin is None:
        sys.stdin = open(STDIN, closefd=False)  # noqa: SIM115
    output = Forgiving(STDOUT, "wb", closefd=False)
    sys.stdout = _text(output, sys.stdout)
    sys.stderr = _text(Forgiving(STDERR, "wb", closefd=False), sys.stderr)
    return output


def _text(file: Forgiving, like: TextIO | None) -> TextIO:
    encoding = getattr(like, "encoding", None) or "utf-8"
    # No BufferedWriter: a signal that comes as a write returns would have it write all of it again.
    return io.TextIOWrapper(
        file,
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
