"""The live display on a terminal: one picture of all steps, which vanishes when they are done.

A thread draws it anew ten times a second; who works only notes how far it is.
No row is as wide as the terminal, so that none wraps. The first row is empty: where a terminal that
becomes narrower breaks the widest row in two, one row of the old picture stays behind above the new
one, and this is the one that nobody sees.

In the background nothing is drawn: the terminal is the shell's then. Before ^Z stops the process,
the picture is taken away and the cursor shown.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from rich.cells import cell_len
from rich.console import Console
from rich.filesize import pick_unit_and_suffix
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from e2b_upload.cli.report import SIGNALS
from e2b_upload.cli.streams import STDERR
from e2b_upload.cli.units import duration, size
from e2b_upload.cli.watcher import Watcher, entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from rich.console import ConsoleOptions, RenderResult

    from e2b_upload.cli.report import Report
    from e2b_upload.events import Finished, Progress, Retrying, Started, Step

_FRAMES_A_SECOND = 10
_FRAMES_OF_RATE = 100  # so much of the past counts for the speed: it neither jumps nor lags behind
_WIDEST = 100  # columns: a longer bar tells no more, and the eye has further to go
_WIDE = 60  # columns: from here on there is room to be generous
_TINY = 30  # columns: below, there is room for next to nothing
_SHORTEST_BAR = 5
_ROWS_OF_REASON = 2
_MINUTE = 60
_WORDS: dict[Step, tuple[str, str, str]] = {
    "collect": ("count", "counting", "counted"),
    "hash": ("hash", "hashing", "hashed"),
    "pack": ("pack", "packing", "packed"),
    "put": ("upload", "uploading", "uploaded"),
}
_TO_WAIT = "waiting"
_WORD = max(len(word) for words in _WORDS.values() for word in words)
_SPINNER, _ASCII_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"
_DONE, _ASCII_DONE = "✓", "+"
_WAITING = "!"
_UNITS = ["bytes", "kB", "MB", "GB", "TB", "PB"]
_PRECISION = {"bytes": 0, "kB": 1, "MB": 1}  # digits after the point; 2 for what is larger

Sample: TypeAlias = tuple[float, int]


@dataclass(kw_only=True)
class _Step:
    """How far a step is.

    Attributes:
        started: whether it has begun.
        total: bytes that there will be, or None.
        done: bytes so far.
        entries: files, folders and links so far.
        finished: what came of it.
        samples: when how many bytes were done, one a frame.
    """

    started: bool = False
    total: int | None = None
    done: int = 0
    entries: int = 0
    finished: Finished | None = None
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=_FRAMES_OF_RATE))

    def rate(self, now: float) -> float:
        """Note how far it is now; return bytes a second, of late."""
        self.samples.append((now, self.done))
        then, before = self.samples[0]
        return (self.done - before) / (now - then) if now > then else 0.0


class Display(Watcher):
    """Shows each step in a row or two: what came of it, how far it is, or what it waits for.

    Args:
        report: where warnings go; they are printed above.
        steps: those that there will be, as far as that is known.
    """

    def __init__(self, report: Report, steps: Sequence[Step]) -> None:
        super().__init__(report)
        self._steps = {step: _Step() for step in steps}
        self._retry: Retrying | None = None
        self._target = ""
        self._attempt = ""
        self._others_go_on = False  # while one COPY waits for another attempt
        self._until = 0.0
        self._console = Console(
            stderr=True,
            # That there is a terminal was decided before, by more than Rich looks at.
            force_terminal=True,
            force_interactive=True,
            color_system="auto" if report.color else None,
            no_color=not report.color,
            soft_wrap=True,  # the words above are the terminal's to wrap: a path stays in one piece
        )
        self._alone = threading.RLock()
        self._live: Live | None = None
        self._drawing = threading.Thread(target=self._keep_drawing, name="display", daemon=True)
        self._ended = threading.Event()
        self._suspend: Literal["no", "asked", "ready"] = "no"

    def start(self) -> None:
        """Begin to draw; what takes less than a frame is not seen to flash up."""
        # Words are drawn with a frame below them. Where another one is drawn meanwhile, neither
        # takes the other away: Rich looks how high the last one is, and is alone only for that.
        self.report.alone = self._alone
        self._on_suspend = signal.getsignal(signal.SIGTSTP)
        if self._on_suspend is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._suspended)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they are for who works
        try:
            with suppress(RuntimeError):  # the system has no thread for it
                self._drawing.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self) -> None:
        """Take the picture away, and leave the cursor and ^Z as they were."""
        self._ended.set()
        try:
            with self._alone:
                self._take_away()
        finally:
            if self._on_suspend is signal.SIG_DFL:
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            self._tell_retry()

    def _keep_drawing(self) -> None:
        while not self._ended.wait(1 / _FRAMES_A_SECOND):
            with self._alone:
                if self._ended.is_set():
                    return
                if self._suspend == "asked":
                    self._take_away()
                    self._suspend = "ready"
                    os.kill(os.getpid(), signal.SIGTSTP)
                elif not _in_front():
                    self._take_away()
                elif self._suspend == "no":
                    self._draw()

    def _draw(self) -> None:
        if self._live is None:
            self._live = Live(
                get_renderable=self._frame,
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,  # it is for what was asked for
            )
            self._live.start()
        self._live.refresh()

    def _take_away(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            finally:
                self._console.show_cursor()

    def _suspended(self, signum: int, frame: FrameType | None) -> None:
        """Stop the process, as ^Z asks, once the picture is gone; at a second ^Z at once.

        A handler runs between any two steps of the main thread, which may be about to say
        something: it is the thread that draws that takes the picture away.
        """
        del frame
        if self._suspend == "no" and self._drawing.is_alive():
            self._suspend = "asked"
            return
        signal.signal(signum, signal.SIG_DFL)
        signal.raise_signal(signum)
        signal.signal(signum, self._suspended)  # it was continued
        self._suspend = "no"

    def started(self, event: Started) -> None:
        """Show a step as going on, from its beginning."""
        self._tell_retry()
        self._target = event.target
        step = self._steps[event.step]
        if event.total != step.total:  # else it is another attempt
            self._attempt = ""
        step = self._steps[event.step] = _Step(started=True, total=event.total, done=event.done)
        # What comes before the first frame counts, too.
        step.samples.append((time.monotonic(), event.done))

    def moved(self, event: Progress) -> None:
        """Note how far a step is."""
        step = self._steps[event.step]
        step.done, step.entries = event.done, event.entries
        if event.step == "put":
            self._others_go_on = self._retry is not None

    def finished(self, event: Finished) -> None:
        """Show what came of a step."""
        step = self._steps[event.step]
        step.done, step.entries, step.finished = event.done, event.entries, event

    def retrying(self, event: Retrying) -> None:
        """Show why there is a wait, and how long it is still."""
        self._attempt = f"attempt {event.attempt} of {event.attempts}"
        self._until = time.monotonic() + event.seconds
        self._retry = event
        self._others_go_on = False

    def _tell_retry(self) -> None:
        """Leave behind why there was another attempt, once that is not to be seen any more."""
        if event := self._retry:
            self._retry = None
            self.report.warn(f"{event.reason} (attempt {event.attempt - 1} of {event.attempts})")

    def _frame(self) -> Display:
        # Rich would believe COLUMNS, which knows nothing of a window that is resized.
        with suppress(OSError):
            columns, lines = os.get_terminal_size(STDERR)
            if columns and lines:
                self._console.size = columns, lines
        return self

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width - 1, _WIDEST)
        rows = [Text(), *self._rows(console, options, width)]
        for row in rows[-max(1, options.size.height - 1) :]:
            row.truncate(width)
            yield row

    def _rows(self, console: Console, options: ConsoleOptions, width: int) -> Iterator[Text]:
        now = time.monotonic()
        wide, ascii_only = width >= _WIDE, options.ascii_only
        margin, gap = ("  ", "   ") if wide else ("", "  " if width >= _TINY else " ")
        beside = width - len(margin) - 2 - _WORD - len(gap)  # a mark, a word
        frames = _ASCII_SPINNER if ascii_only else _SPINNER
        spinning = frames[int(now * _FRAMES_A_SECOND) % len(frames)]
        indent = " " * (width - beside) if wide else "  "
        steps = [*self._steps.items()]
        count = max((len(entries(step.entries)) for _, step in steps), default=0)

        def row(mark: str, style: str, word: str, body: Text | str, word_style: str = "") -> Text:
            return Text.assemble(
                margin, (mark, style), " ", (word.ljust(_WORD), word_style), gap, body
            )

        def waiting(word: str, retry: Retrying) -> Iterator[Text]:
            seconds = math.ceil(max(self._until - now, 0))
            wait = f"in {_clock(seconds)}" if seconds >= _MINUTE else f"in {seconds} s"
            told = f"{self._attempt} {wait}"
            told = told if len(told) <= beside else wait
            yield row(_WAITING, "bold yellow", word, told, "bold")
            reason = retry.reason.replace(f" to {self._target}", "")  # there is no room for it
            lines = Text(_showable(reason, console.encoding)).wrap(console, width - len(indent))
            for line in lines[:_ROWS_OF_REASON]:
                yield Text(indent) + line

        retry = self._retry
        for name, step in steps:
            to_do, doing, done = _WORDS[name]
            found = [size(step.done).rjust(9), entries(step.entries).rjust(count)]
            if not step.started:
                yield row(" ", "", to_do, "", "dim")
            elif result := step.finished:
                if result.result:
                    found[0] = size(result.result).rjust(9)
                if not step.entries:
                    found[1] = " " * count
                took = duration(result.seconds).rjust(8)
                mark = _ASCII_DONE if ascii_only else _DONE
                yield row(mark, "green", done, _fit([*found, took], gap, beside))
            elif step.total is None:
                yield row(spinning, "cyan", doing, _fit(found, gap, beside), "bold")
            elif name == "put" and retry is not None and not self._others_go_on:
                yield from waiting(doing, retry)
                retry = None
            else:
                percent = 100 * min(step.done, step.total) // step.total if step.total else 100
                bar = Text()
                if (length := beside - 6) >= _SHORTEST_BAR:
                    drawn = ProgressBar(
                        step.total, step.done, length, style="bright_black", complete_style="cyan"
                    )
                    bar = Text.assemble(
                        *((part.text, part.style or "") for part in console.render(drawn, options))
                    )
                    bar.pad_right(length - bar.cell_len + 2)
                yield row(spinning, "cyan", doing, bar.append(f"{percent:3d}%"), "bold")
                yield Text(indent + _fit(self._figures(step, name, now), gap, width - len(indent)))
        if retry is not None:  # E2B is asked again, or one COPY is put again while others go on
            yield from waiting(_TO_WAIT, retry)

    def _figures(self, step: _Step, name: Step, now: float) -> list[str]:
        """Return what is known of a step that is going on, the most important first."""
        rate = step.rate(now)
        total = step.total or 0
        figures = [_share(step.done, total)]
        if name == "put" and step.done >= total:
            figures.append("waiting for the answer")
        else:
            left = _clock(math.ceil(max(total - step.done, 0) / rate)) if rate else "-:--"
            figures += [f"{size(int(rate))}/s".rjust(10), f"{left} left"]
        if name == "put":
            figures += [self._attempt] if not self._retry else []
        else:
            figures.append(entries(step.entries))
        return figures


def _in_front() -> bool:
    """Whether the terminal is this process's to draw on, not the shell's."""
    try:
        return os.tcgetpgrp(STDERR) == os.getpgrp()
    except OSError:  # no shell controls jobs from there
        return True


def _fit(parts: list[str], gap: str, width: int) -> str:
    """Return as many parts, from the first, as there is room for."""
    text = parts[0] if len(parts[0]) <= width else parts[0].lstrip()
    for part in parts[1:]:
        if cell_len(text + gap + part.rstrip()) > width:
            break
        text += gap + part
    return text.rstrip()


def _share(done: int, total: int) -> str:
    """Return how much of how much, in the unit of the whole: ``12.3/45.6 MB``."""
    unit, suffix = pick_unit_and_suffix(total, _UNITS, 1000)
    digits = _PRECISION.get(suffix, 2)
    whole = f"{total / unit:,.{digits}f}"
    return f"{f'{done / unit:,.{digits}f}'.rjust(len(whole))}/{whole} {suffix}"


def _clock(seconds: int) -> str:
    """Return seconds as a clock shows them: ``0:07``, ``12:34``, ``1:02:03``."""
    minutes, rest = divmod(seconds, _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _showable(text: str, encoding: str) -> str:
    """Return text as a stream of that encoding shows it: as wide as it will be."""
    return text.encode(encoding, "backslashreplace").decode(encoding)
