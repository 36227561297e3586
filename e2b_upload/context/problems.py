"""What cannot be archived is told all at once: whoever mends one thing should not find the next."""

from __future__ import annotations

from typing import Literal, NamedTuple, NoReturn

from e2b_upload.errors import SourceError

# As many as are read; however many there are, no more are held.
_SHOWN = 10


class DeniedError(SourceError):
    """Files that the caller does not let pass, which a line each of an ignore file leaves out."""

    def __init__(self, message: str, *lines: str) -> None:
        them, s = ("it", "") if len(lines) == 1 else ("them", "s")
        *others, last = lines
        named = f"{', '.join(others)} and {last}" if others else last
        hint = (
            f"Exclude {them} in .dockerignore, with the line{s} {named}, or let {them} pass with "
            "`secrets` warn."
        )
        super().__init__(message, hint=hint)
        self.lines = lines


class Problem(NamedTuple):
    """What a walk yields in the place of something that cannot be archived.

    Attributes:
        error: what to tell of it.
        type: beside those of an entry, so that what asks for them is told of this, too.
        size: it holds nothing.
    """

    error: SourceError
    type: Literal["problem"] = "problem"
    size: int = 0


class Problems:
    """The first of the errors that were found, and how many there were."""

    def __init__(self) -> None:
        self._first: list[SourceError] = []
        self._count = 0

    def add(self, error: SourceError) -> None:
        """Take one more."""
        self._count += 1
        if self._count <= _SHOWN:
            self._first.append(error)

    def __bool__(self) -> bool:
        return self._count > 0

    def raise_as_one(self) -> NoReturn:
        """Raise an error that tells them all; where there is one, it is raised itself."""
        first = self._first[0]
        if self._count == 1:
            raise first
        lines = [f"{self._count} paths cannot be packed:", *(e.message for e in self._first)]
        if more := self._count - len(self._first):
            lines.append(f"and {more} more")
        raise SourceError("\n  ".join(lines), hint=self._hint()) from first

    def _hint(self) -> str:
        """Return what to do about each of those that are shown."""
        denied = [line for e in self._first if isinstance(e, DeniedError) for line in e.lines]
        hints = [DeniedError("", *denied).hint] if denied else []
        hints += [e.hint for e in self._first if not isinstance(e, DeniedError)]
        return " ".join(dict.fromkeys(hints))
