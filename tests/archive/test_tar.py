"""Headers alone, at the edges of every field."""

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Final

import pytest

from e2b_upload.archive import tar
from e2b_upload.context.collect import Entry, EntryType
from tests.archive.programs import Unpacker, every_unpacker
from tests.archive.reading import LAST_SECOND
from tests.support.trees import SECOND

LARGEST: Final = 8**11 - 1  # what eleven octal digits can say


def entry(
    path: bytes = b"file",
    kind: EntryType = "file",
    *,
    size: int = 0,
    mode: int = 0o644,
    target: bytes | None = None,
    mtime_ns: int = 0,
) -> Entry:
    found = os.stat_result((0,) * 10, {"st_mtime_ns": mtime_ns})
    link = None if target is None else os.fsdecode(target)
    return Entry(os.fsdecode(path), kind, size, mode, link, found)


def read(blocks: bytes) -> tarfile.TarInfo:
    """Read the first header of an archive."""
    stream = io.BytesIO(blocks + tar.END)
    # As a tar, not by the looks: a name may begin as a gzip does.
    with tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape") as archive:
        member = archive.next()
    assert member is not None
    return member


def has_pax(blocks: bytes) -> bool:
    return blocks[156:157] == b"x"


def records(blocks: bytes) -> dict[bytes, bytes]:
    """Read pax records by the letter of POSIX."""
    found = {}
    size = int(blocks[124:135], 8)
    body = blocks[512 : 512 + size]
    assert blocks[512 + size : -512] == bytes(-size % 512)
    while body:
        length = int(body.split(b" ", 1)[0])
        record, body = body[:length], body[length:]
        assert record.endswith(b"\n")
        key, _, value = record.split(b" ", 1)[1][:-1].partition(b"=")
        found[key] = value
    return found


@pytest.mark.parametrize("path", [b"a", b"\xff" * 300])
@pytest.mark.parametrize(
    ("kind", "type_", "device"),
    [
        (stat.S_IFIFO, tarfile.FIFOTYPE, (0, 0)),
        (stat.S_IFCHR, tarfile.CHRTYPE, (1, 3)),
        (stat.S_IFBLK, tarfile.BLKTYPE, (259, 65_536)),
    ],
)
def test_special_files(path: bytes, kind: int, type_: bytes, device: tuple[int, int]) -> None:
    found = os.stat_result(
        (kind | 0o640, *(0,) * 9), {"st_mtime_ns": SECOND, "st_rdev": os.makedev(*device)}
    )
    member = read(tar.header(Entry(os.fsdecode(path), "special", 0, 0o640, None, found)))
    assert (os.fsencode(member.name), member.type, member.mode) == (path, type_, 0o640)
    assert (member.devmajor, member.devminor, member.mtime) == (*device, 1)


def test_a_socket_cannot_be_archived() -> None:
    found = os.stat_result((stat.S_IFSOCK | 0o640, *(0,) * 9), {"st_mtime_ns": 0, "st_rdev": 0})
    assert tar.header(Entry("socket", "special", 0, 0o640, None, found)) == b""


@pytest.mark.parametrize(
    "path",
    [
        b"\x7f" * 155 + b"/" + b"\x7f" * 100,
        b"\x80",
        b"\xff" * 155 + b"/" + b"\xff" * 100,  # more than 65,521, the modulus of Adler-32
    ],
)
def test_the_checksum_is_right_for_any_bytes(path: bytes) -> None:
    blocks = tar.header(entry(path, "symlink", mode=0o7777, target=path[:100]))
    assert len(blocks) == 512
    assert os.fsencode(read(blocks).name) == path


N: Final = b"n"


@pytest.mark.parametrize(
    ("path", "kind", "pax"),
    [
        (N * 100, "file", False),
        (N * 101, "file", True),
        (b"p/" + N * 101, "file", True),
        (b"p" * 155 + b"/n", "file", False),
        (b"p" * 156 + b"/n", "file", True),
        (b"p" * 155 + b"/" + N * 100, "file", False),  # 256 bytes, the most there is room for
        (b"p" * 156 + b"/" + N * 100, "file", True),
        (b"p" * 155 + b"/" + N * 101, "file", True),
        (b"p/" * 77 + b"p/" + N * 100, "file", False),
        (b"p/" * 78 + b"p/" + N * 100, "file", True),
        # A directory's name ends in a slash that counts.
        (N * 99, "directory", False),
        (N * 100, "directory", True),
        (b"p" * 155 + b"/" + N * 99, "directory", False),
        (b"p" * 155 + b"/" + N * 100, "directory", True),
        (b"p" * 156 + b"/" + N * 99, "directory", True),
        # What is cut off at 100 bytes may end in a slash, and is still a file.
        (b"p" * 99 + b"/" + N * 101, "file", True),
        (b"/".join([N * 255] * 100), "directory", True),
    ],
)
def test_a_path_needs_a_pax_record_only_where_the_header_has_no_room(
    path: bytes, kind: EntryType, *, pax: bool
) -> None:
    blocks = tar.header(entry(path, kind))
    member = read(blocks)
    assert os.fsencode(member.name) == path
    assert member.isdir() == (kind == "directory")
    assert has_pax(blocks) == pax
    if pax:
        written = path + b"/" * (kind == "directory")
        assert records(blocks) == {b"path": written}
        # Who knows no such records gets the beginning.
        assert blocks[-512:][:100] == written[:100]
        assert blocks[-512:][345:] == bytes(167)


