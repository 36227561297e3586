"""Many threads make one stream, and none of them outlives it."""

import gzip
import os
import random
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from e2b_upload.archive import blocks
from e2b_upload.archive.blocks import BlockWriter
from e2b_upload.archive.deflate import Buffer, Codec, Encoded, Gzip, Plain
from e2b_upload.errors import SpoolError
from tests.archive.users import refuse_threads_after

BLOCK: Final = 1_000
EXAMPLES: Final = settings(deadline=None, max_examples=60)

threads_0_to_4 = pytest.mark.parametrize("threads", [0, 1, 4])
sizes = st.integers(0, 30) | st.builds(
    lambda blocks, more: max(blocks * BLOCK + more, 0), st.integers(0, 4), st.integers(-2, 2)
)
pieces = st.lists(st.tuples(st.sampled_from(["write", "read"]), sizes), max_size=25)


@contextmanager
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", BLOCK)
        yield


def ignore(*_: object) -> None:
    """Do nothing."""


def gzip_codec(level: int = 1) -> Gzip:
    return Gzip(isal_zlib, level)


def writer(
    write: Callable[[Buffer], None],
    *,
    codec: Codec | None = None,
    threads: int = 2,
    on_block: Callable[[], None] = ignore,
) -> BlockWriter:
    return BlockWriter(codec or gzip_codec(), write, threads=threads, on_block=on_block)


class Sink(bytearray):
    """Takes what is written, after a copy: the block is used again."""

    def write(self, data: Buffer) -> None:
        self += data


class Counter:
    calls = 0

    def __call__(self) -> None:
        self.calls += 1


def content_of(kinds: list[tuple[str, int]]) -> bytes:
    total = sum(size for _, size in kinds)
    return bytes(random.Random(total).choices(b"abcd", k=total))


