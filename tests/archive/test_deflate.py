"""Blocks that are encoded apart from each other are one stream once they are joined."""

import gzip
import random
import shutil
import struct
import subprocess
import zlib
from itertools import accumulate
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
    **{f"isal {level}": Gzip(isal_zlib, level) for level in (0, 1, 2, 3)},
    **{f"zlib-ng {level}": Gzip(zlib_ng, level) for level in (1, 6, 8, 9)},
    "zlib-ng 7 or 9": SampledGzip(zlib_ng, 9, low=7),
}
COMPRESSIONS: Final[tuple[Compression, ...]] = get_args(Compression)
EXAMPLES: Final = settings(deadline=None)

every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
every_compression = pytest.mark.parametrize("compression", COMPRESSIONS)
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


@given(blocks)
@EXAMPLES
def test_a_plain_archive_is_its_blocks(content: list[bytes]) -> None:
    assert whole(Plain(), content) == b"".join(content)


@every_codec
def test_the_member_names_neither_a_time_nor_a_file_nor_a_system(codec: Codec) -> None:
    assert whole(codec, []).startswith(codec.head)
    magic, method, flags, mtime, _, system = struct.unpack("<HBBIBB", codec.head)
    assert (magic, method, flags, mtime, system) == (0x8B1F, 8, 0, 0, 255)
    assert gzip.decompress(whole(codec, [])) == b""


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


@pytest.mark.parametrize("name", [name for name in CODECS if name != "isal 0"])
def test_a_block_looks_back_into_its_window(name: str) -> None:
    codec = CODECS[name]
    block = random.Random(1).randbytes(WINDOW - 512)  # zlib does not reach the very beginning
    alone = codec.encode(memoryview(block), b"")
    again = codec.encode(memoryview(block), block)
    assert len(again.data) < len(alone.data) / 20


@every_codec
@given(st.lists(st.binary()))
@EXAMPLES
def test_sums_combine_into_those_of_the_whole(codec: Codec, parts: list[bytes]) -> None:
    encoded = (Encoded(b"", zlib.crc32(part), len(part)) for part in parts)
    content = b"".join(parts)
    *_, sums = accumulate(encoded, codec.combine, initial=NOTHING)
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
    codec = Gzip(isal_zlib, 2)
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


# Of a compression


@every_compression
@given(blocks)
@EXAMPLES
def test_every_compression_is_what_it_says(compression: Compression, content: list[bytes]) -> None:
    archive = whole(codec_for(compression), content)
    plain = archive if compression == "none" else gzip.decompress(archive)
    assert plain == b"".join(content)


@pytest.mark.real
@pytest.mark.skipif(shutil.which("gzip") is None, reason="there is no gzip")
@pytest.mark.parametrize("compression", [name for name in COMPRESSIONS if name != "none"])
def test_gunzip_reads_every_compression(compression: Compression) -> None:
    content = [b"%d lines\n" % number * 10_000 for number in range(5)]
    archive = whole(codec_for(compression), content)
    done = subprocess.run(["gzip", "-dc"], input=archive, capture_output=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"".join(content))


def test_the_smaller_the_compression_the_smaller_the_archive() -> None:
    content = [path.read_bytes() for path in sorted(Path(e2b_upload.__file__).parent.rglob("*.py"))]
    order: tuple[Compression, ...] = ("small", "default", "fast", "none")
    sizes = [len(whole(codec_for(compression), content)) for compression in order]
    assert sizes == sorted(sizes)


@every_compression
def test_what_cannot_be_compressed_hardly_grows(compression: Compression) -> None:
    content = [random.Random(n).randbytes(1 << 20) for n in range(3)]
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
