"""What is told while it works: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(kw_only=True)
class _Step:
    """How far a step was when it began, and when the next line is due."""

    total: int | None
    base: int
    begun: float
    next_percent: int = 0
    next_time: float = 0.0

    def line_is_due(self, percent: int, now: float) -> bool:
        """Tell whether it is time for a line, and when for the next one."""
        if self.next_percent <= percent < 100 or now >= self.next_time:  # noqa: PLR2004
            self.next_percent = percent - percent % _PLAIN_PERCENT + _PLAIN_PERCENT
            self.next_time = now + _PLAIN_SECONDS
            return True
        return False


class _Lines(Watcher):
    """A line at the beginning and the end of each step, and each 10% or 10 s between."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self._steps: dict[Step, _Step] = {}
        self._told: Step | None = None  # what the last line is about

    def started(self, event: Started) -> None:
        before = self._steps.get(event.step)
        now = time.monotonic()
        step = _Step(total=event.total, base=event.done, begun=now)
        # This line is the first.
        step.line_is_due(min(100 * event.done // event.total, 99) if event.total else 0, now)
        self._steps[event.step] = step
        self._told = event.step
        own = event.total or 0
        more = own - (before.total or 0 if before else 0)
        if more or event.done:  # beside others, of whom it may be one's next attempt
            own = more
        of = f"{size(own)} " if event.step == "put" and own > 0 else ""
        to = "to " if event.step == "put" else ""
        self.report.line(f"{_DOING[event.step]} {of}{to}{event.target}".rstrip())

    def moved(self, event: Progress) -> None:
        step, now = self._steps[event.step], time.monotonic()
        percent = 100 * event.done // step.total if step.total else 0
        if not step.line_is_due(percent, now):
            return
        what = "" if event.step == self._told else f"{_DOING[event.step]}: "
        self._told = event.step
        share = f"{percent}%, " if step.total else ""
        files = f"{entries(event.entries)}, " if event.entries else ""
        rate = max(event.done - step.base, 0) / max(now - step.begun, 1e-3)
        self.report.line(f"  {what}{share}{files}{size(event.done)}, {size(int(rate))}/s")

    def finished(self, event: Finished) -> None:
        if event.step == "put":  # the last line tells that
            return
        # Who hashes knows of content alone.
        found = "" if event.step == "hash" else f"{entries(event.entries)}, "
        found += size(event.done)
        into = f" into {size(event.result)}" if event.step == "pack" else ""
        self.report.line(f"{_DONE[event.step]} {found}{into} in {duration(event.seconds)}")
