"""The archive waits in a file without a name on a real disk: nothing can leave it behind.

The kernel frees it when its descriptor closes, whichever way the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from typing import IO, TYPE_CHECKING, Self

from e2b_upload.errors import SourceError, SpoolError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from e2b_upload.archive.deflate import Buffer

# On most systems of today /tmp is a tmpfs: an archive there would be in memory. /var/tmp outlives a
# restart by the Filesystem Hierarchy Standard, so it is on a disk.
_ON_DISK = "/var/tmp"  # noqa: S108  (the file made there has no name that could be guessed)
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a limit on the size of files is met",
}
# What open(2) says of O_TMPFILE on a file system or kernel that does not know it.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
_DESCRIPTORS = "/proc/self/fd"
_COPY_BYTES = 1024 * 1024
# To name files in it, not to list it.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def default_folder() -> str:
    """Return ``TMPDIR`` where it is set, else a temporary folder that is on a disk."""
    if chosen := os.environ.get("TMPDIR"):
        return chosen
    if os.path.isdir(_ON_DISK) and os.access(_ON_DISK, os.W_OK | os.X_OK):
        return _ON_DISK
    return tempfile.gettempdir()


class Spool:
    """A file to write once and read as often as needed.

    Args:
        folder: where; by default :func:`default_folder`.

    Attributes:
        written: bytes that were appended.

    Raises:
        SpoolError: the folder does not exist or cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = os.fspath(folder) if folder is not None else default_folder()
        self._linkable = False
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise SpoolError(
                f"no archive can be written in {printable(self.folder)}: {error.strerror}",
                hint="Choose a directory on a disk with `spool_dir`, or set TMPDIR.",
                parameter="spool_dir",
            ) from error
        self.written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor, open for reading and writing."""
        return self._descriptor

    @property
    def size(self) -> int:
        """Bytes in the file, as the system says."""
        return os.stat(self._descriptor).st_size

    def write(self, data: Buffer) -> None:
        """Append bytes.

        Raises:
            SpoolError: the disk is full, or failed.
        """
        rest = memoryview(data)
        try:
            while rest:
                count = os.write(self._descriptor, rest)
                self.written += count
                rest = rest[count:]
        except OSError as error:
            so_far = f"{self.written} bytes of it are"
            doing = f"spooled in {printable(self.folder)} ({so_far})"
            raise _failed(doing, error) from error

    def copy_from(self, stream: IO[bytes]) -> None:
        """Append all that a stream holds.

        Raises:
            SourceError: it cannot be read.
            SpoolError: the disk is full, or failed.
        """
        while True:
            try:
                piece = stream.read(_COPY_BYTES)
            except OSError as error:
                raise SourceError(
                    f"the archive cannot be read from its stream: {error.strerror}",
                    hint="Write it to a file, and name that.",
                ) from error
            if not piece:
                break
            self.write(piece)

    def keep(self, path: str | os.PathLike[str]) -> None:
        """Give the archive a name: a file that is there is replaced in one step.

        Who may read that file may read the archive, and nobody else, not for a moment.

        Raises:
            SpoolError: it cannot be written there; what was there before is still there.
        """
        final = os.fspath(path)
        folder, name = os.path.split(os.path.abspath(final))
        # Hidden, and never the same: two builds may write one name at once.
        partial = f".e2b-upload.{secrets.token_hex(8)}.part"
        try:
            at = os.open(folder, _FOLDER)
            try:
                mode = _mode(name, at)
                if mode is None and self._link(name, at, mode):
                    return  # where there was none, without another name on the way
                if not self._link(partial, at, mode):
                    self._copy(partial, at, mode)
                os.replace(partial, name, src_dir_fd=at, dst_dir_fd=at)
            finally:
                # Still there after a failure, and where both names are of one file: rename(2).
                with contextlib.suppress(OSError):
                    os.unlink(partial, dir_fd=at)
                os.close(at)
        except OSError as error:
            raise _failed(f"kept as {printable(final)}", error) from error

    def copy_to(self, output: str | os.PathLike[str] | IO[bytes]) -> None:
        """Write the archive to a device or a FIFO that is there, or to an open file.

        Raises:
            SpoolError: it cannot be written, or nobody reads it any more.
        """
        name = output if isinstance(output, (str, os.PathLike)) else "the output"
        try:
            if isinstance(output, (str, os.PathLike)):
                with open(output, "wb") as stream:
                    self._write_to(stream)
            else:
                self._write_to(output)
        except OSError as error:
            raise _failed(f"written to {printable(os.fspath(name))}", error) from error

    def _write_to(self, stream: IO[bytes]) -> None:
        for piece in self._pieces():
            rest = memoryview(piece)
            while rest:  # a raw stream may take less than it is given, or nothing now
                if (count := stream.write(rest)) is None:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                rest = rest[count:]
        stream.flush()

    def close(self) -> None:
        """Free the file. Never fails: whatever the build came to stands by now."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _open(self) -> int:
        descriptor = _open_unnamed(self.folder)
        if descriptor is not None:
            self._linkable = True
            return descriptor
        # The standard library's way: unlinked as soon as it is there, or deleted on close.
        with tempfile.TemporaryFile(dir=self.folder, buffering=0) as file:
            return os.dup(file.fileno())

    def _link(self, name: str, at: int, mode: int | None) -> bool:
        """Name the file itself, where the kernel can and it is on the same disk."""
        if not self._linkable:
            return False
        _set_mode(self._descriptor, mode)
        os.fsync(self._descriptor)
        return _link(self._descriptor, name, at)

    def _copy(self, name: str, at: int, mode: int | None) -> None:
        """Write another file there, and name it when it is whole, where the kernel can."""
        # To name one afterwards takes /proc.
        descriptor = unnamed = _open_unnamed(".", at) if os.path.isdir(_DESCRIPTORS) else None
        if descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o666 if mode is None else mode, dir_fd=at)
        with open(descriptor, "wb") as file:
            _set_mode(descriptor, mode)
            self._write_to(file)
            os.fsync(descriptor)
            if unnamed is not None and not _link(descriptor, name, at):
                raise OSError(errno.EXDEV, "a whole file cannot be given a name there")

    def _pieces(self) -> Iterator[bytes]:
        offset = 0
        while piece := os.pread(self._descriptor, _COPY_BYTES, offset):
            offset += len(piece)
            yield piece


