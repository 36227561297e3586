"""The columns of `explain`, as the reference tells of them, are those that it writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.docs.links import REPOSITORY
from tests.docs.test_manual_page import help_of

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (REPOSITORY / "docs/reference/command-line.md").read_text()
COLUMNS = re.findall(r"^\d\. (.*(?:\n   .*)*)", PAGE, re.MULTILINE)


def explained(context: Path, *args: str) -> list[list[str]]:
    command = [sys.executable, "-m", "e2b_upload", "explain", str(context), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/kept").touch()
    (tmp_path / "tab\t").touch()
    (tmp_path / ".dockerignore").write_text("folder\n!folder/kept\n")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def test_the_page_names_all_that_a_column_can_say(context: Path) -> None:
    verdict, rule, _, more = COLUMNS
    lines = explained(context, "folder", "folder/kept", "folder/gone", "tab\t", "pipe")
    lines += explained(context, ".dockerignore", "--copy", "nothing:/x")
    for told in lines:
        assert f"`{told[0]}`" in verdict
        shown = re.sub(r"^\.dockerignore:\d+:.*", "FILE:LINE:PATTERN", told[1])
        assert f"`{shown}`" in rule
        if len(told) > 3:
            remark = re.fullmatch(r"\((.+)\)", told[3])
            assert remark
            for words in remark[1].split("; "):
                assert f"`{words.replace('folder folder', 'folder NAME')}`" in more
    remarks = " ".join(told[3] for told in lines if len(told) > 3)
    for words in re.findall("`([^`]+)`", more)[1:]:
        assert words.partition(" NAME")[0] in remarks


def test_no_column_holds_a_tab_or_the_end_of_a_line(context: Path) -> None:
    (context / ".dockerignore").write_text("a\t?\n")
    escaped = [r"excluded", r".dockerignore:1:a\t?", r"a\t\n", "(does not exist)"]
    assert explained(context, "a\t\n") == [escaped]
    assert explained(context, os.fsdecode(b"\x1b\xff"))[0][2] == r"\x1b\xff"


def test_help_tells_of_the_columns_too() -> None:
    told = " ".join(help_of("explain").split())
    assert "with a tab between columns" in told
    assert "only where more is to be said, that, in brackets" in told
