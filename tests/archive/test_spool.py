"""The temporary archive: it has no name, and needs no cleaning up."""

import errno
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2b_upload.archive import spool as spool_module
from e2b_upload.archive.spool import Spool, default_folder
from e2b_upload.errors import SpoolError
from tests.archive.users import another_user, give_away

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BIG: Final = bytes(range(256)) * 8_192  # 2 MiB
ANOTHER_DISK: Final = Path("/dev/shm")

needs_another_disk = pytest.mark.skipif(
    not ANOTHER_DISK.is_dir()
    or ANOTHER_DISK.stat().st_dev == os.stat(tempfile.gettempdir()).st_dev,
    reason="there is no second file system",
)


def refuse_tmpfile(patch: pytest.MonkeyPatch, code: int = errno.EOPNOTSUPP) -> None:
    """Make a system of an old kernel, or of a file system that has no files without a name."""
    real = os.open

    def refusing(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE and os.path.isdir(path):
            raise OSError(code, os.strerror(code), path)
        return real(path, flags, mode, dir_fd=dir_fd)

    patch.setattr(tempfile, "_O_TMPFILE_WORKS", True)  # it remembers, for the whole process
    patch.setattr(os, "open", refusing)


@pytest.fixture(params=["unnamed", "deleted at once"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test on both kinds of file that a spool may be."""
    if request.param == "deleted at once":
        refuse_tmpfile(monkeypatch)
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.mkdir()
    return path


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of a megabyte that is gone with its descriptor. It takes root."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    disk = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    subprocess.run(["umount", "--lazy", tmp_path], check=True)
    yield Path(f"/proc/self/fd/{disk}")
    os.close(disk)


@pytest.fixture
def read_only() -> Iterator[str]:
    """Make a folder that another user reaches, and may not write to."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)  # noqa: S103
        yield folder


def content_of(spool: Spool) -> bytes:
    return os.pread(spool.fileno(), spool.size, 0)


# Writing


@given(st.lists(st.binary(max_size=5_000)))
@settings(deadline=None, max_examples=30)
def test_what_is_written_is_there_with_its_size(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    with Spool() as spool:
        assert (spool.written, spool.size) == (0, 0)
        for number, piece in enumerate(pieces):
            spool.write(memoryview(piece) if number % 2 else piece)
            assert spool.written == spool.size == sum(map(len, pieces[: number + 1]))
        assert content_of(spool) == content


def test_a_disk_that_takes_little_at_a_time_gets_it_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    with Spool(folder) as spool, monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: real(file, data[:700]))
        spool.write(BIG[:10_000])
        patch.undo()
        assert content_of(spool) == BIG[:10_000]
        assert spool.written == 10_000


def test_it_has_no_name(folder: Path, kind: str) -> None:
    del kind
    with Spool(folder) as spool:
        assert os.listdir(folder) == []
        spool.write(BIG)
        assert os.listdir(folder) == []
        assert content_of(spool) == BIG
        assert os.fstat(spool.fileno()).st_nlink == 0
        assert os.fstat(spool.fileno()).st_dev == folder.stat().st_dev
        assert not os.get_inheritable(spool.fileno())
    assert os.listdir(folder) == []


def test_a_system_without_unnamed_files_has_spools_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in (errno.EISDIR, errno.ENOENT, errno.EINVAL):
        refuse_tmpfile(monkeypatch, code)
        with Spool(folder) as spool:
            spool.write(b"content")
            assert os.listdir(folder) == []
            assert content_of(spool) == b"content"


KILLED: Final = """
import sys
from e2b_upload.archive.spool import Spool

spool = Spool(sys.argv[1])
spool.write(bytes(1 << 20))
print(spool.size, flush=True)
sys.stdin.read()
"""


def test_a_killed_process_leaves_nothing(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"1048576\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert os.listdir(folder) == []


def test_closing_it_twice_closes_no_other_file(folder: Path) -> None:
    spool = Spool(folder)
    number = spool.fileno()
    spool.close()
    theirs = os.open(folder, os.O_RDONLY)
    assert theirs == number, "the system gives the lowest number that is free"
    spool.close()
    os.close(theirs)  # fails where that is done already


# Folders


def test_the_default_folder_is_that_of_the_environment_or_on_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert default_folder() == str(tmp_path)

    for unset in ("", None):
        monkeypatch.delenv("TMPDIR") if unset is None else monkeypatch.setenv("TMPDIR", unset)
        monkeypatch.setattr(spool_module, "_ON_DISK", str(tmp_path))
        assert default_folder() == str(tmp_path)
        monkeypatch.setattr(spool_module, "_ON_DISK", str(tmp_path / "missing"))
        assert default_folder() == tempfile.gettempdir()


def test_a_default_folder_that_may_not_be_written_is_left_alone(
    read_only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(spool_module, "_ON_DISK", read_only)
    with another_user():
        assert default_folder() == tempfile.gettempdir() != read_only


def test_the_environment_chooses_the_folder(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del kind
    monkeypatch.setenv("TMPDIR", str(folder))
    with Spool() as spool:
        assert spool.folder == str(folder)
        assert os.fstat(spool.fileno()).st_dev == folder.stat().st_dev


@pytest.mark.parametrize(
    ("there", "reason"), [("missing", "No such file"), ("a file", "Not a directory")]
)
def test_a_path_that_is_not_a_directory_is_named(
    tmp_path: Path, kind: str, there: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del kind
    (tmp_path / "a file").write_bytes(b"")
    monkeypatch.setenv("TMPDIR", str(tmp_path / there))
    for chosen in (tmp_path / there, None):
        with pytest.raises(SpoolError, match=reason) as raised:
            Spool(chosen)
        assert str(tmp_path / there) in raised.value.message
        assert "`spool_dir`" in raised.value.hint


def test_a_folder_that_may_not_be_written_is_named(kind: str, read_only: str) -> None:
    del kind
    with another_user(), pytest.raises(SpoolError, match="Permission denied") as raised:
        Spool(read_only)
    assert read_only in raised.value.message
    assert "`spool_dir`" in raised.value.hint


# Full disks


def test_a_full_disk_is_named_with_what_it_took(full_disk: Path) -> None:
    with Spool(full_disk) as spool:
        with pytest.raises(SpoolError) as raised:
            spool.write(BIG)
        so_far = f"the archive cannot be spooled in {full_disk} ({spool.size} bytes of it are)"
        assert raised.value.message == f"{so_far}: the disk is full"
        assert 0 < spool.size <= 1 << 20
        assert spool.written == spool.size
        assert "`spool_dir`" in raised.value.hint
        assert os.listdir(full_disk) == []
    assert shutil.disk_usage(full_disk).used == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EFBIG, "a limit on the size of files is met"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_write_error_is_explained(
    folder: Path, code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with Spool(folder) as spool:
        spool.write(b"four")
        monkeypatch.setattr(os, "write", failing)
        with pytest.raises(SpoolError, match=words) as raised:
            spool.write(b"more")
        monkeypatch.undo()
    assert isinstance(raised.value.__cause__, OSError)
    assert "`spool_dir`" in raised.value.hint
    assert f"spooled in {folder} (4 bytes of it are)" in raised.value.message


# Keeping


def test_only_the_archive_is_kept(folder: Path, kind: str) -> None:
    del kind
    (folder / "old").write_bytes(b"before")
    new = os.fsdecode(b"-\n" + b"\xff" * 253)
    with Spool(folder) as spool:
        spool.write(BIG)
        for name in ("old", new, "old"):
            spool.keep(folder / name)
        assert sorted(os.listdir(folder)) == sorted(["old", new])
    assert (folder / "old").read_bytes() == (folder / new).read_bytes() == BIG


def test_on_its_own_disk_the_spool_is_kept_without_a_copy(folder: Path) -> None:
    with Spool(folder) as spool:
        spool.write(BIG)
        spool.keep(folder / "kept")
        assert os.path.samestat((folder / "kept").stat(), os.fstat(spool.fileno()))


def test_a_relative_path_is_taken_from_the_current_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with Spool() as spool:
        spool.write(b"content")
        spool.keep("kept")
    assert (folder / "kept").read_bytes() == b"content"


def test_it_is_kept_in_a_folder_that_may_be_written_and_not_listed(kind: str) -> None:
    del kind
    with tempfile.TemporaryDirectory() as drop_box:
        give_away(drop_box)
        os.chmod(drop_box, 0o300)
        kept = Path(drop_box, "kept")
        with another_user(), Spool(drop_box) as spool:
            spool.write(b"content")
            spool.keep(kept)
            assert kept.read_bytes() == b"content"
        os.chmod(drop_box, 0o700)


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("spool_on", [None, pytest.param(ANOTHER_DISK, marks=needs_another_disk)])
def test_the_umask_decides_who_may_read_the_archive(
    folder: Path, umask: int, spool_on: Path | None
) -> None:
    before = os.umask(umask)
    try:
        with Spool(spool_on or folder) as spool:
            spool.keep(folder / "kept")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "kept").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o444, 0o777])
@pytest.mark.parametrize("on", ["its own disk", "another disk"])
def test_the_archive_has_the_mode_of_the_previous_file(
    folder: Path, kind: str, on: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every moment."""
    del kind
    seen: set[int] = set()
    real = os.fsync

    def looking(descriptor: int) -> None:
        seen.update(stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", looking)
    (folder / "kept").write_bytes(b"before")
    (folder / "kept").chmod(mode)
    another = ANOTHER_DISK if on == "another disk" and ANOTHER_DISK.is_dir() else None
    with Spool(another or folder) as spool:
        spool.write(BIG)
        spool.keep(folder / "kept")
    assert seen == {mode}
    assert stat.S_IMODE((folder / "kept").stat().st_mode) == mode
    assert (folder / "kept").read_bytes() == BIG


def test_a_disk_that_gets_full_keeps_what_was_there(folder: Path, full_disk: Path) -> None:
    (full_disk / "kept").write_bytes(b"before")
    with Spool(folder) as spool:
        spool.write(BIG)
        with pytest.raises(SpoolError, match="the disk is full") as raised:
            spool.keep(full_disk / "kept")
    assert str(full_disk / "kept") in raised.value.message
    assert f"{len(BIG)} bytes" not in raised.value.message  # the full disk is not the spool's
    assert "`output`" in raised.value.hint
    assert os.listdir(full_disk) == ["kept"]
    assert (full_disk / "kept").read_bytes() == b"before"


class Stop(BaseException):
    """As a signal would raise it."""


@pytest.mark.parametrize(
    ("call", "error"),
    [("fsync", Stop()), ("replace", Stop()), ("replace", OSError(errno.EIO, "I/O error"))],
)
def test_a_failure_keeps_the_previous_file(
    folder: Path, kind: str, call: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    del kind

    def failing(*_: object, **__: object) -> None:
        raise error

    (folder / "kept").write_bytes(b"before")
    with Spool(folder) as spool:
        spool.write(BIG)
        monkeypatch.setattr(os, call, failing)
        with pytest.raises(SpoolError if isinstance(error, OSError) else Stop):
            spool.keep(folder / "kept")
        monkeypatch.undo()
    assert os.listdir(folder) == ["kept"]
    assert (folder / "kept").read_bytes() == b"before"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/kept", "No such file or directory"),
        ("a file/kept", "Not a directory"),
        ("a folder", "Is a directory"),
        ("n" * 256, "File name too long"),
    ],
)
def test_a_path_that_cannot_be_written_is_named(folder: Path, path: str, reason: str) -> None:
    (folder / "a file").write_bytes(b"")
    (folder / "a folder").mkdir()
    with Spool(folder) as spool, pytest.raises(SpoolError, match=reason) as raised:
        spool.keep(folder / path)
    assert str(folder / path) in raised.value.message
    assert "`output`" in raised.value.hint
    assert sorted(os.listdir(folder)) == ["a file", "a folder"]


# Streams


class Raw(io.RawIOBase):
    """As a file on a disk that gets full, or a socket: it may take less than it is given."""

    def __init__(self, at_a_time: int) -> None:
        self.at_a_time = at_a_time
        self.taken = bytearray()

    def write(self, data: "ReadableBuffer") -> int:
        taken = memoryview(data)[: self.at_a_time]
        self.taken += taken
        return len(taken)


def test_a_stream_that_takes_little_at_a_time_gets_it_all() -> None:
    with Spool() as spool, Raw(999) as stream:
        spool.write(BIG[:20_000])
        spool.copy_to(cast("IO[bytes]", stream))
        assert bytes(stream.taken) == BIG[:20_000]


@pytest.mark.timeout(20)  # it must not try for ever
def test_a_stream_that_would_block_is_an_error(folder: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with open(reading, "rb"), open(writing, "wb", buffering=0) as stream, Spool(folder) as spool:
        spool.write(BIG)
        with pytest.raises(SpoolError, match="temporarily unavailable"):
            spool.copy_to(stream)


def test_a_fifo_gets_it_all(folder: Path) -> None:
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    received = []
    thread = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    thread.start()
    with Spool(folder) as spool:
        spool.write(BIG)
        spool.copy_to(fifo)
    thread.join()
    assert received == [BIG]
    assert stat.S_ISFIFO(fifo.lstat().st_mode)


@pytest.mark.parametrize(
    ("path", "words"),
    [("/dev/full", "written to /dev/full: the disk is full"), ("/", "written to /: Is a")],
)
def test_a_device_that_takes_nothing_is_named(folder: Path, path: str, words: str) -> None:
    with Spool(folder) as spool:
        spool.write(BIG)
        with pytest.raises(SpoolError, match=words):
            spool.copy_to(path)


def test_an_archive_is_kept_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2b_upload.archive.spool._DESCRIPTORS", str(tmp_path / "nowhere"))
    (tmp_path / "kept").mkdir()
    with Spool(tmp_path) as spool:
        spool.write(b"archive")
        spool.keep(tmp_path / "kept" / "a.tgz")
    assert (tmp_path / "kept" / "a.tgz").read_bytes() == b"archive"
    assert os.listdir(tmp_path / "kept") == ["a.tgz"]