def _open_unnamed(folder: str, at: int | None = None) -> int | None:
    """Return a descriptor of a file without a name, or None where the system knows none."""
    if not (flag := getattr(os, "O_TMPFILE", 0)):
        return None
    try:
        # The mode counts once the file gets a name; until then only its owner reaches it.
        return os.open(folder, flag | os.O_RDWR | os.O_CLOEXEC, 0o666, dir_fd=at)
    except OSError as error:
        if error.errno not in _NO_TMPFILE or (at is None and not os.path.isdir(folder)):
            raise
        return None


def _link(descriptor: int, name: str, at: int) -> bool:
    """Give an unnamed file a name in a folder; say whether that went."""
    try:
        # With a folder's descriptor Python calls linkat(2), which can follow /proc's link.
        os.link(f"{_DESCRIPTORS}/{descriptor}", name, dst_dir_fd=at, follow_symlinks=True)
    except OSError:
        return False  # another file system, or no /proc
    return True


def _mode(name: str, at: int) -> int | None:
    """Return who may read and write a file, or None where there is none."""
    try:
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_mode & 0o777 if stat.S_ISREG(found.st_mode) else None


def _set_mode(descriptor: int, mode: int | None) -> None:
    # Not every file system takes a mode; those give all files the same.
    if mode is not None and stat.S_IMODE(os.stat(descriptor).st_mode) != mode:
        os.fchmod(descriptor, mode)


def _failed(doing: str, error: OSError) -> SpoolError:
    """Return the error of an archive that cannot be ``doing``: "kept as …", "spooled in …"."""
    why = _FULL.get(error.errno or 0)
    if why is None:
        return SpoolError(
            f"the archive cannot be {doing}: {error.strerror}",
            hint="Choose another directory with `spool_dir`, or another file with `output`.",
        )
    return SpoolError(
        f"the archive cannot be {doing}: {why}",
        hint="Make room there, or choose another disk with `spool_dir` or `output`.",
    )
