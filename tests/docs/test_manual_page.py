"""The manual page in docs/ is up to date, valid, and lists the same options as --help."""

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

    from tests.cli.conftest import Call

pytestmark = pytest.mark.slow

COMMITTED = REPOSITORY / "docs" / "e2b-upload.1"
VIEWERS = (["man", "--warnings", "-l"], ["groff", "-K", "utf8", "-man", "-ww", "-Tutf8"])
OPTION = r"(?<!-)--[a-z][a-z-]+|E2B_UPLOAD_\w+"


def test_it_is_up_to_date(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "man", "-t", "man"]
    command += ["-d", str(tmp_path / "doctrees"), "docs", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    assert (tmp_path / COMMITTED.name).read_text() == COMMITTED.read_text(), "run `make docs`"


def test_viewers_show_it_without_warnings() -> None:
    environment = {"LANG": "C.UTF-8", "MANWIDTH": "80", "PATH": os.defpath}
    for viewer in VIEWERS:
        if shutil.which(viewer[0], path=os.defpath):
            command = [*viewer, str(COMMITTED)]
            shown = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            )
            assert shown.stderr == ""
            assert "tar(1), curl(1)" in shown.stdout


def test_it_has_the_commands_and_options_of_help(call: Call) -> None:
    def help_of(*command: str) -> str:
        return call(*command, "--help", env={"COLUMNS": "200"}).out.decode()

    page = COMMITTED.read_text().replace("\\-", "-")
    general = help_of()
    commands = re.findall(r"^│ (\w+) ", general, re.MULTILINE)
    assert re.findall(r"(?m)^\.SS \\fB(\w+)\\fP", page) == commands
    helped = general + "".join(map(help_of, commands))
    assert {*re.findall(OPTION, page)} == {*re.findall(OPTION, helped)}
