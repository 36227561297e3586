"""What is seen while it works: one bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

from e2b_upload.cli.report import duration, size
from e2b_upload.errors import printable
from e2b_upload.events import (
    Expiring,
    Finished,
    Kept,
    LeftOut,
    Progress,
    Redirected,
    Retrying,
    Started,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn

    from e2b_upload.cli.report import Report
    from e2b_upload.events import Event, OnEvent, Step

Style: TypeAlias = Literal["bar", "plain", "none"]

_DOING: dict[Step, str] = {"collect": "counting", "pack": "packing", "put": "uploading"}
_PLAIN_PERCENT, _PLAIN_SECONDS = 10, 10.0
_NARROW = 60  # columns: below, there is no room for a bar beside the figures


@contextmanager
def watch(report: Report, style: Style) -> Iterator[OnEvent]:
    """Yield the callback that shows what happens."""
    if style == "none" or report.quiet:
        yield _Watcher(report)
    elif style == "plain":
        yield _Lines(report)
    else:
        with _bar(color=report.color) as bar:
            yield _Bar(report, bar)


class _Watcher:
    """Says what must not be missed, however little is shown otherwise."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self.started(event)
            case Progress():
                self.moved(event)
            case Finished():
                self.finished(event)
            case LeftOut(path=path, what=what):
                why = "it is the archive itself" if what == "archive" else f"a {what} is not data"
                self.report.warn(f"left out {printable(path)}: {why}")
            case Kept(path=path):
                self.report.line(f"kept the archive as {printable(path)}")
            case Redirected(http_status=status, target=target):
                self.report.line(f"redirected ({status}) to {target}")
            case Retrying(attempt=attempt, attempts=attempts, seconds=seconds, reason=reason):
                which = f"attempt {attempt} of {attempts}"
                self.report.warn(f"{reason}; retrying in {duration(seconds)} ({which})")
            case Expiring(seconds=left):
                self.report.warn(
                    f"the URL expires in {duration(left)}, sooner than packing took: the upload "
                    "may come too late; ask for one that is valid for longer"
                )

    def started(self, event: Started) -> None:
        """A step begins."""

    def moved(self, event: Progress) -> None:
        """A step has come on."""

    def finished(self, event: Finished) -> None:
        """A step is done."""


class _Lines(_Watcher):
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
        files = f"{event.entries} entries, " if event.entries else ""
        rate = event.done / max(now - self.begun, 1e-3)
        line = f"  {share}{files}{size(event.done)}, {size(int(rate))}/s"
        self.report.line(line)

    def finished(self, event: Finished) -> None:
        if event.step != "put":  # the last line tells that
            self.report.line(_summary(event))


def _summary(event: Finished) -> str:
    took = duration(event.seconds)
    found = f"{event.entries} {'entry' if event.entries == 1 else 'entries'}, {size(event.done)}"
    if event.step == "pack":
        return f"packed {found} into {size(event.result)} in {took}"
    return f"counted {found} in {took}"


class _Bar(_Watcher):
    """Rich's live bar: which of the three steps, bytes, speed and time left."""

    def __init__(self, report: Report, bar: RichProgress) -> None:
        super().__init__(report)
        self._bar = bar
        self._task = bar.add_task("", total=None, start=False)

    def started(self, event: Started) -> None:
        number = list(_DOING).index(event.step) + 1
        self._bar.reset(
            self._task,
            total=event.total,
            description=f"{number}/{len(_DOING)} {_DOING[event.step]}",
        )

    def moved(self, event: Progress) -> None:
        self._bar.update(self._task, completed=event.done)

    def finished(self, event: Finished) -> None:
        self._bar.update(self._task, completed=event.done)
        self._bar.refresh()
        if event.step != "put":
            self._bar.console.print(_summary(event), markup=False, highlight=False)


@contextmanager
def _bar(*, color: bool) -> Iterator[RichProgress]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, no_color=not color, force_terminal=True)
    columns = _columns(narrow=console.width < _NARROW)
    with Progress(*columns, console=console, transient=True, refresh_per_second=10) as bar:
        yield bar


def _columns(*, narrow: bool = False) -> tuple[ProgressColumn, ...]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    step = TextColumn("{task.description}", markup=False)
    left = TimeRemainingColumn(compact=True)
    if narrow:
        return step, DownloadColumn(), left
    return step, BarColumn(), DownloadColumn(), TransferSpeedColumn(), left
