"""The context's folder as the system calls see it.

Every file is asked for by its name in its own folder's descriptor. So a folder that turns into a
link while it is packed leads nowhere else, and no path is too long for a call.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import TYPE_CHECKING

from e2b_upload.errors import SourceError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
# To look up what is in it, for which it need not be readable.
_LOOK_UP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
# Never waiting for a FIFO's writer, never a controlling terminal.
_READ = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_NONBLOCK", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# Deeper than that, the folders above are closed and opened again: a process has 1,024 descriptors.
_MAX_OPEN = 64
_UTF8 = sys.getfilesystemencoding() == "utf-8"
_version = attrgetter("st_mtime_ns", "st_ctime_ns", "st_size", "st_ino", "st_dev")


def to_bytes(path: str) -> bytes:
    """Return the bytes of a path, whatever the locale: UTF-8, or as they were (PEP 383)."""
    return path.encode("utf-8", "surrogateescape")


def _to_system(name: str) -> str | bytes:
    return name if _UTF8 else to_bytes(name)


def _from_system(name: str) -> str:
    return name if _UTF8 else os.fsencode(name).decode("utf-8", "surrogateescape")


def has_changed(before: os.stat_result, now: os.stat_result) -> bool:
    """Return whether a file was replaced or written to between two looks at it."""
    return bool(_version(before) != _version(now))


def identity_of(found: os.stat_result) -> tuple[int, int]:
    """Return what tells one file from all others: device and inode."""
    return found.st_dev, found.st_ino


class _Open:
    """A folder that the walk is in; its descriptor is None where there were too many."""

    __slots__ = ("descriptor", "identity", "path")

    def __init__(self, path: str, descriptor: int, found: os.stat_result) -> None:
        self.path = path
        self.descriptor: int | None = descriptor
        self.identity = identity_of(found)

    def close(self) -> None:
        if self.descriptor is not None:
            descriptor, self.descriptor = self.descriptor, None
            os.close(descriptor)


class Root:
    """A directory, and what is asked of the files below it.

    Relative paths are ``/``-separated; ``""`` is the directory itself.

    Args:
        path: the context, as the caller named it.
        follow_symlinks: go through links, to folders as to files.

    Raises:
        UsageError: there is no such directory.
        SourceError: it may not be listed.
    """

    def __init__(self, path: str | os.PathLike[str], *, follow_symlinks: bool = False) -> None:
        self.path = os.fspath(path)
        self.follow_symlinks = follow_symlinks
        self._folder_flags = _FOLDER if follow_symlinks else _FOLDER | _NO_LINK
        self._file_flags = _READ if follow_symlinks else _READ | _NO_LINK
        self._entered: list[_Open] = []
        # Folders that were visited through links → where in the context they are.
        self._led: dict[str, str] = {}
        self._folder: str | None = None  # the last that was entered
        self._at = -1
        if not self.path:
            raise UsageError("the context is empty", hint="Name a folder; . is the one you are in.")
        try:
            self._base = os.path.join("" if os.path.isabs(self.path) else os.getcwd(), self.path)
        except FileNotFoundError:
            raise UsageError(
                "the working folder does not exist any more", hint="Change to one that does."
            ) from None
        try:
            at = self._open_base()
            try:
                os.stat(".", dir_fd=at)  # it may be readable and not to be entered
            finally:
                os.close(at)
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError | ValueError) -> UsageError | SourceError:
        """Say why the context cannot be opened."""
        what = f"the context {printable(self.path)}"
        if isinstance(error, PermissionError):
            return SourceError(
                f"{what} may not be read", hint="Give this user permission to list it (chmod u+rx)."
            )
        if isinstance(error, (FileNotFoundError, ValueError)):  # ValueError: a zero byte
            why = "does not exist"
        elif isinstance(error, NotADirectoryError):
            why = "is not a directory"
        else:
            why = f"cannot be opened: {error.strerror}"
        return UsageError(f"{what} {why}", hint="Name the folder that holds the files to send.")

    def _open_base(self) -> int:
        """Open the context, which may be named by a link, and by a path of any length."""
        try:
            return os.open(self._base, _FOLDER)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
        at = os.open("/", _LOOK_UP)
        try:
            for name in filter(None, self._base.split("/")):
                below = os.open(name, _LOOK_UP, dir_fd=at)
                os.close(at)
                at = below
            return os.open(".", _FOLDER, dir_fd=at)
        finally:
            os.close(at)

    def shown(self, path: str) -> str:
        """Return a path below the context as a message names it."""
        return printable(os.path.join(self.path, path))

    def parents(self) -> frozenset[tuple[int, int]]:
        """Return (device, inode) of each directory that the context lies in."""
        parents: list[tuple[int, int]] = []
        at = self._open_base()
        try:
            parents.append(identity_of(os.fstat(at)))
            with suppress(OSError):  # whatever is above may not be entered
                while True:
                    above = os.open("..", _LOOK_UP, dir_fd=at)
                    os.close(at)
                    at = above
                    identity = identity_of(os.fstat(at))
                    if identity == parents[-1]:  # / lies in itself
                        break
                    parents.append(identity)
        finally:
            os.close(at)
        return frozenset(parents)

    def is_at(self, path: str) -> bool:
        """Whether a path, of any folder, leads to the context."""
        try:
            return os.path.samefile(_to_system(path), self._base)
        except OSError:
            return False

    def enter(self, path: str) -> tuple[list[str], os.stat_result]:
        """Open a directory in the last one that was entered; return its names, sorted.

        Raises:
            OSError: it cannot be listed, or is no directory now.
        """
        if path:
            name = path.rpartition("/")[2]
            descriptor = os.open(_to_system(name), self._folder_flags, dir_fd=self._at)
        else:  # the context itself, which may be named by a link
            descriptor = self._open_base()
        try:
            names = os.listdir(descriptor)
            found = os.fstat(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if not _UTF8:
            names = [_from_system(name) for name in names]
        names.sort()
        self._go_on(path, descriptor, found)
        return names, found

    def visit(self, folder: str) -> None:
        """Be in a folder, however deep, without listing it; none may be entered before.

        A link on the way is gone through, also where links are not followed, as long as it leads to
        a folder of the context: whoever names a path means it.

        Raises:
            OSError: it is not there.
            SourceError: a link leads out of the context.
        """
        try:
            descriptor = self._open_folder(folder)
        except OSError as error:
            if self.follow_symlinks or error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                raise
            self._led[folder] = self._find(folder)
            descriptor = self._open_folder(folder)
        self._go_on(folder, descriptor, os.fstat(descriptor))

    def _go_on(self, path: str, descriptor: int, found: os.stat_result) -> None:
        if len(self._entered) >= _MAX_OPEN:
            self._entered[-_MAX_OPEN].close()
        self._entered.append(_Open(path, descriptor, found))
        self._folder, self._at = path, descriptor

    def _open_folder(self, folder: str) -> int:
        with self.reach(folder) as at:
            return os.dup(at)

    def _find(self, folder: str) -> str:
        """Return the path without links of a folder of the context."""
        base = os.path.realpath(os.fsencode(self._base))
        real = os.path.realpath(os.path.join(base, to_bytes(folder)))
        below = os.path.relpath(real, base)
        if below == b".." or below.startswith(b"../"):
            raise SourceError(
                f"links lead from {self.shown(folder)} out of the context",
                hint="Copy what they lead to into the context, or set `follow_symlinks`.",
            )
        return "" if below == b"." else below.decode("utf-8", "surrogateescape")

    def leave(self) -> None:
        """Close the last directory that was entered, and be in the one above again.

        Raises:
            SourceError: that one cannot be opened again; all the same it is the last entered now.
        """
        left = self._entered.pop()
        self._folder, self._at = None, -1
        try:
            if not self._entered:
                return
            above = self._entered[-1]
            if above.descriptor is None:
                above.descriptor = self._open_again(above, left.descriptor)
            self._folder, self._at = above.path, above.descriptor
        finally:
            left.close()

    def _open_again(self, folder: _Open, below: int | None) -> int:
        """Open a folder that was closed, from one that is in it, or else by its path."""
        if below is not None:
            with suppress(OSError):
                at = os.open("..", _FOLDER, dir_fd=below)
                if identity_of(os.fstat(at)) == folder.identity:
                    return at
                os.close(at)  # a link led here
        try:
            with self.reach(folder.path) as at:
                if identity_of(os.fstat(at)) == folder.identity:
                    return os.dup(at)
        except OSError as error:
            raise self._replaced(folder) from error
        raise self._replaced(folder)

    def _replaced(self, folder: _Open) -> SourceError:
        return SourceError(
            f"the folder {self.shown(folder.path)} was replaced while it was packed",
            hint="Run again when nothing writes to it.",
        )

    def close(self) -> None:
        """Close all directories that were entered."""
        while self._entered:
            self._entered.pop().close()
        self._folder, self._at = None, -1

    # The three that follow are asked for each name in a directory, so they take the name alone.

    def lstat(self, name: str) -> os.stat_result:
        """Return what a name in the last directory that was entered is, a link being a link."""
        return os.lstat(name if _UTF8 else to_bytes(name), dir_fd=self._at)

    def stat(self, name: str) -> os.stat_result:
        """Return what a name in the last directory that was entered leads to."""
        return os.stat(_to_system(name), dir_fd=self._at)

    def readlink(self, name: str) -> str:
        """Return where a link in the last directory that was entered points, as written in it."""
        return os.readlink(to_bytes(name), dir_fd=self._at).decode("utf-8", "surrogateescape")

    def open(self, path: str) -> int:
        """Return a descriptor to read a file from; fast where its directory was entered last."""
        folder, _, name = path.rpartition("/")
        if folder == self._folder:
            return os.open(_to_system(name), self._file_flags, dir_fd=self._at)
        with self.reach(folder) as at:
            return os.open(_to_system(name), self._file_flags, dir_fd=at)

    def look(self, path: str) -> os.stat_result | None:
        """Return what a path is, whichever folder was entered last; None where nothing is there."""
        folder, _, name = path.rpartition("/")
        try:
            with self.reach(folder) as at:
                if self.follow_symlinks:
                    with suppress(OSError):  # a link that dangles stays one
                        return os.stat(_to_system(name), dir_fd=at)
                return os.lstat(_to_system(name), dir_fd=at)
        except (OSError, ValueError):
            return None

    def open_ignore_file(self, name: str) -> int:
        """Return a descriptor of a regular file in the context, through a link if it is one.

        Raises:
            OSError: it is not there, or no regular file.
        """
        with self.reach("") as at:
            descriptor = os.open(name, _READ, dir_fd=at)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(0, "it is not a regular file")

    @contextmanager
    def reach(self, folder: str) -> Iterator[int]:
        """Yield the descriptor of any folder, opened step by step."""
        at = self._open_base()
        try:
            real = self._real(folder) if self._led else folder
            for name in real.split("/") if real else ():
                below = os.open(_to_system(name), self._folder_flags, dir_fd=at)
                os.close(at)
                at = below
            yield at
        finally:
            os.close(at)

    def _real(self, folder: str) -> str:
        """Return where a folder is, when it or one above it was visited through links."""
        above = folder
        while above and above not in self._led:
            above = above.rpartition("/")[0]
        return (self._led.get(above, above) + folder[len(above) :]).lstrip("/")
