"""A directory and its rules become entries."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import e2b_upload
from e2b_upload.context.collect import Entry, read_rules, walk
from e2b_upload.context.dockerignore import MAX_FILE_BYTES
from e2b_upload.context.root import Root
from e2b_upload.events import Event, Finished, LeftOut, ignore_events

NOBODY = 65534


def fill(folder: Path, *paths: str) -> Path:
    for path in paths:
        if path.endswith("/"):
            (folder / path).mkdir(parents=True, exist_ok=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(path)
    return folder


def paths(folder: Path, **options: object) -> list[str]:
    return [entry.path for entry in e2b_upload.collect(folder, **options)]  # type: ignore[arg-type]


def by_path(folder: Path, *, follow_symlinks: bool = False) -> dict[str, Entry]:
    entries = e2b_upload.collect(folder, follow_symlinks=follow_symlinks)
    return {entry.path: entry for entry in entries}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to read everything, where the tests have it."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_directories_come_before_what_they_hold_and_names_in_order(tmp_path: Path) -> None:
    fill(tmp_path, "b/y", "b/x", "a", "b-c", "B", "c/", "é")
    assert paths(tmp_path) == ["B", "a", "b", "b/x", "b/y", "b-c", "c", "é"]


def test_an_entry_says_what_the_file_is(tmp_path: Path) -> None:
    fill(tmp_path, "tool", "d/")
    (tmp_path / "tool").chmod(0o4755)
    (tmp_path / "d").chmod(0o1777)
    (tmp_path / "link").symlink_to("../out/of/here")
    entries = by_path(tmp_path)
    assert entries["tool"][:5] == ("tool", "file", 4, 0o4755, None)
    assert entries["d"][:5] == ("d", "directory", 0, 0o1777, None)
    assert entries["link"][:3] == ("link", "symlink", 0)
    assert entries["link"].target == "../out/of/here"
    assert entries["tool"].stat.st_ino == (tmp_path / "tool").stat().st_ino


def test_links_are_kept_as_links_wherever_they_lead(tmp_path: Path) -> None:
    fill(tmp_path, "d/f")
    for name, target in {
        "dangling": "no",
        "root": "/",
        "loop": "loop",
        "up": "..",
        "in": "d",
    }.items():
        (tmp_path / name).symlink_to(target)
    entries = by_path(tmp_path)
    assert sorted(entries) == ["d", "d/f", "dangling", "in", "loop", "root", "up"]
    assert {entries[name].type for name in ("dangling", "root", "loop", "up", "in")} == {"symlink"}


def test_followed_links_are_what_they_lead_to_and_loops_stay_links(tmp_path: Path) -> None:
    fill(tmp_path, "ctx/d/f", "out/x")
    context = tmp_path / "ctx"
    links = {
        "file": "d/f",
        "folder": "../out",
        "dangling": "no",
        "self": "self",
        "up": "..",
        "d/top": "..",
    }
    for name, target in links.items():
        (context / name).symlink_to(target)
    entries = by_path(context, follow_symlinks=True)
    types = {path: entry.type for path, entry in entries.items()}
    assert types == {
        "d": "directory",
        "d/f": "file",
        "d/top": "symlink",
        "dangling": "symlink",
        "file": "file",
        "folder": "directory",
        "folder/x": "file",
        "self": "symlink",
        "up": "symlink",
    }


def test_later_names_of_a_file_are_hard_links_to_the_first_that_is_kept(tmp_path: Path) -> None:
    fill(tmp_path, "a/one", ".dockerignore")
    for name in ("b", "c", "d"):
        os.link(tmp_path / "a/one", tmp_path / name)
    (tmp_path / ".dockerignore").write_text("a\n")
    entries = by_path(tmp_path)
    assert entries["b"].type == "file"
    assert [(entries[name].type, entries[name].target) for name in "cd"] == [("hardlink", "b")] * 2
    assert entries["c"].size == 0


def test_fifos_sockets_and_devices_are_left_out_and_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    expected = {"fifo": "FIFO", "socket": "socket"}
    if os.geteuid() == 0:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        expected["null"] = "device"
    seen: list[Event] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
        assert list(e2b_upload.collect(tmp_path, on_event=seen.append)) == []
    assert {event.path: event.what for event in seen if isinstance(event, LeftOut)} == expected


def test_excluded_parents_of_what_is_kept_are_entries_and_others_are_not(tmp_path: Path) -> None:
    fill(tmp_path, "a/b/keep", "a/c/gone", "e/", "x")
    (tmp_path / ".dockerignore").write_text("*\n!a/b/keep\n")
    assert paths(tmp_path) == ["a", "a/b", "a/b/keep"]


def test_an_excluded_folder_out_of_reach_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "node_modules/a/x", "src/keep.py", "src/sub/x")
    (tmp_path / ".dockerignore").write_text("node_modules\nsrc/*\n!src/keep.py\n")
    opened: list[str] = []
    real = Root.enter

    def recording(self: Root, path: str) -> tuple[list[str], os.stat_result]:
        opened.append(path)
        return real(self, path)

    monkeypatch.setattr(Root, "enter", recording)
    assert paths(tmp_path) == [".dockerignore", "src", "src/keep.py"]
    assert opened == ["", "src"]


def test_an_excluded_folder_may_be_closed_and_a_kept_one_may_not(open_folder: Path) -> None:
    fill(open_folder, "closed/x", "a")
    ignore = open_folder / ".dockerignore"
    (open_folder / "closed").chmod(0)
    with as_nobody(), pytest.raises(e2b_upload.SourceError, match="closed cannot be listed"):
        paths(open_folder)
    for text in ("closed\n", "closed\n!closed/y\n", "closed\n!**/y\n"):
        ignore.write_text(text)
        with as_nobody():
            assert paths(open_folder) == [".dockerignore", "a"]
    (open_folder / "closed").chmod(0o755)


def test_names_of_all_kinds(tmp_path: Path) -> None:
    names = [
        "new\nline",
        "\x1b[2J",
        " lead",
        "trail ",
        "-x",
        "ü",
        "u\u0308",
        "[bold]",
        "a\\b",
        "é" * 127,
    ]
    raw = [*map(os.fsencode, names), b"\xff\xfe", b"a" * 255]
    for name in raw:
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    assert sorted(map(os.fsencode, paths(tmp_path))) == sorted(raw)


def test_paths_longer_than_the_system_takes_in_one_call(tmp_path: Path) -> None:
    name = "n" * 100
    depth = 60
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.symlink("file", "link", dir_fd=at)
    os.close(at)
    entries = list(e2b_upload.collect(tmp_path))
    assert len(entries) == depth + 2
    assert entries[-1].path == "/".join([name] * depth) + "/link"
    assert entries[-1].target == "file"
    assert entries[-2].type == "file"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [".dockerignore", "b", "other"]),
        ({"no_ignore": True}, [".dockerignore", "a", "b", "other"]),
        ({"exclude": ["b", " other "]}, [".dockerignore"]),
        ({"exclude": ["!a"]}, [".dockerignore", "a", "b", "other"]),
        ({"ignore_file": "other"}, [".dockerignore", "a", "other"]),
        ({"ignore_file": "other", "no_ignore": True}, [".dockerignore", "a", "b", "other"]),
    ],
)
def test_where_the_patterns_come_from(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    expected: list[str],
) -> None:
    fill(tmp_path, "a", "b")
    (tmp_path / ".dockerignore").write_text("a\n")
    (tmp_path / "other").write_text("b\n")
    monkeypatch.chdir(tmp_path)
    assert paths(tmp_path, **options) == expected


def test_a_missing_context_or_ignore_file_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "large").write_bytes(b"a\n" * MAX_FILE_BYTES)
    for context, options, words in [
        (tmp_path / "no", {}, "does not exist"),
        ("zero\0byte", {}, "does not exist"),
        (tmp_path / "file", {}, "is not a directory"),
        (tmp_path, {"ignore_file": tmp_path / "no"}, "no does not exist"),
        (tmp_path, {"ignore_file": tmp_path / "large"}, "is larger than"),
        (tmp_path, {"exclude": ["["]}, "--exclude"),
        (tmp_path, {"exclude": [" "]}, "is empty"),
    ]:
        with pytest.raises(e2b_upload.UsageError, match=words) as error:
            e2b_upload.collect(context, **options)  # type: ignore[arg-type]
        assert error.value.hint


def test_an_ignore_file_or_context_that_cannot_be_read(open_folder: Path) -> None:
    fill(open_folder, "d/.dockerignore/", "ctx/.dockerignore", "closed/")
    (open_folder / "ctx/.dockerignore").chmod(0)
    (open_folder / "closed").chmod(0)
    with as_nobody():
        for context in ("d", "ctx", "closed"):
            with pytest.raises(e2b_upload.SourceError, match=context) as error:
                e2b_upload.collect(open_folder / context)
            assert error.value.hint
    (open_folder / "closed").chmod(0o755)


def test_what_vanishes_meanwhile_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", "c/x")
    for gone in ("b", "c/x"):
        entries = e2b_upload.collect(fill(tmp_path, "a", "b", "c/x"))
        next(entries)
        if gone == "b":
            (tmp_path / "b").unlink()
        else:
            (tmp_path / "c/x").unlink()
            (tmp_path / "c").rmdir()
        with pytest.raises(e2b_upload.SourceError, match=gone.split("/")[0]):
            list(entries)


def test_the_walk_holds_no_list_of_the_context(tmp_path: Path) -> None:
    """The entries before the one in hand are gone."""
    fill(tmp_path, *(f"d{number}/f" for number in range(50)))
    root = Root(tmp_path)
    found = walk(root, read_rules(root), on_event=ignore_events)
    for entry in found:
        state = found.gi_frame.f_locals["self"]  # type: ignore[attr-defined]
        assert len(state._open) <= 2
        assert not state._linked
        del entry


def test_a_folder_that_becomes_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    fill(tmp_path, "ctx/d/1", "ctx/d/2", "ctx/e/1", "secret/1", "secret/2")
    for folder, error in (("d", None), ("e", "e cannot be listed")):
        entries = e2b_upload.collect(tmp_path / "ctx")
        assert [next(entries).path for _ in range(2)] == ["d", "d/1"]
        (tmp_path / "ctx" / folder).rename(tmp_path / f"old-{folder}")
        (tmp_path / "ctx" / folder).symlink_to(tmp_path / "secret")
        inside = (tmp_path / f"old-{folder}/1").stat().st_ino
        if error is None:
            rest = list(entries)
            assert [entry.path for entry in rest] == ["d/2", "e", "e/1"]
            assert rest[0].stat.st_ino == (tmp_path / "old-d/2").stat().st_ino
        else:
            assert "e" in {entry.path for entry in entries if entry.type == "symlink"}
        assert inside
        (tmp_path / "ctx" / folder).unlink()
        (tmp_path / f"old-{folder}").rename(tmp_path / "ctx" / folder)


def test_a_file_in_a_folder_that_became_a_link_is_not_packed(tmp_path: Path) -> None:
    fill(tmp_path, "ctx/d/0", "ctx/d/1", "secret/0", "secret/1")

    def swap(event: Event) -> None:
        if isinstance(event, Finished) and event.step == "collect":
            (tmp_path / "ctx/d").rename(tmp_path / "old")
            (tmp_path / "ctx/d").symlink_to(tmp_path / "secret")

    archive = e2b_upload.pack(tmp_path / "ctx", os.devnull, count_first=True, on_event=swap)
    assert (archive.files, archive.symlinks) == (0, 1)


@pytest.mark.parametrize("writer", [False, True], ids=["nobody writes", "somebody writes"])
def test_an_ignore_file_that_is_a_fifo_is_no_rules_but_an_error(
    tmp_path: Path, *, writer: bool
) -> None:
    os.mkfifo(tmp_path / ".dockerignore")
    held = os.open(tmp_path / ".dockerignore", os.O_RDWR) if writer else None
    with pytest.raises(e2b_upload.SourceError, match="not a regular file"):
        e2b_upload.collect(tmp_path)
    if held is not None:
        os.close(held)


def test_no_folder_stays_open(tmp_path: Path) -> None:
    fill(tmp_path, *("/".join("d" * depth) + "/f" for depth in range(1, 200)))
    before = os.listdir("/dev/fd")
    entries = e2b_upload.collect(tmp_path)
    for _ in range(150):
        next(entries)
        assert len(os.listdir("/dev/fd")) < len(before) + 70
    del entries
    assert os.listdir("/dev/fd") == before
    assert len(paths(tmp_path)) == 398
    assert os.listdir("/dev/fd") == before


def test_any_locale_gives_the_same_entries(tmp_path: Path) -> None:
    names = ["é.txt", "ü", "\udcff", "z"]
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / ".dockerignore").write_text("?.txt\n")
    script = (
        "import sys, e2b_upload;"
        "print([e.path for e in e2b_upload.collect(sys.argv[1])].__repr__().encode('ascii',"
        " 'backslashreplace'))"
    )
    told = []
    for locale in ({"PYTHONUTF8": "1"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        done = subprocess.run(
            [sys.executable, "-c", script, os.fspath(tmp_path)],
            env={"LC_ALL": "C", "PATH": os.environ["PATH"], **locale},
            capture_output=True,
            check=True,
        )
        told.append(done.stdout)
    assert told[0] == told[1]
    assert b"txt" not in told[0]
