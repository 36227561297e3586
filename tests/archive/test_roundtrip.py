"""What goes into an archive comes out again, whoever unpacks it."""

import gzip
import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import e2b_upload
from e2b_upload.archive import blocks
from e2b_upload.archive.deflate import Compression
from tests.archive.programs import Unpacker, every_unpacker
from tests.archive.reading import LAST_SECOND, Listed, expected, listed
from tests.support.trees import (
    HOSTILE_NAMES,
    SECOND,
    YEAR_1960,
    YEAR_2300,
    File,
    Folder,
    HardLink,
    Symlink,
    Tree,
    make,
    mtimes,
    snapshot,
    trees,
)

COMPRESSIONS: Final[tuple[Compression, ...]] = get_args(Compression)
BLOCK: Final = 700  # no multiple of a tar's, so that headers lie in two of them
A_FEW: Final = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow]
)

# What the first hundred bytes of a header can say, and the prefix.
PLAIN: Final[Tree] = {
    **{b"names/" + name: File(name) for name in HOSTILE_NAMES if len(name) <= 90},
    **{b"folders/" + name: Folder() for name in HOSTILE_NAMES if len(name) <= 90},
    **{b"d" * 99 + b"/" + b"n" * n: File(b"%d" % n) for n in (1, 99, 100)},
    **{b"modes/%04o" % mode: File(mode=mode) for mode in (0o400, 0o644, 0o777, 0o4755, 0o7777)},
    **{b"modes/d%04o" % mode: Folder(mode=mode) for mode in (0o700, 0o755, 0o1777, 0o2770)},
    **{b"sizes/%d" % size: File(b"s" * size) for size in (0, 1, 511, 512, 513, 2_000_000)},
    **{b"times/%d" % s: File(mtime_ns=s * SECOND + 5) for s in (0, 2**31, 2**32, LAST_SECOND)},
    b"times/folder": Folder(mtime_ns=7 * SECOND),
    b"times/folder/in it": File(),
    b"links/a": File(b"one file, three names", 0o640),
    b"links/b": HardLink(b"links/a"),
    b"links/further/c": HardLink(b"links/a"),
    b"links/dangling": Symlink(b"no/where"),
    b"links/absolute": Symlink(b"/etc/passwd"),
    b"links/above": Symlink(b"../../.."),
    b"links/here": Symlink(b"."),
    b"links/loop": Symlink(b"loop"),
    b"links/a hundred": Symlink(b"t" * 100),
    b"links/not UTF-8": Symlink(b"\xff\xfe", mtime_ns=3 * SECOND),
}
# What needs a pax record, but for times.
LONG: Final[Tree] = {
    **{b"long names/" + name: File(name) for name in HOSTILE_NAMES if len(name) > 90},
    **{b"long folders/" + name: Folder() for name in HOSTILE_NAMES if len(name) > 90},
    **{b"/".join([b"p" * 200] * n): Folder() for n in (2, 5, 15)},
    b"e" * 99 + b"/file": File(b"the hundredth byte of its name is a slash"),
    b"e" * 99 + b"/" + b"f" * 101: File(b"there too, and the prefix is of no use"),
    b"first/" + b"x" * 150: File(b"its second name links to a long one"),
    b"second/x": HardLink(b"first/" + b"x" * 150),
    b"first/\xff" + b"y" * 150: File(b"the same, and not UTF-8"),
    b"second/y": HardLink(b"first/\xff" + b"y" * 150),
    b"targets/101": Symlink(b"t" * 101),
    b"targets/1000": Symlink(b"t" * 1000),
    b"targets/\xff": Symlink(b"\xff" * 101),
    b"targets/" + b"z" * 150: Symlink(b"\xe2\x82\xac" * 40),
}
_WHEN: Final = {
    b"1960": YEAR_1960,
    b"a little before 1970": -1,
    b"after the last octal second": (LAST_SECOND + 1) * SECOND,
    b"2300": YEAR_2300 + 123_456_789,
}
TIMES: Final[Tree] = {
    **{b"file/" + name: File(mtime_ns=mtime) for name, mtime in _WHEN.items()},
    **{b"folder/" + name: Folder(mtime_ns=mtime) for name, mtime in _WHEN.items()},
    **{b"link/" + name: Symlink(b"x", mtime_ns=mtime) for name, mtime in _WHEN.items()},
}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    yield from _folder(tmp_path / "source")


@pytest.fixture
def unpacked(tmp_path: Path) -> Iterator[Path]:
    yield from _folder(tmp_path / "unpacked")


def _folder(path: Path) -> Iterator[Path]:
    path.mkdir()
    yield path
    shutil.rmtree(path)  # at once: some are too deep for what would clean up later


# Any tree, any compression


