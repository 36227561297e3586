"""Why a path is part of a context or not: the rule that decided.

The answer is that of the walk in :mod:`e2b_upload.context.collect`, without walking: a path is
decided by its own name and what matched its parents. Only whether an excluded directory comes along
all the same, for the sake of something kept below it, takes a look at what there is.
"""

from __future__ import annotations

import os
import stat as s
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from e2b_upload.context.collect import walk
from e2b_upload.errors import UsageError, printable
from e2b_upload.events import ignore_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from e2b_upload.context.dockerignore import Matched, Rule, Rules
    from e2b_upload.context.root import Root


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of one path, and why.

    Attributes:
        path: relative to the context, as ``Entry.path``; the context itself is ``.``.
        kept: whether it is part of the context, or would be if it were there.
        exists: whether it is there.
        rule: the last pattern that matched the path or one of its parents; None where none did.
        matched: what that pattern matched: the path, or a parent of it; None where none did.
        comes_along: an excluded directory that is kept for what it holds.
        unfit: what it is, where it cannot be archived whatever the patterns say: ``FIFO``,
            ``socket`` or ``device``.
        copied: whether a COPY takes it, which then decides; None where no COPY was asked about.
    """

    path: str
    kept: bool
    exists: bool
    rule: Rule | None = None
    matched: str | None = None
    comes_along: bool = False
    unfit: str | None = None
    copied: bool | None = None


def explain_paths(root: Root, rules: Rules, paths: Iterable[str]) -> Iterator[Decision]:
    """Yield why each path is part of a context or not, in their order.

    Args:
        root: the context.
        rules: what to leave out.
        paths: relative to the context, or absolute and in it; they need not be there.

    Raises:
        UsageError: at once, for a path outside of the context.
    """
    found = [_decide(root, rules, relative(root, path)) for path in paths]
    open_questions = {each.decision.path for each in found if each.may_come_along}
    along = _come_along(root, rules, open_questions) if open_questions else set()
    for decision, _ in found:
        if decision.path in along:
            yield replace(decision, kept=True, comes_along=True)
        else:
            yield decision


def relative(root: Root, path: str) -> str:
    """Return a path as the context's patterns see it: ``.`` for the context itself.

    Raises:
        UsageError: it is empty, or not in the context.
    """
    if not path:
        raise UsageError("a path is empty", hint="Name a path below the context.")
    if "\0" in path:
        raise UsageError(
            f"{printable(path)} is no path: it holds a zero byte", hint="Name a path that can be."
        )
    path = os.path.normpath(path)
    if os.path.isabs(path):
        for end in _ends(path):  # the context may have many names: links, a shell's working folder
            if root.is_at(path[:end] or "/"):
                return path[end:].lstrip("/") or "."
    if os.path.isabs(path) or path == ".." or path.startswith("../"):
        raise UsageError(
            f"{printable(path)} lies outside of the context {printable(root.path)}",
            hint="Paths are taken from the context, not from the working folder.",
        )
    return path


class _Found(NamedTuple):
    decision: Decision
    may_come_along: bool


def _decide(root: Root, rules: Rules, path: str) -> _Found:
    stat = root.look(path)
    if path == ".":
        return _Found(Decision(path=path, kept=True, exists=True), may_come_along=False)
    above: Matched = frozenset()
    decided = -1
    deciding: dict[int, str] = {}  # patterns, and the first path for which they were the last
    for end in _ends(path):
        decided, above = rules.decide(path[:end], above)
        deciding.setdefault(decided, path[:end])
    excluded = rules.excludes(decided)
    # A later line that says of a folder what was said before is not handed on to what is below.
    decided = max(i for i in deciding if rules.excludes(i) == excluded)
    unfit = _unfit(stat)
    decision = Decision(
        path=path,
        kept=not excluded and unfit is None,
        exists=stat is not None,
        rule=rules.patterns[decided].rule if decided >= 0 else None,
        matched=deciding[decided] if decided >= 0 else None,
        unfit=unfit,
    )
    is_directory = stat is not None and s.S_ISDIR(stat.st_mode)
    return _Found(decision, excluded and is_directory and rules.may_keep_below(path))


def _ends(path: str) -> Iterator[int]:
    """Yield where the names in a path end, so that it is cut after each."""
    yield from (i for i, char in enumerate(path) if char == "/")
    yield len(path)


def _unfit(stat: os.stat_result | None) -> str | None:
    if stat is None or s.S_ISREG(mode := stat.st_mode) or s.S_ISDIR(mode) or s.S_ISLNK(mode):
        return None
    return "FIFO" if s.S_ISFIFO(mode) else "socket" if s.S_ISSOCK(mode) else "device"


def _come_along(root: Root, rules: Rules, directories: set[str]) -> set[str]:
    """Return which excluded directories hold something that is kept."""
    along: set[str] = set()
    with closing(walk(root, rules, on_event=ignore_events)) as entries:
        for entry in entries:
            if entry.type == "directory" and entry.path in directories:
                along.add(entry.path)
                if along == directories:
                    break
    return along
