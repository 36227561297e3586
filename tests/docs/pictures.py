"""The pictures in docs/: real builds of a small Node service, on a terminal and in a log.

Run as `python -m tests.docs.pictures` (`make pictures`). The store is a local server that the
command takes for a proxy, so that the pictures show a host name. It reads slowly, to leave time for
a picture of the upload, or is too busy for the first attempt.
"""

from __future__ import annotations

import io
import random
import re
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
COMMAND = '$ e2b-upload build ./shop --url "$PRESIGNED_PUT_URL"'
URL = f"http://builds.example.com/shop.tar.gz?{QUERY}"
SCALE = 0.7  # the font is 14 pixels high, and 80 columns are as wide as a page of the site
BYTES_A_SECOND = 12e6
PIECE_BYTES = 1 << 18
CAUGHT = r"uploading [^\n]* 6\d%"
WAITING = r"! attempt [^\n]* in \d"
BUSY = response(503, b"<Error><Code>SlowDown</Code></Error>", {"Retry-After": "2"})
BROWN = {"brown": "yellow"}  # pyte's name: ANSI's


def furnish(place: Place, *, ignore: bytes) -> None:
    """Write a Node service, as a checkout leaves it."""
    noise = random.Random(12)
    sizes = {"server": 9_400, "cart": 6_100, "orders": 12_800, "payments": 8_300, "mail": 4_700}
    for name, size in sizes.items():
        place.write(f"shop/src/{name}.ts", noise.randbytes(size // 2).hex().encode())
        place.write(f"shop/test/{name}.test.ts", noise.randbytes(size // 4).hex().encode())
    for number in range(120):
        place.write(f"shop/public/images/{number:03}.webp", noise.randbytes(340_000))
    place.write("shop/package-lock.json", noise.randbytes(160_000).hex().encode())
    place.write("shop/package.json", b"{}\n")
    place.write("shop/Dockerfile", b"FROM node:24\n")
    place.write("shop/.git/objects/pack/pack-8d1f.pack", noise.randbytes(74_000_000))
    place.write("shop/.dockerignore", ignore)


def too_busy(connection: Connection) -> None:
    """Read the upload, then ask for another attempt later."""
    connection.read_head()
    connection.read_body()
    connection.send(BUSY)


def slowly(connection: Connection) -> None:
    """Read one upload at BYTES_A_SECOND."""
    head = connection.read_head()
    left = int(head.lower().partition(b"content-length:")[2].split()[0])
    while left:
        piece = min(left, PIECE_BYTES)
        connection.read_body(piece)
        connection.wait(piece / BYTES_A_SECOND)
        left -= piece
    connection.send(response(200))


def on_terminal(place: Place, columns: int, until: str, *scripts: Script) -> list[Text]:
    """Return the rows of a terminal as soon as they match an expression."""
    with raw_server(*scripts) as server:
        env = {"E2B_UPLOAD_RETRIES": "4", "http_proxy": server.url}
        with place.seen("build", "shop", "--url", URL, columns=columns, env=env) as seen:
            seen.until(until)
            return [row for row in _rows(seen.screen) if row.plain.strip()]


def in_log(place: Place, *scripts: Script) -> list[Text]:
    """Return the lines of a log."""
    with raw_server(*scripts) as server:
        env = {"E2B_UPLOAD_RETRIES": "4", "http_proxy": server.url}
        ended = place.run("build", "shop", "--url", URL, env=env)
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
    """Write a picture of a terminal that shows the command and the rows, wrapped at words."""
    console = Console(record=True, width=columns, file=io.StringIO())
    console.print(Text(COMMAND, "bold"), *rows, sep="\n")
    drawn = console.export_svg(title=title, unique_id=Path(name).stem)
    # The picture loads no font, so it looks the same on every page.
    drawn = re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    # Without a size, a browser fills the page with it.
    (DOCS / name).write_text(re.sub(r'viewBox="0 0 (\S+) (\S+)"', _sized, drawn, count=1))


def _sized(box: re.Match[str]) -> str:
    width, height = (round(float(figure) * SCALE) for figure in box.groups())
    return f'width="{width}" height="{height}" {box[0]}'


def main() -> None:
    """Build, and draw."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place.furnish(Path(folder))
        furnish(place, ignore=b".git\nnode_modules\n")
        draw("at-work.svg", "terminal", 80, on_terminal(place, 80, CAUGHT, slowly))
        draw("at-work-narrow.svg", "40 columns", 40, on_terminal(place, 40, WAITING, too_busy))
        furnish(place, ignore=b"node_modules\n")
        draw("ci-log.svg", "log of a CI job", 100, in_log(place, too_busy, slowly))


if __name__ == "__main__":
    main()
