"""The reference decides: each of its contexts is made on disk, collected and explained."""

from itertools import islice
from pathlib import Path, PurePosixPath

import pytest

import e2b_upload
from tests.context.corpus import CASES, Case, cases


def kept(folder: Path) -> tuple[str, ...] | None:
    try:
        return tuple(sorted(entry.path for entry in e2b_upload.collect(folder)))
    except e2b_upload.UsageError:
        return None


def explained(folder: Path, case: Case) -> tuple[str, ...] | None:
    """Return which of all paths are said to be kept."""
    there = {".dockerignore"}
    for path in map(PurePosixPath, case.tree):
        there |= {str(each) for each in (path, *path.parents)} - {"."}
    try:
        decisions = e2b_upload.explain(folder, there)
        return tuple(sorted(decision.path for decision in decisions if decision.kept))
    except e2b_upload.UsageError:
        return None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_none_of_the_reference_cases_differs(tmp_path: Path, step: int) -> None:
    wrong = []
    count = 0
    for count, case in enumerate(islice(cases(), 0, None, step), start=1):
        folder = tmp_path / str(count)
        folder.mkdir()
        case.make(folder)
        if not kept(folder) == case.kept == explained(folder, case):
            wrong.append(case)
    assert (len(wrong), count) == (0, -(-CASES // step)), wrong[:3]
