"""Blocks become one gzip member (RFC 1952), compressed by several threads.

Each block is a raw deflate stream (RFC 1951) of its own that ends at a byte boundary (a sync
flush) and may look back into the last 32 KiB of the block before it; joined in order they are one
stream, as pigz makes it. Their checksums combine into the one of the whole.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from isal import isal_zlib

if TYPE_CHECKING:
    from types import ModuleType

Buffer: TypeAlias = bytes | memoryview
Compression: TypeAlias = Literal["fast", "default", "small", "none"]

WINDOW = 32 * 1024
# No time and no name: the same content gives the same bytes. 255: made on an unknown system.
_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
# How much of a block is compressed in one call. Of a whole block the result grows in large steps,
# to sizes that the C library's heap does not fill again: 130 MiB after 256 blocks, half random.
_PIECE_BYTES = 256 * 1024
# Of zlib-ng's levels 9 takes 1.6 to 1.7 times as long as 7. It is taken only where it makes two
# samples of 16 KiB 1.5% smaller: 20% less time in all, for archives that are 0.3% to 0.4% larger.
_SAMPLE_BYTES, _WORTH_IT = 16 * 1024, 0.015
_EMPTY_LAST_BLOCK = b"\x03\x00"


class Encoded(NamedTuple):
    """A block as it goes into the archive.

    Attributes:
        data: its bytes there.
        crc: CRC-32 of its content.
        size: bytes of its content.
    """

    data: Buffer
    crc: int
    size: int


class Codec(Protocol):
    """How an archive is made of blocks that are encoded apart from each other.

    Attributes:
        head: what the archive begins with.
    """

    head: bytes

    def encode(self, block: memoryview, window: bytes) -> Encoded:
        """Encode a block; ``window`` is the end of the block before it. Any thread may call it."""

    def combine(self, before: Encoded, block: Encoded) -> Encoded:
        """Add a block to the sums of those before it, whose ``data`` no longer matters."""

    def tail(self, whole: Encoded) -> bytes:
        """Return what the archive ends with."""


NOTHING = Encoded(b"", 0, 0)


class Gzip:
    """Deflate as one gzip member.

    Args:
        zlib: whose ``compressobj`` compresses: the module ``isal.isal_zlib`` or
            ``zlib_ng.zlib_ng``, which share the standard library's interface.
        level: that module's, 0 to 3 or 0 to 9.
        settings: further ones of its ``compressobj``.
    """

    head = _HEAD

    def __init__(self, zlib: ModuleType, level: int, **settings: int) -> None:
        self._zlib = zlib
        self._level = level
        self._settings = settings

    def encode(self, block: memoryview, window: bytes) -> Encoded:
        """Compress a block up to a byte boundary."""
        data = self._deflate(self._level_for(block), block, window)
        return Encoded(data, isal_zlib.crc32(block), len(block))

    def _level_for(self, block: memoryview) -> int:
        del block
        return self._level

    def _deflate(self, level: int, block: memoryview, window: bytes) -> bytes:
        zlib = self._zlib
        # 15 bits of window, negative for a stream without header and checksum.
        stream = zlib.compressobj(level, zlib.DEFLATED, -15, zdict=window, **self._settings)
        pieces = [
            stream.compress(block[start : start + _PIECE_BYTES])
            for start in range(0, len(block), _PIECE_BYTES)
        ]
        return b"".join([*pieces, stream.flush(zlib.Z_SYNC_FLUSH)])

    def combine(self, before: Encoded, block: Encoded) -> Encoded:
        """Combine the checksums as if the blocks had been read in one go."""
        crc = isal_zlib.crc32_combine(before.crc, block.crc, block.size)
        return Encoded(b"", crc, before.size + block.size)

    def tail(self, whole: Encoded) -> bytes:
        """Return an empty last block, the checksum, and the size modulo 2**32."""
        return _EMPTY_LAST_BLOCK + struct.pack("<II", whole.crc, whole.size & 0xFFFFFFFF)


class SampledGzip(Gzip):
    """The same, with a lower level for blocks that the high one would not make much smaller.

    Which it is two samples of the block tell: the bytes depend on the content alone.

    Args:
        zlib: as for :class:`Gzip`.
        level: the high one.
        low: the lower one.
        settings: as for :class:`Gzip`.
    """

    def __init__(self, zlib: ModuleType, level: int, *, low: int, **settings: int) -> None:
        super().__init__(zlib, level, **settings)
        self._low = low

    def _level_for(self, block: memoryview) -> int:
        quarter = len(block) // 4
        samples = [block[at : at + _SAMPLE_BYTES] for at in (quarter, 3 * quarter)]
        low, high = (
            sum(len(self._deflate(level, sample, b"")) for sample in samples)
            for level in (self._low, self._level)
        )
        return self._level if low - high > _WORTH_IT * low else self._low


class Plain:
    """No compression: the blocks as they are."""

    head = b""

    def encode(self, block: memoryview, window: bytes) -> Encoded:
        """Return the block itself, not a copy."""
        del window
        return Encoded(block, 0, len(block))

    def combine(self, before: Encoded, block: Encoded) -> Encoded:
        """Sum the sizes."""
        return Encoded(b"", 0, before.size + block.size)

    def tail(self, whole: Encoded) -> bytes:
        """Return nothing: a tar ends itself."""
        del whole
        return b""


def codec_for(compression: Compression) -> Codec:
    """Return the encoder of a compression level, chosen by the figures in docs/performance.md."""
    if compression == "none":
        return Plain()
    if compression == "small":
        from zlib_ng import zlib_ng  # noqa: PLC0415  (the others do without)

        # Smaller buffers than the default of 8, so that codes adapt more often: 0.1% to 0.5% less.
        return SampledGzip(zlib_ng, 9, low=7, memLevel=7)
    # ISA-L's 0 is left out: it grows random data by 23%.
    return Gzip(isal_zlib, 1 if compression == "fast" else 2)
