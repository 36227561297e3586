"""The reference decides: each of its contexts is made on disk and collected."""

from pathlib import Path

import e2b_upload
from tests.context.corpus import CASES, cases


def kept(folder: Path) -> tuple[str, ...] | None:
    try:
        return tuple(sorted(entry.path for entry in e2b_upload.collect(folder)))
    except e2b_upload.UsageError:
        return None


def test_none_of_the_reference_cases_differs(tmp_path: Path) -> None:
    wrong = []
    count = 0
    for count, case in enumerate(cases(), start=1):
        folder = tmp_path / str(count)
        folder.mkdir()
        case.make(folder)
        if kept(folder) != case.kept:
            wrong.append(case)
    assert (len(wrong), count) == (0, CASES), wrong[:3]
