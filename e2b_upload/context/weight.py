"""What makes a context heavy, and the lines of an ignore file that would drop it.

Both rankings take the entries of a walk one by one, in its order, and hold no more than a few for
each folder that is open.
"""

from __future__ import annotations

from contextlib import closing
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, Final, TypeAlias

from e2b_upload.events import Weight

if TYPE_CHECKING:
    from collections.abc import Generator

    from e2b_upload.context.collect import Entry
    from e2b_upload.context.dockerignore import Rules
    from e2b_upload.context.problems import Problem

# Folders that programs make and fill: history, what was installed, what was built, caches. They
# are needed whole or not at all, and no line for a part of one helps anybody. `vendor` and `lib`
# are not among them: what is in those may be written by hand.
WHOLE: Final = frozenset(
    {
        *(".git", ".hg", ".svn"),
        *("node_modules", "bower_components", ".venv", "venv", ".terraform"),
        *("build", "dist", "target", ".next", ".nuxt", ".output"),
        *("__pycache__", ".cache", ".gradle", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
        *(".nox", ".parcel-cache", ".tox", ".turbo"),
    }
)

# Bytes, how far back in the walk (so that of two with as many bytes the first one is the larger),
# the path, whether it is a folder.
_Item: TypeAlias = tuple[int, int, str, bool]

# What a pattern means something else by, wherever it stands in it. (`\` would escape them, but
# where Docker runs on Windows it is a slash: `?` means the same everywhere.)
_SPECIAL: Final = frozenset("*?[]\\{}|^")


class _Folder:
    """A folder that the walk is in."""

    __slots__ = ("best", "bytes", "path", "place", "prefix", "whole")

    def __init__(self, path: str, place: int, best: list[_Item]) -> None:
        self.path = path
        self.place = place
        self.prefix = path + "/" if path else ""
        self.bytes = 0
        self.whole = 0  # bytes that lie in folders of WHOLE
        self.best = best  # a heap, the lightest at its front

    def item(self) -> _Item:
        return self.bytes, self.place, self.path, True


class Largest:
    """The heaviest folders and files of a walk, ranked together, by their bytes of content.

    A folder weighs what is kept of it, at any depth. What holds nothing is not ranked; of two that
    weigh the same the first one in the walk comes first. The context itself is not among them.

    Args:
        count: how many, at most.
        rules: those of the walk, for the patterns; see :func:`line_for`.
    """

    def __init__(self, count: int, rules: Rules | None = None) -> None:
        self._count = count
        self._rules = rules
        self._place = 0
        self._all: list[_Item] = []
        self._open = [_Folder("", 0, self._best())]

    def add(self, entry: Entry) -> None:
        """Take the next entry of the walk."""
        path = entry.path
        while not path.startswith(self._open[-1].prefix):
            self._leave()
        self._place -= 1
        if entry.type == "directory":
            self._open.append(_Folder(path, self._place, self._best()))
        elif entry.size:
            folder = self._open[-1]
            folder.bytes += entry.size
            self._rank(folder.best, (entry.size, self._place, path, False))

    def result(self) -> tuple[Weight, ...]:
        """Return the heaviest of what was added; the walk is over."""
        while len(self._open) > 1:
            self._leave()
        return tuple(
            Weight(
                path=path,
                bytes=size,
                is_directory=is_directory,
                pattern=line_for(path, is_directory=is_directory, rules=self._rules),
            )
            for size, _, path, is_directory in sorted(self._open[0].best, reverse=True)
        )

    def _best(self) -> list[_Item]:
        """Return where the heaviest things in a folder are kept: here all in one place."""
        return self._all

    def _leave(self) -> None:
        folder = self._open.pop()
        self._open[-1].bytes += folder.bytes
        self._settle(folder, self._open[-1])

    def _settle(self, folder: _Folder, above: _Folder) -> None:
        """Rank a folder whose bytes are known now."""
        if folder.bytes:
            self._rank(above.best, folder.item())

    def _rank(self, best: list[_Item], item: _Item) -> None:
        if len(best) < self._count:
            heappush(best, item)
        else:
            heappushpop(best, item)


class Droppable(Largest):
    """The heaviest folders and files that it would help to leave out; none lies in another.

    The rule, from the innermost folders outward: a folder stands for all that is in it, unless

    - the heaviest things in it, as many as there may be in the result, make up nine tenths of it:
      they say more exactly what is heavy, and a line for each spares the rest of the folder; or
    - a tenth of it lies in folders of :data:`WHOLE`: it is somebody's project, and what is heavy
      in it is seldom what it is there for.

    Then those things stand in its place. A folder of :data:`WHOLE` always stands for itself. So
    ``app`` with ``app/data`` and little else gives way to ``app/data``, ``packages`` with a hundred
    ``node_modules`` to the largest of these, and ten thousand images stay one folder. The context's
    own root always gives way. What is less than a hundredth of it all is not worth a line.
    """

    def result(self) -> tuple[Weight, ...]:
        """Return what it would help most to leave out of what was added; the walk is over."""
        largest = super().result()
        return tuple(weight for weight in largest if weight.bytes * 100 >= self._open[0].bytes)

    def _best(self) -> list[_Item]:
        return []

    def _settle(self, folder: _Folder, above: _Folder) -> None:
        if folder.path.rpartition("/")[2] in WHOLE:
            above.whole += folder.bytes
            folder.best = [folder.item()] if folder.bytes else []
        else:
            above.whole += folder.whole
            told = sum(item[0] for item in folder.best)
            if told * 10 < folder.bytes * 9 and folder.whole * 10 < folder.bytes:
                folder.best = [folder.item()]
        for item in folder.best:
            self._rank(above.best, item)


def weigh(entries: Generator[Entry | Problem], largest: Largest) -> Generator[Entry | Problem]:
    """Yield the entries of a walk as they come, and add each to a ranking on its way."""
    with closing(entries):
        for entry in entries:
            if entry.type != "problem":
                largest.add(entry)
            yield entry


def line_for(path: str, *, is_directory: bool = False, rules: Rules | None = None) -> str:
    """Return the line that drops a path, and all below it, when it stands last in the ignore file.

    A plain name is a pattern itself, and drops nothing else. What Docker would take for something
    else becomes a ``?``, which stands for any one character: wildcards, a ``!`` or ``#`` at the
    front, blanks at the ends, what cannot be printed, and bytes that are not UTF-8.

    Args:
        path: as ``Entry.path``, of something that is kept.
        is_directory: whether it is a folder.
        rules: those of the walk. Where they exclude a folder and take back some of what is in it,
            its own name would change nothing: ``/**`` after it drops what is taken back.
    """
    last = len(path) - 1
    line = "".join(
        "?"
        if char in _SPECIAL
        or not char.isprintable()
        or (position == 0 and char in "!#")
        or (char == " " and position in {0, last})
        else char
        for position, char in enumerate(path)
    )
    return line + "/**" if is_directory and rules and _is_excluded(path, rules) else line


def _is_excluded(path: str, rules: Rules) -> bool:
    """Whether the rules exclude a folder itself: it is kept for what is taken back below it."""
    parts = path.split("/")
    decided, matched = -1, frozenset[int]()
    for depth in range(1, len(parts) + 1):
        decided, matched = rules.decide("/".join(parts[:depth]), matched)
    return rules.excludes(decided)
