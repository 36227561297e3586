"""Builds from end to end; cleaning up never hides their result."""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import pytest

import e2b_upload
from e2b_upload import packing
from e2b_upload.archive.pack import Archive
from e2b_upload.archive.spool import Spool
from e2b_upload.context import collect
from e2b_upload.events import Event, Finished, LeftOut, Started
from tests.support.rawserver import RawServer, Script, answer, early, raw_server, reset_after


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "ctx"
    (folder / "d").mkdir(parents=True)
    (folder / "d/file").write_bytes(os.urandom(300_000))
    return folder


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


@pytest.fixture
def store() -> Iterator[RawServer]:
    with raw_server(answer(200)) as server:
        yield server


@pytest.fixture
def spools(monkeypatch: pytest.MonkeyPatch) -> list[Spool]:
    """The spools that a build opens."""
    opened: list[Spool] = []
    real = Spool.__init__

    def recording(self: Spool, folder: str | None = None) -> None:
        real(self, folder)
        opened.append(self)

    monkeypatch.setattr(Spool, "__init__", recording)
    return opened


def is_closed(spool: Spool) -> bool:
    try:
        os.fstat(spool.fileno())
    except OSError:
        return True
    return False


def test_a_receipt_describes_the_build(context: Path, store: RawServer, spool_dir: Path) -> None:
    events: list[Event] = []
    receipt = e2b_upload.build(
        context,
        f"{store.url}/bucket/key?X-Amz-Signature=0123456789abcdef",
        spool_dir=spool_dir,
        count_first=True,
        on_event=events.append,
    )
    assert receipt.url == f"{store.url}/bucket/key"
    assert (receipt.http_status, receipt.attempts, receipt.verified) == (200, 1, "content-md5")
    assert (receipt.archive.files, receipt.archive.directories) == (1, 1)
    assert receipt.archive.content_bytes == 300_000
    assert receipt.archive.path is None
    assert store.requests[0].body_sha256 == receipt.archive.sha256
    assert store.requests[0].body_bytes == receipt.archive.bytes
    assert receipt.seconds.pack > 0
    assert receipt.seconds.put > 0
    started = [(event.step, event.total) for event in events if isinstance(event, Started)]
    assert started == [
        ("collect", None),
        ("pack", 300_000),
        ("put", receipt.archive.bytes),
    ]
    finished = [(event.step, event.entries) for event in events if isinstance(event, Finished)]
    assert finished == [("collect", 2), ("pack", 2), ("put", 0)]


def test_a_dry_run_needs_no_url_and_keeps_the_archive(context: Path, tmp_path: Path) -> None:
    receipt = e2b_upload.build(context, None, dry_run=True, output=tmp_path / "a.tgz")
    assert (receipt.url, receipt.http_status, receipt.attempts) == (None, None, 0)
    assert receipt.archive.path == str(tmp_path / "a.tgz")
    assert (tmp_path / "a.tgz").stat().st_size == receipt.archive.bytes


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (answer(403), e2b_upload.RefusedError),
        (answer(503), e2b_upload.UnavailableError),
        (reset_after(1000), e2b_upload.UnavailableError),
    ],
)
def test_the_spool_is_removed_after_a_failed_upload(
    context: Path,
    spool_dir: Path,
    spools: list[Spool],
    script: Script,
    error: type[e2b_upload.UploadError],
) -> None:
    with raw_server(script) as store, pytest.raises(error):
        e2b_upload.build(context, store.url + "/k", spool_dir=spool_dir, retries=0)
    assert [is_closed(spool) for spool in spools] == [True]
    assert list(spool_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("step", "raised"), [("pack", ZeroDivisionError), ("put", KeyboardInterrupt)]
)
def test_the_spool_is_removed_after_an_exception(
    context: Path, spool_dir: Path, spools: list[Spool], step: str, raised: type[BaseException]
) -> None:
    def fail(event: Event) -> None:
        if not isinstance(event, LeftOut) and getattr(event, "step", "") == step:
            raise raised

    with raw_server(answer(200)) as store, pytest.raises(raised):
        e2b_upload.build(context, store.url + "/k", spool_dir=spool_dir, on_event=fail)
    assert [is_closed(spool) for spool in spools] == [True]
    assert list(spool_dir.iterdir()) == []