def fill(out: BlockWriter, content: bytes, kinds: list[tuple[str, int]]) -> None:
    """Write content in pieces, or have it read from a file."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        start = 0
        for kind, size in kinds:
            if kind == "write":
                out.write(content[start : start + size])
            else:
                os.lseek(file.fileno(), start, os.SEEK_SET)
                read_into(out, file.fileno(), size)
            start += size


def read_into(out: BlockWriter, descriptor: int, size: int) -> None:
    while size:
        count = os.readv(descriptor, [out.room(size)])
        assert count > 0
        out.advance(count)
        size -= count


# One stream


@given(kinds=pieces, level=st.none() | st.integers(0, 3), threads=st.integers(0, 4))
@EXAMPLES
def test_any_sequence_of_writes_is_one_stream(
    kinds: list[tuple[str, int]], level: int | None, threads: int
) -> None:
    content = content_of(kinds)
    sink, count = Sink(), Counter()
    codec = Plain() if level is None else gzip_codec(level)
    with small_blocks(), writer(sink.write, codec=codec, threads=threads, on_block=count) as out:
        fill(out, content, kinds)
    assert count.calls == -(-len(content) // BLOCK)
    if level is None:
        assert bytes(sink) == content
        return
    stream = zlib.decompressobj(31)
    assert stream.decompress(sink) == content
    assert (stream.eof, stream.unused_data) == (True, b"")


def test_neither_threads_nor_pieces_change_a_byte() -> None:
    content = b"".join(b"%d lines\n" % n for n in range(600_000))  # several real blocks
    assert len(content) > 3 * blocks.BLOCK_BYTES
    results = set()
    for threads, piece in ((0, len(content)), (1, 9_973), (4, 1 << 20)):
        sink = Sink()
        with writer(sink.write, threads=threads) as out:
            for start in range(0, len(content), piece):
                out.write(content[start : start + piece])
        results.add(bytes(sink))
    (result,) = results
    assert gzip.decompress(result) == content


def number_of(block: memoryview) -> int:
    """Return the number of a block of `numbered` content."""
    return block[0]


def numbered(count: int) -> bytes:
    """Return content whose blocks say in each byte which they are."""
    return b"".join(bytes([number] * BLOCK) for number in range(count))


class Overtaking(Plain):
    """Lets each even block wait until the odd one after it is encoded."""

    def __init__(self, count: int) -> None:
        self.done = [threading.Event() for _ in range(count)]

    def encode(self, block: memoryview, window: bytes) -> Encoded:
        number = number_of(block)
        if number % 2 == 0:
            self.done[number + 1].wait()
        self.done[number].set()
        return super().encode(block, window)


@pytest.mark.parametrize("threads", [2, 4])
def test_blocks_that_overtake_each_other_are_written_in_order(threads: int) -> None:
    sink = Sink()
    with small_blocks(), writer(sink.write, codec=Overtaking(20), threads=threads) as out:
        out.write(numbered(20))
    assert bytes(sink) == numbered(20)


# Memory


@threads_0_to_4
def test_a_slow_disk_limits_the_number_of_blocks_in_memory(threads: int) -> None:
    disk_is_asked, disk_moves = threading.Event(), threading.Event()
    sink, given, most, writing = Sink(), Counter(), [0], set()

    def slow(data: Buffer) -> None:
        writing.add(threading.current_thread())
        if sink:  # not the head
            disk_is_asked.set()
            disk_moves.wait()
            most[0] = max(most[0], given.calls - written.calls)
            written()
        sink.write(data)

    def fill_it() -> None:
        with writer(slow, threads=threads, on_block=given) as out:
            for _ in range(20):
                out.write(bytes(BLOCK))

    written = Counter()
    with small_blocks():
        filling = threading.Thread(target=fill_it)
        filling.start()
        disk_is_asked.wait()
        assert given.calls <= threads + 2
        disk_moves.set()
        filling.join()
    assert writing == {filling}
    assert given.calls == 20
    assert most[0] <= threads + 2
    assert gzip.decompress(sink) == bytes(20 * BLOCK)


class Noting(Plain):
    """Notes in which memory the blocks lie."""

    def __init__(self) -> None:
        self.memory: dict[int, object] = {}

    def encode(self, block: memoryview, window: bytes) -> Encoded:
        self.memory[id(block.obj)] = block.obj
        return super().encode(block, window)


@threads_0_to_4
def test_the_same_memory_is_used_however_much_is_written(threads: int) -> None:
    codec = Noting()
    with small_blocks(), writer(ignore, codec=codec, threads=threads) as out:
        out.write(bytes(500 * BLOCK))
    assert 1 <= len(codec.memory) <= threads + 2


# Faults

Where: TypeAlias = Literal["head", "block", "tail", "encode", "combine", "on_block", "body"]


class FaultError(Exception):
    """The error of a test."""


class BaseFault(BaseException):
    """The same, as a signal raises it."""


class FaultyCodec(Gzip):
    def __init__(self, where: Where, error: BaseException) -> None:
        super().__init__(isal_zlib, 1)
        self.where, self.error = where, error

    def encode(self, block: memoryview, window: bytes) -> Encoded:
        if self.where == "encode":
            raise self.error
        return super().encode(block, window)

    def combine(self, before: Encoded, block: Encoded) -> Encoded:
        if self.where == "combine":
            raise self.error
        return super().combine(before, block)

    def tail(self, whole: Encoded) -> bytes:
        return b"tail" + super().tail(whole)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(
    "where", ["head", "block", "tail", "encode", "combine", "on_block", "body"]
)
def test_a_fault_ends_all_threads_and_reaches_the_caller(where: Where, threads: int) -> None:
    def write(data: Buffer) -> None:
        content = bytes(data)
        here = "head" if content == Gzip.head else "tail" if content[:4] == b"tail" else "block"
        events.append(here)
        if here == where:
            raise error

    def on_block() -> None:
        if where == "on_block":
            events.append(where)
            raise error

    def run(n_blocks: float) -> None:
        codec = FaultyCodec(where, error)
        with writer(write, codec=codec, threads=threads, on_block=on_block) as out:
            out.write(bytes(int(n_blocks * BLOCK)))
            if where == "body":
                events.append(where)
                raise error

    before = set(threading.enumerate())
    for n_blocks, error in ((0.5, FaultError("first")), (50, BaseFault("a signal"))):
        events: list[str] = []
        with small_blocks(), pytest.raises(type(error)) as raised:
            run(n_blocks)
        assert raised.value is error
        assert set(threading.enumerate()) == before
        if where in {"encode", "combine"}:  # before the first block is written, and after it
            assert events == ["head", "block"][: 1 + (where == "combine")]
        else:
            assert events.index(where) == len(events) - 1, "it continued after a fault"
        assert "tail" not in events or where == "tail"


class FailsAt(Plain):
    def __init__(self, number: int) -> None:
        self.number = number

    def encode(self, block: memoryview, window: bytes) -> Encoded:
        if number_of(block) == self.number:
            raise FaultError
        return super().encode(block, window)


@threads_0_to_4
def test_what_is_written_before_a_fault_is_what_comes_before_it(threads: int) -> None:
    sink = Sink()
    with (
        small_blocks(),
        pytest.raises(FaultError),
        writer(sink.write, codec=FailsAt(7), threads=threads) as out,
    ):
        out.write(numbered(50))
    assert bytes(sink) == numbered(7)


@pytest.mark.parametrize("started", [0, 2])
def test_a_failure_to_start_a_thread_leaves_none_running(
    started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads_after(started, monkeypatch)
    with (
        pytest.raises(SpoolError, match="starts no more threads"),
        writer(ignore, threads=3),
    ):
        pytest.fail("it continued without its threads")


# Signals: a process of its own, for they reach only a main thread

INTERRUPTED: Final = """
import signal, sys, threading, time
from isal import isal_zlib
from e2b_upload.archive import blocks
from e2b_upload.archive.deflate import Gzip

