"""Plain lines, and the notices that are printed with every style of progress."""

from typing import Any

import pytest

from e2b_upload import events
from e2b_upload.cli import progress
from e2b_upload.cli.report import Report
from e2b_upload.events import Finished, Progress, Started

MB = 1_000_000
PACKED = (
    Started(step="collect"),
    Finished(step="collect", done=68 * MB, entries=1, seconds=0.04),
    Started(step="pack", total=68 * MB),
    Finished(step="pack", done=68 * MB, entries=1234, seconds=1.4, result=16_800_000),
)


def printed(capsys: Any, style: progress.Style, *happened: events.Event) -> list[str]:
    with progress.watch(Report(), style) as on_event:
        for event in happened:
            on_event(event)
    lines: list[str] = capsys.readouterr().err.splitlines()
    return lines


def test_plain_lines(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert printed(capsys, "bar", *PACKED) == [
        "counting",
        "counted 1 entry, 68.0 MB in 40 ms",
        "packing",
        "packed 1,234 entries, 68.0 MB into 16.8 MB in 1.4 s",
    ]
    upload: list[events.Event] = [Started(step="put", total=100, target="http://h/k")]
    upload += [Progress(step="put", done=n, entries=1) for n in (5, 9, 10, 11, 19, 45, 49, 100)]
    first, *lines = printed(capsys, "plain", *upload)
    assert first == "uploading 100 B to http://h/k"
    assert [line.rpartition(",")[0] for line in lines] == [
        *("  10%, 1 entry, 10 B", "  45%, 1 entry, 45 B")
    ]
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0)
    assert len(printed(capsys, "plain", *upload)) == len(upload)


@pytest.mark.parametrize("number", [1, 10, 11, 5000])
def test_files_that_look_like_credentials(number: int, capsys: Any) -> None:
    secrets = [events.LooksSecret(path=f"a\n{n}/.env", why="a .env file") for n in range(number)]
    *named, hint = printed(capsys, "none", *secrets, PACKED[-1])
    expected = [
        rf"warning: a\n{n}/.env looks like a credential: a .env file"
        for n in range(min(number, 10))
    ]
    if more := {11: "1 more file", 5000: "4,990 more files"}.get(number):
        expected.append(f"warning: and {more} that look like credentials")
    assert named == expected
    assert "--secrets off" in hint


def test_a_large_context(capsys: Any) -> None:
    largest = (
        events.Weight(path="资料", bytes=900 * MB, is_directory=True, pattern="资料"),
        events.Weight(path="a\x1b[2J", bytes=999, is_directory=False, pattern="a??2J"),
    )
    heavy = events.Heavy(content_bytes=1200 * MB, limit=100 * MB, largest=largest)
    first, *rest = printed(capsys, "none", PACKED[-1], heavy)
    assert first.startswith(
        "warning: the context holds 1.2 GB in 1,234 entries, more than 100.0 MB;"
    )
    assert rest == [
        "  900.0 MB  资料/",
        r"     999 B  a??2J  (a\x1b[2J)",
        "  If all of it is needed, allow more with --warn-size SIZE; 0 never warns.",
    ]
