"""A file that grows is digested as it does, and no thread outlives that."""

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2b_upload.archive import digest
from e2b_upload.archive.digest import Digesting, Digests
from e2b_upload.errors import SpoolError
from tests.archive.users import refuse_threads_after

EXAMPLES: Final = settings(deadline=None)
PIECE: Final = 100
ENDLESS: Final = 1 << 40
"""Digesting so many zeros takes longer than anybody waits, and next to no space."""


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile(buffering=0) as file:
        yield file


def digests_of(content: bytes) -> Digests:
    md5 = hashlib.md5(content, usedforsecurity=False)
    return Digests(hashlib.sha256(content).hexdigest(), md5.hexdigest())


# What it comes to


@given(pieces=st.lists(st.binary(max_size=3 * PIECE)), data=st.data())
@EXAMPLES
def test_any_pieces_told_of_in_any_way_give_the_digests_of_the_whole(
    pieces: list[bytes], data: st.DataObject
) -> None:
    content = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile(buffering=0) as file:
        patch.setattr(digest, "PIECE_BYTES", PIECE)
        with Digesting(file.fileno()) as digesting:
            size = 0
            for piece in pieces:
                size += file.write(piece) if piece else 0
                # Told again, of less than there is, or not at all: what counts is the most.
                for told in data.draw(st.lists(st.integers(0, size), max_size=2)):
                    digesting.grown(told)
            digesting.grown(len(content))
            assert digesting.result() == digests_of(content)


@given(content=st.binary(max_size=5 * PIECE), data=st.data())
@EXAMPLES
def test_no_more_is_digested_than_was_told_of(content: bytes, data: st.DataObject) -> None:
    told = data.draw(st.lists(st.integers(0, len(content))))
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(content)
        with Digesting(file.fileno()) as digesting:
            for size in told:
                digesting.grown(size)
            assert digesting.result() == digests_of(content[: max(told, default=0)])


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_file_of_several_real_pieces_is_digested_whole(file: IO[bytes], more: int) -> None:
    content = os.urandom(3 * digest.PIECE_BYTES + more)
    file.write(content)
    with Digesting(file.fileno()) as digesting:
        digesting.grown(len(content))
        assert digesting.result() == digests_of(content)


def test_the_position_of_the_descriptor_is_left_alone(file: IO[bytes]) -> None:
    file.write(b"content")
    file.seek(3)
    with Digesting(file.fileno()) as digesting:
        digesting.grown(7)
        assert digesting.result() == digests_of(b"content")
    assert file.tell() == 3


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
@pytest.mark.parametrize("there", [0, 1, 999])
def test_a_file_that_is_shorter_than_was_told_is_an_error(file: IO[bytes], there: int) -> None:
    file.write(bytes(there))
    with Digesting(file.fileno()) as digesting:
        digesting.grown(1_000)
        digesting.grown(2_000)
        with pytest.raises(SpoolError) as raised:
            digesting.result()
    assert raised.value.message == (
        f"the archive cannot be read back: it ends at byte {there} of 1000"
    )
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
@pytest.mark.parametrize("error", [MemoryError("no more"), ValueError("unforeseen")])
def test_what_nobody_foresaw_reaches_the_caller_too(
    file: IO[bytes], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> int:
        raise error

    file.write(b"content")
    monkeypatch.setattr(os, "preadv", failing)
    with Digesting(file.fileno()) as digesting:
        digesting.grown(7)
        with pytest.raises(type(error)) as raised:
            digesting.result()
    assert raised.value is error


@pytest.mark.timeout(20)
def test_a_fault_that_nobody_asks_for_is_no_error(file: IO[bytes]) -> None:
    with Digesting(file.fileno()) as digesting:
        digesting.grown(1_000)


def test_a_system_that_gives_no_more_threads_is_left_with_none(
    file: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads_after(1, monkeypatch)
    before = set(threading.enumerate())
    with (
        pytest.raises(SpoolError, match="starts no more threads"),
        Digesting(file.fileno()),
    ):
        pytest.fail("it went on without its threads")
    assert set(threading.enumerate()) == before


# The end


class LeftError(Exception):
    """What a test leaves with."""


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("error", [None, LeftError()], ids=["normally", "with an error"])
def test_who_leaves_without_the_result_waits_for_no_more_than_a_piece(
    file: IO[bytes], error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading: set[str] = set()
    leaving: list[bool] = []
    reads_after = []
    preadv = os.preadv

    def noting(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        reading.add(threading.current_thread().name)
        reads_after.extend(leaving)
        return preadv(descriptor, buffers, offset)

    def run() -> None:
        with Digesting(file.fileno()) as digesting:
            digesting.grown(ENDLESS // 2)
            digesting.grown(ENDLESS)
            wait_for(lambda: len(reading) == 2)
            leaving.append(True)
            if error:
                raise error

    monkeypatch.setattr(os, "preadv", noting)
    file.truncate(ENDLESS)
    before = set(threading.enumerate())
    if error is None:
        run()
    else:
        with pytest.raises(LeftError):
            run()
    assert set(threading.enumerate()) == before
    # The second is told to end when the first has ended.
    assert len(reads_after) < 1_000


def test_who_leaves_at_once_waits_for_nothing(file: IO[bytes]) -> None:
    with Digesting(file.fileno()):
        pass


# A signal: a process of its own, for it reaches only a main thread

INTERRUPTED: Final = """
import signal, sys, tempfile, threading, time
from e2b_upload.archive.digest import Digesting

main = threading.main_thread()

def place():
    frame = top = sys._current_frames()[main.ident]
    while frame is not None and frame.f_code.co_name != "result":
        frame = frame.f_back
    return frame and (top.f_code, top.f_lasti)

def interrupt():
    before = None
    while before is None or place() != before:
        before = place()
        time.sleep(0.05)  # long enough for whoever is only on the way to get on
    signal.pthread_kill(main.ident, signal.SIGINT)

size = int(sys.argv[1])
interrupting = threading.Thread(target=interrupt)
interrupting.start()
with tempfile.TemporaryFile(buffering=0) as file:
    file.truncate(size)
    try:
        with Digesting(file.fileno()) as digesting:
            digesting.grown(size)
            digesting.result()
    except KeyboardInterrupt:
        interrupting.join()
        print("threads:", *(thread.name for thread in threading.enumerate()))
"""


@pytest.mark.timeout(60)
def test_a_signal_interrupts_who_waits_for_the_result_and_ends_the_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", INTERRUPTED, str(ENDLESS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert done.stderr == ""
    assert done.stdout == "threads: MainThread\n"
