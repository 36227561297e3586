"""The live display on a terminal: one line per step, removed when the command ends.

A thread draws it ten times a second, unless the process is in the background. Lines are narrower
than the terminal, so they never wrap. The first line is blank: as a window becomes narrower, the
terminal may wrap the one wide line, and Rich then leaves the first line of the old frame behind.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from rich import progress
from rich.console import Console, Group
from rich.constrain import Constrain
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Column
from rich.text import Text

from e2b_upload import events
from e2b_upload.cli.notices import WORDS, Notices, entries
from e2b_upload.cli.report import SIGNALS
from e2b_upload.cli.streams import STDERR
from e2b_upload.cli.units import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from e2b_upload.cli.report import Report

_SECONDS_A_FRAME = 0.1
_SPEED_SECONDS = 10  # the speed is an average over this time
_WIDEST = 100  # columns
_WIDE = 60  # columns: there is room for all figures


class Display(Notices):
    """Shows each of the expected steps on a line, and notices above them."""

    def __init__(self, report: Report, steps: Sequence[events.Step]) -> None:
        super().__init__(report)
        self._console = Console(
            stderr=True,
            force_terminal=True,  # the caller has checked that
            color_system="auto" if report.color else None,
            no_color=not report.color,
            # Rich prefers COLUMNS to the size of the window, which may have changed since.
            _environ={k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}},
        )
        # It is disabled because it would draw at any time and from any thread.
        self._bars = progress.Progress(disable=True, speed_estimate_period=_SPEED_SECONDS)
        self._tasks = {
            step: self._bars.add_task(WORDS[step][0], start=False, total=None, state="to do")
            for step in steps
        }
        self._retry: tuple[str, float] | None = None  # which attempt, and when it begins
        self._live: Live | None = None
        # Of two threads that draw at once, Rich leaves one's frame on the screen.
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._keep_drawing, name="display", daemon=True)
        self._ended = threading.Event()
        self._on_suspend = signal.getsignal(signal.SIGTSTP)
        self._suspend: Literal["no", "requested", "ready"] = "no"

    def start(self) -> None:
        """Start to draw; a command that ends before the first frame shows nothing."""
        self.report.alone = self._lock
        if self._on_suspend is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._suspended)
        with suppress(RuntimeError):  # cannot start another thread
            self._thread.start()

    def stop(self) -> None:
        """Remove the display, and restore the cursor and ^Z."""
        self._ended.set()
        try:
            with self._lock:
                self._remove()
        finally:
            signal.signal(signal.SIGTSTP, self._on_suspend)

    def _keep_drawing(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they interrupt the main thread
        while not self._ended.wait(_SECONDS_A_FRAME):
            with self._lock:
                if self._suspend == "requested":
                    self._remove()
                    self._suspend = "ready"
                    os.kill(os.getpid(), signal.SIGTSTP)
                elif not _in_foreground():
                    self._remove()
                elif self._suspend == "no" and not self._ended.is_set():
                    self.draw()

    def _suspended(self, signum: int, frame: FrameType | None) -> None:
        """Let the drawing thread remove the display and send ^Z again; then stop the process."""
        del frame
        if self._suspend == "no" and self._thread.is_alive():
            self._suspend = "requested"  # this thread may be in the middle of printing
        else:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
            signal.signal(signum, self._suspended)  # the process was continued
            self._suspend = "no"

    def draw(self) -> None:
        """Draw a frame."""
        for task in self._bars.task_ids:
            self._bars.advance(task, 0)  # lowers the speed while nothing moves
        if self._live is None:  # one that was stopped cannot be started again
            self._live = Live(
                get_renderable=lambda: Group(Text(), *self._rows()),
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,  # it carries the result
            )
            self._live.start()
        self._live.refresh()

    def _remove(self) -> None:
        live, self._live = self._live, None
        if live:
            try:
                live.stop()
            finally:
                self._console.show_cursor()

    def _rows(self) -> Iterator[Constrain]:
        width = max(1, min(self._console.width - 1, _WIDEST))
        for task in self._bars.tasks:
            self._bars.columns = tuple(self._columns(task, wide=width >= _WIDE - 1))
            yield Constrain(self._bars.make_tasks_table([task]), width)
        if retry := self._retry:
            seconds = max(math.ceil(retry[1] - time.monotonic()), 0)
            wait = f"{seconds} s" if seconds < 60 else duration(seconds)  # noqa: PLR2004
            yield Constrain(Text(f"! {retry[0]} in {wait}", "bold yellow"), width)

    def _columns(self, task: progress.Task, *, wide: bool) -> list[str | progress.ProgressColumn]:
        """Return the columns that suit the state of a step and the width of the terminal."""
        state, cell = task.fields["state"], Column(no_wrap=True)
        if state == "to do":
            return ["[dim]  {task.description:9}"]
        ascii_only = self._console.options.ascii_only
        spinner = progress.RenderableColumn(Spinner("line" if ascii_only else "dots", style="cyan"))
        columns: list[str | progress.ProgressColumn] = [spinner, "[bold]{task.description:9}"]
        if state == "done":
            columns = ["[green]+" if ascii_only else "[green]✓", "{task.description:9}"]
        if state == "done" or task.total is None:
            right = Column(no_wrap=True, min_width=9, justify="right")
            columns += [progress.FileSizeColumn(right), "{task.fields[entries]:>13}"]
            return [*columns, *["{task.fields[took]:>9}"] * (wide and state == "done")]
        complete = task.id == self._tasks.get("put") and task.remaining == 0 and not self._retry
        if wide or not complete:
            columns.append(progress.BarColumn(None, "bright_black", "cyan", "cyan"))
        columns.append("{task.percentage:>3.0f}%")
        if complete:
            return [*columns, "waiting for the server"]
        if wide:
            columns.append(progress.DownloadColumn(table_column=cell))
        if task.speed:
            left = progress.TimeRemainingColumn(compact=True, table_column=cell)
            columns += [progress.TransferSpeedColumn(cell), left, *["left"] * wide]
        return columns

    def __call__(self, event: events.Event) -> None:
        """Record what the next frame shows, and print notices."""
        match event:
            case events.Started(step=step):
                task, self._retry = self._tasks[step], None
                self._bars.reset(task, total=event.total, completed=event.done)
                self._bars.update(task, description=WORDS[step][1], state="doing", entries="")
                self._bars.advance(task, 0)  # the speed counts from here
            case events.Progress(step=step, done=done, entries=count):
                self._bars.update(self._tasks[step], completed=done, entries=entries(count))
            case events.Finished(step=step):
                self._bars.update(
                    self._tasks[step],
                    completed=event.result or event.done,
                    description=WORDS[step][2],
                    state="done",
                    entries=entries(event.entries) if event.entries else "",
                    took=duration(event.seconds),
                )
            case events.Retrying(attempt=attempt, attempts=attempts, seconds=seconds):
                self._retry = f"attempt {attempt} of {attempts}", time.monotonic() + seconds
                if (put := self._tasks.get("put")) is not None:  # its speed is no longer true
                    self._bars.reset(put, completed=int(self._bars.tasks[put].completed))
        super().__call__(event)


def _in_foreground() -> bool:
    with suppress(OSError):  # there is no job control
        return os.tcgetpgrp(STDERR) == os.getpgrp()
    return True
