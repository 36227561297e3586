"""The hash that E2B's SDK names the files of a COPY by, and which files those are.

The digits must be the SDK's own (2.63.0), or its build uploads all over again. So what it selects
with selects here, too: the matcher of ``e2b-dockerfile-utils`` and the glob of ``wcmatch``, which
the extra ``e2b`` brings. What it selects differs from a build context's: a folder that is excluded
is left out also where something below it is taken back, and the context itself is part of ``.``.

One SHA-256 takes it all, nothing between the pieces: ``COPY SRC DEST``; and for each path, in the
order of their strings, the path, ``st_mode``, ``st_size`` unless it is a folder, and what the file
holds or where the link points.
"""

from __future__ import annotations

import hashlib
import os
import stat as s
import warnings
from contextlib import closing
from dataclasses import dataclass
from mmap import mmap
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, Self

from e2b_upload.context.collect import Entry, read_ignore_file
from e2b_upload.context.problems import Problem, Problems
from e2b_upload.errors import SourceError, UsageError, how_to_read, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from e2b_dockerfile_utils import PatternMatcher

    from e2b_upload.archive.deflate import Buffer
    from e2b_upload.context.collect import EntryType
    from e2b_upload.context.root import Root

# As the SDK reads; anything from 64 KiB to 2 MiB took as long.
_PIECE_BYTES = 1024 * 1024
# A pattern with one of these is more than a name.
_WILDCARDS = frozenset("*?[]\\")
# What tells that a file is what it was.
_version = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev")


def extra_is_missing() -> UsageError:
    """Return what is raised where the packages of the extra are not installed."""
    return UsageError(
        "E2B's templates need packages that are not installed",
        hint="They are its extra e2b: install e2b-upload[e2b], or from a clone '.[e2b]'.",
    )


