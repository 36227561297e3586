"""Somebody whom permissions or limits hold back, also where the tests run as root."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

_NOBODY: Final = 65_534


def give_away(path: str) -> None:
    """Make a file that other user's own."""
    if os.geteuid() == 0:
        os.chown(path, _NOBODY, _NOBODY)


@contextmanager
def another_user() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(_NOBODY, _NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def refuse_threads_after(count: int, patch: pytest.MonkeyPatch) -> None:
    """Make a system that gives a user so many threads and no more, as its limits may say."""
    start = threading.Thread.start
    left = iter(range(count))

    def limited(self: threading.Thread) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(self)

    patch.setattr(threading.Thread, "start", limited)
