"""Packing: files that change, special files, events and threads."""

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import pytest

import e2b_upload
from e2b_upload.archive import blocks
from e2b_upload.archive import pack as pack_module
from e2b_upload.archive.deflate import Compression
from e2b_upload.archive.pack import Archive, PackSettings, pack_entries
from e2b_upload.archive.spool import Spool
from e2b_upload.context.collect import Entry
from e2b_upload.context.root import Root
from e2b_upload.errors import SourceError, SpoolError
from e2b_upload.events import Event, Finished, LeftOut, OnEvent, Progress, Started, ignore_events
from tests.support.trees import SECOND, File, HardLink, Symlink, Tree, make

BLOCK: Final = 4_096
MEBIBYTE: Final = 1 << 20
BEFORE: Final = 1_000_000_000 * SECOND  # no change can have this time
Change: TypeAlias = Callable[[Path], None]


def pack(
    context: Path,
    spool: Spool,
    entries: Iterable[Entry] | None = None,
    *,
    compression: Compression = "default",
    threads: int | None = None,
    on_event: OnEvent = ignore_events,
) -> Archive:
    found = e2b_upload.collect(context) if entries is None else entries
    settings = PackSettings(compression=compression, threads=threads)
    return pack_entries(found, Root(context), spool, settings, on_event=on_event)


def progress_of(context: Path, spool: Spool) -> list[Progress]:
    told: list[Event] = []
    pack(context, spool, on_event=told.append)
    return [event for event in told if isinstance(event, Progress)]


# Files that change


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, 10)


def rewrite(path: Path) -> None:
    """Change the content, and restore the times."""
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(BEFORE, BEFORE))


def otherwise(found: os.stat_result, field: str) -> os.stat_result:
    fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
    fields[field] += 1
    first = ["st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size"]
    return os.stat_result([*(fields.pop(name) for name in first), 0, 0, 0], fields)


def test_a_file_that_differs_in_one_field_has_changed(context: Path, spool: Spool) -> None:
    """Not every file system's clock is fine enough to detect a change by the times."""
    make({b"file": File(b"content")}, context)
    (entry,) = e2b_upload.collect(context)
    for field in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"):
        with pytest.raises(SourceError, match="changed while it was packed"):
            pack(context, spool, [entry._replace(stat=otherwise(entry.stat, field))])


