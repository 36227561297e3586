"""SHA-256 and MD5 of a file, by two threads that follow while it grows.

They read the bytes back from the system's cache. So nothing waits for them before the end, they
hold one piece of the file each, and what they tell is what lies in the file.
"""

from __future__ import annotations

import hashlib
import os
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, Self

from e2b_upload.archive.threads import Worker, wait_for
from e2b_upload.errors import archive_unreadable

if TYPE_CHECKING:
    from types import TracebackType

# With each piece a thread waits twice for the interpreter's lock.
PIECE_BYTES = 1024 * 1024


class Digests(NamedTuple):
    """What a file hashes to.

    Attributes:
        sha256: 64 hex digits.
        md5: 32 hex digits: what a store calls its ETag.
    """

    sha256: str
    md5: str


class _Digest:
    """One digest, and the thread that computes it."""

    def __init__(self, name: str, descriptor: int) -> None:
        # MD5 is for Content-MD5 and ETag, not for security: so also where a policy forbids it.
        self._hash = hashlib.new(name, usedforsecurity=False)
        self._descriptor = descriptor
        self._sizes: SimpleQueue[int | None] = SimpleQueue()
        self._outcome: SimpleQueue[str | BaseException] = SimpleQueue()
        self._abandoned = False
        self.thread = Worker(self._follow, name)

    def grown(self, size: int) -> None:
        self._sizes.put(size)

    def result(self) -> str:
        """Return the hex digits of all that was told of, once."""
        self._sizes.put(None)
        outcome = self._outcome.get()
        if isinstance(outcome, OSError):
            raise archive_unreadable(outcome) from outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def abandon(self) -> None:
        """Have the thread end soon, whatever is left to read."""
        self._abandoned = True
        self._sizes.put(None)

    def _follow(self) -> None:
        offset = 0
        try:
            piece = memoryview(bytearray(PIECE_BYTES))
            while (size := self._sizes.get()) is not None:
                while offset < size and not self._abandoned:
                    count = os.preadv(self._descriptor, [piece[: size - offset]], offset)
                    if not count:
                        self._outcome.put(OSError(0, f"it ends at byte {offset} of {size}"))
                        return
                    self._hash.update(piece[:count])
                    offset += count
        except BaseException as error:  # noqa: BLE001  (raised again by who asks for the result)
            self._outcome.put(error)
        else:
            self._outcome.put(self._hash.hexdigest())


class Digesting:
    """The digests of a file that is still being written.

    Used as a context manager: leaving it ends the threads.

    Args:
        descriptor: of a regular file; its position does not matter.
    """

    def __init__(self, descriptor: int) -> None:
        self._digests = (_Digest("sha256", descriptor), _Digest("md5", descriptor))

    def __enter__(self) -> Self:
        try:
            for digest in self._digests:
                digest.thread.start()
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
        self._stop()

    def _stop(self) -> None:
        for digest in self._digests:
            digest.abandon()
        wait_for(digest.thread for digest in self._digests)

    def grown(self, size: int) -> None:
        """Tell that so many bytes of the file are there now. Never waits."""
        for digest in self._digests:
            digest.grown(size)

    def result(self) -> Digests:
        """Wait until all that was told of is read, and return what it hashes to. Only once.

        Raises:
            SpoolError: the file cannot be read back, or ends before.
        """
        return Digests(*(digest.result() for digest in self._digests))
