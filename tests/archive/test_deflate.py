"""Blocks that are encoded apart from each other are one stream once they are joined."""

import random
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib
from zlib_ng import zlib_ng

import e2b_upload
from e2b_upload.archive.deflate import (
    NOTHING,
    WINDOW,
    Codec,
    Compression,
    Encoded,
    Gzip,
    Plain,
    SampledGzip,
    codec_for,
)

CODECS: Final = {
    "isal 1": Gzip(isal_zlib, 1),
    "isal 3": Gzip(isal_zlib, 3),
    "zlib-ng 7 or 9": SampledGzip(zlib_ng, 9, low=7),
}
COMPRESSIONS: Final[tuple[Compression, ...]] = get_args(Compression)
EXAMPLES: Final = settings(deadline=None, max_examples=25)

every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
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


@every_codec
@given(blocks)
@EXAMPLES
def test_blocks_become_one_gzip_member(codec: Codec, content: list[bytes]) -> None:
    member = whole(codec, content)
    stream = zlib.decompressobj(31)
    assert stream.decompress(member) == b"".join(content)
    assert (stream.eof, stream.unused_data, stream.unconsumed_tail) == (True, b"", b"")
    magic, method, flags, mtime, _, system = struct.unpack("<HBBIBB", member[:10])
    # No time, no file name, no system.
    assert (magic, method, flags, mtime, system) == (0x8B1F, 8, 0, 0, 255)


@every_codec
@given(st.binary(max_size=5_000), st.binary(max_size=WINDOW))
@EXAMPLES
def test_a_block_ends_at_a_byte_and_needs_no_more_than_its_window(
    codec: Codec, block: bytes, window: bytes
) -> None:
    encoded = codec.encode(memoryview(block), window)
    assert (encoded.crc, encoded.size) == (zlib.crc32(block), len(block))
    assert bytes(encoded.data[-4:]) == b"\x00\x00\xff\xff"  # what a sync flush ends with
    stream = zlib.decompressobj(-15, zdict=window)
    assert stream.decompress(encoded.data) == block
    assert not stream.eof


@every_codec
def test_a_block_looks_back_into_its_window(codec: Codec) -> None:
    block = random.Random(1).randbytes(WINDOW - 512)  # zlib does not reach the very beginning
    alone = codec.encode(memoryview(block), b"")
    again = codec.encode(memoryview(block), block)
    assert len(again.data) < len(alone.data) / 20


def test_the_tail_holds_the_size_modulo_4_gib() -> None:
    codec = Gzip(isal_zlib, 2)
    for size, field in ((0, 0), (2**32 - 1, 2**32 - 1), (2**32, 0), (7 * 2**32 + 5, 5)):
        sums = codec.combine(Encoded(b"", 0, size), Encoded(b"", 0xDEADBEEF, 0))
        assert sums.size == size
        last_block, crc, written = struct.unpack("<2sII", codec.tail(sums._replace(crc=0xCAFEBABE)))
        assert (last_block, crc, written) == (b"\x03\x00", 0xCAFEBABE, field)


def test_plain_encodes_without_a_copy() -> None:
    block = memoryview(bytearray(b"content"))
    assert Plain().encode(block, b"window").data is block
    assert whole(Plain(), [b"a", b"", b"bc"]) == b"abc"


@pytest.mark.real
@pytest.mark.skipif(shutil.which("gzip") is None, reason="there is no gzip")
def test_gunzip_reads_every_compression() -> None:
    content = [b"%d lines\n" % number * 10_000 for number in range(5)]
    for compression in COMPRESSIONS:
        if compression != "none":
            archive = whole(codec_for(compression), content)
            done = subprocess.run(["gzip", "-dc"], input=archive, capture_output=True, check=False)
            assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"".join(content))


def test_the_smaller_the_compression_the_smaller_the_archive() -> None:
    content = [path.read_bytes() for path in sorted(Path(e2b_upload.__file__).parent.rglob("*.py"))]
    order: tuple[Compression, ...] = ("small", "default", "fast", "none")
    sizes = [len(whole(codec_for(compression), content)) for compression in order]
    assert sizes == sorted(sizes)


def test_random_data_hardly_grows() -> None:
    content = [random.Random(n).randbytes(1 << 20) for n in range(3)]
    for compression in COMPRESSIONS:
        assert len(whole(codec_for(compression), content)) < (3 << 20) * 1.001


def test_the_high_level_is_taken_where_it_pays() -> None:
    """A longer search finds longer matches in text of few words; in noise there are none."""
    draw = random.Random(1)
    words = [draw.randbytes(draw.randint(2, 5)) for _ in range(200)]
    text = b"".join(draw.choices(words, k=200_000))[: 512 * 1024]
    noise = draw.randbytes(512 * 1024)
    low, high = Gzip(zlib_ng, 7), Gzip(zlib_ng, 9)
    sampled = SampledGzip(zlib_ng, 9, low=7)
    worth_it = [len(codec.encode(memoryview(text), b"").data) for codec in (high, low)]
    assert worth_it[0] < 0.985 * worth_it[1]
    assert sampled.encode(memoryview(text), b"") == high.encode(memoryview(text), b"")
    assert sampled.encode(memoryview(noise), b"") == low.encode(memoryview(noise), b"")
