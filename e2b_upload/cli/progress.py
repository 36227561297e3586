"""Progress on standard error: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

from e2b_upload import events
from e2b_upload.cli.notices import WORDS, Notices, entries
from e2b_upload.cli.units import duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from e2b_upload.cli.report import Report

Style: TypeAlias = Literal["bar", "plain", "none"]

_PLAIN_SECONDS = 10.0


@contextmanager
def watch(
    report: Report, style: Style, steps: Sequence[events.Step] = ()
) -> Iterator[events.OnEvent]:
    """Yield the callback that shows progress and notices; a live display shows `steps` at once."""
    if style == "none" or report.quiet:
        yield Notices(report)
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


class _Lines(Notices):
    """Prints a line when a step starts and ends, and every 10% or 10 s in between."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self._starts: dict[events.Step, tuple[events.Started, float]] = {}
        self._last: dict[events.Step, tuple[int, float]] = {}  # the last line: percent, time
        self._shown: events.Step | None = None  # by the last line

    def __call__(self, event: events.Event) -> None:
        """Print a line if one is due."""
        super().__call__(event)
        match event:
            case events.Started():
                self._started(event, time.monotonic())
            case events.Progress():
                self._moved(event, time.monotonic())
            case events.Finished(step=step) if step != "put":  # the result is printed instead
                found = "" if step == "hash" else f"{entries(event.entries)}, "
                into = f" into {size(event.result)}" if step == "pack" else ""
                done = f"{WORDS[step][2]} {found}{size(event.done)}{into}"
                self.report.line(f"{done} in {duration(event.seconds)}")

    def _started(self, event: events.Started, now: float) -> None:
        before, total = self._starts.get(event.step), event.total or 0
        self._starts[event.step] = event, now
        self._last[event.step] = 100 * event.done // total if total else 0, now
        self._shown = event.step
        words = f"{WORDS[event.step][1]} "
        if event.step == "put":
            # One of several COPYs adds its size to the total, or nothing when it is retried.
            added = total - (before[0].total or 0 if before else 0)
            own = added if added or event.done else total
            words += f"{size(own)} to " if own > 0 else "to "
        self.report.line(f"{words}{event.target}".rstrip())

    def _moved(self, event: events.Progress, now: float) -> None:
        start, since = self._starts[event.step]
        percent = 100 * event.done // start.total if start.total else 0
        last_percent, last_time = self._last[event.step]
        tenth = percent // 10 * 10
        if last_percent < tenth < 100 or now >= last_time + _PLAIN_SECONDS:  # noqa: PLR2004
            self._last[event.step] = percent, now
            what = "" if event.step == self._shown else f"{WORDS[event.step][1]}: "
            self._shown = event.step
            share = f"{percent}%, " if start.total else ""
            files = f"{entries(event.entries)}, " if event.entries else ""
            rate = size(int(max(event.done - start.done, 0) / max(now - since, 1e-3)))
            self.report.line(f"  {what}{share}{files}{size(event.done)}, {rate}/s")