@pytest.mark.parametrize("kind", ["symlink", "hardlink"])
def test_a_link_target_needs_a_pax_record_beyond_100_bytes(kind: EntryType) -> None:
    for size in (1, 100, 101, 5_000):
        blocks = tar.header(entry(kind=kind, target=b"t" * size))
        assert read(blocks).linkname == "t" * size
        assert has_pax(blocks) == (size > 100)
        if size > 100:
            assert records(blocks) == {b"linkpath": b"t" * size}


@pytest.mark.parametrize(
    ("path", "target", "binary"),
    [
        (b"\xff", b"t" * 101, False),  # only what is in records counts
        (b"n" * 101, b"\xff", False),
        ("\u20ac".encode() * 40, None, False),
        (b"\xff" * 101, None, True),
        (b"\xed\xa0\x80" * 40, None, True),
        (b"n" * 101, b"\xff" * 101, True),
    ],
)
def test_records_that_are_not_utf_8_are_said_to_be_so(
    path: bytes, target: bytes | None, *, binary: bool
) -> None:
    blocks = tar.header(entry(path, "symlink" if target else "file", target=target))
    found = records(blocks)
    assert (found.get(b"hdrcharset"), next(iter(found)) == b"hdrcharset") == (
        (b"BINARY", True) if binary else (None, False)
    )
    member = read(blocks)
    assert os.fsencode(member.name) == path
    assert os.fsencode(member.linkname) == (target or b"")


@pytest.mark.parametrize(
    ("mtime_ns", "limit", "second"),
    [
        (SECOND - 1, None, 0),
        (-1, None, -1),
        (-SECOND, None, -1),
        (-SECOND - 1, None, -2),
        (LAST_SECOND * SECOND + SECOND - 1, None, LAST_SECOND),
        ((LAST_SECOND + 1) * SECOND, None, LAST_SECOND + 1),
        (10 * SECOND, 9, 9),
        (10 * SECOND, 11, 10),
        (10 * SECOND, -3, -3),
        (-10 * SECOND, -3, -10),
        (2**62, LAST_SECOND, 4_611_686_018),
        (2**63 - 1, LAST_SECOND, LAST_SECOND),
    ],
)
def test_a_time_is_the_whole_second_before_and_not_after_the_limit(
    mtime_ns: int, limit: int | None, second: int
) -> None:
    blocks = tar.header(entry(mtime_ns=mtime_ns), limit)
    assert read(blocks).mtime == second
    assert has_pax(blocks) == (not 0 <= second <= LAST_SECOND)


def test_a_record_counts_the_digits_of_its_own_length() -> None:
    for size in (*range(110), *range(980, 1_010), *range(9_980, 10_010)):
        record = tar._record(b"k", b"v" * size)
        length, _, rest = record.partition(b" ")
        assert (int(length), rest) == (len(record), b"k=" + b"v" * size + b"\n")


def test_a_size_needs_a_pax_record_beyond_eleven_octal_digits() -> None:
    for size in (0, LARGEST, LARGEST + 1, 2**62):
        blocks = tar.header(entry(size=size))
        assert read(blocks).size == size
        assert has_pax(blocks) == (size > LARGEST)
        if has_pax(blocks):
            assert records(blocks) == {b"size": b"%d" % size}
            # GNU's own form, for programs that ignore such records.
            assert blocks[-512:][124:136] == b"\x80" + size.to_bytes(11, "big")


def test_padding_fills_the_last_block() -> None:
    for size in (0, 1, 511, 512, 513, LARGEST, 2**40 + 1):
        padding = tar.padding(size)
        assert padding == bytes(len(padding))
        assert len(padding) < tar.BLOCK
        assert (size + len(padding)) % tar.BLOCK == 0


@every_unpacker
@pytest.mark.parametrize("size", [LARGEST, LARGEST + 1])
def test_a_file_may_be_larger_than_8_gib(unpacker: Unpacker, size: int, tmp_path: Path) -> None:
    archive = tmp_path / "sparse.tar"
    with archive.open("wb") as file:
        file.write(tar.header(entry(b"large", size=size)))
        file.seek(size + len(tar.padding(size)), os.SEEK_CUR)
        file.write(tar.header(entry(b"after", "directory", mtime_ns=(LAST_SECOND + 1) * SECOND)))
        file.write(tar.END)
    large, after = unpacker.list(archive, verbose=True).splitlines()
    assert str(size).encode() in large.split()
    assert large.endswith(b" large")
    assert after.endswith(b" after/")
    archive.unlink()
