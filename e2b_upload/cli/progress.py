"""What is told while it works: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

from e2b_upload.cli.units import duration, size
from e2b_upload.cli.watcher import Watcher, entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from e2b_upload.cli.report import Report
    from e2b_upload.events import Finished, OnEvent, Progress, Started, Step

Style: TypeAlias = Literal["bar", "plain", "none"]

_DOING: dict[Step, str] = {
    "collect": "counting",
    "hash": "hashing",
    "pack": "packing",
    "put": "uploading",
}
_DONE: dict[Step, str] = {"collect": "counted", "hash": "hashed", "pack": "packed"}
_PLAIN_PERCENT, _PLAIN_SECONDS = 10, 10.0


@contextmanager
def watch(report: Report, style: Style, steps: Sequence[Step] = ()) -> Iterator[OnEvent]:
    """Yield the callback that shows what happens.

    Args:
        report: where warnings go.
        style: how progress is shown.
        steps: those that there will be; a display shows from the start what is still to come.
    """
    if style == "none" or report.quiet:
        yield Watcher(report)
    elif style == "plain" or os.environ.get("TERM", "").lower() in {"dumb", "unknown"}:
        yield _Lines(report)
    else:
        from e2b_upload.cli.display import Display

        display = Display(report, steps)
        try:
            display.start()
            yield display
        finally:
            display.stop()


class _Lines(Watcher):
    """A line at the beginning and the end of each step, and each 10% or 10 s between."""

    total: int | None
    next_percent: int
    next_time: float
    begun: float

    def started(self, event: Started) -> None:
        self.total = event.total
        self.begun = time.monotonic()
        self.next_percent = _PLAIN_PERCENT
        self.next_time = self.begun + _PLAIN_SECONDS
        of = f"{size(event.total)} " if event.step == "put" and event.total is not None else ""
        to = "to " if event.step == "put" else ""
        self.report.line(f"{_DOING[event.step]} {of}{to}{event.target}".rstrip())

    def moved(self, event: Progress) -> None:
        now = time.monotonic()
        percent = 100 * event.done // self.total if self.total else 0
        if now < self.next_time and not self.next_percent <= percent < 100:  # noqa: PLR2004
            return
        self.next_time = now + _PLAIN_SECONDS
        self.next_percent = percent - percent % _PLAIN_PERCENT + _PLAIN_PERCENT
        share = f"{percent}%, " if self.total else ""
        files = f"{entries(event.entries)}, " if event.entries else ""
        rate = event.done / max(now - self.begun, 1e-3)
        self.report.line(f"  {share}{files}{size(event.done)}, {size(int(rate))}/s")

    def finished(self, event: Finished) -> None:
        if event.step == "put":  # the last line tells that
            return
        # Who hashes knows of content alone.
        found = "" if event.step == "hash" else f"{entries(event.entries)}, "
        found += size(event.done)
        into = f" into {size(event.result)}" if event.step == "pack" else ""
        self.report.line(f"{_DONE[event.step]} {found}{into} in {duration(event.seconds)}")
