"""A directory and its rules become entries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import e2b_upload
from e2b_upload.context.collect import Entry
from e2b_upload.context.dockerignore import MAX_FILE_BYTES
from e2b_upload.context.root import Root
from e2b_upload.events import Event, Finished
from tests.archive.users import another_user


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
    with another_user(), pytest.raises(e2b_upload.SourceError, match="closed cannot be listed"):
        paths(open_folder)
    for text in ("closed\n", "closed\n!closed/y\n", "closed\n!**/y\n"):
        ignore.write_text(text)
        with another_user():
            assert paths(open_folder) == [".dockerignore", "a"]
    (open_folder / "closed").chmod(0o755)


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


def test_wrong_arguments_are_usage_errors(tmp_path: Path) -> None:
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
    with another_user():
        for context in ("d", "ctx", "closed"):
            with pytest.raises(e2b_upload.SourceError, match=context) as error:
                e2b_upload.collect(open_folder / context)
            assert error.value.hint
    (open_folder / "closed").chmod(0o755)


def test_a_file_in_a_folder_that_became_a_link_is_not_packed(tmp_path: Path) -> None:
    fill(tmp_path, "ctx/d/0", "ctx/d/1", "secret/0", "secret/1")

    def swap(event: Event) -> None:
        if isinstance(event, Finished) and event.step == "collect":
            (tmp_path / "ctx/d").rename(tmp_path / "old")
            (tmp_path / "ctx/d").symlink_to(tmp_path / "secret")

    archive = e2b_upload.pack(tmp_path / "ctx", os.devnull, count_first=True, on_event=swap)
    assert (archive.files, archive.symlinks) == (0, 1)


@pytest.mark.parametrize("writer", [False, True], ids=["no writer", "a writer"])
def test_an_ignore_file_that_is_a_fifo_is_an_error(tmp_path: Path, *, writer: bool) -> None:
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
    for name in ("é.txt", "ü", "\udcff", "z"):
        (tmp_path / name).write_text("")
    (tmp_path / ".dockerignore").write_text("?.txt\n")
    script = (
        "import sys, e2b_upload; print(ascii([e.path for e in e2b_upload.collect(sys.argv[1])]))"
    )
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script, os.fspath(tmp_path)],
        env={"PATH": os.environ["PATH"], **locale},
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout == ascii([".dockerignore", "z", "ü", "\udcff"]) + "\n"
