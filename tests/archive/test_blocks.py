"""Many threads make one stream, and none of them outlives it."""

import gzip
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
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
EXAMPLES: Final = settings(deadline=None)

threads_0_to_4 = pytest.mark.parametrize("threads", [0, 1, 2, 3, 4])
threads_1_to_4 = pytest.mark.parametrize("threads", [1, 2, 3, 4])
sizes = st.integers(0, 30) | st.builds(
    lambda blocks, more: max(blocks * BLOCK + more, 0), st.integers(0, 4), st.integers(-2, 2)
)
pieces = st.lists(st.tuples(st.sampled_from(["write", "read"]), sizes), max_size=25)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@contextmanager
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", BLOCK)
        yield


def ignore() -> None:
    """Watch nothing."""


def ignore_data(_: Buffer) -> None:
    """Write to nowhere."""


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


@threads_0_to_4
@given(kinds=pieces, level=st.integers(0, 3))
@EXAMPLES
def test_any_sequence_of_writes_is_one_gzip_member(
    threads: int, kinds: list[tuple[str, int]], level: int
) -> None:
    content = content_of(kinds)
    sink, count = Sink(), Counter()
    with (
        small_blocks(),
        writer(sink.write, codec=gzip_codec(level), threads=threads, on_block=count) as out,
    ):
        fill(out, content, kinds)
    stream = zlib.decompressobj(31)
    assert stream.decompress(sink) == content
    assert (stream.eof, stream.unused_data) == (True, b"")
    assert count.calls == -(-len(content) // BLOCK)


@threads_0_to_4
@given(kinds=pieces)
@EXAMPLES
def test_any_sequence_of_writes_is_itself_without_compression(
    threads: int, kinds: list[tuple[str, int]]
) -> None:
    content = content_of(kinds)
    sink = Sink()
    with small_blocks(), writer(sink.write, codec=Plain(), threads=threads) as out:
        fill(out, content, kinds)
    assert bytes(sink) == content


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_neither_threads_nor_pieces_change_a_byte(level: int) -> None:
    content = b"".join(b"%d lines\n" % n for n in range(600_000))  # several real blocks
    assert len(content) > 3 * blocks.BLOCK_BYTES
    results = set()
    for threads in range(5):
        for piece in (997, 1 << 20, len(content)):
            sink = Sink()
            with writer(sink.write, codec=gzip_codec(level), threads=threads) as out:
                for start in range(0, len(content), piece):
                    out.write(content[start : start + piece])
            results.add(bytes(sink))
    (result,) = results
    assert gzip.decompress(result) == content


@pytest.mark.real
@pytest.mark.skipif(shutil.which("gzip") is None, reason="there is no gzip")
def test_gzip_itself_finds_no_fault() -> None:
    content = os.urandom(1 << 20) + bytes(3 << 20) + b"end"
    sink = Sink()
    with writer(sink.write) as out:
        out.write(content)
    test = subprocess.run(["gzip", "-t"], input=sink, capture_output=True, check=False)
    assert (test.returncode, test.stderr) == (0, b"")
    assert subprocess.run(["gzip", "-dc"], input=sink, capture_output=True, check=True).stdout == (
        content
    )


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


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_blocks_that_overtake_each_other_are_written_in_order(threads: int) -> None:
    sink = Sink()
    with small_blocks(), writer(sink.write, codec=Overtaking(20), threads=threads) as out:
        out.write(numbered(20))
    assert bytes(sink) == numbered(20)


@threads_0_to_4
def test_everything_is_written_by_the_thread_that_fills(threads: int) -> None:
    writing = set()
    with (
        small_blocks(),
        writer(lambda _: writing.add(threading.current_thread()), threads=threads) as out,
    ):
        out.write(bytes(20 * BLOCK + 1))
    assert writing == {threading.current_thread()}


# Memory


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


def is_in(thread: threading.Thread, function: str) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False


class InFlight:
    """Counts the blocks that were given away, and those of them that are not written yet."""

    def __init__(self, write: Callable[[Buffer], None] = ignore_data) -> None:
        self._write = write
        self._writes = -1  # the head is no block
        self.given = 0
        self.most = 0

    def write(self, data: Buffer) -> None:
        self._write(data)
        self._writes += 1

    def on_block(self) -> None:
        self.given += 1
        self.most = max(self.most, self.given - self._writes)


class Waiting(Gzip):
    """Encodes nothing before it may."""

    def __init__(self) -> None:
        super().__init__(isal_zlib, 1)
        self.may = threading.Event()
        self.began = 0

    def encode(self, block: memoryview, window: bytes) -> Encoded:
        self.began += 1
        self.may.wait()
        return super().encode(block, window)


@threads_1_to_4
def test_slow_encoders_hold_the_filling_thread_up_after_threads_and_three_blocks(
    threads: int,
) -> None:
    sink, codec = Sink(), Waiting()
    flight = InFlight(sink.write)

    def fill_it() -> None:
        with writer(flight.write, codec=codec, threads=threads, on_block=flight.on_block) as out:
            for _ in range(20):
                out.write(bytes(BLOCK))

    with small_blocks():
        filling = threading.Thread(target=fill_it)
        filling.start()
        wait_for(lambda: is_in(filling, "_take") and flight.given >= threads + 2)
        assert flight.given == threads + 2
        assert filling.is_alive()
        codec.may.set()
        filling.join()
    assert (flight.given, flight.most) == (20, threads + 2)
    assert gzip.decompress(sink) == bytes(20 * BLOCK)


@threads_0_to_4
@pytest.mark.parametrize("codec", [gzip_codec(), Plain()], ids=["gzip", "plain"])
def test_a_slow_disk_holds_the_filling_thread_up_with_a_bounded_number_of_blocks(
    codec: Codec, threads: int
) -> None:
    disk_is_asked, disk_moves = threading.Event(), threading.Event()
    sink = Sink()

    def slow(data: Buffer) -> None:
        if sink or (isinstance(codec, Plain) and data):  # not the head
            disk_is_asked.set()
            disk_moves.wait()
        sink.write(data)

    flight = InFlight(slow)

    def fill_it() -> None:
        with writer(flight.write, codec=codec, threads=threads, on_block=flight.on_block) as out:
            for _ in range(20):
                out.write(bytes(BLOCK))

    with small_blocks():
        filling = threading.Thread(target=fill_it)
        filling.start()
        disk_is_asked.wait()
        assert flight.given <= threads + 2
        disk_moves.set()
        filling.join()
    assert flight.given == 20
    assert flight.most <= threads + 2
    content = bytes(sink) if isinstance(codec, Plain) else gzip.decompress(sink)
    assert content == bytes(20 * BLOCK)


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
    with small_blocks(), writer(ignore_data, codec=codec, threads=threads) as out:
        out.write(bytes(500 * BLOCK))
    assert 1 <= len(codec.memory) <= threads + 2


# Faults

Where: TypeAlias = Literal["head", "block", "tail", "encode", "combine", "on_block", "body"]


class FaultError(Exception):
    """What a test throws into the works."""


class BaseFault(BaseException):
    """The same, as a signal would raise it."""


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


@pytest.mark.parametrize(
    "error", [FaultError("first"), BaseFault("first")], ids=["error", "signal"]
)
@pytest.mark.parametrize("n_blocks", [0.5, 1, 3, 50])
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(
    "where", ["head", "block", "tail", "encode", "combine", "on_block", "body"]
)
def test_a_fault_ends_all_threads_and_reaches_the_caller(
    where: Where, threads: int, n_blocks: float, error: BaseException
) -> None:
    events: list[str] = []

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

    def run() -> None:
        codec = FaultyCodec(where, error)
        with writer(write, codec=codec, threads=threads, on_block=on_block) as out:
            out.write(bytes(int(n_blocks * BLOCK)))
            if where == "body":
                events.append(where)
                raise error

    before = set(threading.enumerate())
    with small_blocks(), pytest.raises(type(error)) as raised:
        run()
    assert raised.value is error
    assert set(threading.enumerate()) == before
    if where in {"encode", "combine"}:  # before the first block is written, and after it
        assert events == ["head", "block"][: 1 + (where == "combine")]
    else:
        assert events.index(where) == len(events) - 1, "it went on after a fault"
    assert "tail" not in events or where == "tail"


@pytest.mark.timeout(20)
def test_after_a_fault_in_the_body_no_further_block_is_written_or_encoded() -> None:
    codec = Waiting()
    flight = InFlight()

    def release() -> None:
        wait_for(lambda: is_in(main, "_stop"))
        codec.may.set()

    def run() -> None:
        with writer(flight.write, codec=codec, on_block=flight.on_block) as out:
            out.write(bytes(3 * BLOCK))
            wait_for(lambda: codec.began == 2)
            raise FaultError

    main = threading.current_thread()
    releasing = threading.Thread(target=release)
    releasing.start()
    with small_blocks(), pytest.raises(FaultError):
        run()
    releasing.join()
    assert (flight.given, flight.most) == (3, 3)  # all were still to be written
    assert codec.began == 2


class EachItsOwn(Plain):
    """Fails with each block, and with the first after the second."""

    def __init__(self) -> None:
        self.second_failed = threading.Event()

    def encode(self, block: memoryview, window: bytes) -> Encoded:
        del window
        number = number_of(block)
        if number == 0:
            self.second_failed.wait()
        if number == 1:
            self.second_failed.set()
        raise FaultError(number)


@pytest.mark.parametrize("n_blocks", [2, 50])
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_of_several_faults_the_first_in_order_is_raised(threads: int, n_blocks: int) -> None:
    with (
        small_blocks(),
        pytest.raises(FaultError) as raised,
        writer(ignore_data, codec=EachItsOwn(), threads=threads) as out,
    ):
        out.write(numbered(n_blocks))
    assert raised.value.args == (0,)


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


@threads_0_to_4
def test_after_a_fault_no_more_is_read_than_there_are_blocks(threads: int) -> None:
    count = Counter()
    written: list[str] = []

    def write(_: Buffer) -> None:
        if written:
            raise FaultError
        written.append("head")

    with (
        small_blocks(),
        pytest.raises(FaultError),
        writer(write, threads=threads, on_block=count) as out,
    ):
        out.write(bytes(1_000 * BLOCK))
    assert count.calls <= threads + 2


@threads_0_to_4
@pytest.mark.parametrize("n_blocks", [0.5, 20])
def test_the_end_is_missing_where_the_body_failed(n_blocks: float, threads: int) -> None:
    sink, count = Sink(), Counter()

    def run() -> None:
        with writer(sink.write, threads=threads, on_block=count) as out:
            out.write(bytes(int(n_blocks * BLOCK)))
            raise FaultError

    with small_blocks(), pytest.raises(FaultError):
        run()
    stream = zlib.decompressobj(31)
    stream.decompress(sink)
    assert not stream.eof
    assert count.calls == int(n_blocks)


@pytest.mark.parametrize("started", [0, 1, 2])
def test_a_system_that_gives_no_more_threads_is_left_with_none(
    started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads_after(started, monkeypatch)
    before = set(threading.enumerate())
    with (
        pytest.raises(SpoolError, match="starts no more threads"),
        writer(ignore_data, threads=3),
    ):
        pytest.fail("it went on without its threads")
    assert set(threading.enumerate()) == before


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
    "where", ["_take", "__exit__", "_stop"], ids=["filling", "leaving", "leaving after a fault"]
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
