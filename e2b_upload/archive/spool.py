"""The archive waits in a file without a name on a real disk: nothing can leave it behind.

The kernel frees it when its descriptor closes, whichever way the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from typing import IO, TYPE_CHECKING, Self

from e2b_upload.errors import SpoolError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from e2b_upload.archive.deflate import Buffer

# On most systems of today /tmp is a tmpfs: an archive there would be in memory. /var/tmp outlives a
# restart by the Filesystem Hierarchy Standard, so it is on a disk.
_ON_DISK = "/var/tmp"  # noqa: S108  (the file made there has no name that could be guessed)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What open(2) says of O_TMPFILE on a file system or kernel that does not know it.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
_COPY_BYTES = 1024 * 1024


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
                hint="Choose a folder on a disk with --spool-dir, or set TMPDIR.",
            ) from error
        self._sha256 = hashlib.sha256()
        # For Content-MD5 and ETag, not for security: so also where a policy forbids it as such.
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._written = 0

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

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written, 64 hex digits."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """MD5 of what was written, 32 hex digits: what a store calls its ETag."""
        return self._md5.hexdigest()

    def write(self, data: Buffer) -> None:
        """Append bytes.

        Raises:
            SpoolError: the disk is full, or failed.
        """
        rest = memoryview(data)
        try:
            while rest:
                count = os.write(self._descriptor, rest)
                self._written += count
                rest = rest[count:]
        except OSError as error:
            raise self._failed(self.folder, error) from error
        self._sha256.update(data)
        self._md5.update(data)

    def keep(self, path: str | os.PathLike[str]) -> None:
        """Give the archive a name: a file that is there is replaced in one step.

        Raises:
            SpoolError: it cannot be written there; what was there before is still there.
        """
        final = os.fspath(path)
        folder, name = os.path.split(os.path.abspath(final))
        # Hidden, and never the same: two builds may write one name at once.
        partial = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(4)}.part")
        try:
            try:
                if not self._link(partial):
                    self._copy(partial)
                os.replace(partial, final)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial)
                raise
        except OSError as error:
            raise self._failed(final, error) from error

    def copy_to(self, stream: IO[bytes]) -> None:
        """Write the archive to an open file, such as standard output.

        Raises:
            OSError: as that file does; a closed pipe is BrokenPipeError.
        """
        for piece in self._pieces():
            stream.write(piece)
        stream.flush()

    def copy_to_path(self, path: str | os.PathLike[str]) -> None:
        """Write the archive to a device or a FIFO that is there.

        Raises:
            SpoolError: it cannot be written.
        """
        try:
            with open(path, "wb") as stream:
                self.copy_to(stream)
        except OSError as error:
            raise self._failed(os.fspath(path), error) from error

    def close(self) -> None:
        """Free the file. Never fails: whatever the build came to stands by now."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def _open(self) -> int:
        if flag := getattr(os, "O_TMPFILE", 0):
            try:
                # The mode counts once the file gets a name; until then only its owner reaches it.
                descriptor = os.open(self.folder, flag | os.O_RDWR | os.O_CLOEXEC, 0o666)
            except OSError as error:
                if error.errno not in _NO_TMPFILE or not os.path.isdir(self.folder):
                    raise
            else:
                self._linkable = True
                return descriptor
        # The standard library's way: unlinked as soon as it is there, or deleted on close.
        with tempfile.TemporaryFile(dir=self.folder, buffering=0) as file:
            return os.dup(file.fileno())

    def _link(self, path: str) -> bool:
        """Name the file itself, on its own file system and where the kernel can."""
        if not self._linkable:
            return False
        os.fsync(self._descriptor)
        try:
            os.link(f"/proc/self/fd/{self._descriptor}", path, follow_symlinks=True)
        except OSError:
            return False  # another file system, or no /proc: a copy does it
        return True

    def _copy(self, path: str) -> None:
        with open(path, "xb") as file:
            self.copy_to(file)
            os.fsync(file.fileno())

    def _pieces(self) -> Iterator[bytes]:
        offset = 0
        while piece := os.pread(self._descriptor, _COPY_BYTES, offset):
            offset += len(piece)
            yield piece

    def _failed(self, where: str, error: OSError) -> SpoolError:
        if error.errno not in _FULL:
            return SpoolError(
                f"the archive cannot be written to {printable(where)}: {error.strerror}",
                hint="Choose another folder with --spool-dir, or another file with -o.",
            )
        reason = {
            errno.EDQUOT: "the disk quota is used up",
            errno.EFBIG: "a limit on the size of files was met",
        }.get(error.errno or 0, "the disk is full")
        return SpoolError(
            f"{reason} in {printable(where)}: {self._written} bytes of the archive were written"
            f"{_free_bytes(where)}",
            hint="Free some space, or choose a folder on another disk with --spool-dir.",
        )


def _free_bytes(path: str) -> str:
    try:
        return f", {shutil.disk_usage(path).free} are free"
    except OSError:
        return ""
