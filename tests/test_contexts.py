"""Contexts of all kinds, through the real command line: each is packed as its user expects."""

import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

import e2b_upload
from e2b_upload.context import collect
from e2b_upload.events import Event, LeftOut, Started
from tests.cli.harness import Ended, Place

ANOTHER_DISK: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place.furnish(tmp_path)
    yield place
    assert place.left_behind() == []


def packed(ended: Ended) -> list[str]:
    """Return the names in the archive that a command wrote to standard output."""
    assert ended.code == 0, ended.err
    with tarfile.open(fileobj=io.BytesIO(ended.out)) as tar:
        return tar.getnames()


def build(place: Place, context: str, *more: str, **options: str) -> list[str]:
    return packed(place.run("build", context, "--dry-run", "-o", "-", *more, **options))  # type: ignore[arg-type]


def content(archive: Path) -> dict[str, bytes | None]:
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() if file else None for name, file in files.items()}


# The archive's own place


@pytest.mark.parametrize("output", ["ctx/out", "link/out", "ctx/b/../out", "to-out"])
@pytest.mark.parametrize("before", [None, b"before"], ids=["new", "replaced"])
def test_an_archive_in_its_context_is_no_part_of_it(
    place: Place, output: str, before: bytes | None
) -> None:
    place.write("ctx/b/c", b"c")
    (place.path / "link").symlink_to("ctx")
    (place.path / "to-out").symlink_to("ctx/out")
    if before:
        place.write("ctx/out", before)
    for there in (before is not None, True):
        ended = place.run("build", "ctx", "--dry-run", "-o", output)
        assert ended.code == 0, ended.err
        assert ("left out out: it is the archive itself" in ended.err) == there
        assert content(place.path / "ctx/out") == {"a": b"a\n", "b": None, "b/c": b"c"}
    assert sorted(os.listdir(place.path / "ctx")) == ["a", "b", "out"]


def test_only_the_name_that_is_replaced_is_left_out_not_the_file(place: Place) -> None:
    """Its other names are still there when the archive is."""
    place.write("ctx/b/out", b"mine")
    os.link(place.path / "ctx/b/out", place.path / "ctx/out")
    os.link(place.path / "ctx/b/out", place.path / "ctx/z")
    ended = place.run("build", "ctx", "--dry-run", "-o", "ctx/out")
    assert "left out out: it is the archive itself" in ended.err
    with tarfile.open(place.path / "ctx/out") as tar:
        assert tar.getnames() == ["a", "b", "b/out", "z"]
        assert tar.getmember("z").linkname == "b/out"
    assert (place.path / "ctx/b/out").read_bytes() == b"mine"


def test_a_followed_link_to_the_archive_is_left_out_too(place: Place) -> None:
    place.write("ctx/out", b"before")
    (place.path / "ctx/link").symlink_to("out")
    os.link(place.path / "ctx/out", place.path / "ctx/other")
    place.run("build", "ctx", "--dry-run", "--follow-symlinks", "-o", "ctx/out")
    assert content(place.path / "ctx/out") == {"a": b"a\n", "other": b"before"}


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [
        ("new/", 4, "new/: there is no such folder"),
        ("new/.", 4, "new/.: there is no such folder"),
        ("new/..", 4, "new/..: there is no such folder"),
        ("file/", 4, "file/: there is no such folder"),
        ("new/out", 4, "new/out: there is no such folder"),
        ("ctx/", 4, "ctx/: it is a folder"),
    ],
)
def test_an_archive_is_kept_in_a_folder_that_is_there(
    place: Place, output: str, code: int, words: str
) -> None:
    place.write("file", b"before")
    ended = place.run("build", "ctx", "--dry-run", "--json", "-o", output)
    error = ended.told(code)
    assert words in error["message"]
    assert "-o" in error["hint"]
    assert not (place.path / "new").exists()
    assert (place.path / "file").read_bytes() == b"before"


@pytest.mark.parametrize("spool", ["spool", "/dev/shm"], ids=["beside", "another disk"])
@pytest.mark.parametrize("mode", [None, 0o600, 0o640, 0o777])
def test_who_may_read_the_archive_is_who_might_before(
    place: Place, mode: int | None, spool: str
) -> None:
    if mode is not None:
        place.write("out", b"before").chmod(mode)
    where = spool if os.path.isdir(place.path / spool) else "tmp"
    ended = place.run(
        *("build", "ctx", "--dry-run", "-o", "out", "--spool-dir", where),
        sh='umask 027; exec "$0" "$@"',
    )
    assert ended.code == 0, ended.err
    assert stat.S_IMODE((place.path / "out").stat().st_mode) == (0o640 if mode is None else mode)


def test_a_spool_in_the_context_is_no_part_of_it(place: Place) -> None:
    assert build(place, ".", "--spool-dir", "spool", "-x", "ctx") == ["home", "spool", "tmp"]


# The context's own path


