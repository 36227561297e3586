"""What the COPY instructions of a template take of a context, and their hashes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from e2b_upload.context.collect import Entry
from e2b_upload.context.explain import Decision, explain_paths
from e2b_upload.context.problems import Problem
from e2b_upload.context.root import Root
from e2b_upload.context.secrets import Secrets, guard
from e2b_upload.context.selection import Selection, read_rules
from e2b_upload.e2b.copies import Copy
from e2b_upload.e2b.hash import calculate
from e2b_upload.e2b.ignore import read_ignore_patterns
from e2b_upload.e2b.select import select
from e2b_upload.errors import printable
from e2b_upload.events import Finished, OnEvent, Progress, Started, ignore_events
from e2b_upload.packing import Path
from e2b_upload.pipeline import without_problems

if TYPE_CHECKING:
    from collections.abc import Generator


def files_hash(
    context: Path,
    copy: Copy,
    *,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
    on_event: OnEvent = ignore_events,
) -> str:
    """Return the hash that the E2B SDK computes for the files of a COPY: 64 lower-case hex digits.

    Args:
        context: the directory.
        copy: source and destination; both are part of the hash.
        exclude: patterns after those of ``.dockerignore``.
        follow_symlinks: the SDK's ``resolve_symlinks``.
        on_event: called with progress.

    Raises:
        UsageError, SourceError: as :func:`build_template`.
    """
    root = Root(context, follow_symlinks=follow_symlinks)
    hashed, _ = hash_copy(root, copy, read_ignore_patterns(root, exclude), on_event)
    return hashed


def collect_copies(
    context: Path,
    copies: Sequence[Copy],
    *,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
    secrets: Secrets = "warn",
    on_event: OnEvent = ignore_events,
) -> Iterator[Entry]:
    """Return the entries that the copies take of a context, each once, COPY by COPY.

    Args:
        context: the directory.
        copies: sources and destinations.
        exclude: patterns after those of ``.dockerignore``.
        follow_symlinks: the SDK's ``resolve_symlinks``.
        secrets: as for :func:`e2b_upload.collect`.
        on_event: called with files that look like credentials.

    Raises:
        UsageError: at once, as :func:`build_template`.
        SourceError: at the end, after all entries.
    """
    root = Root(context, follow_symlinks=follow_symlinks)
    patterns = read_ignore_patterns(root, exclude)
    selections = [select(root, copy, patterns) for copy in copies]
    return without_problems(guard(_once(selections), root, secrets, on_event=on_event))


def explain_copies(
    context: Path,
    copies: Sequence[Copy],
    paths: Iterable[str],
    *,
    exclude: Iterable[str] = (),
    follow_symlinks: bool = False,
) -> Iterator[Decision]:
    """Return for each path whether one of the copies takes it, and the pattern that excludes it.

    Args:
        context: the directory.
        copies: sources and destinations.
        paths: relative to the context, or absolute and inside it; a missing file is not taken.
        exclude: patterns after those of ``.dockerignore``.
        follow_symlinks: the SDK's ``resolve_symlinks``.

    Raises:
        UsageError: as :func:`build_template`, or a path lies outside the context.
        SourceError: the context or its ignore file cannot be read.
    """
    root = Root(context, follow_symlinks=follow_symlinks)
    exclude = [*exclude]
    patterns = read_ignore_patterns(root, exclude)
    rules = read_rules(root, Selection(exclude=exclude))
    decisions = [*explain_paths(root, rules, paths)]
    asked = {decision.path for decision in decisions}
    taken: set[str] = set()
    for copy in copies:
        with closing(select(root, copy, patterns)) as found:
            taken |= {entry.path for entry in found if entry.type != "problem"} & asked
    return (_with_copies(decision, copied=decision.path in taken) for decision in decisions)


def _with_copies(decision: Decision, *, copied: bool) -> Decision:
    """Return a decision of Docker's rules as one of the copies'."""
    if copied:  # what the SDK takes, whatever it is
        left_out = not decision.kept or decision.comes_along
        return replace(
            decision,
            kept=True,
            copied=True,
            comes_along=False,
            unfit=None,
            rule=None if left_out else decision.rule,
            matched=None if left_out else decision.matched,
        )
    if decision.kept and not decision.comes_along:  # no pattern keeps it out
        decision = replace(decision, rule=None, matched=None)
    return replace(decision, kept=False, copied=False, comes_along=False)


def _once(selections: Sequence[Generator[Entry | Problem]]) -> Generator[Entry | Problem]:
    seen: set[str] = set()
    for selection in selections:
        with closing(selection):
            for entry in selection:
                if isinstance(entry, Problem):
                    yield entry
                elif entry.path not in seen:
                    if len(selections) > 1:  # else each path comes once anyway
                        seen.add(entry.path)
                    yield entry


def hash_copy(
    root: Root, copy: Copy, patterns: Sequence[str], on_event: OnEvent
) -> tuple[str, int]:
    """Return the hash of a COPY, and the bytes of its content."""
    start = time.monotonic()
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        on_event(Progress(step="hash", done=done))

    on_event(Started(step="hash", target=printable(copy.src)))
    hashed = calculate(root, copy, patterns, on_bytes=on_bytes)
    on_event(Finished(step="hash", done=done, entries=0, seconds=time.monotonic() - start))
    return hashed, done
