"""What is uploaded: a file with its digests, and the file as requests must see it."""

from __future__ import annotations

import hashlib
import os
import zlib
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

from e2b_upload.errors import SpoolError, archive_unreadable
from e2b_upload.events import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2b_upload.events import OnEvent
    from e2b_upload.transfer.receipt import Algorithm

# Small enough that progress shows on a slow link, and that the one buffer stays in a core's cache.
PIECE_BYTES = 256 * 1024
_READ_BYTES = 1024 * 1024
_CRC_BYTES: dict[Algorithm, int] = {"crc32": 4, "crc32c": 4, "crc64nvme": 8, "crc64ecma": 8}
_MODELS: dict[Algorithm, str] = {
    "crc32c": "CRC32C",
    "crc64nvme": "CRC64-NVME",
    "crc64ecma": "CRC64-XZ",
}


class Source(NamedTuple):
    """What is put.

    Attributes:
        descriptor: of a regular file; its position does not matter.
        digest: gives its SHA-256 or MD5 as bytes; may wait until they are computed.
    """

    descriptor: int
    digest: Callable[[Algorithm], bytes]

    @property
    def size(self) -> int:
        """Bytes."""
        return os.stat(self.descriptor).st_size

    def digest_of(self, algorithm: Algorithm) -> bytes:
        """Return any digest that a store may tell; the rare ones take another pass."""
        if algorithm in _CRC_BYTES:
            calc = _crc(algorithm)
            crc = reduce(lambda crc, piece: calc(piece, crc), self._pieces(), 0)
            return crc.to_bytes(_CRC_BYTES[algorithm])
        if algorithm == "sha1":
            sha1 = hashlib.sha1(usedforsecurity=False)
            for piece in self._pieces():
                sha1.update(piece)
            return sha1.digest()
        return self.digest(algorithm)

    def _pieces(self) -> Iterator[bytes]:
        offset = 0
        try:
            while piece := os.pread(self.descriptor, _READ_BYTES, offset):
                offset += len(piece)
                yield piece
        except OSError as error:
            raise archive_unreadable(error) from error


def _crc(algorithm: Algorithm) -> Callable[[bytes, int], int]:
    """Return a function that continues a CRC, from 0."""
    if algorithm == "crc32":
        return zlib.crc32
    import anycrc  # noqa: PLC0415  (only a rare store asks for it)

    calc: Callable[[bytes, int], int] = anycrc.Model(_MODELS[algorithm]).calc
    return calc


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
                raise archive_unreadable(error) from error
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
