"""Until when a put may take, and whether anybody still wants it."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING

from e2b_upload.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# How long a call may wait before it looks whether it should go on.
SLICE_SECONDS = 0.25

_cancelled: ContextVar[Event | None] = ContextVar("cancelled", default=None)


@contextmanager
def cancelled_by(event: Event) -> Iterator[None]:
    """Let an event that is set cancel every upload and request that begins within the block.

    It is a context variable: a thread that is to obey it needs a copy of the context.
    """
    token = _cancelled.set(event)
    try:
        yield
    finally:
        _cancelled.reset(token)


def cancellation() -> Event:
    """Return the event that cancels what begins now; a new one outside of such a block."""
    return _cancelled.get() or Event()


class Carried(BaseException):
    """Carries an exception past requests and urllib3, which take an OSError for the network's."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class AbandonedError(Exception):
    """Nobody wants the result any more."""


class Deadline:
    """Asked by everything that waits, several times a second.

    Args:
        seconds: from now on; None for any time.
        what: is to be done by then, for the message.
    """

    def __init__(self, seconds: float | None, what: str) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self._cancelled = cancellation()
        self._what = what

    def slice(self, until: float) -> float:
        """Return how long to wait until it is time to look up, of a wait that ends at ``until``.

        Args:
            until: on the monotonic clock, in seconds.

        Raises:
            Carried: as :meth:`left`.
        """
        return min(self.left(until), SLICE_SECONDS)

    def left(self, until: float) -> float:
        """Return how long to wait now, at most, of a wait that ends at ``until``.

        Args:
            until: on the monotonic clock, in seconds.

        Raises:
            Carried: with the error that ends the put: it is cancelled, or its time is up.
        """
        if self._cancelled.is_set():
            raise Carried(AbandonedError())
        if self._end is None and until == math.inf:
            return until
        now = time.monotonic()
        if self._end is not None and now >= self._end:
            raise Carried(
                UnavailableError(
                    f"{self._what} was not done in {self._seconds:g} seconds",
                    hint="Allow more with `max_time`, or send less.",
                )
            )
        end = until if self._end is None else min(until, self._end)
        # Never 0, which would mean not to wait at all.
        return max(end - now, 0.001)

    def allows(self, seconds: float) -> bool:
        """Whether there is more time left than so much."""
        return self._end is None or time.monotonic() + seconds < self._end

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._cancelled.wait(self.slice(until))

    def call(self, work: Callable[[], None], undo: Callable[[], None]) -> None:
        """Do what the system may take any time for, such as looking a name up.

        It goes on by itself in its own thread where it is not waited for any more.

        Args:
            work: is done once.
            undo: is done after it, once or twice, where nobody waited to its end.
        """
        outcome: SimpleQueue[BaseException | None] = SimpleQueue()
        abandoned = Event()

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  (raised again by who waits)
                outcome.put(error)
            else:
                outcome.put(None)
            if abandoned.is_set():
                undo()

        try:
            Thread(target=run, name="connect", daemon=True).start()
        except RuntimeError:  # the system has no thread for it
            run()
        try:
            error = self._wait(outcome)
        except BaseException:
            abandoned.set()
            if not outcome.empty():  # it may have looked before
                undo()
            raise
        if error is not None:
            raise error

    def _wait(self, outcome: SimpleQueue[BaseException | None]) -> BaseException | None:
        while True:
            try:
                return outcome.get(timeout=self.slice(time.monotonic() + SLICE_SECONDS))
            except Empty:
                continue
