"""The reference lists what each column of `explain` can contain."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from tests.docs.links import REPOSITORY

if TYPE_CHECKING:
    from tests.cli.conftest import Call
    from tests.cli.harness import Place

PAGE = (REPOSITORY / "docs/reference/command-line.md").read_text()
COLUMNS = re.findall(r"^\d\. (.*(?:\n   .*)*)", PAGE, re.MULTILINE)


def test_the_page_lists_all_values_and_no_others(place: Place, call: Call) -> None:
    place.write("c/folder/kept", b"")
    place.write("c/.dockerignore", b"folder\n!folder/kept\n")
    os.mkfifo(place.path / "c/pipe")
    explained = call("explain", "c", "folder", "folder/kept", "folder/gone", "pipe").out
    explained += call("explain", "c", ".dockerignore", "--copy", "nothing:/x").out
    lines = [line.split("\t") for line in explained.decode().splitlines()]
    rules = {re.sub(r"^\.dockerignore:\d+:.*", "FILE:LINE:PATTERN", line[1]) for line in lines}
    remarks = {words for line in lines for more in line[3:] for words in more[1:-1].split("; ")}
    remarks = {words.replace("folder folder", "folder NAME") for words in remarks}
    listed = [{*re.findall("`([^`]+)`", column)} for column in COLUMNS]
    assert listed == [{line[0] for line in lines}, rules | {"--exclude"}, set(), remarks | {"; "}]
