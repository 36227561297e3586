"""The table of docs/reliability.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults.rows import TABLE

if TYPE_CHECKING:
    from tests.faults.rows import Row

PAGE: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
_BEGIN, _END = "<!-- `make faults` writes from here -->\n", "<!-- to here -->\n"
_HEAD: Final = """\
| what happens | exit code | attempts | proven by | stored afterwards | the message says |
| --- | --- | --- | --- | --- | --- |
"""


def with_table(page: str) -> str:
    """Return the page with the table of all rows between its two marks."""
    before, _, rest = page.partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    assert mark
    parts = (f"### {about}\n\n{_HEAD}{''.join(map(_line, rows))}" for about, rows in TABLE.items())
    return before + _BEGIN + "\n" + "\n".join(parts) + "\n" + _END + after


def _line(row: Row) -> str:
    what = f"{row.name} (`{row.options}`)" if row.options else row.name
    cells = [what, str(row.code), str(row.attempts), row.verified, row.stored, row.says]
    return f"| {' | '.join(cell or '-' for cell in cells)} |\n"
