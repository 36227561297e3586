"""Threads that begin together, and that nothing outlives."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from e2b_upload.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Worker(threading.Thread):
    """A thread that tells when it has ended.

    Not :meth:`threading.Thread.join`: one that a signal interrupts takes the thread for ended
    (bpo-45274).

    Args:
        target: what it does.
        name: what it is called.
    """

    def __init__(self, target: Callable[[], None], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self.ended = threading.Event()

    def start(self) -> None:
        """Begin.

        Raises:
            SpoolError: the system has no thread for it.
        """
        try:
            super().start()
        except RuntimeError as error:
            raise SpoolError(
                "the system starts no more threads",
                hint="Allow more processes (ulimit -u) or memory, or fewer `threads`.",
            ) from error

    def run(self) -> None:
        """Do it."""
        try:
            super().run()
        finally:
            self.ended.set()


def wait_for(workers: Iterable[Worker]) -> None:
    """Wait until all that were started have ended, also where an exception interrupts that."""
    interruption: BaseException | None = None
    for worker in workers:
        if worker.ident is None:  # the system had no thread for it
            continue
        try:
            worker.ended.wait()
        except BaseException as error:  # noqa: BLE001  (raised again below)
            interruption = interruption or error
            worker.ended.wait()
        worker.join()
    if interruption is not None:
        raise interruption
