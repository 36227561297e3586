"""Whoever has several things to mend is told of all of them, and nothing is packed any more."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

import e2b_upload
from e2b_upload.archive.pack import pack_entries
from e2b_upload.archive.spool import Spool
from e2b_upload.context.collect import Entry, read_rules, walk
from e2b_upload.context.problems import Problem, Problems
from e2b_upload.context.root import Root
from e2b_upload.errors import SourceError, SpoolError
from e2b_upload.events import Event, Finished, LeftOut, OnEvent, Progress, ignore_events
from tests.archive.users import another_user
from tests.support.trees import SECOND, File, Folder, Symlink, make

BEFORE: Final = 1_000_000_000 * SECOND
MEBIBYTE: Final = 1 << 20


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
    descriptors = os.listdir("/dev/fd")
    yield
    assert os.listdir("/dev/fd") == descriptors


def pack(
    context: Path,
    spool: Spool,
    changes: dict[str, Callable[[Path], None]] | None = None,
    on_event: OnEvent = ignore_events,
) -> SourceError:
    """Change each of the paths after it was looked at and before it is opened; say what is told."""
    root = Root(context)
    to_come = dict(changes or {})

    def entries() -> Iterator[Entry | Problem]:
        with closing(walk(root, read_rules(root), on_event=on_event)) as found:
            for entry in found:
                if isinstance(entry, Entry) and (change := to_come.pop(entry.path, None)):
                    change(context / entry.path)
                yield entry

    with pytest.raises(SourceError) as raised:
        pack_entries(entries(), root, spool, on_event=on_event)
    assert not to_come
    assert raised.value.hint
    return raised.value


def told(error: SourceError, context: Path) -> list[str]:
    """Return the lines about the paths, the context's own left out."""
    first, *lines = error.message.replace(f"{context}/", "").split("\n  ")
    assert first == f"{len(lines)} paths cannot be packed:"
    return lines


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def touch(path: Path) -> None:
    os.utime(path, ns=(BEFORE, BEFORE + 1))


def swap(path: Path) -> None:
    """Put another file of the same size and time there."""
    other = path.with_name("z")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(BEFORE, BEFORE))
    other.replace(path)


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_link(path: Path) -> None:
    target = path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(target)


CHANGED: Final = "changed while it was packed (7 bytes before, {} after)"
SEEN: Final = [
    ("a", grow, CHANGED.format(11)),
    ("b", lambda path: os.truncate(path, 3), CHANGED.format(3)),
    ("c", touch, CHANGED.format(7)),
    ("d", swap, CHANGED.format(7)),
    ("e", become_a_fifo, CHANGED.format(0)),
    ("f", Path.unlink, "cannot be opened: No such file or directory"),
    ("g", become_a_link, "cannot be opened: Too many levels of symbolic links"),
]


@pytest.mark.parametrize("step", ["packing", "looking on"])
@pytest.mark.parametrize(("path", "change", "words"), SEEN, ids=[words for *_, words in SEEN])
def test_a_change_is_told_whether_or_not_it_is_the_first(
    context: Path, spool: Spool, *, step: str, path: str, change: Callable[[Path], None], words: str
) -> None:
    # One more that vanishes, after it or before it.
    other = "zz" if step == "packing" else "0"
    make({path.encode(): File(b"content", mtime_ns=BEFORE), other.encode(): File()}, context)
    lines = told(pack(context, spool, {path: change, other: Path.unlink}), context)
    assert sorted(lines) == sorted(
        [f"{path} {words}", f"{other} cannot be opened: No such file or directory"]
    )
    assert lines[0].startswith(path if step == "packing" else other)


def test_files_and_folders_are_told_in_the_order_of_the_walk(context: Path, spool: Spool) -> None:
    content = File(b"content")
    make(
        {b"a": content, b"b/1": content, b"c/2": content, b"d/3": content, b"d/e/4": content},
        context,
    )

    def meddle(path: Path) -> None:
        path.unlink()
        shutil.rmtree(context / "b")
        shutil.rmtree(context / "c")
        (context / "c").symlink_to("d")

    def vanish(_: Path) -> None:
        shutil.rmtree(context / "d/e")

    error = pack(context, spool, {"a": meddle, "d/3": vanish})
    assert told(error, context) == [
        "a cannot be opened: No such file or directory",
        "b cannot be read: No such file or directory",
        "d/e cannot be read: No such file or directory",
    ]
    assert "readable" in error.hint
    assert isinstance(error.__cause__, SourceError)