@pytest.mark.parametrize("context", ["link", "link/", "link/.", "./ctx/", "ctx/b/..", "link/b/.."])
def test_a_context_may_be_named_in_many_ways(place: Place, context: str) -> None:
    place.write("ctx/b/c", b"c")
    (place.path / "link").symlink_to("ctx")
    assert build(place, context) == ["a", "b", "b/c"]


def test_a_path_goes_through_a_link_to_where_the_system_does(place: Place) -> None:
    place.write("elsewhere/b/c", b"c")
    (place.path / "ctx/link").symlink_to("../elsewhere/b")
    assert build(place, "ctx/link/..") == ["b", "b/c"]


@pytest.mark.parametrize("target", ["nowhere", "link", "ctx/a"], ids=["dangling", "loop", "file"])
def test_a_context_that_is_a_link_to_no_folder_is_2(place: Place, target: str) -> None:
    (place.path / "link").symlink_to(target)
    for name in ("link", "link/"):
        error = place.run("build", name, "--dry-run", "--json").told(2)
        assert error["message"].startswith(f"the context {name} ")
        assert error["hint"]


def test_the_whole_system_may_be_the_context_of_a_tiny_folder(place: Place, tmp_path: Path) -> None:
    """It has more than one file system, and folders that vanish meanwhile."""
    with tempfile.TemporaryDirectory(dir=ANOTHER_DISK) as another:
        for folder in (place.path / "ctx/b", Path(another, "b")):
            folder.mkdir()
            (folder / "c").write_bytes(b"c")
        kept = [str(tmp_path / "ctx/b"), f"{another}/b"]
        place.write("ignore", "\n".join(["*", *(f"!{path}" for path in kept)]).encode())
        names = build(place, "/", "--ignore-file", "ignore")
    expected = {*kept, *(f"{path}/c" for path in kept)}
    expected |= {str(parent) for path in kept for parent in Path(path).parents} - {"/"}
    assert {f"/{name}" for name in names} == expected


def test_an_empty_folder_is_an_empty_archive_if_that_is_allowed(place: Place) -> None:
    (place.path / "empty").mkdir()
    assert build(place, "empty", "--allow-empty") == []
    ended = place.run("build", "empty", "--dry-run", "--allow-empty", "--json")
    assert (ended.json["archive"]["files"], ended.json["archive"]["directories"]) == (0, 0)


def test_a_folder_of_another_file_system_is_like_any_other(place: Place) -> None:
    with tempfile.TemporaryDirectory(dir=ANOTHER_DISK) as context:
        Path(context, "b").mkdir()
        Path(context, "b/c").write_bytes(b"c")
        os.link(Path(context, "b/c"), Path(context, "d"))
        os.symlink("d", Path(context, "e"))
        assert build(place, context) == ["b", "b/c", "d", "e"]


MOUNTED: Final = """
mount -t tmpfs none ctx/tmpfs && echo >ctx/tmpfs/inside &&
mount --bind bound ctx/bind && exec "$0" "$@"
"""


def test_what_is_mounted_in_a_context_is_part_of_it(place: Place) -> None:
    """As to tar, and to Docker. Where nothing may be mounted, what is below is what there is."""
    for name in ("ctx/tmpfs/below", "ctx/bind/below", "bound/inside"):
        place.write(name, b"")
    unshare = ["unshare", "--map-root-user", "--mount"]
    trial = [*unshare, "sh", "-c", MOUNTED, "true"]
    may = not subprocess.run(trial, cwd=place.path, capture_output=True, check=False).returncode
    sh = f'exec {" ".join(unshare)} sh -c \'{MOUNTED}\' "$0" "$@"' if may else ""
    what = "inside" if may else "below"
    assert build(place, "ctx", sh=sh) == [*("a", "bind", f"bind/{what}", "tmpfs", f"tmpfs/{what}")]


# Depth and length


@contextmanager
def deep(folder: Path, name: str, depth: int) -> Iterator[int]:
    """Make folders in one another, with a file in each; give a descriptor of the last."""
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


@pytest.mark.parametrize("follow", [[], ["--follow-symlinks"]], ids=["", "following"])
def test_a_thousand_levels_of_folders(place: Place, follow: list[str]) -> None:
    (place.path / "ctx/a").unlink()
    with deep(place.path / "ctx", "d", 1_000):
        names = build(place, "ctx", *follow)
    folders = ["/".join(["d"] * depth) for depth in range(1, 1_001)]
    assert names == [*folders, *(f"{path}/z" for path in reversed(folders[:-1])), "z"]


