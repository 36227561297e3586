"""Packing sees files that do not stand still, things that are no files, and whoever watches."""

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias, get_args

import pytest

import e2b_upload
from e2b_upload.archive import blocks
from e2b_upload.archive import pack as pack_module
from e2b_upload.archive.deflate import Compression, Encoded, Plain
from e2b_upload.archive.pack import Archive, default_threads, pack_entries
from e2b_upload.archive.spool import Spool
from e2b_upload.context.collect import Entry
from e2b_upload.context.root import Root
from e2b_upload.errors import SourceError, SpoolError
from e2b_upload.events import Event, Finished, LeftOut, OnEvent, Progress, Started, ignore_events
from tests.archive.users import another_user
from tests.support.trees import SECOND, File, HardLink, Symlink, Tree, make

BLOCK: Final = 4_096
MEBIBYTE: Final = 1 << 20
BEFORE: Final = 1_000_000_000 * SECOND  # no change can have this time
Change: TypeAlias = Callable[[Path], None]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    return path


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path) as spool:
        yield spool


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    threads, descriptors = set(threading.enumerate()), os.listdir("/dev/fd")
    yield
    assert set(threading.enumerate()) == threads
    assert os.listdir("/dev/fd") == descriptors


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
    return pack_entries(
        found, Root(context), spool, compression=compression, threads=threads, on_event=on_event
    )


def digests_of(spool: Spool) -> tuple[str, str]:
    content = os.pread(spool.fileno(), spool.size, 0)
    md5 = hashlib.md5(content, usedforsecurity=False)
    return hashlib.sha256(content).hexdigest(), md5.hexdigest()


def progress_of(context: Path, spool: Spool) -> list[Progress]:
    told: list[Event] = []
    pack(context, spool, on_event=told.append)
    return [event for event in told if isinstance(event, Progress)]


# Files that do not stand still


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, 10)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def replace(path: Path) -> None:
    """Put another file there that differs in nothing but its content, as rsync may."""
    other = path.with_name("other")
    other.write_bytes(b"y" * path.stat().st_size)
    os.utime(other, ns=(BEFORE, BEFORE))
    other.replace(path)


def vanish(path: Path) -> None:
    path.unlink()


def become_a_link(path: Path) -> None:
    target = path.rename(path.with_name("target"))
    path.symlink_to(target)


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_socket(path: Path) -> None:
    path.unlink()
    os.mknod(path, stat.S_IFSOCK | 0o600)


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BETWEEN: Final = [
    (grow, "changed while it was packed"),
    (shrink, "changed while it was packed"),
    (empty, "changed while it was packed"),
    (rewrite, "changed while it was packed"),
    (replace, "changed while it was packed"),
    (become_a_fifo, "changed while it was packed"),
    (become_a_folder, "cannot be read: Is a directory"),
    (vanish, "cannot be opened: No such file"),
    (become_a_link, "cannot be opened: Too many levels of symbolic links"),
    (become_a_socket, "cannot be opened: No such device or address"),
]


def named(change: Change) -> str:
    return change.__name__.replace("_", " ")


@pytest.mark.parametrize(("change", "words"), BETWEEN, ids=[named(change) for change, _ in BETWEEN])
@pytest.mark.parametrize("size", [1_000, 3 * MEBIBYTE], ids=["small", "large"])
def test_a_file_that_changes_after_it_was_collected_is_named(
    context: Path, spool: Spool, size: int, change: Change, words: str
) -> None:
    make({b"folder/file": File(b"x" * size, mtime_ns=BEFORE)}, context)

    def entries() -> Iterator[Entry]:
        for entry in e2b_upload.collect(context):
            if entry.type == "file":
                change(context / entry.path)
            yield entry

    with pytest.raises(SourceError, match=words) as raised:
        pack(context, spool, entries())
    assert str(context / "folder/file") in raised.value.message
    assert ".dockerignore" in raised.value.hint


def otherwise(found: os.stat_result, field: str) -> os.stat_result:
    fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
    fields[field] += 1
    first = ["st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size"]
    return os.stat_result([*(fields[name] for name in first), 0, 0, 0], fields)


@pytest.mark.parametrize("field", ["st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"])
def test_a_file_that_differs_in_one_thing_is_another(
    context: Path, spool: Spool, field: str
) -> None:
    """Not every file system's clock is fine enough to tell by the times."""
    make({b"file": File(b"content")}, context)
    (entry,) = e2b_upload.collect(context)
    with pytest.raises(SourceError, match="changed while it was packed"):
        pack(context, spool, [entry._replace(stat=otherwise(entry.stat, field))])