def check(tree: Tree, compression: Compression, threads: int, limit: int | None) -> None:
    """Pack a tree to a file and, elsewhere and for another owner, to a stream."""
    options: Any = {"compression": compression, "no_ignore": True, "allow_empty": True}
    seconds = None if limit is None else limit // SECOND
    with (
        pytest.MonkeyPatch.context() as patch,
        TemporaryDirectory() as one,
        TemporaryDirectory() as two,
        TemporaryDirectory() as out,
    ):
        patch.setattr(blocks, "BLOCK_BYTES", BLOCK)
        make(tree, one)
        make(tree, two, owner=12_345 if os.geteuid() == 0 else None)
        source = snapshot(one)
        # A group that is not one's own takes setgid away, and that is a difference.
        assert source == snapshot(two)
        output, stream = Path(out, "archive"), Path(out, "stream")
        archive = e2b_upload.pack(one, output, mtime=seconds, **options)
        with stream.open("wb") as file:
            e2b_upload.pack(two, file, mtime=seconds, threads=threads, **options)
            streamed = stream.read_bytes()  # before it is closed, which may come late
        content, entries = output.read_bytes(), listed(output)
    assert streamed == content
    assert entries == expected(source, no_later_than=seconds)
    assert archive == e2b_upload.Archive(
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
        files=sum(entry.type == "file" for entry in entries),
        directories=sum(entry.type == "directory" for entry in entries),
        symlinks=sum(entry.type == "symlink" for entry in entries),
        hardlinks=sum(entry.type == "hardlink" for entry in entries),
        content_bytes=sum(entry.size for entry in entries),
        path=os.path.realpath(output),
    )
    plain = content if compression == "none" else gzip.decompress(content)
    assert (len(plain) % 512, plain[-1_024:]) == (0, bytes(1_024))


@given(
    tree=trees(),
    compression=st.sampled_from(COMPRESSIONS),
    threads=st.integers(1, 4),
    limit=st.none() | mtimes(),
)
@A_FEW
def test_an_archive_holds_the_tree(
    tree: Tree, compression: Compression, threads: int, limit: int | None
) -> None:
    check(tree, compression, threads, limit)


@pytest.mark.slow
@given(
    tree=trees(),
    compression=st.sampled_from(COMPRESSIONS),
    threads=st.integers(1, 4),
    limit=st.none() | mtimes(),
)
@settings(A_FEW, max_examples=150)
def test_an_archive_holds_any_tree(
    tree: Tree, compression: Compression, threads: int, limit: int | None
) -> None:
    check(tree, compression, threads, limit)


def test_links_that_are_followed_become_what_they_lead_to(source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    make({b"file": File(b"content", 0o600, 5 * SECOND), b"folder/in it": File(b"x")}, outside)
    links = {
        b"file": Symlink(os.fsencode(outside / "file")),
        b"folder": Symlink(os.fsencode(outside / "folder")),
        b"dangling": Symlink(b"no/where"),
        b"loop": Symlink(b"loop"),
        b"up": Symlink(b"."),
    }
    make(links, source)
    output = tmp_path / "out"
    e2b_upload.pack(source, output, follow_symlinks=True)

    entries = {entry.path: entry for entry in listed(output)}
    assert {path: (entry.type, entry.target) for path, entry in entries.items()} == {
        b"dangling": ("symlink", b"no/where"),
        b"file": ("file", None),
        b"folder": ("directory", None),
        b"folder/in it": ("file", None),
        b"loop": ("symlink", b"loop"),
        b"up": ("symlink", b"."),
    }
    sha256 = hashlib.sha256(b"content").hexdigest()
    assert entries[b"file"] == Listed(b"file", "file", 0o600, 5, 7, sha256)


def test_an_empty_folder_gives_an_archive_of_nothing(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for compression in COMPRESSIONS:
        archive = e2b_upload.pack(source, output, compression=compression, allow_empty=True)
        assert (archive.files, archive.directories, archive.content_bytes) == (0, 0, 0)
        assert listed(output) == []


# Other programs


@every_unpacker
def test_a_program_unpacks_the_same_tree(
    unpacker: Unpacker, source: Path, unpacked: Path, tmp_path: Path
) -> None:
    make({**PLAIN, **LONG, **TIMES}, source)
    archive = tmp_path / "archive.tar.gz"
    e2b_upload.pack(source, archive)
    unpacker.unpack(archive, unpacked)
    assert unpacker.gives_back(snapshot(unpacked)) == unpacker.gives_back(snapshot(source))


def test_a_plain_tree_needs_no_pax_record(source: Path, tmp_path: Path) -> None:
    make(PLAIN, source)
    e2b_upload.pack(source, tmp_path / "out")
    with tarfile.open(tmp_path / "out") as tar:
        assert [member.name for member in tar if member.pax_headers] == []


# Deeper than PATH_MAX: no program unpacks it, but each one lists it

DEEP: Final = b"/".join(b"%050d" % level for level in range(100))


@pytest.fixture
def deep_archive(source: Path, tmp_path: Path) -> Path:
    tree: Tree = {
        DEEP + b"/file": File(b"content"),
        DEEP + b"/folder": Folder(0o700),
        DEEP + b"/link": Symlink(DEEP[:1000]),
        b"the same file": HardLink(DEEP + b"/file"),
    }
    make(tree, source)
    archive = tmp_path / "archive.tar.gz"
    e2b_upload.pack(source, archive)
    assert listed(archive) == expected(snapshot(source))
    return archive


@every_unpacker
def test_a_program_lists_paths_of_any_length(unpacker: Unpacker, deep_archive: Path) -> None:
    names = [line.rstrip(b"/") for line in unpacker.list(deep_archive).splitlines()]
    assert names == [entry.path for entry in listed(deep_archive)]
