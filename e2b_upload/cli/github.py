"""What GitHub Actions shows beside the log: annotations, and a summary of the job.

Its runner looks for commands in every line that a step prints, on both streams: one that begins
with ``::``, blanks before it not counted, and ``##[name]`` wherever it stands (the old way, still
heeded). So annotations go to standard error, and what comes from outside must not look like either.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from e2b_upload.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

Level: TypeAlias = Literal["error", "warning"]

_TITLE = "e2b-upload"
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\[)", re.MULTILINE)
_ESCAPES = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
# GitHub shows nothing of a step's summary that is larger, not even what others have written there.
_MOST_SUMMARY_BYTES = 1 << 20


def is_here() -> bool:
    """Whether this is a step of a GitHub Actions job."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def harmless(text: str) -> str:
    r"""Return ``text`` so that the runner finds no command in it: ``#\x23[``, ``\x3a:``."""
    return _COMMAND.sub(_escape, text) if is_here() else text


def harmless_json(text: str) -> str:
    """Return JSON that says the same, and in which the runner finds no command."""
    return text.replace("##[", r"#\u0023[")


def _escape(found: re.Match[str]) -> str:
    return r"\x23" if found[0] == "#" else rf"{found[1]}\x3a"


def annotate(level: Level, text: str) -> None:
    """Have a message shown on the page of the run, not only in its log."""
    if is_here():
        command = f"::{level} title={_TITLE}::{text.translate(_ESCAPES)}"
        print(command, file=sys.stderr, flush=True)


def summarize(status: str, facts: Iterable[tuple[str, str]]) -> None:
    """Append a heading and a table of facts to the job's summary, if there is one.

    A summary that cannot be written is ignored: nobody asked for it.
    """
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with suppress(OSError):
            _append(path, _summary(status, facts).encode(errors="backslashreplace"))


def _append(path: str, data: bytes) -> None:
    # A FIFO that nobody reads is not waited for, and nothing but a file is written to.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(path, flags, 0o644)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_size + len(data) <= _MOST_SUMMARY_BYTES:
            os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _summary(status: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return a heading and a table, for Markdown.

    The table is HTML, in which Markdown means nothing until the next empty line: there is one way
    to escape, and it is the standard library's. In ``<code>`` GitHub makes no links either.
    """
    rows = (
        f"<tr><th align='left'>{name}</th><td>{_code(value)}</td></tr>\n"
        for name, value in facts
        if value
    )
    # What stands before may not end in a line break.
    return f"\n\n### {_TITLE}: {status}\n\n<table>\n{''.join(rows)}</table>\n"


def _code(text: str) -> str:
    from html import escape

    return "<br>".join(f"<code>{escape(printable(line))}</code>" for line in text.split("\n"))
