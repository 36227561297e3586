"""Find broken links in the Markdown files above docs/: ``python -m tests.docs.links build/docs``.

Sphinx checks the pages in docs/ itself, and does not see the others, such as README.md. Links to
other sites are not checked.
"""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parents[2]


def tokens(file: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(file.read_text())


def flat(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def broken_links(built: Path) -> Iterator[str]:
    """Yield the broken links of each file, given the folder of the built documentation."""
    for file in sorted(REPOSITORY.glob("*.md")):
        for token in flat(tokens(file)):
            link = urlsplit(str(token.attrs.get("href", token.attrs.get("src", ""))))
            target = Path(REPOSITORY, unquote(link.path)) if link.path else file
            if link.scheme or (target.exists() and link.fragment in anchors(target, built)):
                continue
            yield f"{file.name}: {link.geturl()} does not exist"


def anchors(target: Path, built: Path) -> set[str]:
    """Return the anchors of a file. One in docs/ has those of its built page."""
    if target.is_relative_to(REPOSITORY / "docs"):
        page = built / target.relative_to(REPOSITORY / "docs").with_suffix(".html")
        return {"", *re.findall('id="([^"]+)"', page.read_text() if page.exists() else "")}
    if target.suffix != ".md":
        return {""}
    titles = [
        after.content for token, after in pairwise(tokens(target)) if token.type == "heading_open"
    ]
    return {"", *(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)}


if __name__ == "__main__":
    sys.exit("\n".join(broken_links(Path(sys.argv[1]))) or 0)
