"""What contributors, and those who find a hole, read: a page each, about things that are there."""

import re
from typing import Final

import pytest

from tests.packaging.image import ROOT

MOST_LINES: Final = 60
PAPERS: Final = ["CONTRIBUTING.md", "SECURITY.md"]


@pytest.mark.parametrize("name", PAPERS)
def test_it_fits_on_a_page(name: str) -> None:
    assert len((ROOT / name).read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", PAPERS)
def test_what_it_names_is_there(name: str) -> None:
    text = (ROOT / name).read_text()
    targets = re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text())
    assert {*re.findall(r"make ([a-z]+)", text)} <= {*targets}
    words = {word for code in re.findall(r"`([^`]+)`", text) for word in code.split()}
    paths = {word for word in words if re.fullmatch(r"[\w.-]+/[\w./-]+|\w+\.(toml|md|py)", word)}
    assert [path for path in sorted(paths) if not there(path)] == []
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not (ROOT / link).exists()] == []


def there(path: str) -> bool:
    return any((ROOT / folder / path).exists() for folder in ("", "e2b_upload"))
