"""All problems of a context are reported at once, and nothing is packed after the first."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import e2b_upload
from e2b_upload.archive.pack import PackSettings, pack_entries
from e2b_upload.archive.spool import Spool
from e2b_upload.context.collect import Entry, walk
from e2b_upload.context.problems import Problem
from e2b_upload.context.root import Root
from e2b_upload.context.selection import Selection, read_rules
from e2b_upload.errors import SourceError
from e2b_upload.events import Event, Finished, LeftOut, OnEvent, Progress, ignore_events
from tests.support.trees import SECOND, File, Folder, Symlink, make

if TYPE_CHECKING:
    from tests.support.trees import Tree

BEFORE: Final = 1_000_000_000 * SECOND
MEBIBYTE: Final = 1 << 20


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
        with closing(walk(root, read_rules(root, Selection()), on_event=on_event)) as found:
            for entry in found:
                if isinstance(entry, Entry) and (change := to_come.pop(entry.path, None)):
                    change(context / entry.path)
                yield entry

    with pytest.raises(SourceError) as raised:
        pack_entries(entries(), root, spool, PackSettings(), on_event=on_event)
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


def replace(path: Path) -> None:
    """Put another file of the same size and time there, as rsync may."""
    other = path.with_name("z")
    other.write_bytes(b"another")
    os.utime(other, ns=(BEFORE, BEFORE))
    other.replace(path)


def become_a_socket(path: Path) -> None:
    path.unlink()
    os.mknod(path, stat.S_IFSOCK | 0o600)


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_link(path: Path) -> None:
    target = path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(target)


CHANGED: Final = "changed while it was packed (7 bytes before, {} after)"
SEEN: Final[list[tuple[str, Callable[[Path], None], str]]] = [
    ("a", grow, CHANGED.format(11)),
    ("b", lambda path: os.truncate(path, 3), CHANGED.format(3)),
    ("c", touch, CHANGED.format(7)),
    ("d", replace, CHANGED.format(7)),
    ("e", become_a_fifo, CHANGED.format(0)),
    ("f", become_a_socket, "cannot be opened: No such device or address"),
    ("g", Path.unlink, "cannot be opened: No such file or directory"),
    ("h", become_a_link, "cannot be opened: Too many levels of symbolic links"),
]


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [*SEEN, ("i", become_a_folder, "cannot be read: Is a directory")],
)
def test_a_file_that_changes_after_it_was_collected_is_named(
    context: Path, spool: Spool, path: str, change: Callable[[Path], None], words: str
) -> None:
    make({path.encode(): File(b"content", mtime_ns=BEFORE), b"zz": File()}, context)
    error = pack(context, spool, {path: change})
    assert error.message == f"{context}/{path} {words}"
    assert ".dockerignore" in error.hint


def test_all_changes_are_reported_together(context: Path, spool: Spool) -> None:
    make({path.encode(): File(b"content", mtime_ns=BEFORE) for path, *_ in SEEN}, context)
    error = pack(context, spool, {path: change for path, change, _ in SEEN})
    assert told(error, context) == [f"{path} {words}" for path, _, words in SEEN]


def test_problems_are_reported_in_the_order_of_the_walk(context: Path, spool: Spool) -> None:
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


@pytest.mark.parametrize(("count", "more"), [(10, 0), (11, 1)])
def test_ten_problems_are_named_and_the_others_counted(
    context: Path, spool: Spool, count: int, more: int
) -> None:
    make({b"%04d" % number: File() for number in range(count)}, context)
    root = Root(context)
    found = list(walk(root, read_rules(root, Selection()), on_event=ignore_events))
    for file in context.iterdir():
        file.unlink()
    with pytest.raises(SourceError) as raised:
        pack_entries(found, root, spool, PackSettings(), on_event=ignore_events)
    first, *lines = raised.value.message.split("\n")
    assert first == f"{count} paths cannot be packed:"
    assert lines[:10] == [
        f"  {context}/{number:04} cannot be opened: No such file or directory"
        for number in range(10)
    ]
    assert lines[10:] == ([f"  and {more} more"] if more else [])


def test_after_the_first_problem_nothing_is_read_or_written(
    context: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make({b"a": File(), b"b": File(os.urandom(5 * MEBIBYTE)), b"c/d": File(b"content")}, context)
    monkeypatch.setattr(os, "readv", lambda *_: pytest.fail("a file is read"))
    error = pack(context, spool, {"a": Path.unlink})
    assert error.message == f"{context}/a cannot be opened: No such file or directory"
    assert spool.written < 100


def test_events_continue_after_a_problem(context: Path, spool: Spool) -> None:
    make({b"%04d" % number: File() for number in range(600)} | {b"a": File()}, context)
    os.mkfifo(context / "fifo")
    events: list[Event] = []
    pack(context, spool, {"0000": Path.unlink}, events.append)
    entries = [event.entries for event in events if isinstance(event, Progress)]
    assert entries == [256, 512]
    assert [event.path for event in events if isinstance(event, LeftOut)] == ["fifo"]


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


def test_collect_yields_what_it_can_and_then_reports_the_rest(context: Path) -> None:
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


def test_a_fifo_with_a_writer_does_not_block(context: Path, spool: Spool) -> None:
    make({b"file": File(b"content")}, context)
    held = []

    def become(path: Path) -> None:
        become_a_fifo(path)
        held.append(os.open(path, os.O_RDWR))
        os.write(held[0], b"content")

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


def test_a_deep_directory_may_be_renamed(context: Path, tmp_path: Path) -> None:
    deepest = chain(context, 200)

    def rename(event: Event) -> None:
        if isinstance(event, LeftOut):
            context.rename(tmp_path / "renamed")
            context.mkdir()

    os.mkfifo(deepest / "fifo")
    archive = e2b_upload.pack(context, os.devnull, on_event=rename)
    assert (archive.files, archive.directories) == (200, 200)


@pytest.mark.parametrize("instead", [False, True], ids=["removed", "another is there"])
def test_a_deep_directory_that_is_replaced_is_reported(
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


def test_a_link_or_directory_that_vanishes_before_it_is_read(
    context: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree: Tree = {b"a": Symlink(b"b"), b"c": File(), b"d/f": File(), b"e/f": File(), b"f/f": File()}
    make(tree, context)
    readlink, enter = Root.readlink, Root.enter

    def removing(self: Root, name: str) -> str:
        (context / name).unlink()
        return readlink(self, name)

    def replacing(self: Root, path: str) -> tuple[list[str], os.stat_result]:
        if path in {"d", "e"}:
            shutil.rmtree(context / path)
        if path == "e":
            (context / path).symlink_to("f")
        return enter(self, path)

    monkeypatch.setattr(Root, "readlink", removing)
    monkeypatch.setattr(Root, "enter", replacing)
    assert told(pack(context, spool, {"c": Path.unlink}), context) == [
        "a cannot be read: No such file or directory",
        "c cannot be opened: No such file or directory",
        "the folder d cannot be listed: No such file or directory",
        "the folder e cannot be listed: Not a directory",
    ]