def break_close(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the spool's close fail as a dying disk's would, after the descriptor is free."""
    failed: list[int] = []
    real = Spool.close

    def close(self: Spool) -> None:
        descriptor = self.fileno()
        with monkeypatch.context() as patch:
            patch.setattr(os, "close", failing)
            real(self)
        assert descriptor in failed

    really_close = os.close

    def failing(descriptor: int) -> None:
        really_close(descriptor)
        failed.append(descriptor)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Spool, "close", close)
    return failed


def test_an_error_on_close_does_not_hide_the_result(
    context: Path, store: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = break_close(monkeypatch)
    assert e2b_upload.build(context, store.url + "/k").http_status == 200
    with raw_server(answer(403)) as other, pytest.raises(e2b_upload.RefusedError):
        e2b_upload.build(context, other.url + "/k")
    assert len(failed) == 2


def test_a_wrong_url_or_header_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    missing = tmp_path / "no"
    with pytest.raises(e2b_upload.UsageError, match="https:// or http://"):
        e2b_upload.build(missing, "ftp://host/key")
    with pytest.raises(e2b_upload.UsageError, match="Content-Length"):
        e2b_upload.build(missing, "http://host/key", headers={"Content-Length": "3"})
    with pytest.raises(e2b_upload.UsageError, match="no URL"):
        e2b_upload.build(missing, None)


def test_an_output_may_be_a_link_a_device_or_an_open_file(context: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/a.tgz")
    archive = e2b_upload.pack(context, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/a.tgz").stat().st_size == archive.bytes
    assert e2b_upload.pack(context, os.devnull).sha256 == archive.sha256
    assert not os.path.isfile(os.devnull)
    with open(tmp_path / "open", "wb") as stream:
        assert e2b_upload.pack(context, stream).path is None
    assert (tmp_path / "open").read_bytes() == (tmp_path / "real/a.tgz").read_bytes()


def test_put_needs_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    gone = Archive(bytes=1, sha256="", md5="")
    for archive, words in (
        (tmp_path / "no", "cannot be opened"),
        (f"{tmp_path}/a\0b", "no such name"),
        (os.devnull, "not a regular file"),
        (tmp_path / "fifo", "not a regular file"),
        (gone, "not kept"),
    ):
        with pytest.raises(e2b_upload.UsageError, match=words):
            e2b_upload.put(archive, "http://host/key")


def test_a_refused_put_does_not_read_the_file_to_its_end(tmp_path: Path) -> None:
    with open(tmp_path / "archive", "wb") as archive:
        archive.truncate(1 << 40)  # an hour to hash
    with raw_server(early(403)) as server, pytest.raises(e2b_upload.RefusedError, match="403"):
        e2b_upload.put(tmp_path / "archive", f"{server.url}/key")


def test_pack_consumes_the_walk_as_it_goes(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context of a million files needs no list: each is packed before the next is found."""
    order: list[str] = []
    real_walk = collect.walk

    def walk(*args: object, **options: object) -> Iterator[e2b_upload.Entry]:
        for entry in real_walk(*args, **options):  # type: ignore[arg-type]
            assert isinstance(entry, e2b_upload.Entry)
            order.append(f"found {entry.path}")
            yield entry
            order.append(f"packed {entry.path}")

    monkeypatch.setattr(packing, "walk", walk)
    with open(os.devnull, "wb") as nowhere:
        e2b_upload.pack(context, cast("IO[bytes]", nowhere))
    assert order == ["found d", "packed d", "found d/file", "packed d/file"]


def test_an_archive_that_was_replaced_is_not_put(context: Path, tmp_path: Path) -> None:
    archive = e2b_upload.pack(context, tmp_path / "a.tgz")
    (tmp_path / "a.tgz").write_bytes(b"something else")
    with raw_server(answer(200)) as store, pytest.raises(e2b_upload.UsageError) as caught:
        e2b_upload.put(archive, store.url + "/k")
    assert "a.tgz was replaced: it has 14 bytes" in caught.value.message
    assert not store.requests


def test_an_archive_without_digests_is_hashed_while_it_is_sent(
    context: Path, tmp_path: Path
) -> None:
    archive = e2b_upload.pack(context, tmp_path / "a.tgz")
    with raw_server(answer(200, headers={"ETag": f'"{archive.md5}"'})) as store:
        for md5 in ("", "é", "00" * 15):
            receipt = e2b_upload.put(replace(archive, md5=md5), store.url + "/k")
            assert receipt.verified == "md5"
            assert receipt.archive.md5 == archive.md5


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"other")


