"""A file that grows is digested as it does, and no thread outlives that."""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2b_upload.archive import digest
from e2b_upload.archive.digest import Digesting, Digests
from e2b_upload.errors import SpoolError
from tests.archive.users import refuse_threads_after

PIECE: Final = 100
ENDLESS: Final = 1 << 40
"""Digesting so many zeros takes longer than anybody waits, and next to no space."""


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile(buffering=0) as file:
        yield file


def digests_of(content: bytes) -> Digests:
    md5 = hashlib.md5(content, usedforsecurity=False)
    return Digests(hashlib.sha256(content).hexdigest(), md5.hexdigest())


# What it comes to


@given(pieces=st.lists(st.binary(max_size=3 * PIECE)), last=st.booleans(), data=st.data())
@settings(deadline=None, max_examples=60)
def test_the_digests_are_of_all_that_was_reported(
    pieces: list[bytes],
    last: bool,  # noqa: FBT001
    data: st.DataObject,
) -> None:
    content = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile(buffering=0) as file:
        patch.setattr(digest, "PIECE_BYTES", PIECE)
        with Digesting(file.fileno()) as digesting:
            size = most = 0
            for piece in pieces:
                size += file.write(piece) if piece else 0
                # Reported again, less than there is, or not at all: the largest size counts.
                for told in data.draw(st.lists(st.integers(0, size), max_size=2)):
                    digesting.grown(told)
                    most = max(most, told)
            if last:
                digesting.grown(most := len(content))
            position = file.tell()
            assert digesting.result() == digests_of(content[:most])
            assert file.tell() == position


@pytest.mark.timeout(20)
def test_telling_never_waits(file: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    disk_moves = threading.Event()
    preadv = os.preadv

    def slow(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        disk_moves.wait()
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", slow)
    with Digesting(file.fileno()) as digesting:
        for size in range(1, 1_001):
            file.write(b"x")
            digesting.grown(size)
        disk_moves.set()
        assert digesting.result() == digests_of(b"x" * 1_000)


def test_a_disk_that_gives_little_at_a_time_is_read_whole(
    file: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    preadv = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda descriptor, buffers, at: preadv(descriptor, [buffers[0][:7]], at)
    )
    file.write(bytes(range(250)))
    with Digesting(file.fileno()) as digesting:
        digesting.grown(250)
        assert digesting.result() == digests_of(bytes(range(250)))


# Faults


@pytest.mark.timeout(20)
def test_a_file_that_is_shorter_than_reported_is_an_error(file: IO[bytes]) -> None:
    file.write(bytes(999))
    with Digesting(file.fileno()) as digesting:
        digesting.grown(1_000)
        digesting.grown(2_000)
        with pytest.raises(SpoolError) as raised:
            digesting.result()
    assert raised.value.message == "the archive cannot be read back: it ends at byte 999 of 1000"
    assert raised.value.hint


@pytest.mark.timeout(20)
def test_a_descriptor_that_cannot_be_read_is_an_error(file: IO[bytes]) -> None:
    file.write(b"content")
    writing = os.open(f"/proc/self/fd/{file.fileno()}", os.O_WRONLY)
    with Digesting(writing) as digesting:
        digesting.grown(7)
        with pytest.raises(SpoolError, match="cannot be read back: Bad file desc") as raised:
            digesting.result()
    os.close(writing)
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.timeout(5)
def test_an_unexpected_error_reaches_the_caller_too(
    file: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> int:
        raise error

    error = MemoryError("no more")
    file.write(b"content")
    monkeypatch.setattr(os, "preadv", failing)
    with Digesting(file.fileno()) as digesting:
        digesting.grown(7)
        with pytest.raises(MemoryError) as raised:
            digesting.result()
    assert raised.value is error


@pytest.mark.timeout(20)
def test_a_fault_is_no_error_if_the_result_is_not_wanted(file: IO[bytes]) -> None:
    with Digesting(file.fileno()):
        pass
    with Digesting(file.fileno()) as digesting:
        digesting.grown(1_000)


def test_a_failure_to_start_a_thread_leaves_none_running(
    file: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads_after(1, monkeypatch)
    with (
        pytest.raises(SpoolError, match="starts no more threads"),
        Digesting(file.fileno()),
    ):
        pytest.fail("it continued without its threads")


# The end


@pytest.mark.timeout(20)
def test_leaving_without_the_result_waits_for_no_more_than_a_piece(
    file: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading: set[str] = set()
    leaving: list[bool] = []
    reads_after = []
    preadv = os.preadv

    def noting(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        reading.add(threading.current_thread().name)
        reads_after.extend(leaving)
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", noting)
    file.truncate(ENDLESS)
    with suppress(ZeroDivisionError), Digesting(file.fileno()) as digesting:
        digesting.grown(ENDLESS // 2)
        digesting.grown(ENDLESS)
        while len(reading) < 2:
            time.sleep(0.001)
        leaving.append(True)
        raise ZeroDivisionError
    # The second thread is told to end when the first has ended.
    assert len(reads_after) < 1_000