blocks.BLOCK_BYTES = 1000
where = sys.argv[1]
encoders_move, encoding, left = threading.Event(), threading.Semaphore(0), threading.Event()
main, written = threading.main_thread(), []

class Slow(Gzip):
    def encode(self, block, window):
        encoding.release()
        encoders_move.wait()
        return super().encode(block, window)

def place(function):
    frame = top = sys._current_frames()[main.ident]
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame and (top.f_code, top.f_lasti)

def wait_until_main_waits_in(function):
    before = None
    while (before is None or place(function) != before) and not left.is_set():
        before = place(function)
        time.sleep(0.05)  # long enough for whoever is only on the way to get on

def interrupt():
    wait_until_main_waits_in(where)
    signal.pthread_kill(main.ident, signal.SIGINT)
    wait_until_main_waits_in("_stop")  # for the encoders: it does not leave them alone
    encoders_move.set()

out = blocks.BlockWriter(Slow(isal_zlib, 1), written.append, threads=2, on_block=lambda: None)
interrupting = threading.Thread(target=interrupt)
interrupting.start()
try:
    with out:
        out.write(bytes(1000 * (50 if where == "_take" else 3)))
        encoding.acquire(), encoding.acquire()
        if where == "_stop":
            raise ValueError
except KeyboardInterrupt:
    left.set()
    print("left after the encoders:", encoders_move.is_set())
    interrupting.join()
    print("threads:", *(thread.name for thread in threading.enumerate()))
    print("written:", *(data == Gzip.head for data in written))
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "where",
    [
        pytest.param("_take", id="filling"),
        pytest.param("__exit__", id="leaving", marks=pytest.mark.slow),
        pytest.param("_stop", id="leaving after a fault", marks=pytest.mark.slow),
    ],
)
def test_a_signal_interrupts_the_waiting_thread_and_ends_all_others(where: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", INTERRUPTED, where],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert done.stderr == ""
    assert done.stdout == "left after the encoders: True\nthreads: MainThread\nwritten: True\n"
