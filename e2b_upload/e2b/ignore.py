"""The .dockerignore patterns as the E2B SDK (2.63.0) reads and matches them.

Its matcher is that of ``e2b-dockerfile-utils``, which the extra ``e2b`` installs. Unlike in
Docker, an excluded directory is left out even if a later pattern re-includes a file in it.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, NamedTuple

from e2b_upload.context.selection import read_ignore_file
from e2b_upload.e2b.copies import extra_is_missing, is_outside
from e2b_upload.errors import SourceError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from e2b_dockerfile_utils import PatternMatcher

    from e2b_upload.context.root import Root

# A pattern with one of these is more than a name.
_WILDCARDS = frozenset("*?[]\\")


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


class Ignored:
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
        if below != "." and not is_outside(below):
            text = below
    return bang + text
