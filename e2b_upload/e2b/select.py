"""The files that the E2B SDK (2.63.0) selects for a COPY.

Its glob is that of ``wcmatch``, which the extra ``e2b`` installs. The context itself is part of
``.``.
"""

from __future__ import annotations

import os
import stat as s
from typing import TYPE_CHECKING

from e2b_upload.context.collect import Entry
from e2b_upload.context.problems import Problem
from e2b_upload.e2b.copies import extra_is_missing, is_outside, leads_out
from e2b_upload.e2b.ignore import Ignored
from e2b_upload.errors import SourceError, UsageError, how_to_read, printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from e2b_upload.context.collect import EntryType
    from e2b_upload.context.root import Root
    from e2b_upload.e2b.copies import Copy

# A pattern with one of these is more than a name.
_WILDCARDS = frozenset("*?[]\\")


def in_order(names: Iterable[str], folders: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield sorted names, and folders once more when it is the turn of what is in them.

    Paths are sorted as strings, so what is in ``a`` comes after ``a-b`` and before ``aa``: where
    ``a/`` stands.

    Args:
        names: sorted.
        folders: empty; the caller appends a name that was yielded and has something in it.

    Yields:
        A name, and whether what is in it is due.
    """
    for name in names:
        # The last is always the first that is due: it starts with the one before.
        while folders and folders[-1] + "/" < name:
            yield folders.pop(), True
        yield name, False
    while folders:
        yield folders.pop(), True


def select(root: Root, copy: Copy, patterns: Sequence[str]) -> Generator[Entry | Problem]:
    """Return what a COPY takes, in the order of the hash, and what cannot be hashed of it.

    An entry's path is relative to the context, which is ``.`` itself. With ``root.follow_symlinks``
    a link to a file is a file, and a link to a folder a folder of which nothing is taken; all other
    links stay. Archived in this order, the entries are what the SDK uploads.

    Folders are open while it is under way: close it, or go through to its end. Memory holds what
    the glob matched, the first names of files that have more, and the names in the folders that
    lead to where the walk is.

    Args:
        root: the context.
        copy: what to take.
        patterns: what to leave out, as :func:`read_ignore_patterns` returns them.

    Raises:
        UsageError: at once, where the extra is not installed, a pattern does not parse, the source
            leads out of the context, or the context is a link and the source all of it.
    """
    context = os.path.abspath(root.path)
    try:
        if not os.path.samestat(os.stat(context), os.stat(root.path)):
            raise _is_elsewhere(root, context)
    except OSError as error:
        raise _is_elsewhere(root, context) from error
    ignored = Ignored(patterns, context)
    matches = _glob(copy.src, context)
    if "." in matches and os.path.islink(context):
        raise UsageError(
            f"the context {printable(root.path)} is a link, and E2B's SDK would copy the link",
            hint=f"Name the folder that it leads to: {printable(os.path.realpath(context))}",
        )
    return _Selection(root, ignored).entries(matches)


def _is_elsewhere(root: Root, context: str) -> UsageError:
    return UsageError(
        f"the context {printable(root.path)} is not {printable(context)}, where E2B's SDK looks",
        hint="Name it without .. after a link.",
    )


def _glob(src: str, context: str) -> list[str]:
    """Return what a source matches, sorted, each once."""
    try:
        from wcmatch import glob
    except ImportError:
        raise extra_is_missing() from None
    matches = glob.iglob(src, flags=glob.GLOBSTAR | glob.DOTMATCH, root_dir=context)
    try:
        found = {os.path.normpath(match) for match in matches}
    except RecursionError:
        raise UsageError(
            f"the source {printable(src)} matches without end: links lead in a circle",
            hint="Name the folders. E2B's SDK cannot build with this source, either.",
        ) from None
    if any(map(is_outside, found)):
        raise leads_out(src)
    return sorted(found)


class _Folder:
    """A folder that the walk is in."""

    __slots__ = ("folders", "order", "prefix")

    def __init__(self, path: str, names: Iterable[str]) -> None:
        self.prefix = path + "/" if path else ""
        self.folders: list[str] = []
        self.order = in_order(names, self.folders)


class _Selection:
    def __init__(self, root: Root, ignored: Ignored) -> None:
        self._root = root
        self._ignored = ignored
        self._visited: str | None = None
        self._open: list[_Folder] = []
        # Files with several names → the first. A file is its device and inode, and what tells that
        # it stood still: an inode may be given to another.
        self._first: dict[tuple[int, int, int, int], str] = {}

    def entries(self, matches: list[str]) -> Generator[Entry | Problem]:
        """Yield what was matched, and all that is in it."""
        try:
            if "." in matches:  # and so is all the rest
                yield from self._all("")
                return
            folders: list[str] = []
            taken = "/"  # no path starts with it
            for path, inside in in_order(matches, folders):
                if not inside and (path.startswith(taken) or self._ignored(path)):
                    continue
                folder, _, name = path.rpartition("/")
                if problem := self._visit(folder, path):
                    yield problem
                elif inside:
                    taken = path + "/"
                    yield from self._all(path)
                else:
                    entry, is_folder = self._look(path, name)
                    if is_folder:
                        folders.append(path)
                    if entry:
                        yield entry
        finally:
            self._root.close()

    def _visit(self, folder: str, path: str) -> Problem | None:
        """Be in the folder that a match is in."""
        if folder == self._visited:
            return None
        if self._visited is not None:
            self._root.leave()
            self._visited = None
        try:
            self._root.visit(folder)
        except OSError as error:
            return self._unreadable(path, error)
        except SourceError as error:
            return Problem(error)
        self._visited = folder
        return None

    def _all(self, path: str) -> Iterator[Entry | Problem]:
        """Yield all that is in a folder; where it is the context, also the folder."""
        ignored = self._ignored
        yield from self._enter(path)
        while self._open:
            folder = self._open[-1]
            for name, inside in folder.order:
                path = folder.prefix + name
                if inside:
                    if (yield from self._enter(path)):
                        break
                    continue
                excluded = ignored.below(path, name)
                if excluded and not ignored.may_keep_below(path):
                    continue
                entry, is_folder = self._look(path, name, excluded=excluded)
                if is_folder:
                    folder.folders.append(name)
                if entry:
                    yield entry
            else:
                yield from self._leave()

    def _enter(self, path: str) -> Generator[Entry | Problem, None, bool]:
        """Open a folder, and say whether it is open."""
        try:
            names, found = self._root.enter(path)
        except OSError as error:
            yield self._unreadable(path, error)
            return False
        if not path:
            yield Entry(".", "directory", 0, s.S_IMODE(found.st_mode), None, found)
        self._open.append(_Folder(path, names))
        return True

    def _leave(self) -> Iterator[Problem]:
        """Go back to the folder above, or past it where it is not to be found again."""
        self._open.pop()
        try:
            self._root.leave()
        except SourceError as error:
            yield Problem(error)
            if self._open:
                self._open[-1].order = iter(())
            else:
                self._root.close()
                self._visited = None

    def _look(
        self, path: str, name: str, *, excluded: bool = False
    ) -> tuple[Entry | Problem | None, bool]:
        """Return what a name is, unless it is excluded, and whether it is a folder to walk."""
        try:
            found = self._root.lstat(name)
            entry = None if excluded else self._entry(path, name, found)
        except OSError as error:
            return (None if excluded else self._unreadable(path, error)), False
        is_folder = s.S_ISDIR(found.st_mode)
        return entry, is_folder and (entry is None or entry.type == "directory")

    def _entry(self, path: str, name: str, found: os.stat_result) -> Entry | Problem:
        if not is_utf8(path):
            return self._not_utf8(f"the name {self._root.shown(path)}", "Rename it")
        if s.S_ISLNK(found.st_mode):
            followed = self._followed(name) if self._root.follow_symlinks else None
            if followed is None:
                target = self._root.readlink(name)
                if not is_utf8(target):
                    where = f"where the link {self._root.shown(path)} points"
                    return self._not_utf8(where, "Replace it")
                return Entry(path, "symlink", 0, s.S_IMODE(found.st_mode), target, found)
            found = followed
        mode = s.S_IMODE(found.st_mode)
        if s.S_ISREG(found.st_mode):
            if (first := self._first_name(path, found)) != path:
                return Entry(path, "hardlink", 0, mode, first, found)
            return Entry(path, "file", found.st_size, mode, None, found)
        kind: EntryType = "directory" if s.S_ISDIR(found.st_mode) else "special"
        return Entry(path, kind, 0, mode, None, found)

    def _followed(self, name: str) -> os.stat_result | None:
        """Return what a link leads to, or None where that is neither a file nor a folder."""
        try:
            found = self._root.stat(name)
        except OSError:
            return None
        return found if s.S_ISREG(found.st_mode) or s.S_ISDIR(found.st_mode) else None

    def _first_name(self, path: str, found: os.stat_result) -> str:
        """Return the first selected name of a file; with links followed, each is a file."""
        if found.st_nlink == 1 or self._root.follow_symlinks:
            return path
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        return self._first.setdefault(key, path)

    def _unreadable(self, path: str, error: OSError) -> Problem:
        hint = how_to_read(error)
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            hint = "It changed while it was looked at: run again when nothing writes to it."
        shown = self._root.shown(path)
        problem = SourceError(f"{shown} cannot be read: {error.strerror}", hint=hint)
        problem.__cause__ = error
        return Problem(problem)

    def _not_utf8(self, what: str, remedy: str) -> Problem:
        return Problem(
            SourceError(
                f"{what} is not UTF-8, which E2B's hash needs",
                hint=f"{remedy}, or exclude it in .dockerignore.",
            )
        )


def is_utf8(text: str) -> bool:
    """Whether a name holds no bytes that are not UTF-8: no surrogates (PEP 383)."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
