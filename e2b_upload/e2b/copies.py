"""What the COPY instructions of a template take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from e2b_upload.errors import UsageError, printable


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
        if is_outside(os.path.normpath(self.src)):
            raise leads_out(self.src)

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


def is_outside(normal: str) -> bool:
    """Return whether a normalized relative path leads out of its directory."""
    return normal == ".." or normal.startswith("../")


def leads_out(src: str) -> UsageError:
    """Return the error of a source outside the context."""
    return UsageError(
        f"the source {printable(src)} leads out of the context",
        hint="Only what is in the context can be copied: name a folder above as the context.",
    )