def test_a_folder_that_vanishes_or_is_a_file_when_it_is_opened_is_told(
    context: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make({b"%d/f" % number: File() for number in range(4)} | {b"z": File()}, context)
    enter = Root.enter

    def meddling(self: Root, path: str) -> tuple[list[str], os.stat_result]:
        if path in {"0", "1", "2"}:
            shutil.rmtree(context / path)
        if path == "1":
            (context / path).write_bytes(b"")
        if path == "2":
            (context / path).symlink_to("3")
        return enter(self, path)

    monkeypatch.setattr(Root, "enter", meddling)
    assert told(pack(context, spool), context) == [
        "the folder 0 cannot be listed: No such file or directory",
        "the folder 1 cannot be listed: Not a directory",
        "the folder 2 cannot be listed: Not a directory",
    ]


def test_what_may_not_be_read_is_told_all_at_once() -> None:
    with TemporaryDirectory() as folder:
        context = Path(folder)
        context.chmod(0o755)
        make({b"a": File(mode=0), b"b/file": File(), b"c/file": File(), b"d": File()}, context)
        make({b"e": File(mode=0)}, context)
        (context / "b").chmod(0)
        (context / "c").chmod(0o444)
        with another_user(), Spool() as spool:
            lines = told(pack(context, spool), context)
        for name in "bc":
            (context / name).chmod(0o700)
    assert lines == [
        "a cannot be opened: Permission denied",
        "the folder b cannot be listed: Permission denied",
        "c/file cannot be read: Permission denied",
        "e cannot be opened: Permission denied",
    ]


@pytest.mark.parametrize(("count", "more"), [(2, 0), (10, 0), (11, 1), (1_000, 990)])
def test_ten_are_told_and_the_others_counted(
    context: Path, spool: Spool, count: int, more: int
) -> None:
    make({b"%04d" % number: File() for number in range(count)}, context)

    root = Root(context)
    found = list(walk(root, read_rules(root), on_event=ignore_events))
    for file in context.iterdir():
        file.unlink()
    with pytest.raises(SourceError) as raised:
        pack_entries(found, root, spool, on_event=ignore_events)
    first, *lines = raised.value.message.split("\n")
    assert first == f"{count} paths cannot be packed:"
    assert lines[:10] == [
        f"  {context}/{number:04} cannot be opened: No such file or directory"
        for number in range(min(count, 10))
    ]
    assert lines[10:] == ([f"  and {more} more"] if more else [])


def test_no_more_of_them_are_held_than_are_told() -> None:
    problems = Problems()
    assert not problems
    for number in range(1_000):
        problems.add(SourceError(f"{number}"))
    assert len(problems._first) == 10
    with pytest.raises(SourceError, match="and 990 more"):
        problems.raise_as_one()


def test_after_the_first_nothing_is_read_and_nothing_written(
    context: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make({b"a": File(), b"b": File(os.urandom(5 * MEBIBYTE)), b"c/d": File(b"content")}, context)
    monkeypatch.setattr(os, "readv", lambda *_: pytest.fail("a file is read"))
    error = pack(context, spool, {"a": Path.unlink})
    assert error.message == f"{context}/a cannot be opened: No such file or directory"
    assert spool.written < 100


def test_looking_on_is_told_like_packing(context: Path, spool: Spool) -> None:
    make({b"%04d" % number: File() for number in range(600)} | {b"a": File()}, context)
    os.mkfifo(context / "fifo")
    events: list[Event] = []
    pack(context, spool, {"0000": Path.unlink}, events.append)
    entries = [event.entries for event in events if isinstance(event, Progress)]
    assert entries == [256, 512]
    assert [event.path for event in events if isinstance(event, LeftOut)] == ["fifo"]


class Stop(BaseException):
    """What a signal raises."""


@pytest.mark.parametrize("error", [Stop(), SpoolError("full")], ids=["signal", "disk"])
def test_what_ends_a_build_at_once_does_so_while_it_looks_on(
    context: Path, spool: Spool, error: BaseException
) -> None:
    make({b"%04d" % number: File() for number in range(600)}, context)

    def watch(event: Event) -> None:
        assert isinstance(event, Progress)
        raise error

    def entries() -> Iterator[Entry]:
        for entry in e2b_upload.collect(context):
            (context / entry.path).unlink()
            yield entry

    with pytest.raises(type(error)) as raised:
        pack_entries(entries(), Root(context), spool, on_event=watch)
    assert raised.value is error


@pytest.mark.parametrize("count_first", [False, True])
def test_counting_first_hides_nothing(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, count_first: bool
) -> None:
    make({b"a": File(b"a"), b"b/c": File(b"c"), b"d": File(b"d"), b"e/f": File()}, context)
    events: list[Event] = []

    def listing(descriptor: int) -> list[str]:
        if os.fstat(descriptor).st_ino in closed:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor)

    closed = {(context / name).stat().st_ino for name in "be"}
    real = os.listdir
    monkeypatch.setattr(os, "listdir", listing)
    with pytest.raises(SourceError) as raised:
        e2b_upload.pack(context, tmp_path / "out", count_first=count_first, on_event=events.append)
    assert told(raised.value, context) == [
        f"the folder {name} cannot be listed: Input/output error" for name in "be"
    ]
    assert not (tmp_path / "out").exists()
    counted = [event.done for event in events if isinstance(event, Finished)]
    assert counted == ([2] if count_first else [])


def test_collecting_gives_all_that_it_can_and_tells_the_rest_at_the_end(context: Path) -> None:
    make(
        {b"a": Folder(), b"b": Folder(), b"c": File(), b"d/e": File(), b"f": Symlink(b"x")}, context
    )
    entries = e2b_upload.collect(context)
    assert next(entries).path == "a"
    shutil.rmtree(context / "b")
    (context / "f").unlink()
    got: list[str] = []
    with pytest.raises(SourceError) as raised:
        got.extend(entry.path for entry in entries)
    assert got == ["c", "d", "d/e"]
    assert told(raised.value, context) == [
        f"{name} cannot be read: No such file or directory" for name in "bf"
    ]
    assert next(entries, None) is None


@pytest.mark.parametrize("said", [b"", b"c", b"content", b"more than the file held"])
def test_a_fifo_that_somebody_writes_to_is_not_waited_for(
    context: Path, spool: Spool, said: bytes
) -> None:
    make({b"file": File(b"content")}, context)
    held = []

    def become(path: Path) -> None:
        become_a_fifo(path)
        held.append(os.open(path, os.O_RDWR))
        os.write(held[0], said)

    error = pack(context, spool, {"file": become})
    assert error.message == f"{context}/file {CHANGED.format(0)}"
    os.close(held[0])


# Folders that are deeper than the walk holds open


def chain(context: Path, depth: int) -> Path:
    """Make a chain of folders, each with a file that comes after the next folder."""
    folder = context
    for _ in range(depth):
        folder = folder / "d"
        folder.mkdir()
        (folder / "file").write_bytes(b"content")
    return folder


def test_a_deep_folder_that_is_renamed_is_gone_on_with(context: Path, tmp_path: Path) -> None:
    deepest = chain(context, 200)

    def rename(event: Event) -> None:
        if isinstance(event, LeftOut):
            context.rename(tmp_path / "renamed")
            context.mkdir()

    os.mkfifo(deepest / "fifo")
    archive = e2b_upload.pack(context, os.devnull, on_event=rename)
    assert (archive.files, archive.directories) == (200, 200)


@pytest.mark.parametrize("instead", [False, True], ids=["removed", "another is there"])
def test_a_deep_folder_that_is_not_found_again_is_told_and_gone_past(
    context: Path, spool: Spool, tmp_path: Path, *, instead: bool
) -> None:
    deepest = chain(context, 100)
    make({b"z": File(b"content")}, context)
    lost = context.joinpath(*["d"] * 20)

    def move(event: Event) -> None:
        """Move what is below one of the folders that are closed by now, and remove that one."""
        if isinstance(event, LeftOut):
            (lost / "d").rename(tmp_path / "elsewhere")
            lost.rename(tmp_path / "lost")
            if instead:
                lost.mkdir()

    os.mkfifo(deepest / "fifo")
    error = pack(context, spool, {"z": Path.unlink}, move)
    assert told(error, context) == [
        f"the folder {'/'.join(['d'] * 20)} was replaced while it was packed",
        "z cannot be opened: No such file or directory",
    ]


def test_a_link_that_vanishes_before_it_is_read_is_told(
    context: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make({b"a": Symlink(b"b"), b"c": File(b"content")}, context)
    readlink = Root.readlink

    def meddling(self: Root, name: str) -> str:
        (context / name).unlink()
        return readlink(self, name)

    monkeypatch.setattr(Root, "readlink", meddling)
    assert told(pack(context, spool, {"c": Path.unlink}), context) == [
        "a cannot be read: No such file or directory",
        "c cannot be opened: No such file or directory",
    ]
