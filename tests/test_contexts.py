"""Unusual contexts and outputs: each is packed as its user expects."""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

import e2b_upload
from e2b_upload.context import collect
from e2b_upload.events import Event, LeftOut, Started
from tests.cli.harness import Place

ANOTHER_DISK: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place.furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    yield place
    assert place.left_behind() == []


def names(context: str | Path, **options: Any) -> list[str]:
    """Pack a context and return the names in the archive."""
    archive = io.BytesIO()
    e2b_upload.pack(context, archive, **options)
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        return tar.getnames()


def content(archive: Path) -> dict[str, bytes | None]:
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() if file else None for name, file in files.items()}


# The path of the archive


@pytest.mark.parametrize("output", ["ctx/out", "link/out", "ctx/b/../out", "to-out"])
def test_an_archive_in_its_context_is_not_part_of_it(place: Place, output: str) -> None:
    place.write("ctx/b/c", b"c")
    (place.path / "link").symlink_to("ctx")
    (place.path / "to-out").symlink_to("ctx/out")
    for there in (False, True):
        events: list[Event] = []
        e2b_upload.pack("ctx", output, on_event=events.append)
        assert (LeftOut(path="out", what="archive") in events) == there
        assert content(place.path / "ctx/out") == {"a": b"a\n", "b": None, "b/c": b"c"}
    assert sorted(os.listdir(place.path / "ctx")) == ["a", "b", "out"]


@pytest.mark.usefixtures("place")
def test_only_the_name_that_is_replaced_is_skipped(place: Place) -> None:
    """The other names of the file are still there when the archive is."""
    place.write("ctx/b/out", b"mine")
    for name in ("out", "z"):
        os.link(place.path / "ctx/b/out", place.path / "ctx" / name)
    (place.path / "ctx/link").symlink_to("out")
    e2b_upload.pack("ctx", "ctx/out", follow_symlinks=True)
    with tarfile.open(place.path / "ctx/out") as tar:
        assert tar.getnames() == ["a", "b", "b/out", "z"]
        assert tar.getmember("z").linkname == "b/out"
    assert (place.path / "ctx/b/out").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("new/", "new/: there is no such directory"),
        ("new/..", "new/..: there is no such directory"),
        ("file/", "file/: there is no such directory"),
        ("new/out", "new/out: there is no such directory"),
        ("ctx/", "ctx/: it is a directory"),
    ],
)
def test_the_directory_of_the_archive_must_exist(place: Place, output: str, words: str) -> None:
    place.write("file", b"before")
    with pytest.raises(e2b_upload.SpoolError) as caught:
        e2b_upload.pack("ctx", output)
    assert words in caught.value.message
    assert "`output`" in caught.value.hint
    assert not (place.path / "new").exists()
    assert (place.path / "file").read_bytes() == b"before"


@pytest.mark.usefixtures("place")
def test_a_spool_in_the_context_is_not_part_of_it() -> None:
    assert names(".", spool_dir="spool", exclude=["ctx"]) == ["home", "spool", "tmp"]


# The path of the context


def test_a_context_may_be_named_in_many_ways(place: Place) -> None:
    place.write("ctx/b/c", b"c")
    (place.path / "link").symlink_to("ctx")
    place.write("elsewhere/d/e", b"e")
    (place.path / "to-d").symlink_to("elsewhere/d")
    for context in ("link", "link/", "link/.", "./ctx/", "ctx/b/..", "link/b/.."):
        assert names(context) == ["a", "b", "b/c"]
    assert names("to-d/..") == ["d", "d/e"]  # as the system resolves it


@pytest.mark.parametrize("target", ["nowhere", "link", "ctx/a"], ids=["dangling", "loop", "file"])
def test_a_link_that_does_not_lead_to_a_directory(place: Place, target: str) -> None:
    (place.path / "link").symlink_to(target)
    for name in ("link", "link/"):
        with pytest.raises(e2b_upload.UsageError) as caught:
            names(name)
        assert caught.value.message.startswith(f"the context {name} ")
        assert caught.value.hint


def test_the_root_directory_may_be_the_context(place: Place) -> None:
    """It has more than one file system, and directories that vanish meanwhile."""
    with tempfile.TemporaryDirectory(dir=ANOTHER_DISK) as another:
        for folder in (place.path / "ctx/b", Path(another, "b")):
            folder.mkdir()
            (folder / "c").write_bytes(b"c")
        kept = [str(place.path / "ctx/b"), f"{another}/b"]
        place.write("ignore", "\n".join(["*", *(f"!{path}" for path in kept)]).encode())
        found = names("/", ignore_file="ignore")
        assert names(another) == ["b", "b/c"]
    expected = {*kept, *(f"{path}/c" for path in kept)}
    expected |= {str(parent) for path in kept for parent in Path(path).parents} - {"/"}
    assert {f"/{name}" for name in found} == expected


# Deep directories


@contextmanager
def deep(folder: Path, name: str, depth: int) -> Iterator[int]:
    """Make nested directories, each with a file z; yield a descriptor of the last."""
    at = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.close(os.open("z", os.O_CREAT | os.O_WRONLY, dir_fd=at))
            os.mkdir(name, dir_fd=at)
            below = os.open(name, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)
        # shutil.rmtree goes no deeper than Python's stack.
        subprocess.run(["rm", "-rf", folder / name], check=True)


