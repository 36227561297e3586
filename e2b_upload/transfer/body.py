"""A file as requests must see it: sized, and iterable anew for each request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from e2b_upload.errors import SpoolError
from e2b_upload.events import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2b_upload.events import OnEvent

# Small enough that progress shows on a slow link, and that the one buffer stays in a core's cache.
PIECE_BYTES = 256 * 1024


class Body:
    """A file as requests must see it to send one Content-Length: sized, and iterable anew.

    A file object would be chunked or read in pieces of 16 KiB; a bare generator is chunked, which
    S3 answers with 501; a generator with a Content-Length by hand sends both headers.

    Args:
        descriptor: of a regular file; its position does not matter.
        on_event: told of each piece that was sent.

    Attributes:
        sent: bytes that the last iteration handed over.
    """

    def __init__(self, descriptor: int, on_event: OnEvent) -> None:
        self._descriptor = descriptor
        self._size = os.stat(descriptor).st_size
        self._on_event = on_event
        self.sent = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[memoryview]:
        self.sent = 0
        # One buffer for all: it is sent when the next piece is asked for, and stays in the cache.
        buffer = memoryview(bytearray(min(PIECE_BYTES, self._size)))
        while self.sent < self._size:
            piece = buffer[: self._size - self.sent]
            try:
                count = os.preadv(self._descriptor, [piece], self.sent)
            except OSError as error:
                raise SpoolError(
                    f"the archive cannot be read back: {error.strerror}", hint="Look at the disk."
                ) from error
            if not count:
                raise SpoolError(
                    f"the archive shrank while it was sent: {self.sent} of {self._size} bytes",
                    hint="Something else writes to it: make a new one.",
                )
            yield piece[:count]
            self.sent += count
            self._on_event(Progress(step="put", done=self.sent))

    @property
    def progress(self) -> str:
        """How far it came, for messages."""
        return f"{self.sent} of {self._size} bytes"
