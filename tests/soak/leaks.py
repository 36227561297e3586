"""What a process holds, before and after."""

import ctypes
import gc
import os
import threading
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

MIB: Final = 1 << 20
# A thread that looks a name up may outlive the put that wanted it.
_PATIENCE: Final = 20


class Held(NamedTuple):
    """What a process holds; memory in bytes."""

    descriptors: dict[int, str]
    threads: frozenset[str]
    memory: int

    def more_than(self, before: "Held") -> Iterator[str]:
        """Say what is held that was not."""
        new = self.descriptors.items() - before.descriptors.items()
        gone = before.descriptors.items() - self.descriptors.items()
        if new or gone:
            yield f"descriptors: {sorted(new)} more, {sorted(gone)} fewer"
        if threads := self.threads - before.threads:
            yield f"threads: {sorted(threads)}"


def held() -> Held:
    """Look at this process."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, so that the rest is in use
    return Held(
        dict(_descriptors()),
        frozenset(f"{thread.name} ({thread.ident})" for thread in threading.enumerate()),
        _memory(),
    )


def held_at_rest(before: Held) -> Held:
    """Look at this process when it holds no more than before, or when waiting has no use."""
    deadline = time.monotonic() + _PATIENCE
    while any((now := held()).more_than(before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return now


def _descriptors() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc/self/fd"):
        try:
            yield int(name), os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # that of the folder itself


def _memory() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
