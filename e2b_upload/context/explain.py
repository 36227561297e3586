"""Why a path is part of a context or not: the rule that decided. And why a context has no entries.

The answer is that of the walk in :mod:`e2b_upload.context.collect`, without walking: a path is
decided by its own name and what matched its parents. Only whether an excluded directory comes along
all the same, for the sake of something kept below it, takes a look at what there is.
"""

from __future__ import annotations

import os
import stat as s
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from e2b_upload.context.collect import walk
from e2b_upload.context.dockerignore import Rules
from e2b_upload.errors import SourceError, UsageError, printable
from e2b_upload.events import LeftOut, ignore_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from e2b_upload.context.dockerignore import Matched, Rule
    from e2b_upload.context.root import Root
    from e2b_upload.events import Event


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


def nothing_to_archive(root: Root, rules: Rules, output: str | None) -> SourceError:
    """Return the error for a context that was packed without entries, with the reason.

    Args:
        root: the context.
        rules: the patterns.
        output: the file that the archive would replace, as for :func:`walk`.
    """
    skipped: Counter[str] = Counter()

    def on_event(event: Event) -> None:
        if isinstance(event, LeftOut):
            skipped[event.what] += 1

    shown = f"the context {printable(root.path)}"
    hint = (
        "Check that CONTEXT is the right directory, or set `allow_empty` to accept an empty "
        "archive."
    )
    watched = _Watched(rules)
    with closing(walk(root, watched, output=output, on_event=on_event)) as entries:
        for found in entries:
            if found.type == "problem":
                return found.error
            return SourceError(
                f"{shown} had no entries when it was packed, and has changed since",
                hint="Run again when nothing writes to it.",
            )
    reasons = [f"skipped {_counted(skipped)}"] if skipped else []
    if watched.last >= 0:
        rule = rules.patterns[watched.last].rule
        reasons.append(f"the last entries are excluded by {_named(rule)}")
        hint = f"Re-include files with a !pattern after it. {hint}"
    if reasons:
        return SourceError(f"nothing to archive in {shown}: {'; '.join(reasons)}", hint=hint)
    return SourceError(f"{shown} is empty", hint=hint)


class _Watched(Rules):
    """The same rules; they note which pattern excludes the last path that is left.

    That is not the last one that matches: it may match only what is excluded already.

    Attributes:
        last: the pattern's index; -1 if nothing is excluded.
    """

    def __init__(self, rules: Rules) -> None:
        vars(self).update(vars(rules))  # compiling them again would double their memory
        self.last = -1

    def decide_file(self, path: str, above: Matched = frozenset()) -> int:
        decided = super().decide_file(path, above)
        if decided > self.last and self.excludes(decided):
            excluded = False
            for i in sorted(self.decide(path, above)[1]):
                if self.excludes(i) != excluded:
                    excluded = not excluded
                    self.last = max(self.last, i)
        return decided


def _named(rule: Rule) -> str:
    if rule.source == "--exclude":
        where = f"{rule.source} {rule.line}"
    else:
        source = "the ignore file" if rule.source == "-" else printable(rule.source)
        where = f"{source} line {rule.line}"
    return f"{where}: {printable(rule.text)}"


def _counted(skipped: Mapping[str, int]) -> str:
    return " and ".join(
        "the archive itself" if what == "archive" else f"{count:,} {what}{'s' * (count > 1)}"
        for what, count in sorted(skipped.items())
    )


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
