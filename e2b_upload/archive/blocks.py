"""Full blocks are encoded by several threads, and written in order by the thread that fills them.

Everything that is written passes through the thread that reads the files: it fills a block, gives
it away, and writes what the others have ready by then. The others do nothing but encode: each time
one of them comes back from a call into a library it waits for the interpreter's lock, so the fewer
calls the better. There is a fixed number of blocks, so memory does not depend on the archive.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Self

from e2b_upload.archive.deflate import NOTHING, WINDOW
from e2b_upload.archive.threads import Worker, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from e2b_upload.archive.deflate import Buffer, Codec, Encoded

# The larger, the fewer calls; small enough that those of one thread are 6 MiB. Half of it took some
# 5% more time here.
BLOCK_BYTES = 2 * 1024 * 1024


class _Job:
    """A block that was given away: what to encode, and what came of it."""

    __slots__ = ("block", "content", "outcome", "window")

    def __init__(self, block: bytearray, content: memoryview, window: bytes) -> None:
        self.block = block
        self.content = content
        self.window = window
        self.outcome: SimpleQueue[Encoded | BaseException] = SimpleQueue()


class BlockWriter:
    """What the archive's bytes are written to, in pieces of any size or read straight into it.

    Used as a context manager: leaving it normally writes what is left and the archive's end,
    leaving it with an exception stops all threads and writes no more.

    Args:
        codec: how a block is encoded.
        write: takes the archive's bytes in order; called by the thread that uses this.
        threads: how many encode; with 0 the thread that uses this does.
        on_block: called whenever a block was given away.
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
        self._threads = [Worker(self._encode, f"deflate {number}") for number in range(threads)]
        # One under way for each thread, one that is filled, and one for the moments in which the
        # system lets one thread run and not the other.
        self._free = [bytearray(BLOCK_BYTES) for _ in range(threads + 2)]
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._given: deque[_Job] = deque()
        self._whole = NOTHING
        self._window = b""
        self._filled = 0
        self._take()

    def __enter__(self) -> Self:
        self._write(self._codec.head)
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del kind, traceback
        try:
            if error is None:
                if self._filled:
                    self._give()
                while self._given:
                    self._write_next()
                self._write(self._codec.tail(self._whole))
        finally:
            self._stop()

    def _stop(self) -> None:
        """End the threads: what they still encode is for nobody."""
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        wait_for(self._threads)

    def write(self, data: bytes) -> None:
        """Append bytes."""
        end = self._filled + len(data)
        if end < BLOCK_BYTES:
            self._view[self._filled : end] = data
            self._filled = end
            return
        rest = memoryview(data)
        while rest:
            room = self.room(len(rest))
            count = len(room)
            room[:] = rest[:count]
            self.advance(count)
            rest = rest[count:]

    def room(self, most: int) -> memoryview:
        """Return where up to ``most`` bytes go next, to be read into: at least one."""
        return self._view[self._filled : self._filled + most]

    def advance(self, count: int) -> None:
        """Append the first ``count`` bytes of what :meth:`room` returned."""
        self._filled += count
        if self._filled == BLOCK_BYTES:
            self._give()
            self._take()

    def _take(self) -> None:
        while not self._free:
            self._write_next()
        self._block = self._free.pop()
        self._view = memoryview(self._block)
        self._filled = 0

    def _give(self) -> None:
        job = _Job(self._block, self._view[: self._filled], self._window)
        self._window = bytes(job.content[-WINDOW:])
        self._given.append(job)
        if self._threads:
            self._jobs.put(job)
        else:
            job.outcome.put(self._codec.encode(job.content, job.window))
        while self._given and not self._given[0].outcome.empty():
            self._write_next()
        self._on_block()

    def _write_next(self) -> None:
        """Write the first of the blocks that were given away, and take it back."""
        job = self._given.popleft()
        outcome = job.outcome.get()
        if isinstance(outcome, BaseException):
            raise outcome
        self._write(outcome.data)
        self._whole = self._codec.combine(self._whole, outcome)
        self._free.append(job.block)

    def _encode(self) -> None:
        """Encode one block after the other: what each of the threads does."""
        while (job := self._jobs.get()) is not None:
            try:
                job.outcome.put(self._codec.encode(job.content, job.window))
            except BaseException as error:  # noqa: BLE001  (raised again by the other thread)
                job.outcome.put(error)
