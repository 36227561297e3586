"""The look at the links finds those that lead nowhere, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.links import broken_in_markdown, broken_in_pages

if TYPE_CHECKING:
    from pathlib import Path

PAGES = {
    "index.html": '<h1 id="top-of-it">x</h1> <a href="sub/a.html#here">a</a> <a href="#top-of-it">',
    "sub/a.html": '<p id="here"></p><img src="../p.svg"/><a href="https://elsewhere.invalid/x">',
    "p.svg": "",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_links_that_lead_somewhere(tmp_path: Path) -> None:
    write(tmp_path, PAGES)
    assert list(broken_in_pages(tmp_path)) == []


@pytest.mark.parametrize("link", ["b.html", "index.html#there", "#there", "sub/p.svg", "a%20b.svg"])
def test_a_page_with_a_link_that_does_not(link: str, tmp_path: Path) -> None:
    write(tmp_path, {**PAGES, "c.html": f'<a href="{link}">'})
    assert list(broken_in_pages(tmp_path)) == [(tmp_path / "c.html", link)]


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("docs/index.md", True),
        ("docs/index.md#top-of-it", True),
        ("docs/index.md#there", False),
        ("docs/none.md", False),
        ("CHANGELOG.md#new-fixed", True),
        ("CHANGELOG.md#old", False),
        ("#me", True),
        ("#you", False),
        ("https://elsewhere.invalid/x#y", True),
    ],
)
def test_a_markdown_file(link: str, leads: bool, tmp_path: Path) -> None:  # noqa: FBT001
    write(tmp_path / "built", PAGES)
    write(
        tmp_path,
        {
            "README.md": f"# Me\n\n| a |\n| --- |\n| [a]({link}) |\n",
            "CHANGELOG.md": "## New & `fixed`\n".replace(" &", ""),
            "docs/index.md": "",
        },
    )
    broken = list(broken_in_markdown(tmp_path, tmp_path / "built"))
    assert broken == ([] if leads else [(tmp_path / "README.md", link)])
