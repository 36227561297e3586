"""A context without entries is an error, unless the caller allows an empty archive."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import tarfile
from typing import TYPE_CHECKING

import pytest

import e2b_upload
from e2b_upload.events import Finished
from tests.cli.cases import STORED
from tests.cli.harness import Place
from tests.support.rawserver import raw_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from e2b_upload.events import Event
    from tests.support.rawserver import RawServer

CHECK = (
    "Check that CONTEXT is the right directory, or set `allow_empty` to accept an empty archive."
)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "ctx"
    folder.mkdir()
    return folder


@pytest.fixture
def store() -> Iterator[RawServer]:
    with raw_server(STORED) as server:
        yield server


def refused(context: Path, **options: object) -> e2b_upload.SourceError:
    with pytest.raises(e2b_upload.SourceError) as caught:
        e2b_upload.pack(context, io.BytesIO(), **options)  # type: ignore[arg-type]
    return caught.value


def write(context: Path, *names: str) -> None:
    for name in names:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_bytes(b"content")


# Nothing is sent or replaced


def test_an_empty_context_is_not_sent(context: Path, store: RawServer) -> None:
    with pytest.raises(e2b_upload.SourceError, match="is empty"):
        e2b_upload.build(context, store.url + "/k")
    with pytest.raises(e2b_upload.SourceError, match="is empty"):
        asyncio.run(e2b_upload.build_async(context, store.url + "/k"))
    assert store.requests == []


def test_an_empty_context_is_sent_if_that_is_allowed(context: Path, store: RawServer) -> None:
    receipt = e2b_upload.build(context, store.url + "/k", allow_empty=True)
    again = asyncio.run(e2b_upload.build_async(context, store.url + "/k", allow_empty=True))
    assert receipt.archive == again.archive
    assert [request.body_sha256 for request in store.requests] == [receipt.archive.sha256] * 2
    with tarfile.open(fileobj=io.BytesIO(store.requests[0].body)) as tar:
        assert tar.getnames() == []


def test_an_existing_archive_is_not_replaced(tmp_path: Path) -> None:
    place = Place.furnish(tmp_path)
    place.write("kept", b"before")
    args = ["build", "ctx", "--dry-run", "-x", "**", "-o", "kept"]
    error = place.run(*args, "--json").told(3)
    assert error["message"].endswith("by --exclude 1: **")
    check = CHECK.replace("`allow_empty`", "--allow-empty")
    assert error["hint"] == f"Re-include files with a !pattern after it. {check}"
    assert (place.path / "kept").read_bytes() == b"before"
    assert place.left_behind() == []
    e2b_upload.pack(tmp_path / "ctx", tmp_path / "kept", exclude=["**"], allow_empty=True)
    with tarfile.open(place.path / "kept") as tar:
        assert tar.getnames() == []


def test_nothing_is_written_to_a_stream(context: Path) -> None:
    stream = io.BytesIO()
    with pytest.raises(e2b_upload.SourceError):
        e2b_upload.pack(context, stream)
    assert stream.getvalue() == b""


@pytest.mark.parametrize("entry", ["directories", "symlinks", "files"])
def test_one_entry_of_any_kind_is_enough(entry: str, context: Path) -> None:
    path = context / "only"
    if entry == "directories":
        path.mkdir()
    elif entry == "symlinks":
        path.symlink_to("nowhere")
    else:
        path.touch()
    assert getattr(e2b_upload.pack(context, io.BytesIO()), entry) == 1


# What the message says


def test_an_empty_directory_is_named(context: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("ctx")
    for path in (context, tmp_path / "link"):
        error = refused(path, follow_symlinks=True)
        assert error.message == f"the context {path} is empty"
        assert error.hint == CHECK


@pytest.mark.parametrize(
    ("lines", "exclude", "by"),
    [
        ("# all\n\n**\n", [], ".dockerignore line 3: **"),
        ("b", ["*"], "--exclude 1: *"),
        ("b\nd\n.dockerignore", ["c", "a"], "--exclude 2: a"),
        # Later patterns match, too, but there was nothing left to exclude.
        ("*\nb\nd/e\n**/*", ["a"], ".dockerignore line 1: *"),
        # An exception took entries back, and a later pattern excluded them again.
        ("*\n!a\n!d\nb\n[a]\nd", ["a"], ".dockerignore line 6: d"),
        ("*\n!nowhere\n!d/nothing", [], ".dockerignore line 1: *"),
        ("*\n!d/e/g\nb\n**/g\nd", [], ".dockerignore line 4: **/g"),
    ],
)
def test_the_pattern_that_excludes_the_last_entries_is_named(
    lines: str, exclude: list[str], by: str, context: Path
) -> None:
    write(context, "a", "b", "c", "d/e/g")
    (context / ".dockerignore").write_text(lines)
    error = refused(context, exclude=exclude)
    assert error.message == (
        f"nothing to archive in the context {context}: the last entries are excluded by {by}"
    )
    assert error.hint == f"Re-include files with a !pattern after it. {CHECK}"


def test_an_ignore_file_from_elsewhere_is_named(context: Path, tmp_path: Path) -> None:
    write(context, "a")
    (tmp_path / "rules\x1b").write_bytes(b"a")
    error = refused(context, ignore_file=tmp_path / "rules\x1b")
    assert error.message.endswith(f"by {tmp_path}/rules\\x1b line 1: a")
    error = refused(context, ignore_file=io.BytesIO(b"\n\xff\na"))
    assert error.message.endswith("by the ignore file line 3: a")
    error = refused(context, no_ignore=True, exclude=["x", "a"])
    assert error.message.endswith("by --exclude 2: a")


def test_what_was_skipped_is_named(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(context / "fifo")
    os.mkfifo(context / "other")
    monkeypatch.chdir(context)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    with pytest.raises(e2b_upload.SourceError) as caught:
        e2b_upload.pack(context, context / "out")
    expected = f"nothing to archive in the context {context}: skipped 2 FIFOs and 1 socket"
    assert caught.value.message == expected
    assert caught.value.hint == CHECK
    write(context, "x")
    error = refused(context, exclude=["x"])
    assert error.message == f"{expected}; the last entries are excluded by --exclude 1: x"


def test_an_archive_alone_in_its_context_is_not_replaced(context: Path) -> None:
    (context / "out").write_bytes(b"before")
    for count_first in (False, True):
        with pytest.raises(e2b_upload.SourceError) as caught:
            e2b_upload.pack(context, context / "out", count_first=count_first)
        assert caught.value.message.endswith(": skipped the archive itself")
    assert (context / "out").read_bytes() == b"before"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda context: write(context, "late"), "had no entries when it was packed"),
        (lambda context: context.rmdir(), "cannot be listed: No such file"),
    ],
    ids=["filled", "removed"],
)
def test_a_context_may_change_before_the_reason_is_found(
    change: Callable[[Path], object], words: str, context: Path
) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, Finished):
            change(context)

    error = refused(context, on_event=on_event)
    assert words in error.message
    assert error.hint


def test_a_denied_credential_is_the_reason(context: Path) -> None:
    (context / ".env").write_text("PASSWORD=pa55word-for-nobody\n")
    assert "looks like" in refused(context, secrets="deny").message
