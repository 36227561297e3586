"""The pictures in docs/: real builds of a real environment, as a terminal and a log show them.

Run as `python -m tests.docs.pictures` (`make pictures`). The store is a socket on loopback that
reads slowly, so that there is something to see, or is too busy for the first attempt.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.cli.harness import QUERY, Place
from tests.docs.links import REPOSITORY
from tests.support.rawserver import raw_server, response

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyte

    from tests.support.rawserver import Connection, Script

DOCS = REPOSITORY / "docs"
COMMAND = '$ e2b-upload build ./app --url "$PRESIGNED_PUT_URL"'
BYTES_A_SECOND = 30e6
PIECE_BYTES = 1 << 18
CAUGHT = r"uploading [^\n]* 6\d%"
WAITING = r"\n[^\n]*in \d"
BUSY = response(503, b"<Error><Code>SlowDown</Code></Error>", {"Retry-After": "2"})
BROWN = {"brown": "yellow"}  # what pyte calls it


def too_busy(connection: Connection) -> None:
    """Read all of it, and ask to come again."""
    connection.read_head()
    connection.read_body()
    connection.send(BUSY)


def slowly(connection: Connection) -> None:
    """Take one PUT at BYTES_A_SECOND."""
    head = connection.read_head()
    left = int(head.lower().partition(b"content-length:")[2].split()[0])
    while left:
        piece = min(left, PIECE_BYTES)
        connection.read_body(piece)
        connection.wait(piece / BYTES_A_SECOND)
        left -= piece
    connection.send(response(200))


def on_terminal(place: Place, columns: int, until: str, *scripts: Script) -> list[Text]:
    """Return the rows of a terminal, as soon as it shows what an expression describes."""
    with raw_server(*scripts) as server:
        command = ("build", "app", "--url", f"{server.url}/app.tar.gz?{QUERY}")
        env = {"E2B_UPLOAD_RETRIES": "4"}
        with place.seen(*command, columns=columns, env=env) as seen:
            seen.until(until)
            return [row for row in _rows(seen.screen) if row.plain.strip()]


def in_log(place: Place, *scripts: Script) -> list[Text]:
    """Return the lines of a log."""
    with raw_server(*scripts) as server:
        command = ("build", "app", "--url", f"{server.url}/app.tar.gz?{QUERY}")
        ended = place.run(*command, env={"E2B_UPLOAD_RETRIES": "4"})
    assert ended.code == 0, ended.err
    return [Text(line) for line in ended.lines]


def _rows(screen: pyte.Screen) -> Iterable[Text]:
    for y in range(screen.lines):
        row = Text()
        for x in range(screen.columns):
            cell = screen.buffer[y][x]
            row.append(cell.data, Style(color=_color(cell.fg), bold=cell.bold))
        row.rstrip()
        yield row


def _color(name: str) -> str | None:
    if name == "default":
        return None
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    return BROWN.get(name, name.replace("bright", "bright_"))


def draw(name: str, title: str, columns: int, rows: Iterable[Text]) -> None:
    """Write a picture of a terminal that shows the command, and below it the rows."""
    console = Console(record=True, width=columns, file=io.StringIO())
    console.print(Text(COMMAND, "bold", overflow="fold"))
    for row in rows:
        console.print(row, overflow="fold")
    drawn = console.export_svg(title=title, unique_id=Path(name).stem)
    # The picture asks for no font from elsewhere, nor is it changed by one that comes late.
    (DOCS / name).write_text(re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL))


def main() -> None:
    """Build, and draw."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place.furnish(Path(folder))
        (place.path / "app").symlink_to(sys.prefix)
        draw("at-work.svg", "terminal", 88, on_terminal(place, 88, CAUGHT, slowly))
        draw("at-work-narrow.svg", "40 columns", 40, on_terminal(place, 40, WAITING, too_busy))
        draw("ci-log.svg", "log of a CI job", 120, in_log(place, too_busy, slowly))


if __name__ == "__main__":
    main()
