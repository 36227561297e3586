"""Several COPYs of a template on their way at once."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from e2b_upload.context.root import Root
from e2b_upload.e2b.build import build_template
from e2b_upload.e2b.copies import Copy
from e2b_upload.e2b.merge import Merged
from e2b_upload.errors import RefusedError, SourceError, SpoolError
from e2b_upload.events import Finished, Progress, Started
from e2b_upload.transfer.deadline import AbandonedError
from tests.cli.cases import api, link_or_store
from tests.support.rawserver import raw_server, response

if TYPE_CHECKING:
    from pathlib import Path

    from e2b_upload.events import Event
    from tests.support.rawserver import Connection, RawServer

AT_ONCE = 4
KNOWN = api(200, {"templateID": "z9y8x7", "public": False})
ASKED = link_or_store()


def build(server: RawServer, context: Path, number: int, **options: Any) -> Any:
    copies = [Copy(f"f{each}", "/app/") for each in range(number)]
    for copy in copies:
        (context / copy.src).write_text(copy.src)
    options = {"retries": 0, **options}
    return build_template(context, "t", copies, api_key="e2b_x", api_url=server.url, **options)


class Store:
    """Answers for E2B at once, and for a PUT when `enough` of them are there."""

    def __init__(self, enough: int) -> None:
        self.enough = threading.Barrier(enough)
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, connection: Connection) -> None:
        head = connection.read_head()
        if not head.startswith(b"PUT "):
            replay(connection, head)
            return
        connection.read_body()
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.enough.wait(30)
        time.sleep(0.05)  # one more would come by now
        with self._lock:
            self.now -= 1
        connection.send(response(200))


def replay(connection: Connection, head: bytes) -> None:
    """Answer for E2B where the head of the request is read already."""
    read, connection.read_head = connection.read_head, lambda: head  # type: ignore[method-assign]
    ASKED(connection)
    connection.read_head = read  # type: ignore[method-assign]


def test_as_many_are_put_at_once_and_no_more(tmp_path: Path) -> None:
    store = Store(AT_ONCE)
    with raw_server(KNOWN, store) as server:
        told = build(server, tmp_path, 2 * AT_ONCE)
    assert [each.status for each in told.copies] == ["uploaded"] * 2 * AT_ONCE
    assert [each.copy.src for each in told.copies] == [f"f{each}" for each in range(2 * AT_ONCE)]
    assert store.most == AT_ONCE


def test_where_one_fails_the_others_are_given_up(tmp_path: Path) -> None:
    puts = threading.Barrier(3)
    refused = threading.Lock()

    def script(connection: Connection) -> None:
        head = connection.read_head()
        if not head.startswith(b"PUT "):
            replay(connection, head)
            return
        connection.read_body()
        puts.wait(30)
        if refused.acquire(blocking=False):
            connection.send(response(403))
        else:
            connection.wait()

    with (
        raw_server(KNOWN, script) as server,
        pytest.raises(RefusedError, match="403"),
    ):
        build(server, tmp_path, 3, stall_timeout=1000)


def test_an_error_in_the_callback_ends_all_uploads(tmp_path: Path) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, Started) and event.step == "put":
            raise ZeroDivisionError

    with raw_server(KNOWN, link_or_store()) as server, pytest.raises(ZeroDivisionError):
        build(server, tmp_path, 3, on_event=on_event)


def test_the_events_are_those_of_one_build(tmp_path: Path) -> None:
    events: list[Event] = []
    inside = threading.Lock()

    def on_event(event: Event) -> None:
        assert inside.acquire(blocking=False)  # one at a time
        events.append(event)
        inside.release()

    with raw_server(KNOWN, link_or_store()) as server:
        told = build(server, tmp_path, 3, on_event=on_event)
    finished = {event.step: event for event in events if isinstance(event, Finished)}
    assert [event.step for event in events if isinstance(event, Finished)] == [*finished]
    assert list(finished) == ["hash", "pack", "put"]
    archives = [each.receipt.archive for each in told.copies]
    assert finished["hash"].done == finished["pack"].done == 6
    assert finished["pack"].entries == 3
    assert finished["pack"].result == sum(archive.bytes for archive in archives)
    assert finished["put"].done == sum(archive.bytes for archive in archives)
    totals = {event.step: event.total for event in events if isinstance(event, Started)}
    assert totals == {"hash": None, **{step: finished[step].done for step in ("pack", "put")}}


def test_too_many_open_files_are_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Root, "open", no_more)
    with raw_server(KNOWN, link_or_store()) as server, pytest.raises(SourceError) as caught:
        build(server, tmp_path, 1)
    assert caught.value.hint == "Allow more open files (ulimit -n)."


def test_a_failure_to_start_a_thread_is_a_spool_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pool(ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("e2b_upload.e2b.build.ThreadPoolExecutor", Pool)
    with raw_server(KNOWN, link_or_store()) as server, pytest.raises(SpoolError) as caught:
        build(server, tmp_path, 2)
    assert caught.value.message == "the system starts no more threads"


# Merged events


def started(total: int) -> Event:
    return Started(step="put", total=total, target="h")


def done(step_done: int) -> Event:
    return Progress(step="put", done=step_done, entries=0)


def finished(step_done: int) -> Event:
    return Finished(step="put", done=step_done, entries=0, seconds=1.0)


def test_sums_are_right_in_any_order() -> None:
    for order in {*permutations([0, 0, 0, 1, 1, 1, 2])}:
        heard: list[Event] = []
        merged = Merged(3, heard.append, threading.Event())
        coming = {
            0: iter([started(10), done(4), finished(10)]),
            1: iter([started(100), done(50), finished(100)]),
        }
        for number in order:
            if number in coming:
                merged.tell(next(coming[number]), number)
            else:
                merged.skip(number, ["put"])
        assert next(event.done for event in heard if isinstance(event, Started)) == 0
        *_, last = heard
        assert last == Finished(step="put", done=110, entries=0, seconds=2.0)
        assert [event for event in heard if isinstance(event, Finished)] == [last]
        totals = [event.total for event in heard if isinstance(event, Started)]
        assert totals in ([10, 110], [100, 110])


def test_a_second_attempt_starts_again() -> None:
    heard: list[Event] = []
    merged = Merged(2, heard.append, threading.Event())
    for number, event in [
        *((0, started(10)), (1, started(20)), (0, done(8)), (1, done(5))),
        *((0, started(10)), (1, done(6))),
    ]:
        merged.tell(event, number)
    again = Started(step="put", total=30, target="h", done=5)  # of the other one
    assert heard[-2:] == [again, done(6)]


def test_no_event_follows_a_cancellation() -> None:
    heard: list[Event] = []
    cancelled = threading.Event()
    merged = Merged(1, heard.append, cancelled)
    cancelled.set()
    with pytest.raises(AbandonedError):
        merged.of(0)(started(1))
    assert heard == []


def test_a_link_that_has_expired_by_this_clock_is_asked_for_again(tmp_path: Path) -> None:
    def script(connection: Connection) -> None:
        # The first is of a clock that is behind, or came late; no byte is spent on it.
        number = sum(request.head.startswith(b"GET ") for request in server.requests)
        signed = datetime.now(UTC) - timedelta(seconds=960 if number <= 2 else 0)
        more = f"&X-Amz-Date={signed:%Y%m%dT%H%M%SZ}&X-Amz-Expires=900"
        link_or_store(url="{url}" + more)(connection)

    with raw_server(KNOWN, script) as server:
        told = build(server, tmp_path, 1)
    assert [each.status for each in told.copies] == ["uploaded"]
    methods = [request.head.split()[0] for request in server.requests]
    assert methods == [b"GET", b"GET", b"GET", b"PUT"]
