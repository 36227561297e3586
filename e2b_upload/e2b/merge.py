"""The events of several COPYs that are on their way at once, told as those of one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from e2b_upload.events import Finished, Progress, Started
from e2b_upload.transfer.deadline import AbandonedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from e2b_upload.events import Event, OnEvent, Step


@dataclass(slots=True)
class _Part:
    """How far one COPY is in one step."""

    total: int | None = None
    done: int = 0
    entries: int = 0
    seconds: float = 0.0
    result: int = 0
    through: bool = False


class Merged:
    """Sums up what the COPYs tell, each in its thread.

    A step begins again, with a larger total and what is done of it, when another COPY comes to it,
    and is finished when all are through it: those as well that have no need of it.

    Args:
        count: how many COPYs there are.
        on_event: told of it all, one event at a time.
        cancelled: once set, whoever tells something is stopped.
    """

    def __init__(self, count: int, on_event: OnEvent, cancelled: threading.Event) -> None:
        self._on_event = on_event
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._parts: dict[Step, list[_Part]] = {
            step: [_Part() for _ in range(count)] for step in ("hash", "pack", "put")
        }
        self._begun: set[Step] = set()

    def of(self, number: int) -> OnEvent:
        """Return the callback of one COPY."""
        return lambda event: self.tell(event, number)

    def tell(self, event: Event, number: int | None = None) -> None:
        """Tell what happened to one COPY, or what is no COPY's.

        Raises:
            AbandonedError: nobody wants the result any more.
        """
        with self._lock:
            if self._cancelled.is_set():
                raise AbandonedError
            merged = event if number is None else self._merge(number, event)
            if merged is not None:
                self._on_event(merged)

    def skip(self, number: int, steps: Iterable[Step]) -> None:
        """Take note that a COPY has no need of some steps."""
        with self._lock:
            for step in steps:
                self._parts[step][number].through = True
                if step in self._begun and (finished := self._finished(step)) is not None:
                    self._on_event(finished)

    def _merge(self, number: int, event: Event) -> Event | None:
        match event:
            case Started(step=step, total=total):
                self._begun.add(step)
                self._parts[step][number] = _Part(total=total)
                totals = [part.total for part in self._parts[step] if part.total is not None]
                total = sum(totals) if totals else None
                return replace(event, total=total, done=self._done(step))
            case Progress(step=step, done=done, entries=entries):
                part = self._parts[step][number]
                part.done, part.entries = done, entries
                return Progress(step=step, done=self._done(step), entries=self._entries(step))
            case Finished(step=step):
                part = self._parts[step][number]
                part.done, part.entries = event.done, event.entries
                part.seconds, part.result = event.seconds, event.result
                part.through = True
                return self._finished(step)
        return event

    def _finished(self, step: Step) -> Finished | None:
        parts = self._parts[step]
        if not all(part.through for part in parts):
            return None
        return Finished(
            step=step,
            done=self._done(step),
            entries=self._entries(step),
            seconds=sum(part.seconds for part in parts),
            result=sum(part.result for part in parts),
        )

    def _done(self, step: Step) -> int:
        return sum(part.done for part in self._parts[step])

    def _entries(self, step: Step) -> int:
        return sum(part.entries for part in self._parts[step])