def rewrite(path: Path) -> None:
    """Change the beginning, and restore the times."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("at", "change", "words"),
    [
        # It is hashed ahead of what is sent, so its digests would be those of other content.
        (1, overwrite, "changed before or while it was sent"),
        (7, rewrite, "The stored object may be corrupt"),
        (1, lambda path: os.truncate(path, 1 << 20), "shrank"),
    ],
)
def test_a_file_that_changes_while_it_is_sent_is_an_error(
    at: int, change: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.tgz"
    path.write_bytes(os.urandom(8 << 20))

    def on_event(event: Event) -> None:
        if getattr(event, "done", 0) == at << 20:
            change(path)

    with raw_server(answer(200)) as store, pytest.raises(e2b_upload.SourceError) as caught:
        e2b_upload.put(path, store.url + "/k", on_event=on_event)
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("change", [os.utime, lambda path: os.link(path, f"{path}.link")])
def test_a_file_that_is_touched_or_linked_while_it_is_sent(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "a.tgz"
    path.write_bytes(content := os.urandom(1 << 20))
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()

    def on_event(event: Event) -> None:
        if getattr(event, "done", 0) == len(content) // 2:
            change(path)

    with raw_server(answer(200, headers={"ETag": f'"{md5}"'})) as store:
        receipt = e2b_upload.put(path, store.url + "/k", on_event=on_event)
    assert receipt.verified == "md5"


def test_a_kept_archive_that_changes_while_it_is_sent(context: Path, tmp_path: Path) -> None:
    kept = tmp_path / "a.tgz"

    def on_event(event: Event) -> None:
        if isinstance(event, Started) and event.step == "put":
            overwrite(kept)

    with raw_server(answer(200)) as store, pytest.raises(e2b_upload.SourceError) as caught:
        e2b_upload.build(context, store.url + "/k", output=kept, retries=0, on_event=on_event)
    assert "is kept" not in caught.value.hint


def test_put_sends_an_md5_to_a_store_that_checks_it(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content := os.urandom(3_000_000))
    query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-SignedHeaders=host"
    with raw_server(answer(200)) as store:
        receipt = e2b_upload.put(tmp_path / "archive", f"{store.url}/k?{query}")
    md5 = hashlib.md5(content, usedforsecurity=False)
    assert ("Content-MD5", base64.b64encode(md5.digest()).decode()) in store.requests[0].headers
    assert receipt.verified == "content-md5"
    assert receipt.archive == Archive(
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=md5.hexdigest(),
        path=os.fspath(tmp_path / "archive"),
    )
    assert store.requests[0].body_sha256 == receipt.archive.sha256


def test_invalid_options_are_usage_errors(context: Path, tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [{"compression": "odd"}, {"threads": 0}, {"threads": -1}]
    for each in options:
        with pytest.raises(e2b_upload.UsageError) as caught:
            e2b_upload.pack(context, tmp_path / "a.tgz", **each)
        assert caught.value.hint
    with pytest.raises(e2b_upload.UsageError):
        e2b_upload.pack(context, "a\0b")
    assert not (tmp_path / "a.tgz").exists()


def test_an_inode_that_is_reused_is_not_a_hard_link(tmp_path: Path) -> None:
    (tmp_path / "ctx" / "b").mkdir(parents=True)
    (tmp_path / "ctx" / "a").write_text("old\n")
    os.link(tmp_path / "ctx" / "a", tmp_path / "ctx" / "b" / "a")
    found = iter(e2b_upload.collect(tmp_path / "ctx"))
    assert next(found).path == "a"
    # The same inode, as if it had been freed and taken again.
    os.utime(tmp_path / "ctx" / "b" / "a", ns=(1, 1))
    assert [(entry.path, entry.type) for entry in found] == [("b", "directory"), ("b/a", "file")]
