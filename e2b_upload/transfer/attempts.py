"""The loop that sends requests: attempts, the waits between them, and the deadline of all."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from e2b_upload.errors import UploadError
from e2b_upload.events import Retrying
from e2b_upload.transfer.deadline import Carried, Deadline
from e2b_upload.transfer.exchange import exchange
from e2b_upload.transfer.receipt import DamagedError
from e2b_upload.transfer.retry import seconds_to_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from e2b_upload.events import OnEvent
    from e2b_upload.transfer.answer import Answer
    from e2b_upload.transfer.exchange import Request
    from e2b_upload.transfer.retry import Patience

Result = TypeVar("Result")
Plan: TypeAlias = "Generator[Request, Answer, Result]"
"""One attempt: yields requests, is sent the answer to each, and returns the result or raises."""


def ignore_failure(error: UploadError) -> None:
    """Do nothing about an attempt that failed."""
    del error


class Attempts:
    """Runs a plan until it succeeds, fails for good, or has used up its attempts or its time.

    Args:
        patience: retries and timeouts.
        what: what is to be done before the deadline, for the message.
        on_event: called before each retry.

    Attributes:
        count: the number of the current attempt; the first is 1.
    """

    def __init__(self, patience: Patience, what: str, on_event: OnEvent) -> None:
        self._patience = patience
        self._deadline = Deadline(patience.max_time, what)
        self._on_event = on_event
        self._damaged = 0
        self.count = 1

    def run(
        self,
        plan: Callable[[], Plan[Result]],
        on_failure: Callable[[UploadError], None] = ignore_failure,
    ) -> Result:
        """Return the result of the first attempt that succeeds.

        Args:
            plan: begins an attempt.
            on_failure: called with the error of each attempt that fails, before the retry.

        Raises:
            UploadError: the error of the last attempt.
            AbandonedError: it was cancelled.
        """
        while True:
            try:
                return self._run(plan())
            except Carried as carried:
                raise carried.error from None
            except UploadError as error:
                on_failure(error)
                self._wait(error)

    def _run(self, plan: Plan[Result]) -> Result:
        try:
            request = next(plan)
            while True:
                request = plan.send(exchange(request, self._patience, self._deadline))
        except StopIteration as end:
            result: Result = end.value
            return result

    def _wait(self, error: UploadError) -> None:
        """Wait until the next attempt, or raise the error if there is to be none."""
        self._damaged += isinstance(error, DamagedError)
        seconds = seconds_to_wait(
            error,
            attempts=self.count,
            damaged=self._damaged,
            retries=self._patience.retries,
            jitter=random.random(),  # noqa: S311  (to spread clients out, not to keep a secret)
        )
        if seconds is not None and not self._deadline.allows(seconds):
            seconds = None
            error.hint = f"`max_time` leaves no time for another attempt. {error.hint}"
        if seconds is None:
            if self.count > 1:
                error.hint = f"Tried {self.count} times. {error.hint}"
            raise error
        self.count += 1
        self._on_event(
            Retrying(
                attempt=self.count,
                # What is damaged is sent once more, and no more.
                attempts=self.count
                if isinstance(error, DamagedError)
                else self._patience.retries + 1,
                seconds=seconds,
                reason=error.message,
            )
        )
        try:
            self._deadline.sleep(seconds)
        except Carried as carried:
            raise carried.error from None
