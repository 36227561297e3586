"""Signals: the first one stops the work in order, a second one ends the process at once."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from e2b_upload.cli.report import SIGNALS
from e2b_upload.cli.streams import STDERR
from e2b_upload.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from e2b_upload.cli.report import Report

GRACE_SECONDS = 0.6
SHOW_CURSOR = b"\x1b[?25h"


@contextmanager
def handled_signals(
    report: Report, afterwards: Callable[[int, FrameType | None], object] | None
) -> Iterator[None]:
    """Turn the first signal into an exception: all is closed on the way out."""
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        del frame
        if not stopping:  # else it is the last resort's
            stopping = True
            raise Interrupted(signum)

    # One that is ignored stays so: nohup, and the shell's & in scripts.
    before = {
        number: signal.signal(number, stop)
        for number in SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        with _last_resort(report):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if afterwards is None else afterwards)


@contextmanager
def _last_resort(report: Report) -> Iterator[None]:
    """End the process a moment after a signal, where the exception does not, or at a second one.

    Python runs a handler between two steps of the main thread. A name that is being looked up is
    one step, an exception between taking a lock and holding it (CPython #74174) leaves
    everybody waiting; a signal just before a call that waits is not seen until it returns; nobody
    may read what is said. The interpreter's own handler in C writes to a pipe all the same.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # as signal.set_wakeup_fd asks for

    def asked(patience: float | None = None) -> int | None:
        """Return the next signal that asks to stop, 0 at the end, None where none comes."""
        while select.select([reading], [], [], patience)[0]:
            if (number := os.read(reading, 1)[0]) in {0, *SIGNALS}:
                return number
        return None

    def watch() -> None:
        if not (first := asked()):
            return
        second = asked(GRACE_SECONDS)
        if second is None:
            # It may be for somebody to read its words that it waits.
            telling = threading.Thread(target=report.failed, args=[Interrupted(first)], daemon=True)
            with suppress(RuntimeError):  # the system has no thread for it
                telling.start()
                telling.join(GRACE_SECONDS / 2)
            end_at_once(128 + first)
        if second:
            report.last_word(Interrupted(second), patience=GRACE_SECONDS / 2)
            end_at_once(128 + second)

    watching = threading.Thread(target=watch, name="last resort", daemon=True)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    with suppress(RuntimeError):  # the system has no thread for it
        watching.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writing, b"\0")
        if watching.ident is not None:
            watching.join()
        os.close(writing)
        os.close(reading)


def end_at_once(code: int) -> NoReturn:
    """End at once: the spool has no name, so nothing is left."""
    try:
        if os.isatty(STDERR):
            os.write(STDERR, SHOW_CURSOR)  # a bar hides it
    finally:
        os._exit(code)
