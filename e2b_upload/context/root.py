"""The context's folder as the system calls see it: its files by relative paths of any length."""

from __future__ import annotations

import errno
import os
import pathlib
from typing import TYPE_CHECKING, TypeVar

from e2b_upload.errors import SourceError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
# Never through a link that was a file a moment ago, and never waiting for a FIFO's writer.
_READ = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_NONBLOCK", 0)
_READ_NO_LINK = _READ | getattr(os, "O_NOFOLLOW", 0)
_PARTS_A_STEP = 10  # ten names of 255 bytes are well below PATH_MAX


class Root:
    """A directory, and what is asked of the files below it.

    Relative paths are ``/``-separated; ``""`` is the directory itself. A path that is longer than
    the system takes in one call (PATH_MAX, 4,096 bytes on Linux) is walked in steps.

    Args:
        path: the context, as the caller named it.

    Raises:
        UsageError: there is no such directory.
        SourceError: it may not be listed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._base = os.path.join(os.path.abspath(self.path), "")
        if not self.path:
            raise UsageError("the context is empty", hint="Name a folder; . is the one you are in.")
        if not os.path.isdir(self._base):
            there = os.path.lexists(self._base[:-1] or "/")
            raise UsageError(
                f"the context {printable(self.path)} "
                + ("is not a directory" if there else "does not exist"),
                hint="Name the folder that holds the files to send.",
            )
        if not os.access(self._base, os.R_OK | os.X_OK):
            raise SourceError(
                f"the context {printable(self.path)} may not be read",
                hint="Give this user permission to list it (chmod u+rx).",
            )

    def shown(self, path: str) -> str:
        """Return a path below the context as a message names it."""
        return printable(os.path.join(self.path, path))

    def parents(self) -> frozenset[tuple[int, int]]:
        """Return (device, inode) of each directory that the context lies in."""
        parents = pathlib.Path(os.path.realpath(self._base)).parents
        return frozenset((s.st_dev, s.st_ino) for s in map(os.stat, parents))

    # Each asks directly first: one call a file, and there may be millions.

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted, so that the same tree has the same order."""
        try:
            names = os.listdir(self._base + path)
        except OSError as error:
            names = self._in_steps(error, path, self._list_at)
        names.sort()
        return names

    def lstat(self, path: str) -> os.stat_result:
        """Return what a path is, a link being a link."""
        try:
            return os.lstat(self._base + path)
        except OSError as error:
            return self._in_steps(
                error, path, lambda name, at: os.stat(name, dir_fd=at, follow_symlinks=False)
            )

    def stat(self, path: str) -> os.stat_result:
        """Return what a path leads to."""
        try:
            return os.stat(self._base + path)
        except OSError as error:
            return self._in_steps(error, path, lambda name, at: os.stat(name, dir_fd=at))

    def readlink(self, path: str) -> str:
        """Return where a link points, as it is written in it."""
        try:
            return os.readlink(self._base + path)
        except OSError as error:
            return self._in_steps(error, path, lambda name, at: os.readlink(name, dir_fd=at))

    def open(self, path: str, *, follow: bool) -> int:
        """Return a descriptor to read a file from; a link is followed only where asked."""
        flags = _READ if follow else _READ_NO_LINK
        try:
            return os.open(self._base + path, flags)
        except OSError as error:
            return self._in_steps(error, path, lambda name, at: os.open(name, flags, dir_fd=at))

    def _in_steps(self, error: OSError, path: str, call_at: Callable[[str, int], T]) -> T:
        """Walk a path that was too long for one call; any other error is raised again."""
        if error.errno != errno.ENAMETOOLONG:
            raise error
        parts = path.split("/")
        at = os.open(self._base, _FOLDER)
        try:
            while len(parts) > _PARTS_A_STEP:
                step, parts = "/".join(parts[:_PARTS_A_STEP]), parts[_PARTS_A_STEP:]
                below = os.open(step, _FOLDER, dir_fd=at)
                os.close(at)
                at = below
            return call_at("/".join(parts), at)
        finally:
            os.close(at)

    @staticmethod
    def _list_at(name: str, at: int) -> list[str]:
        folder = os.open(name, _FOLDER, dir_fd=at)
        try:
            return os.listdir(folder)
        finally:
            os.close(folder)
