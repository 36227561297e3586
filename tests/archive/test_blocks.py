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

from e2b_upload.archive import blocks
from e2b_upload.archive.blocks import MAX_THREADS, BlockWriter, default_threads
from e2b_upload.archive.deflate import Buffer, Codec, Encoded, Gzip, Plain

BLOCK: Final = 1_000
EXAMPLES: Final = settings(deadline=None)

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


def writer(
    write: Callable[[Buffer], None],
    *,
    codec: Codec | None = None,
    threads: int = 2,
    on_block: Callable[[], None] = ignore,
) -> BlockWriter:
    return BlockWriter(codec or Gzip(1), write, threads=threads, on_block=on_block)


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


@threads_1_to_4
@given(kinds=pieces, level=st.integers(0, 3))
@EXAMPLES
def test_any_sequence_of_writes_is_one_gzip_member(
    threads: int, kinds: list[tuple[str, int]], level: int
) -> None:
    content = content_of(kinds)
    sink, count = Sink(), Counter()
    with (
        small_blocks(),
        writer(sink.write, codec=Gzip(level), threads=threads, on_block=count) as out,
    ):
        fill(out, content, kinds)
    stream = zlib.decompressobj(31)
    assert stream.decompress(sink) == content
    assert (stream.eof, stream.unused_data) == (True, b"")
    assert count.calls == -(-len(content) // BLOCK)


@threads_1_to_4
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
    content = b"".join(b"%d lines\n" % n for n in range(400_000))  # several real blocks
    results = set()
    for threads in (1, 2, 4):
        for piece in (997, 1 << 20, len(content)):
            sink = Sink()
            with writer(sink.write, codec=Gzip(level), threads=threads) as out:
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


def test_it_has_as_many_threads_as_there_are_cores_to_use_but_four(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cores, threads in ((1, 1), (3, 3), (4, 4), (64, MAX_THREADS)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: range(n), raising=False)
        assert default_threads() == threads
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, threads in ((None, 1), (2, 2), (64, MAX_THREADS)):
        monkeypatch.setattr(os, "cpu_count", lambda n=count: n)
        assert default_threads() == threads


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


@threads_1_to_4
@pytest.mark.parametrize("codec", [Gzip(1), Plain()], ids=["gzip", "plain"])
def test_a_slow_disk_holds_the_filling_thread_up_after_threads_and_two_blocks(
    codec: Codec, threads: int
) -> None:
    disk_moves = threading.Event()
    sink, count = Sink(), Counter()

    def slow(data: Buffer) -> None:
        if threading.current_thread().name == "spool":
            disk_moves.wait()
        sink.write(data)

    def fill_it() -> None:
        with writer(slow, codec=codec, threads=threads, on_block=count) as out:
            for _ in range(20):
                out.write(bytes(BLOCK))

    with small_blocks():
        filling = threading.Thread(target=fill_it)
        filling.start()
        wait_for(lambda: is_in(filling, "_take") and count.calls >= threads + 2)
        assert count.calls == threads + 2
        assert filling.is_alive()
        disk_moves.set()
        filling.join()
    assert count.calls == 20
    content = bytes(sink) if isinstance(codec, Plain) else gzip.decompress(sink)
    assert content == bytes(20 * BLOCK)


# Faults

Where: TypeAlias = Literal["head", "block", "tail", "encode", "combine", "on_block", "body"]


class FaultError(Exception):
    """What a test throws into the works."""


class BaseFault(BaseException):
    """The same, as a signal would raise it."""


class FaultyCodec(Gzip):
    def __init__(self, where: Where, error: BaseException) -> None:
        super().__init__(1)
        self.where, self.error = where, error

    def encode(self, block: memoryview, window: bytes) -> Encoded:
        if self.where == "encode":
            raise self.error
        return super().encode(block, window)

    def combine(self, before: Encoded, block: Encoded) -> Encoded:
        if self.where == "combine":
            raise self.error
        return super().combine(before, block)


@pytest.mark.parametrize(
    "error", [FaultError("first"), BaseFault("first")], ids=["error", "signal"]
)
@pytest.mark.parametrize("n_blocks", [0.5, 1, 3, 50])
@pytest.mark.parametrize(
    "where", ["head", "block", "tail", "encode", "combine", "on_block", "body"]
)
def test_a_fault_ends_all_threads_and_reaches_the_caller(
    where: Where, n_blocks: float, error: BaseException
) -> None:
    written: list[str] = []

    def write(data: Buffer) -> None:
        in_writer = threading.current_thread().name == "spool"
        here = "block" if in_writer else "head" if bytes(data) == Gzip.head else "tail"
        written.append(here)
        if here == where:
            raise error

    def on_block() -> None:
        if where == "on_block":
            raise error

    def run() -> None:
        with writer(write, codec=FaultyCodec(where, error), on_block=on_block) as out:
            out.write(bytes(int(n_blocks * BLOCK)))
            if where == "body":
                raise error

    with small_blocks(), pytest.raises(type(error)) as raised:
        run()
    assert raised.value is error
    assert where not in written[:-1], "it went on after a fault"


@pytest.mark.timeout(20)
def test_after_a_fault_in_the_body_no_further_block_is_written() -> None:
    written = []

    def write(_: Buffer) -> None:
        if threading.current_thread().name == "spool":
            written.append("block")
            wait_for(lambda: out._failure is not None)

    def run() -> None:
        with out:
            out.write(bytes(5 * BLOCK))
            wait_for(lambda: bool(written))
            raise FaultError

    with small_blocks():
        out = writer(write, threads=4)
        with pytest.raises(FaultError):
            run()
    assert written == ["block"]


def test_of_several_faults_the_first_is_raised() -> None:
    class EachItsOwn(Gzip):
        def encode(self, block: memoryview, window: bytes) -> Encoded:
            del window
            raise FaultError(block[0])

    content = b"".join(bytes([number] * BLOCK) for number in range(50))
    with (
        small_blocks(),
        pytest.raises(FaultError) as raised,
        writer(ignore_data, codec=EachItsOwn(1), threads=4) as out,
    ):
        out.write(content)
    assert raised.value.args == (0,)


@threads_1_to_4
def test_after_a_fault_no_more_is_read_than_there_are_blocks(threads: int) -> None:
    count = Counter()

    def write(_: Buffer) -> None:
        if threading.current_thread().name == "spool":
            raise FaultError

    with (
        small_blocks(),
        pytest.raises(FaultError),
        writer(write, threads=threads, on_block=count) as out,
    ):
        out.write(bytes(1_000 * BLOCK))
    assert count.calls <= threads + 2


@pytest.mark.parametrize("n_blocks", [0.5, 20])
def test_the_end_is_missing_where_the_body_failed(n_blocks: float) -> None:
    sink, count = Sink(), Counter()

    def run() -> None:
        with writer(sink.write, on_block=count) as out:
            out.write(bytes(int(n_blocks * BLOCK)))
            raise FaultError

    with small_blocks(), pytest.raises(FaultError):
        run()
    stream = zlib.decompressobj(31)
    stream.decompress(sink)
    assert not stream.eof
    assert count.calls == int(n_blocks)


# Signals: a process of its own, for they reach only a main thread

INTERRUPTED: Final = """
import signal, sys, threading, time
from e2b_upload.archive import blocks
from e2b_upload.archive.deflate import Gzip

blocks.BLOCK_BYTES = 1000
where = sys.argv[1]
disk_moves, left, main = threading.Event(), threading.Event(), threading.main_thread()

def slow(data):
    if threading.current_thread() is not main:
        disk_moves.wait()

def place():
    frame = top = sys._current_frames()[main.ident]
    while frame is not None and frame.f_code.co_name != where:
        frame = frame.f_back
    return frame and (top.f_code, top.f_lasti)

def main_waits():
    before = place()
    time.sleep(0.05)  # long enough for whoever is only on the way to get on
    return before is not None and place() == before

def interrupt():
    while not main_waits():
        pass
    signal.pthread_kill(main.ident, signal.SIGINT)
    left.wait(0.5)  # whoever does not wait for the disk has left by then
    disk_moves.set()

out = blocks.BlockWriter(Gzip(1), slow, threads=2, on_block=lambda: None)
interrupting = threading.Thread(target=interrupt)
interrupting.start()
try:
    with out:
        out.write(bytes(1000 * (50 if where == "_take" else 3)))
except KeyboardInterrupt:
    print("left after the disk:", disk_moves.is_set())
    left.set()
    interrupting.join()
    print("threads:", *(thread.name for thread in threading.enumerate()))
"""


@pytest.mark.parametrize("where", ["_take", "_wait_for_writer"], ids=["filling", "leaving"])
def test_a_signal_interrupts_the_waiting_thread_and_ends_all_others(where: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", INTERRUPTED, where],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout == "left after the disk: True\nthreads: MainThread\n"