@pytest.mark.parametrize(
    ("error", "words"),
    [(None, "changed while it was packed"), (errno.EIO, "cannot be read: Input/output error")],
)
def test_a_failing_disk_is_reported_with_the_file(
    context: Path, spool: Spool, error: int | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network file system, a file may end early."""
    make({b"file": File(b"content")}, context)
    parts = iter([b"cont", b""])

    def failing(_: int, buffers: list[memoryview]) -> int:
        if error:
            raise OSError(error, os.strerror(error))
        part = next(parts)
        buffers[0][: len(part)] = part
        return len(part)

    monkeypatch.setattr(os, "readv", failing)
    with pytest.raises(SourceError, match=words) as raised:
        pack(context, spool)
    assert str(context / "file") in raised.value.message


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", BLOCK)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("change", [grow, shrink, rewrite], ids=["grow", "shrink", "rewrite"])
def test_a_file_that_changes_while_it_is_read_is_named(
    context: Path, spool: Spool, change: Change
) -> None:
    file = context / "file"
    make({b"file": File(b"x" * 20 * BLOCK, mtime_ns=BEFORE)}, context)
    made = file.stat().st_ctime_ns

    def meddle(event: Event) -> None:
        while isinstance(event, Progress) and file.stat().st_ctime_ns == made:
            change(file)

    with pytest.raises(SourceError, match="changed while it was packed") as raised:
        pack(context, spool, on_event=meddle)
    after = file.stat().st_size
    assert f"{file} changed while it was packed" in raised.value.message
    assert f"({20 * BLOCK} bytes before, {after} after)" in raised.value.message
    assert "Run again" in raised.value.hint


# Special files


def test_fifos_sockets_and_devices_are_skipped_and_reported(context: Path, tmp_path: Path) -> None:
    make({b"folder/file": File(b"content"), b"folder/link": Symlink(b"fifo")}, context)
    os.mkfifo(context / "folder/fifo")
    os.mknod(context / "folder/socket", stat.S_IFSOCK | 0o600)
    left_out = [("folder/fifo", "FIFO"), ("folder/socket", "socket")]
    for name, kind in (("block", stat.S_IFBLK), ("char", stat.S_IFCHR)):
        with suppress(PermissionError):  # devices take root
            os.mknod(context / "folder" / name, kind | 0o600, os.makedev(1, 3))
            left_out.append((f"folder/{name}", "device"))

    events: list[Event] = []
    archive = e2b_upload.pack(context, tmp_path / "out", on_event=events.append)
    told = [(event.path, event.what) for event in events if isinstance(event, LeftOut)]
    assert sorted(told) == sorted(left_out)
    with tarfile.open(tmp_path / "out") as tar:
        assert tar.getnames() == ["folder", "folder/file", "folder/link"]
    assert (archive.files, archive.directories, archive.symlinks) == (1, 1, 1)


# Events


@pytest.mark.parametrize("count", [1, 256, 257])
def test_many_small_files_are_reported_in_batches(
    context: Path, spool: Spool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", MEBIBYTE)  # more than the headers need
    make({b"%04d" % number: File() for number in range(count)}, context)
    told = progress_of(context, spool)
    # The last is of the block that was not full.
    assert [event.entries for event in told] == [*range(256, count + 1, 256), count]
    assert {(event.step, event.done) for event in told} == {("pack", 0)}


def test_progress_is_seen_within_a_large_file(context: Path, spool: Spool) -> None:
    make({b"file": File(bytes(5 * blocks.BLOCK_BYTES))}, context)
    done = [event.done for event in progress_of(context, spool)]
    assert len(set(done)) == len(done) == 6


def test_the_total_is_reported_first_if_requested(context: Path, tmp_path: Path) -> None:
    make({b"a": File(b"12345"), b"b/c": File(b"678"), b"d": HardLink(b"a")}, context)
    for count_first, totals in ((True, [None, 8]), (False, [None])):
        events: list[Event] = []
        e2b_upload.pack(context, tmp_path / "out", count_first=count_first, on_event=events.append)
        assert [event.total for event in events if isinstance(event, Started)] == totals
        ends = [event for event in events if isinstance(event, Finished)]
        assert [event.done for event in ends] == [8] * len(totals)
        assert [event.entries for event in ends] == [4] * len(totals)


class Stop(BaseException):
    """Raised as by a signal."""


@pytest.mark.parametrize(
    ("tree", "error"),
    [
        ({b"file": File(bytes(5 * MEBIBYTE))}, Stop()),
        ({b"%d" % number: File() for number in range(300)}, BrokenPipeError()),
    ],
    ids=["in a file", "between files"],
)
def test_an_error_in_the_callback_reaches_the_caller(
    context: Path, spool: Spool, tree: Tree, error: BaseException
) -> None:
    make(tree, context)

    def watch(_: Event) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        pack(context, spool, on_event=watch)
    assert raised.value is error


# Threads


@pytest.mark.parametrize(
    ("compression", "threads"),
    [
        # One core's worth of work is that of the thread that reads, and four outrun MD5.
        ("fast", {1: 1, 2: 1, 4: 3, 64: 4}),
        ("default", {1: 1, 2: 1, 4: 3, 64: 4}),
        # Slow enough for all of them, within bounds.
        ("small", {1: 1, 2: 2, 4: 4, 64: 16}),
    ],
)
def test_the_number_of_threads_follows_the_cores(
    compression: Compression, threads: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for cores, count in threads.items():
        monkeypatch.setattr(pack_module, "usable_cores", lambda n=cores: n)
        assert PackSettings(compression=compression).workers == count


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("compression", ["default", "none"])
def test_a_disk_that_gets_full_is_reported_and_ends_all_threads(
    context: Path, spool: Spool, compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    make({b"file": File(os.urandom(50 * BLOCK))}, context)
    write, left = os.write, iter(range(10))

    def filling_up(descriptor: int, data: memoryview) -> int:
        if descriptor == spool.fileno() and next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", filling_up)
    with pytest.raises(SpoolError, match="the disk is full"):
        pack(context, spool, compression=compression)


# Outputs


def test_a_failed_pack_leaves_the_output_as_it_was(context: Path, tmp_path: Path) -> None:
    make({b"a": File(bytes(3 * MEBIBYTE))}, context)
    make({b"folder/out": File(b"before")}, tmp_path)
    output = tmp_path / "folder" / "out"

    def spoil(event: Event) -> None:
        if isinstance(event, Progress):
            grow(context / "a")

    with pytest.raises(SourceError):
        e2b_upload.pack(context, output, on_event=spoil)
    assert output.read_bytes() == b"before"
    assert os.listdir(output.parent) == ["out"]
