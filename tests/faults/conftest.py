from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.harness import Place
from tests.faults.page import PAGE, with_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Return a directory to work in, and check that no temporary file remains."""
    place = Place.furnish(tmp_path)
    yield place
    (tmp_path / "spool").chmod(0o700)
    assert place.left_behind() == []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-page", action="store_true", help="write the table of the page, if no row fails"
    )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    asked = session.config.getoption("--write-page", default=False)
    if asked and exitstatus == 0 and not hasattr(session.config, "workerinput"):
        PAGE.write_text(with_table(PAGE.read_text()))