@pytest.mark.parametrize("follow", [[], ["--follow-symlinks"]], ids=["", "following"])
def test_a_context_with_a_path_longer_than_the_system_takes(
    place: Place, follow: list[str]
) -> None:
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
        assert build(place, context, *follow) == [".dockerignore", "b", "b/file", "up"]
        assert build(place, f"ctx{context.removeprefix(str(place.path / 'ctx'))}")

        error = place.run("build", f"{context}/no", "--dry-run", "--json").told(2)
        assert error["message"].endswith("/no does not exist")

        before = os.open(".", os.O_RDONLY)
        os.fchdir(at)
        try:
            found = [entry.path for entry in e2b_upload.collect(".", follow_symlinks=bool(follow))]
        finally:
            os.fchdir(before)
            os.close(before)
        assert found == [".dockerignore", "b", "b/file", "up"]


def test_a_name_that_no_system_has_is_said_to_be_too_long(place: Place) -> None:
    error = place.run("build", "n" * 5_000, "--dry-run", "--json").told(2)
    assert error["message"].endswith("cannot be opened: File name too long")


# A context that moves


def test_a_context_that_is_renamed_while_it_is_packed_is_packed(tmp_path: Path) -> None:
    context = tmp_path / "context"
    for name in ("a", "b/c", "d/e"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    os.mkfifo(context / "aa")

    def replace(event: Event) -> None:
        if isinstance(event, LeftOut):
            context.rename(tmp_path / "renamed")
            context.mkdir()
            (context / "b").write_text("another")

    e2b_upload.pack(context, tmp_path / "out", on_event=replace)
    assert content(tmp_path / "out") == {
        "a": b"a",
        "b": None,
        "b/c": b"b/c",
        "d": None,
        "d/e": b"d/e",
    }


def test_a_context_that_vanishes_before_it_is_packed_is_told(tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "a").mkdir(parents=True)

    def remove(event: Event) -> None:
        if isinstance(event, Started) and event.step == "pack":
            shutil.rmtree(context)

    with pytest.raises(e2b_upload.SourceError, match="context/ cannot be listed: No such file"):
        e2b_upload.pack(context, tmp_path / "out", count_first=True, on_event=remove)
    assert not (tmp_path / "out").exists()


# Links that are followed


def test_links_that_lead_everywhere_in_2_to_the_n_ways_are_an_error(place: Place) -> None:
    """Each folder has two links to the next: 2 to the 60th ways to the last."""
    for number in range(60):
        folder = place.path / f"ctx/{number:02}"
        folder.mkdir()
        for name in ("x", "y"):
            (folder / name).symlink_to(f"../{number + 1:02}")
    place.write("ctx/60/file", b"")
    assert len(build(place, "ctx")) == 3 * 60 + 3

    error = place.run("build", "ctx", "--dry-run", "--json", "--follow-symlinks").told(3)
    assert error["message"].startswith("ctx/00/x/x/")
    assert error["message"].endswith("leads to a folder that links led to 1,000 times already")
    assert ".dockerignore" in error["hint"]
    assert "--follow-symlinks" in error["hint"]


def test_a_folder_that_is_linked_to_from_many_places_is_copied_to_each(place: Place) -> None:
    place.write("ctx/shared/file", b"")
    for number in range(collect.MOST_WAYS):
        (place.path / f"ctx/{number}").symlink_to("shared")
    assert len(build(place, "ctx", "--follow-symlinks")) == 2 * collect.MOST_WAYS + 3


@pytest.mark.parametrize("link", ["0", "n", "z"])
def test_a_followed_link_to_a_file_of_several_names_is_a_hard_link(place: Place, link: str) -> None:
    place.write("ctx/b", b"content")
    os.link(place.path / "ctx/b", place.path / "ctx/m")
    (place.path / "ctx" / link).symlink_to("b")
    (place.path / "ctx/zz").symlink_to("m")
    ended = place.run("build", "ctx", "--dry-run", "--json", "--follow-symlinks")
    archive = ended.json["archive"]
    assert (archive["files"], archive["hardlinks"], archive["symlinks"]) == (2, 3, 0)
    assert archive["content_bytes"] == len(b"a\ncontent")


# What cannot be read


def test_all_that_cannot_be_read_is_told_at_once(place: Place) -> None:
    for number in range(10):
        place.write(f"ctx/d{number}/{number}", b"").chmod(0)
    place.write("ctx/closed/file", b"")
    (place.path / "ctx/closed").chmod(0)
    place.write("ctx/\x1b[2J", b"").chmod(0)
    ended = place.run("build", "ctx", "--dry-run", "--json", "-o", "out", privileged=False)
    (place.path / "ctx/closed").chmod(0o700)
    first, *lines = ended.told(3)["message"].split("\n")
    assert first == "12 paths cannot be packed:"
    assert lines == [
        r"  ctx/\x1b[2J cannot be opened: Permission denied",
        "  the folder ctx/closed cannot be listed: Permission denied",
        *(f"  ctx/d{n}/{n} cannot be opened: Permission denied" for n in range(8)),
        "  and 2 more",
    ]
    assert ended.lines[-13:] == [
        "error: 12 paths cannot be packed:",
        *lines,
        "  Make it readable for this user, or exclude it in .dockerignore.",
    ]
    assert not (place.path / "out").exists()
