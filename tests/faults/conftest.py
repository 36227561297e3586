from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.harness import Place
from tests.faults.page import PAGE, Observed, with_table
from tests.faults.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a folder to work in, and see to it that nothing is left behind there."""
    place = Place.furnish(tmp_path)
    yield place
    (tmp_path / "spool").chmod(0o700)
    assert place.left_behind() == []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-page", action="store_true", help="write what the rows came to into the page"
    )


class _Writer:
    """Collects what the rows came to, in whichever process, and writes it where all are there."""

    def __init__(self) -> None:
        self._seen: dict[str, Observed] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            for name, value in report.user_properties:
                if name == "observed":
                    observed = Observed(*value)  # type: ignore[misc]
                    self._seen[observed.name] = observed

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if missing := [row.name for row in ROWS if row.name not in self._seen]:
            terminalreporter.write_line(f"{PAGE} stays as it is without: {', '.join(missing)}")
        else:
            PAGE.write_text(with_table(PAGE.read_text(), self._seen))
            terminalreporter.write_line(f"{PAGE} says what came of {len(ROWS)} faults")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--write-page", default=False) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Writer())
