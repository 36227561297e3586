"""Look for links inside the project that lead nowhere: ``python -m tests.docs.links build/docs``.

Sphinx checks the links that it resolves itself. This looks at the pages that came of it, and at the
Markdown files that it never sees, README.md for one. Nothing is asked of the network.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parents[2]


class Page(HTMLParser):
    """What a page links to, and what in it can be linked to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src", "data"} and value is not None:
                self.links.append(value)
            elif (name == "id" or (tag == "a" and name == "name")) and value:
                self.anchors.add(value)


def main(folder: Path) -> int:
    broken = [*broken_in_pages(folder), *broken_in_markdown(REPOSITORY, folder)]
    for place, link in broken:
        print(f"{place}: {link} leads nowhere", file=sys.stderr)  # noqa: T201  (it is there to)
    return 1 if broken else 0


def broken_in_pages(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the links of built pages that lead nowhere."""
    for file in sorted(folder.rglob("*.html")):
        for link in page(file).links:
            path, anchor = split(link)
            target = Path(file.parent, path) if path else file
            if path is not None and not (
                target.exists() and (target.suffix != ".html" or anchor in page(target).anchors)
            ):
                yield file, link


def broken_in_markdown(repository: Path, folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the links that lead nowhere of the Markdown files above docs/."""
    for file in sorted(repository.glob("*.md")):
        for link in markdown_links(file):
            path, anchor = split(link)
            target = Path(file.parent, path).resolve() if path else file
            if path is not None and not (
                target.exists() and (not anchor or anchor in anchors(target, repository, folder))
            ):
                yield file, link


def split(link: str) -> tuple[str | None, str]:
    """Return a link's path, None where that is elsewhere in the world, and its anchor."""
    parts = urlsplit(link)
    return None if parts.scheme or parts.netloc else unquote(parts.path), unquote(parts.fragment)


def anchors(target: Path, repository: Path, folder: Path) -> set[str]:
    """Return what a file can be linked to at: for one in docs/ that of the page it became."""
    if target.is_relative_to(repository / "docs"):
        return page(folder / target.relative_to(repository / "docs").with_suffix(".html")).anchors
    tokens = MarkdownIt("commonmark").parse(target.read_text())
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@cache
def page(file: Path) -> Page:
    return Page(file.read_text())


def markdown_links(file: Path) -> Iterator[str]:
    for token in flat(MarkdownIt("commonmark").enable("table").parse(file.read_text())):
        link = token.attrs.get("href", token.attrs.get("src"))
        if link is not None:
            yield str(link)


def flat(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from flat(token.children or [])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