@pytest.mark.parametrize("follow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_thousand_levels_of_directories(place: Place, *, follow: bool) -> None:
    (place.path / "ctx/a").unlink()
    with deep(place.path / "ctx", "d", 1_000):
        found = names("ctx", follow_symlinks=follow)
    folders = ["/".join(["d"] * depth) for depth in range(1, 1_001)]
    assert found == [*folders, *(f"{path}/z" for path in reversed(folders[:-1])), "z"]


@pytest.mark.parametrize("follow", [False, True], ids=["links", "followed"])
def test_a_context_with_a_path_longer_than_the_system_takes(place: Place, *, follow: bool) -> None:
    with deep(place.path / "ctx", "n" * 250, 20) as at:
        os.mkdir("b", dir_fd=at)
        for name in ("b/file", ".dockerignore", "ignored"):
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=at))
        ignore = os.open(".dockerignore", os.O_WRONLY, dir_fd=at)
        os.write(ignore, b"ignored\n")
        os.close(ignore)
        os.symlink("..", "up", dir_fd=at)
        context = "/".join([str(place.path / "ctx"), *["n" * 250] * 20])
        assert len(context) > 4_096
        assert names(context, follow_symlinks=follow) == [".dockerignore", "b", "b/file", "up"]
        with pytest.raises(e2b_upload.UsageError, match=r"/no does not exist$"):
            names(f"{context}/no")
        os.fchdir(at)
        assert names(".", follow_symlinks=follow) == [".dockerignore", "b", "b/file", "up"]


@pytest.mark.usefixtures("place")
def test_a_name_that_is_too_long() -> None:
    with pytest.raises(e2b_upload.UsageError, match=r"cannot be opened: File name too long$"):
        names("n" * 5_000)


# A context that moves


def test_a_context_that_vanishes_before_it_is_packed(tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "a").mkdir(parents=True)

    def remove(event: Event) -> None:
        if isinstance(event, Started) and event.step == "pack":
            shutil.rmtree(context)

    with pytest.raises(e2b_upload.SourceError, match="context/ cannot be listed: No such file"):
        e2b_upload.pack(context, tmp_path / "out", count_first=True, on_event=remove)
    assert not (tmp_path / "out").exists()


# Links that are followed


def test_links_that_multiply_are_an_error(place: Place) -> None:
    """Each directory has two links to the next: 2 to the 60th ways to the last."""
    for number in range(60):
        folder = place.path / f"ctx/{number:02}"
        folder.mkdir()
        for name in ("x", "y"):
            (folder / name).symlink_to(f"../{number + 1:02}")
    place.write("ctx/60/file", b"")
    assert len(names("ctx")) == 3 * 60 + 3

    with pytest.raises(e2b_upload.SourceError) as caught:
        names("ctx", follow_symlinks=True)
    message = caught.value.message
    assert message.startswith("ctx/00/x/x/")
    assert message.endswith("leads to a folder that links led to 1,000 times already")
    assert ".dockerignore" in caught.value.hint
    assert "`follow_symlinks`" in caught.value.hint


def test_a_directory_with_many_links_to_it_is_copied_to_each(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "MOST_WAYS", 20)
    place.write("ctx/shared/file", b"")
    for number in range(20):
        (place.path / f"ctx/{number}").symlink_to("shared")
    assert len(names("ctx", follow_symlinks=True)) == 2 * 20 + 3
    (place.path / "ctx/20").symlink_to("shared")
    with pytest.raises(e2b_upload.SourceError):
        names("ctx", follow_symlinks=True)


@pytest.mark.parametrize("link", ["0", "n", "z"])
def test_a_followed_link_to_a_file_of_several_names_is_a_hard_link(place: Place, link: str) -> None:
    place.write("ctx/b", b"content")
    os.link(place.path / "ctx/b", place.path / "ctx/m")
    (place.path / "ctx" / link).symlink_to("b")
    (place.path / "ctx/zz").symlink_to("m")
    archive = e2b_upload.pack("ctx", os.devnull, follow_symlinks=True)
    assert (archive.files, archive.hardlinks, archive.symlinks) == (2, 3, 0)
    assert archive.content_bytes == len(b"a\ncontent")


# Paths that cannot be read


def test_all_unreadable_paths_are_reported_at_once(place: Place) -> None:
    for number in range(10):
        place.write(f"ctx/d{number}/{number}", b"").chmod(0)
    place.write("ctx/closed/file", b"")
    (place.path / "ctx/closed").chmod(0)
    place.write("ctx/\x1b[2J", b"").chmod(0)
    place.write("ctx/list/file", b"").parent.chmod(0o444)
    ended = place.run("build", "ctx", "--dry-run", "--json", "-o", "out", privileged=False)
    for name in ("closed", "list"):
        (place.path / "ctx" / name).chmod(0o700)
    first, *lines = ended.told(3)["message"].split("\n")
    assert first == "13 paths cannot be packed:"
    assert lines == [
        r"  ctx/\x1b[2J cannot be opened: Permission denied",
        "  the folder ctx/closed cannot be listed: Permission denied",
        *(f"  ctx/d{n}/{n} cannot be opened: Permission denied" for n in range(8)),
        "  and 3 more",
    ]
    assert ended.lines[-13:] == [
        "error: 13 paths cannot be packed:",
        *lines,
        "  Make it readable for this user, or exclude it in .dockerignore.",
    ]
    assert not (place.path / "out").exists()
