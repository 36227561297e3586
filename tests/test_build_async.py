"""Builds in an event loop: they do not block it, and cancelling one leaves nothing behind."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import e2b_upload
from e2b_upload.events import Event, Progress, Retrying
from tests.support.rawserver import (
    Script,
    answer,
    raw_server,
    silent,
    stall_sending,
)

TARGET = "/bucket/key?X-Amz-Signature=0123456789abcdef"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "ctx"
    folder.mkdir()
    (folder / "a").write_bytes(os.urandom(1 << 20))
    return folder


@pytest.fixture
def spool_dir(tmp_path: Path) -> Iterator[Path]:
    """Give a folder, and see that nothing is left: no file, no descriptor, no thread."""
    folder = tmp_path / "spool"
    folder.mkdir()
    descriptors, threads = os.listdir("/proc/self/fd"), threading.enumerate()
    yield folder
    deadline = time.monotonic() + 10  # a look-up or a handshake that nobody waits for
    while set(threading.enumerate()) - set(threads) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.listdir(folder)
    assert not set(threading.enumerate()) - set(threads)
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)


def test_it_returns_and_raises_as_build_does(context: Path, spool_dir: Path) -> None:
    async def build(url: str) -> e2b_upload.Receipt:
        return await e2b_upload.build_async(context, url + TARGET, spool_dir=spool_dir)

    with raw_server(answer(500), answer(200)) as server:
        receipt = asyncio.run(build(server.url))
    assert (receipt.http_status, receipt.attempts, receipt.archive.files) == (200, 2, 1)
    assert server.requests[1].body_sha256 == receipt.archive.sha256
    with raw_server(answer(403)) as server, pytest.raises(e2b_upload.RefusedError):
        asyncio.run(build(server.url))


def test_a_large_upload_does_not_block_the_loop(context: Path, spool_dir: Path) -> None:
    with (context / "hole").open("wb") as file:
        file.truncate(100 << 20)
    gaps: list[float] = []

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    async def both(url: str) -> e2b_upload.Receipt:
        ticking = asyncio.create_task(tick())
        try:
            return await e2b_upload.build_async(
                context, url, spool_dir=spool_dir, compression="none"
            )
        finally:
            ticking.cancel()

    with raw_server(answer(200)) as server:
        receipt = asyncio.run(both(server.url + TARGET))
    assert receipt.archive.bytes > 100 << 20
    assert len(gaps) > 3
    # If the build blocked the loop, one gap would be as long as the build.
    assert max(gaps) < max(1.0, sum(gaps) / 4)


@pytest.mark.parametrize(
    ("script", "when"),
    [
        pytest.param(answer(200), "pack", id="while it is packed"),
        pytest.param(stall_sending(), "put", id="while a send blocks", marks=pytest.mark.slow),
        pytest.param(silent(), "put", id="while the store is silent"),
        pytest.param(answer(503, headers={"Retry-After": "60"}), "retry", id="while it waits"),
    ],
)
def test_cancelling_leaves_nothing_behind(
    script: Script, when: str, context: Path, spool_dir: Path
) -> None:
    (context / "more").mkdir()
    for number in range(3_000 if when == "pack" else 0):
        (context / "more" / str(number)).touch()
    if when == "put":
        (context / "data").write_bytes(os.urandom(16 << 20))

    async def cancelled(url: str) -> tuple[float, list[Event]]:
        loop, reached, events = asyncio.get_running_loop(), asyncio.Event(), []

        def watch(event: Event) -> None:
            events.append(event)
            step = "retry" if isinstance(event, Retrying) else getattr(event, "step", "")
            if step == when and (when == "retry" or isinstance(event, Progress)):
                loop.call_soon_threadsafe(reached.set)

        task = asyncio.create_task(
            e2b_upload.build_async(context, url, spool_dir=spool_dir, on_event=watch)
        )
        await asyncio.wait_for(reached.wait(), 30)
        if when == "put":
            await asyncio.sleep(0.3)  # until nothing moves any more
        start = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - start, events

    with raw_server(script) as server:
        took, events = asyncio.run(cancelled(server.url + TARGET))
    assert took < 5
    assert not [event for event in events if getattr(event, "step", "") == "put"] or when != "pack"


def test_a_build_that_is_cancelled_before_it_starts_does_nothing(
    context: Path, spool_dir: Path
) -> None:
    async def cancelled(url: str) -> None:
        task = asyncio.create_task(e2b_upload.build_async(context, url, spool_dir=spool_dir))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with raw_server(answer(200)) as server:
        asyncio.run(cancelled(server.url + TARGET))
    assert not server.requests


def test_a_timeout_is_raised(context: Path, spool_dir: Path) -> None:
    async def in_time(url: str) -> None:
        async with asyncio.timeout(0.3):
            await e2b_upload.build_async(context, url, spool_dir=spool_dir)

    with raw_server(silent()) as server, pytest.raises(TimeoutError):
        asyncio.run(in_time(server.url + TARGET))


def test_cancelling_twice_leaves_nothing_behind(context: Path, spool_dir: Path) -> None:
    async def twice(url: str) -> list[str]:
        reached, complaints = asyncio.Event(), []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, told: complaints.append(told["message"]))

        def watch(event: Event) -> None:
            if isinstance(event, Progress) and event.step == "put":
                loop.call_soon_threadsafe(reached.set)

        task = asyncio.create_task(
            e2b_upload.build_async(context, url, spool_dir=spool_dir, on_event=watch)
        )
        await asyncio.wait_for(reached.wait(), 30)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gc.collect()
        return complaints

    with raw_server(silent()) as server:
        assert asyncio.run(twice(server.url + TARGET)) == []