def test_a_file_that_ends_early_is_named(
    context: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a network may: nothing else tells that it is not what it was."""
    make({b"file": File(b"content")}, context)
    parts = iter([b"cont", b""])

    def ending(_: int, buffers: list[memoryview]) -> int:
        part = next(parts)
        buffers[0][: len(part)] = part
        return len(part)

    monkeypatch.setattr(os, "readv", ending)
    with pytest.raises(SourceError, match="changed while it was packed"):
        pack(context, spool)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", BLOCK)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("change", [grow, shrink, empty, rewrite], ids=named)
def test_a_file_that_changes_while_it_is_read_is_named(
    context: Path, spool: Spool, change: Change
) -> None:
    file = context / "file"
    make({b"file": File(b"x" * 20 * BLOCK, mtime_ns=BEFORE)}, context)

    def meddle(event: Event) -> None:
        if isinstance(event, Progress) and file.stat().st_mtime_ns == BEFORE:
            change(file)

    with pytest.raises(SourceError, match="changed while it was packed") as raised:
        pack(context, spool, on_event=meddle)
    after = file.stat().st_size
    assert f"{file} changed while it was packed" in raised.value.message
    assert f"({20 * BLOCK} bytes before, {after} after)" in raised.value.message
    assert "Run again" in raised.value.hint


@pytest.mark.usefixtures("small_blocks")
def test_a_change_is_seen_though_size_and_time_are_put_back(context: Path, spool: Spool) -> None:
    file = context / "file"
    make({b"file": File(b"x" * 20 * BLOCK, mtime_ns=BEFORE)}, context)
    made = file.stat().st_ctime_ns

    def meddle(event: Event) -> None:
        while isinstance(event, Progress) and file.stat().st_ctime_ns == made:
            rewrite(file)
            os.utime(file, ns=(BEFORE, BEFORE))

    with pytest.raises(SourceError, match="changed while it was packed"):
        pack(context, spool, on_event=meddle)


@pytest.mark.usefixtures("small_blocks")
def test_a_file_that_is_deleted_while_it_is_read_is_named(context: Path, spool: Spool) -> None:
    file = context / "file"
    make({b"file": File(b"x" * 20 * BLOCK)}, context)
    with pytest.raises(SourceError, match="changed while it was packed"):
        pack(context, spool, on_event=lambda _: file.unlink(missing_ok=True))


def test_a_file_that_may_not_be_read_is_named(spool: Spool) -> None:
    with TemporaryDirectory() as context:
        os.chmod(context, 0o755)  # noqa: S103
        make({b"file": File(mode=0)}, context)
        with another_user(), pytest.raises(SourceError) as raised:
            pack(Path(context), spool)
    assert raised.value.message == f"{context}/file cannot be opened: Permission denied"
    assert "readable" in raised.value.hint


def test_a_disk_that_fails_is_named_with_the_file(
    context: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    make({b"file": File(b"content")}, context)
    monkeypatch.setattr(os, "readv", failing)
    with pytest.raises(SourceError, match="cannot be read: Input/output error") as raised:
        pack(context, spool)
    assert str(context / "file") in raised.value.message


def test_a_name_that_a_terminal_would_obey_is_shown_as_an_escape(
    context: Path, spool: Spool
) -> None:
    make({b"\x1b[2J\xff": File()}, context)

    def entries() -> Iterator[Entry]:
        for entry in e2b_upload.collect(context):
            (context / entry.path).unlink()
            yield entry

    with pytest.raises(SourceError) as raised:
        pack(context, spool, entries())
    assert r"/\x1b[2J\xff cannot be opened" in raised.value.message


# What is no file


def test_fifos_sockets_and_devices_are_left_out_and_named(context: Path, tmp_path: Path) -> None:
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


# What is told


def test_an_archive_counts_what_is_in_it(context: Path, spool: Spool) -> None:
    tree: Tree = {
        b"a": File(b"12345"),
        b"b": HardLink(b"a"),
        b"c": HardLink(b"a"),
        b"d/e/f": File(b"678"),
        b"d/g": Symlink(b"e"),
        b"h": File(),
    }
    make(tree, context)
    events: list[Event] = []
    archive = pack(context, spool, on_event=events.append)
    assert (archive.files, archive.hardlinks, archive.directories, archive.symlinks) == (3, 2, 2, 1)
    assert (archive.content_bytes, archive.path) == (8, None)
    assert archive.bytes == spool.size
    assert (archive.sha256, archive.md5) == digests_of(spool)
    # Less than a block, and a few entries: nothing but the end is worth telling.
    assert [type(event) for event in events] == [Progress, Finished]
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.step, end.done, end.entries, end.result) == ("pack", 8, 8, archive.bytes)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1_000])
def test_many_small_files_are_told_of_in_batches(
    context: Path, spool: Spool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", MEBIBYTE)  # more than the headers need
    make({b"%04d" % number: File() for number in range(count)}, context)
    told = progress_of(context, spool)
    # The last is of the block that was not full.
    assert [event.entries for event in told] == [*range(256, count + 1, 256), count]
    assert {(event.step, event.done) for event in told} == {("pack", 0)}


def test_large_files_are_told_of_in_blocks(context: Path, spool: Spool) -> None:
    make({b"%d" % number: File(bytes(blocks.BLOCK_BYTES)) for number in range(5)}, context)
    told = progress_of(context, spool)
    assert len(told) == 6  # each file has a header, so that there is a sixth block
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert told[-1].done == 5 * blocks.BLOCK_BYTES


def test_progress_is_seen_within_a_large_file(context: Path, spool: Spool) -> None:
    make({b"file": File(bytes(5 * blocks.BLOCK_BYTES))}, context)
    done = [event.done for event in progress_of(context, spool)]
    assert len(set(done)) == len(done) == 6


def test_a_total_is_told_first_where_it_is_asked_for(context: Path, tmp_path: Path) -> None:
    make({b"a": File(b"12345"), b"b/c": File(b"678"), b"d": HardLink(b"a")}, context)
    for count_first, totals in ((True, [None, 8]), (False, [None])):
        events: list[Event] = []
        e2b_upload.pack(context, tmp_path / "out", count_first=count_first, on_event=events.append)
        assert [event.total for event in events if isinstance(event, Started)] == totals
        ends = [event for event in events if isinstance(event, Finished)]
        assert [event.done for event in ends] == [8] * len(totals)
        assert [event.entries for event in ends] == [4] * len(totals)


class StopError(Exception):
    """What a watcher raises."""


class Stop(BaseException):
    """What a signal raises."""


@pytest.mark.parametrize(
    "error",
    [StopError(), Stop(), BrokenPipeError(errno.EPIPE, "Broken pipe")],
    ids=["error", "signal", "closed terminal"],
)
@pytest.mark.parametrize(
    "tree",
    [{b"file": File(bytes(5 * MEBIBYTE))}, {b"%d" % number: File() for number in range(300)}],
    ids=["in a file", "between files"],
)
def test_what_a_watcher_raises_reaches_the_caller(
    context: Path, spool: Spool, tree: Tree, error: BaseException
) -> None:
    make(tree, context)

    def watch(_: Event) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        pack(context, spool, on_event=watch)
    assert raised.value is error


def test_what_the_entries_raise_reaches_the_caller(context: Path, spool: Spool) -> None:
    make({b"file": File(bytes(3 * MEBIBYTE))}, context)

    def entries() -> Iterator[Entry]:
        yield from e2b_upload.collect(context)
        raise StopError

    with pytest.raises(StopError):
        pack(context, spool, entries())


# Threads


COMPRESSIONS: Final[tuple[Compression, ...]] = get_args(Compression)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threads", [None, 1, 2, 5])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_archive_has_the_digests_of_its_bytes(
    context: Path, spool: Spool, compression: Compression, threads: int | None
) -> None:
    make({b"%d" % number: File(os.urandom(7 * BLOCK)) for number in range(20)}, context)
    archive = pack(context, spool, compression=compression, threads=threads)
    assert archive.bytes == spool.size
    assert (archive.sha256, archive.md5) == digests_of(spool)


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
def test_there_are_as_many_threads_as_the_cores_are_worth(
    compression: Compression, threads: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for cores, count in threads.items():
        monkeypatch.setattr(pack_module, "usable_cores", lambda n=cores: n)
        assert default_threads(compression) == count


@pytest.mark.parametrize("threads", [None, 1, 7])
def test_a_plain_tar_is_encoded_by_the_thread_that_reads(
    context: Path, spool: Spool, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make({b"file": File(bytes(5 * MEBIBYTE))}, context)
    encoding = set()
    encode = Plain.encode

    def noting(self: Plain, block: memoryview, window: bytes) -> Encoded:
        encoding.add(threading.current_thread())
        return encode(self, block, window)

    monkeypatch.setattr(Plain, "encode", noting)
    pack(context, spool, compression="none", threads=threads)
    assert encoding == {threading.current_thread()}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_disk_that_gets_full_is_told_and_ends_all_threads(
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


KILLED: Final = """
import sys
import e2b_upload
from e2b_upload.events import Progress

def wait(event):
    if isinstance(event, Progress):
        print("packing", flush=True)
        sys.stdin.read()

e2b_upload.pack(sys.argv[1], sys.argv[2], on_event=wait)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_stopped_leaves_the_output_as_it_was(
    context: Path, tmp_path: Path, signum: signal.Signals
) -> None:
    make({b"a": File(bytes(3 * MEBIBYTE))}, context)
    make({b"folder/out": File(b"before")}, tmp_path)
    output = tmp_path / "folder" / "out"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, context, output],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"packing\n"
        process.send_signal(signum)
        process.wait()
    assert output.read_bytes() == b"before"
    assert os.listdir(output.parent) == ["out"]


def test_an_output_in_the_context_does_not_hold_itself(context: Path) -> None:
    make({b"file": File(b"content")}, context)
    e2b_upload.pack(context, context / "out")
    with tarfile.open(context / "out") as tar:
        assert tar.getnames() == ["file"]
    e2b_upload.pack(context, context / "out", exclude=["out"])
    with tarfile.open(context / "out") as tar:
        assert tar.getnames() == ["file"]
