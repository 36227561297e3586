"""Blocks that are encoded apart from each other are one stream once they are joined."""

import gzip
import random
import struct
import zlib
from itertools import accumulate
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2b_upload.archive.deflate import NOTHING, WINDOW, Codec, Encoded, Gzip, Plain

LEVELS: Final = [0, 1, 2, 3]
EXAMPLES: Final = settings(deadline=None)

every_level = pytest.mark.parametrize("level", LEVELS)
blocks = st.lists(
    st.binary(max_size=200) | st.sampled_from([b"ab" * 30_000, b"c" * WINDOW, b"c" * (WINDOW + 1)])
)


def whole(codec: Codec, content: list[bytes]) -> bytes:
    """Join blocks as they come from one thread."""
    out, sums = [codec.head], NOTHING
    windows = [b"", *(part[-WINDOW:] for part in content)]
    for block, window in zip(content, windows, strict=False):
        encoded = codec.encode(memoryview(block), window)
        out.append(bytes(encoded.data))
        sums = codec.combine(sums, encoded)
    return b"".join([*out, codec.tail(sums)])


@every_level
@given(blocks)
@EXAMPLES
def test_blocks_become_one_gzip_member(level: int, content: list[bytes]) -> None:
    member = whole(Gzip(level), content)
    stream = zlib.decompressobj(31)
    assert stream.decompress(member) == b"".join(content)
    assert (stream.eof, stream.unused_data, stream.unconsumed_tail) == (True, b"", b"")


@given(blocks)
@EXAMPLES
def test_a_plain_archive_is_its_blocks(content: list[bytes]) -> None:
    assert whole(Plain(), content) == b"".join(content)


def test_the_member_names_neither_a_time_nor_a_file_nor_a_system() -> None:
    magic, method, flags, mtime, _, system = struct.unpack("<HBBIBB", Gzip.head)
    assert (magic, method, flags, mtime, system) == (0x8B1F, 8, 0, 0, 255)
    assert gzip.decompress(whole(Gzip(1), [])) == b""


@every_level
@given(st.binary(max_size=5_000), st.binary(max_size=WINDOW))
@EXAMPLES
def test_a_block_ends_at_a_byte_and_needs_no_more_than_its_window(
    level: int, block: bytes, window: bytes
) -> None:
    encoded = Gzip(level).encode(memoryview(block), window)
    assert (encoded.crc, encoded.size) == (zlib.crc32(block), len(block))
    assert bytes(encoded.data[-4:]) == b"\x00\x00\xff\xff"  # what a sync flush ends with
    stream = zlib.decompressobj(-15, zdict=window)
    assert stream.decompress(encoded.data) == block
    assert not stream.eof


@pytest.mark.parametrize("level", LEVELS[1:])
def test_a_block_looks_back_into_its_window(level: int) -> None:
    block = random.Random(1).randbytes(WINDOW)
    alone = Gzip(level).encode(memoryview(block), b"")
    again = Gzip(level).encode(memoryview(block), block)
    assert len(again.data) < len(alone.data) / 20


@given(st.lists(st.binary()))
@EXAMPLES
def test_sums_combine_into_those_of_the_whole(parts: list[bytes]) -> None:
    encoded = (Encoded(b"", zlib.crc32(part), len(part)) for part in parts)
    content = b"".join(parts)
    *_, sums = accumulate(encoded, Gzip(1).combine, initial=NOTHING)
    assert (sums.crc, sums.size) == (zlib.crc32(content), len(content))


@pytest.mark.parametrize(
    ("size", "field"),
    [
        (0, 0),
        (1, 1),
        (2**32 - 1, 2**32 - 1),
        (2**32, 0),
        (2**32 + 5, 5),
        (7 * 2**32 + 2**31, 2**31),
        (2**63, 0),
    ],
)
def test_the_tail_holds_the_size_modulo_4_gib(size: int, field: int) -> None:
    codec = Gzip(2)
    sums = codec.combine(Encoded(b"", 0, size), Encoded(b"", 0xDEADBEEF, 0))
    assert sums.size == size
    last_block, crc, written = struct.unpack("<2sII", codec.tail(sums._replace(crc=0xCAFEBABE)))
    assert (last_block, crc, written) == (b"\x03\x00", 0xCAFEBABE, field)


def test_plain_encodes_without_a_copy() -> None:
    block = memoryview(bytearray(b"content"))
    codec = Plain()
    encoded = codec.encode(block, b"window")
    assert encoded.data is block
    sums = codec.combine(codec.combine(NOTHING, encoded), encoded)
    assert (sums.size, codec.head, codec.tail(sums)) == (14, b"", b"")
