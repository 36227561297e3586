"""As many attempts as it takes, and the waits between them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from e2b_upload.events import Retrying
from e2b_upload.transfer.deadline import Carried
from e2b_upload.transfer.receipt import DamagedError
from e2b_upload.transfer.retry import seconds_to_wait

if TYPE_CHECKING:
    from e2b_upload.errors import UploadError
    from e2b_upload.events import OnEvent
    from e2b_upload.transfer.deadline import Deadline
    from e2b_upload.transfer.retry import Patience


class Attempts:
    """How many there were, and whether there is to be another.

    Args:
        patience: how many there may be.
        deadline: of all of them.
        on_event: told of each further one.

    Attributes:
        count: the number of the one that is under way; the first is 1.
    """

    def __init__(self, patience: Patience, deadline: Deadline, on_event: OnEvent) -> None:
        self._patience = patience
        self._deadline = deadline
        self._on_event = on_event
        self._damaged = 0
        self.count = 1

    def wait(self, error: UploadError) -> None:
        """Wait until the next attempt, or raise what this one came to.

        Raises:
            UploadError: the one that is given, where there is to be no other attempt.
            AbandonedError: it was cancelled while it waited.
        """
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
            error.hint = f"--max-time leaves no time for another attempt. {error.hint}"
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