@dataclass(frozen=True, slots=True)
class Copy:
    """What a template copies.

    Attributes:
        src: a path or a glob, relative to the context: ``**`` crosses folders, dot files match.
        dest: where to in the template. No file hangs on it, the hash does.

    Raises:
        UsageError: ``src`` is absolute, or leads out of the context.
    """

    src: str
    dest: str

    def __post_init__(self) -> None:
        if os.path.isabs(self.src):
            raise UsageError(
                f"the source {printable(self.src)} is absolute",
                hint="A source is relative to the context.",
            )
        if _is_outside(os.path.normpath(self.src)):
            raise _leads_out(self.src)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what ``SRC:DEST`` says; the last colon counts.

        Raises:
            UsageError: one of the two is missing, and as for the class.
        """
        src, colon, dest = text.rpartition(":")
        if not (src and colon and dest):
            raise UsageError(
                f"{printable(text)} does not say what to copy and where to",
                hint="Write SRC:DEST, such as .:/app.",
            )
        return cls(src, dest)


def _is_outside(normal: str) -> bool:
    return normal == ".." or normal.startswith("../")


def _leads_out(src: str) -> UsageError:
    return UsageError(
        f"the source {printable(src)} leads out of the context",
        hint="Only what is in the context can be copied: name a folder above as the context.",
    )


def read_ignore_patterns(root: Root, exclude: Iterable[str] = ()) -> list[str]:
    r"""Return the patterns of the context's ``.dockerignore`` as the SDK reads it, then others.

    Unlike Docker it takes a lone ``\r`` for the end of a line, and ``#`` after spaces for a
    comment.

    Args:
        root: the context.
        exclude: patterns after the file's; the SDK's ``file_ignore_patterns``.

    Raises:
        UsageError: the file is too large.
        SourceError: it cannot be read, or is not UTF-8.
    """
    data, source = read_ignore_file(root)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"the ignore file {root.shown(source)} is not UTF-8, which E2B's SDK needs",
            hint="Save it as UTF-8.",
        ) from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    patterns = [line.strip() for line in lines if not line.startswith("#")]
    return [*filter(None, patterns), *exclude]


class _Pattern(NamedTuple):
    """A pattern of the SDK's matcher.

    Attributes:
        text: what the matcher takes.
        cleaned: what it compares, without the ``!`` of an exception.
        exception: whether it takes back.
    """

    text: str
    cleaned: str
    exception: bool

    @property
    def first(self) -> str | None:
        """The first part of all paths that it can match; None where that may be any."""
        part = self.cleaned.partition("/")[0]
        return part if _WILDCARDS.isdisjoint(part) else None


class _Patterns:
    """Patterns that exclude together; what names one path or any file is looked up in a set.

    Without exceptions, no pattern matched a parent of a path in a folder that is not excluded: it
    is excluded when a pattern matches the path, each for itself. With exceptions it takes all.
    """

    def __init__(self, patterns: Sequence[_Pattern], matcher: type[PatternMatcher]) -> None:
        self._paths: set[str] = set()  # a/b
        self._names: set[str] = set()  # **/a
        others = list[str]()
        alone = not any(pattern.exception for pattern in patterns)
        for text, cleaned, _ in patterns:
            name = cleaned.removeprefix("**/")
            if not alone or not _WILDCARDS.isdisjoint(name):
                others.append(text)
            elif name == cleaned:
                self._paths.add(name)
            elif "/" not in name:
                self._names.add(name)
            else:
                others.append(text)
        self._others = matcher(others) if others else None

    def exclude(self, path: str, name: str) -> bool:
        if path in self._paths or name in self._names:
            return True
        return self._others is not None and self._others.matches(path)


class _Ignored:
    """Which paths are excluded, by the SDK's matcher; it is not asked where the answer is known.

    Args:
        patterns: as :func:`read_ignore_patterns` returns them.
        context: the absolute path of the context.

    Raises:
        UsageError: a pattern does not parse, or the extra is not installed.
    """

    def __init__(self, patterns: Sequence[str], context: str) -> None:
        try:
            from e2b_dockerfile_utils import PatternMatcher
        except ImportError:
            raise extra_is_missing() from None
        self._matcher = PatternMatcher
        normal = [_normalized(pattern, context) for pattern in patterns]
        try:
            # Where it compiles a class within a class, the re module warns of what may change.
            with warnings.catch_warnings(action="ignore", category=FutureWarning):
                self._whole = PatternMatcher(normal)
                self._patterns = [
                    _Pattern(text, cleaned.removeprefix("!" if exception else ""), exception)
                    for text in normal
                    for exception in [text.startswith("!")]
                    for cleaned in PatternMatcher([text]).patterns  # a comment has none
                ]
        except ValueError as error:
            raise UsageError(
                printable(str(error)), hint="E2B's SDK refuses it, too: correct the pattern."
            ) from error
        # The first parts of paths → the patterns that can match there; "" is for all other parts.
        self._firsts = {pattern.first for pattern in self._patterns}
        self._by_first: dict[str, _Patterns] = {}

    def __call__(self, path: str) -> bool:
        """Whether a path is excluded, whatever it lies in."""
        return bool(self._patterns) and self._whole.matches(path)

    def below(self, path: str, name: str) -> bool:
        """Whether a path is excluded in a folder that the walk is in; ``name`` is its last part."""
        if not self._patterns:
            return False
        first = path.partition("/")[0]
        if first not in self._firsts:
            first = ""
        if (there := self._by_first.get(first)) is None:
            there = self._by_first[first] = self._that_match_in(first)
        return there.exclude(path, name)

    def may_keep_below(self, path: str) -> bool:
        """Whether something may be taken back below an excluded folder."""
        return self._whole.may_match_under(path)

    def _that_match_in(self, first: str) -> _Patterns:
        fitting = [pattern for pattern in self._patterns if pattern.first in {None, first}]
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            return _Patterns(fitting, self._matcher)


def _normalized(pattern: str, context: str) -> str:
    """Return a pattern with an absolute path into the context made relative to it."""
    text = pattern.strip()
    bang = "!" if text.startswith("!") else ""
    text = text.removeprefix(bang).strip()
    if os.path.isabs(text):
        below = os.path.relpath(text, context)
        if below != "." and not _is_outside(below):
            text = below
    return bang + text


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
    ignored = _Ignored(patterns, context)
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
    if any(map(_is_outside, found)):
        raise _leads_out(src)
    return sorted(found)


class _Folder:
    """A folder that the walk is in."""

    __slots__ = ("folders", "order", "prefix")

    def __init__(self, path: str, names: Iterable[str]) -> None:
        self.prefix = path + "/" if path else ""
        self.folders: list[str] = []
        self.order = in_order(names, self.folders)


class _Selection:
    def __init__(self, root: Root, ignored: _Ignored) -> None:
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
        if not _is_utf8(path):
            return self._not_utf8(f"the name {self._root.shown(path)}", "Rename it")
        if s.S_ISLNK(found.st_mode):
            followed = self._followed(name) if self._root.follow_symlinks else None
            if followed is None:
                target = self._root.readlink(name)
                if not _is_utf8(target):
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


def _is_utf8(text: str) -> bool:
    """Whether a name holds no bytes that are not UTF-8: no surrogates (PEP 383)."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class FilesHash:
    """The running hash of a COPY: fed an entry, and then what it holds.

    Args:
        copy: what is hashed before all files.

    Raises:
        UsageError: it holds what is not UTF-8.
    """

    def __init__(self, copy: Copy) -> None:
        text = f"COPY {copy.src} {copy.dest}"
        if not _is_utf8(text):
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
        if left or _version(after) != _version(entry.stat):
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
