"""The manual page in docs/ is the one that the program's own words make, and man shows it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.docs.links import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

COMMITTED = REPOSITORY / "docs" / "e2b-upload.1"
VIEWERS = (["man", "--warnings", "-l"], ["groff", "-K", "utf8", "-man", "-ww", "-Tutf8"])
COMMANDS = ("build", "pack", "put", "ls", "explain", "hash")


def help_of(*command: str) -> str:
    words = [sys.executable, "-m", "e2b_upload", *command, "--help"]
    environment = {"COLUMNS": "200", "LANG": "C.UTF-8"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def page() -> str:
    return COMMITTED.read_text().replace("\\-", "-")


@pytest.fixture(scope="module")
def helped() -> dict[str, str]:
    return {command: help_of(command) for command in COMMANDS} | {"": help_of()}


def test_it_is_up_to_date(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "man", "-t", "man"]
    command += ["-d", str(tmp_path / "doctrees"), "docs", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    assert (tmp_path / COMMITTED.name).read_text() == COMMITTED.read_text(), "run `make docs`"


def test_who_shows_it_has_nothing_to_complain_of(page: str) -> None:
    assert '.TH "E2B-UPLOAD" "1"' in page
    environment = {"LANG": "C.UTF-8", "MANWIDTH": "80", "PATH": os.defpath}
    for viewer in VIEWERS:
        if shutil.which(viewer[0], path=os.defpath):
            command = [*viewer, str(COMMITTED)]
            shown = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            )
            assert shown.stderr == ""
            assert "tar(1), curl(1)" in shown.stdout


def test_it_names_whatever_help_names(page: str, helped: dict[str, str]) -> None:
    for command in re.findall(r"^│ (\w+) ", helped[""], re.MULTILINE):
        assert f".SS \\fB{command}\\fP" in page
        for name in re.findall(r"--[a-z][a-z-]+|E2B_UPLOAD_\w+", helped[command]):
            assert name in page


def test_it_names_no_option_that_help_does_not(page: str, helped: dict[str, str]) -> None:
    known = " ".join(helped.values())
    for name in {*re.findall(r"(?<![\w-])--[a-z][a-z-]+", page)}:
        assert name in known
