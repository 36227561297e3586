"""Which files of a context are sent: the ignore file, further patterns, links."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from e2b_upload.context.dockerignore import MAX_FILE_BYTES, Rule, Rules, read
from e2b_upload.context.root import Root
from e2b_upload.errors import SourceError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from e2b_upload.context.secrets import Secrets

DEFAULT_IGNORE_FILE = ".dockerignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files of a context are sent.

    Attributes:
        ignore_file: read instead of the context's ``.dockerignore``: a path, or a file open for
            reading bytes, whose rules' source is ``-``.
        no_ignore: read no ignore file.
        exclude: patterns after those of the ignore file.
        follow_symlinks: send what links point to, instead of the links.
        secrets: what to do about files that look like credentials.
        allow_empty: accept a context without entries.
    """

    ignore_file: str | os.PathLike[str] | IO[bytes] | None = None
    no_ignore: bool = False
    exclude: Iterable[str] = ()
    follow_symlinks: bool = False
    secrets: Secrets = "warn"
    allow_empty: bool = False

    def open(self, context: str | os.PathLike[str]) -> tuple[Root, Rules]:
        """Open a context and read its rules.

        Raises:
            UsageError: the context is not a directory, or as :func:`read_rules`.
            SourceError: the context or its ignore file cannot be read.
        """
        root = Root(context, follow_symlinks=self.follow_symlinks)
        return root, read_rules(root, self)


def read_rules(root: Root, selection: Selection) -> Rules:
    """Return the rules of a selection: those of the ignore file, then ``exclude``.

    Raises:
        UsageError: a pattern does not parse, or ``ignore_file`` is missing or too large.
        SourceError: the ignore file cannot be read.
    """
    rules: list[Rule] = []
    if not selection.no_ignore:
        rules.extend(read(*read_ignore_file(root, selection.ignore_file)))
    for position, pattern in enumerate(selection.exclude, start=1):
        stripped = pattern.strip()
        if not stripped:
            raise UsageError(
                f"--exclude (option {position}): the pattern is empty",
                hint="Leave the option out, or name what to exclude.",
            )
        rules.append(Rule("--exclude", position, stripped))
    return Rules(rules)


def read_ignore_file(
    root: Root, ignore_file: str | os.PathLike[str] | IO[bytes] | None = None
) -> tuple[bytes, str]:
    """Return the text of an ignore file, and its name as the source of rules.

    Args:
        root: the context.
        ignore_file: as for :class:`Selection`.

    Raises:
        UsageError: ``ignore_file`` is missing, or the file too large.
        SourceError: it cannot be read.
    """
    parameter = "" if ignore_file is None else "ignore_file"
    name, shown = DEFAULT_IGNORE_FILE, root.shown(DEFAULT_IGNORE_FILE)
    opened: AbstractContextManager[IO[bytes]]
    try:
        if ignore_file is None:
            opened = open(root.open_ignore_file(name), "rb")  # noqa: SIM115  (closed below)
        elif isinstance(ignore_file, (str, os.PathLike)):
            name = os.fspath(ignore_file)
            shown = printable(name)
            opened = open(name, "rb")  # noqa: SIM115
        else:
            name = shown = "-"
            opened = nullcontext(ignore_file)
        with opened as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        if ignore_file is None:
            return b"", name
        raise UsageError(
            f"the ignore file {shown} does not exist",
            hint="The path is relative to the current directory, not to the context.",
            parameter="ignore_file",
        ) from None
    except OSError as error:
        raise SourceError(
            f"the ignore file {shown} cannot be read: {error.strerror}",
            hint="Make it a readable file, or set `no_ignore`.",
            parameter=parameter,
        ) from error
    if len(text) > MAX_FILE_BYTES:
        raise UsageError(
            f"the ignore file {shown} is larger than {MAX_FILE_BYTES} bytes",
            hint="Is it the right file? Fewer and wider patterns say the same.",
            parameter=parameter,
        )
    return text, name
