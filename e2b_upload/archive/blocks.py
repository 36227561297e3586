"""Full blocks are encoded by several threads and written, in order, by one more.

The thread that reads files fills a block and gives it away; it never waits for compression,
digests or the disk until all blocks are under way. There are as many blocks as threads and two,
so memory does not depend on the archive.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

from e2b_upload.archive.deflate import NOTHING, WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from types import TracebackType

    from e2b_upload.archive.deflate import Buffer, Codec, Encoded

# Large enough that a sync flush (5 bytes) and a 32 KiB window to prime cost nothing, small enough
# that two threads and four blocks are 4 MiB.
BLOCK_BYTES = 1024 * 1024
# One thread reads what all compress, so there is an end to how many it can keep busy; each more
# holds another block. ISA-L's level 2 took some 515 MB/s a core of a large binary here.
MAX_THREADS = 4


def default_threads() -> int:
    """Return how many threads compress: the cores this process may use, four at most."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, MAX_THREADS)


class BlockWriter:
    """What the archive's bytes are written to, in pieces of any size or read straight into it.

    Used as a context manager: leaving it normally writes what is left and the archive's end,
    leaving it with an exception stops all threads and writes no more.

    Args:
        codec: how a block is encoded.
        write: takes the archive's bytes in order; called by one thread at a time.
        threads: how many encode.
        on_block: called by the filling thread whenever a block was given away.
    """

    def __init__(
        self,
        codec: Codec,
        write: Callable[[Buffer], None],
        *,
        threads: int,
        on_block: Callable[[], None],
    ) -> None:
        self._codec = codec
        self._write = write
        self._on_block = on_block
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        for _ in range(threads + 2):
            self._free.put(bytearray(BLOCK_BYTES))
        self._given: SimpleQueue[tuple[Future[Encoded], bytearray] | None] = SimpleQueue()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="deflate")
        self._writer = threading.Thread(target=self._write_in_order, name="spool", daemon=True)
        # Not Thread.join(): one that a signal interrupts takes the thread for ended (bpo-45274).
        self._written = threading.Event()
        self._failure: BaseException | None = None
        self._whole = NOTHING
        self._window = b""
        self._filled = 0
        self._block = self._free.get()
        self._view = memoryview(self._block)

    def __enter__(self) -> Self:
        self._write(self._codec.head)
        self._writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del kind, traceback
        self._failure = self._failure or error
        try:
            if error is None and self._filled:
                self._give()
        finally:
            self._given.put(None)
            try:
                self._wait_for_writer()
            finally:
                self._pool.shutdown(cancel_futures=True)
        if error is None:
            self._raise_failure()
            self._write(self._codec.tail(self._whole))

    def _wait_for_writer(self) -> None:
        """Wait until nothing is written any more: the descriptor's owner will close it next."""
        try:
            self._written.wait()
        except BaseException as interruption:
            self._failure = self._failure or interruption
            self._written.wait()
            raise
        finally:
            self._writer.join()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        size = len(data)
        end = self._filled + size
        if end < BLOCK_BYTES:
            self._block[self._filled : end] = data
            self._filled = end
            return
        for start in range(0, size, BLOCK_BYTES):
            part = data[start : start + BLOCK_BYTES]
            room = BLOCK_BYTES - self._filled
            self._append(part[:room])
            self._append(part[room:])

    def room(self, most: int) -> memoryview:
        """Return where up to ``most`` bytes go next, to be read into: at least one."""
        return self._view[self._filled : self._filled + most]

    def advance(self, count: int) -> None:
        """Append the first ``count`` bytes of what :meth:`room` returned."""
        self._filled += count
        if self._filled == BLOCK_BYTES:
            self._give()
            self._take()

    def _append(self, part: bytes) -> None:
        self._block[self._filled : self._filled + len(part)] = part
        self.advance(len(part))

    def _take(self) -> None:
        self._block = self._free.get()
        self._raise_failure()
        self._view = memoryview(self._block)
        self._filled = 0

    def _give(self) -> None:
        content = self._view[: self._filled]
        future = self._pool.submit(self._codec.encode, content, self._window)
        self._window = bytes(content[-WINDOW:])
        self._given.put((future, self._block))
        self._on_block()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write_in_order(self) -> None:
        """Write the blocks as they were given; after a failure take them back unwritten."""
        while (given := self._given.get()) is not None:
            future, block = given
            try:
                encoded = future.result()
                if self._failure is None:
                    self._write(encoded.data)
                    self._whole = self._codec.combine(self._whole, encoded)
            except BaseException as error:  # noqa: BLE001  (raised again by the filling thread)
                self._failure = self._failure or error
            self._free.put(block)
        self._written.set()
