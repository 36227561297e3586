"""The files of a template: after ours, E2B's real SDK finds each COPY already there."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from e2b_upload import (
    Copy,
    RefusedError,
    SourceError,
    UsageError,
    build_template,
    collect_copies,
    explain_copies,
)
from e2b_upload.events import Finished, Started
from tests.support.e2b import sdk_build, standin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2b_upload.events import Event
    from tests.support.e2b import Standin
    from tests.support.seaweed import Seaweed

pytestmark = pytest.mark.real

COPIES = [("src", "/app/src"), ("*.txt", "/app/")]
OURS = [Copy(*copy) for copy in COPIES]
WHOLE = Copy(".", "/app")


@pytest.fixture
def api(s3: Seaweed) -> Iterator[Standin]:
    with standin(s3) as server:
        yield server


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """Make a folder with all that a COPY may meet."""
    folder = tmp_path / "context"
    (folder / "src/deep").mkdir(parents=True)
    (folder / "src/empty").mkdir(mode=0o700)
    (folder / "src/deep/data.bin").write_bytes(os.urandom(3_000_000))
    (folder / "src/run.sh").write_text("#!/bin/sh\n")
    (folder / "src/run.sh").chmod(0o755)
    (folder / "src/twin").hardlink_to(folder / "src/run.sh")
    (folder / "src/link").symlink_to("run.sh")
    (folder / "src/out").symlink_to("../nowhere")
    (folder / "src/naïve 文件").write_text("name\n")
    os.mkfifo(folder / "src/pipe")
    (folder / "notes.txt").write_text("notes\n")
    (folder / ".dot.txt").write_text("dot\n")
    (folder / "left.out").write_text("not copied\n")
    (folder / ".dockerignore").write_text("left.out\n")
    return folder


def build(api: Standin, context: Path, *copies: Copy, name: str = "app", **options: Any) -> Any:
    given = {"api_key": api.key, "api_url": api.url, "retries": 0, **options}
    return build_template(context, name, copies or OURS, **given)


def statuses(receipt: Any) -> list[str]:
    return [each.status for each in receipt.copies]


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("follow", [False, True], ids=["links", "followed"])
def test_after_ours_the_sdk_uploads_nothing(
    api: Standin, context: Path, *, use_async: bool, follow: bool
) -> None:
    template_id = api.add("app")
    ours = build(api, context, follow_symlinks=follow)
    assert ours.template_id == template_id
    assert statuses(ours) == ["uploaded", "uploaded"]
    assert len(api.puts) == 2
    theirs = sdk_build(
        api, context, COPIES, name="app", use_async=use_async, resolve_symlinks=follow
    )
    assert theirs.puts == ()
    assert list(theirs.hashes) == [each.files_hash for each in ours.copies]
    keys = [put.key for put in api.puts]
    assert sorted(keys) == sorted(theirs.keys[each] for each in theirs.hashes)


def test_what_is_present_is_not_packed(api: Standin, context: Path) -> None:
    api.add("app")
    build(api, context)
    again = build(api, context)
    assert (again.status, statuses(again)) == ("present", ["present", "present"])
    assert [each.receipt for each in again.copies] == [None, None]
    (context / "notes.txt").write_text("other notes\n")
    third = build(api, context)
    assert (third.status, statuses(third)) == ("uploaded", ["present", "uploaded"])
    assert len(api.puts) == 3
    assert statuses(build(api, context, force=True)) == ["uploaded", "uploaded"]
    assert len(api.puts) == 5


def test_a_copy_that_is_there_twice_is_put_once(api: Standin, context: Path) -> None:
    api.add("app")
    assert statuses(build(api, context, WHOLE, OURS[0], WHOLE)) == ["uploaded"] * 3
    assert len(api.puts) == 2


def test_a_template_is_requested_where_it_is_wanted(api: Standin, context: Path) -> None:
    with pytest.raises(RefusedError, match="this team has no template 'app'"):
        build(api, context)
    assert build(api, context, create=True, dry_run=True).template_id is None
    assert api.count("request") == 0
    ours = build(api, context, create=True)
    assert sdk_build(api, context, COPIES, name="app").template_id == ours.template_id
    assert len(api.puts) == 2


def test_a_dry_run_puts_nothing(api: Standin, context: Path) -> None:
    api.add("app")
    ours = build(api, context, dry_run=True)
    assert (ours.status, statuses(ours)) == ("dry-run", ["dry-run", "dry-run"])
    assert ours.copies[0].receipt.archive.files == 3
    assert api.puts == []


@pytest.mark.parametrize("change", ["content", "mode", "one more"])
def test_what_changes_after_hashing_is_never_stored(
    api: Standin, context: Path, change: str
) -> None:
    api.add("app")

    def on_event(event: Event) -> None:
        if isinstance(event, Finished) and event.step == "hash":
            if change == "content":
                (context / "src/run.sh").write_text("#!/bin/ba")
            elif change == "mode":
                (context / "src/run.sh").chmod(0o700)
            else:
                (context / "src/new").write_text("")

    with pytest.raises(SourceError, match="changed after they were hashed"):
        build(api, context, OURS[0], on_event=on_event)
    assert api.puts == []


def test_a_link_that_expires_while_packing_is_asked_for_anew(api: Standin, context: Path) -> None:
    api.add("app")
    api.link_seconds = 1

    def on_event(event: Event) -> None:
        if isinstance(event, Started) and event.step == "pack":
            time.sleep(2.1)
            api.link_seconds = 1800

    ours = build(api, context, OURS[1], on_event=on_event)
    assert statuses(ours) == ["uploaded"]
    assert api.count("link") == 2
    assert sdk_build(api, context, COPIES[1:], name="app").puts == ()


def test_what_the_link_wants_is_sent(api: Standin, context: Path) -> None:
    api.add("app")
    api.link_headers = {"Content-Type": "application/x-tar"}
    build(api, context, OURS[1])
    (put,) = api.puts
    assert put.headers["content-type"] == "application/x-tar"
    assert put.headers["content-length"] == str(put.size)
    assert "x-api-key" not in put.headers
    assert "transfer-encoding" not in put.headers


def test_what_cannot_be_asked_for(api: Standin, context: Path) -> None:
    api.add("app")
    for options in ({"api_key": ""}, {"compression": "none"}, {"api_url": "h/k"}):
        with pytest.raises(UsageError):
            build(api, context, **options)
    with pytest.raises(UsageError, match="nothing to copy"):
        build_template(context, "app", [], api_key=api.key, api_url=api.url)
    with pytest.raises(SourceError, match="matches nothing"):
        build(api, context, Copy("none/*", "/"))
    (context / "src/.env").write_text("TOKEN=x\n")
    with pytest.raises(SourceError, match="looks like"):
        build(api, context, OURS[0], secrets="deny")
    assert api.puts == []


def test_what_the_copies_take_is_listed_once(context: Path) -> None:
    one = [entry.path for entry in collect_copies(context, [OURS[1]])]
    assert one == [".dot.txt", "notes.txt"]
    both = [entry.path for entry in collect_copies(context, [WHOLE, *OURS])]
    assert sorted(both) == sorted({*both})
    assert {"src/deep/data.bin", *one} < {*both}
    assert "left.out" not in both


def test_why_a_copy_takes_a_path_or_not(context: Path) -> None:
    (context / ".dockerignore").write_text("left.out\nsrc/deep\n!src/deep/data.bin\n")

    def told(copy: Copy) -> dict[str, tuple[bool, str | None]]:
        asked = ["notes.txt", "left.out", "src/deep", "src/deep/data.bin", "src/pipe", "none"]
        decisions = explain_copies(context, [copy], asked)
        return {each.path: (each.kept, each.rule.text if each.rule else None) for each in decisions}

    assert told(WHOLE) == {
        "notes.txt": (True, None),
        "left.out": (False, "left.out"),
        "src/deep": (False, "src/deep"),  # the SDK leaves it out, Docker does not
        "src/deep/data.bin": (True, "!src/deep/data.bin"),
        "src/pipe": (True, None),
        "none": (False, None),
    }
    assert told(OURS[1])["notes.txt"] == (True, None)
    assert {kept for path, (kept, _) in told(OURS[1]).items() if path != "notes.txt"} == {False}
