"""The page that says what came of the faults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.faults.rows import TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.faults.rows import Row

PAGE: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
_BEGIN, _END = "<!-- `make faults` writes from here -->\n", "<!-- to here -->\n"
_HEAD: Final = """\
| what happens | exit code | attempts | proven by | stored afterwards | the message says |
| --- | --- | --- | --- | --- | --- |
"""


class Observed(NamedTuple):
    """What a row came to."""

    name: str
    code: int
    attempts: int
    verified: str | None
    stored: str
    says: str


def expected(row: Row) -> Observed:
    return Observed(row.name, row.code, row.attempts, row.verified, row.stored, row.says)


def with_table(page: str, observed: Mapping[str, Observed]) -> str:
    """Return the page with these figures between its two marks."""
    before, _, rest = page.partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    assert mark
    return before + _BEGIN + _table(observed) + _END + after


def _table(observed: Mapping[str, Observed]) -> str:
    parts = []
    for about, rows in TABLE.items():
        lines = [_line(row, observed[row.name]) for row in rows]
        parts.append(f"### {about}\n\n{_HEAD}{''.join(lines)}")
    return "\n" + "\n".join(parts) + "\n"


def _line(row: Row, seen: Observed) -> str:
    what = f"{row.name} (`{row.options}`)" if row.options else row.name
    cells = [what, str(seen.code), str(seen.attempts), seen.verified, seen.stored, seen.says]
    return f"| {' | '.join(cell or '-' for cell in cells)} |\n"
