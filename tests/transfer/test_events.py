"""What the callback is told, in which order; and that what it raises ends the work."""

import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import requests

from e2b_upload import Archive, Interrupted, RefusedError, put
from e2b_upload.events import Event, Finished, Progress, Redirected, Started
from tests.support.rawserver import ClientGoneError, Connection, answer, raw_server
from tests.transfer.common import KIB, MIB, PATH, TARGET, Serve, early, failure_of, redirect


@pytest.mark.parametrize("size", [1, 256 * KIB, 256 * KIB + 1, 3 * MIB + 7])
def test_a_put_is_told_from_start_to_finish(
    size: int, serve: Serve, archive: Callable[[int], Archive]
) -> None:
    events: list[Event] = []
    with serve(answer(200)) as server:
        put(archive(size), server.url + TARGET, on_event=events.append)
    started, *progress, finished = events
    assert started == Started(step="put", total=size, target=server.url + PATH)
    assert isinstance(finished, Finished)
    assert (finished.step, finished.done, finished.entries) == ("put", size, 0)
    assert finished.seconds > 0
    done = [0]
    for event in progress:
        assert isinstance(event, Progress)
        assert (event.step, event.entries) == ("put", 0)
        done.append(event.done)
    assert done[-1] == size
    assert all(0 < after - before <= MIB for before, after in pairwise(done))


def test_a_redirect_is_told_and_begins_anew(serve: Serve, small: Path) -> None:
    events: list[Event] = []
    with serve(redirect(307, "/a?b=c"), redirect(308, "/d"), answer(200)) as server:
        put(small, server.url + TARGET, on_event=events.append)
    assert events[:-1] == [
        Started(step="put", total=20, target=server.url + PATH),
        Progress(step="put", done=20),
        Redirected(http_status=307, target=f"{server.url}/a"),
        Started(step="put", total=20, target=f"{server.url}/a"),
        Progress(step="put", done=20),
        Redirected(http_status=308, target=f"{server.url}/d"),
        Started(step="put", total=20, target=f"{server.url}/d"),
        Progress(step="put", done=20),
    ]
    assert isinstance(events[-1], Finished)
    assert events[-1].done == 20


def test_a_failure_is_never_finished(serve: Serve, huge: Archive) -> None:
    events: list[Event] = []
    with serve(early(403)) as server:
        error = failure_of(huge, server.url + TARGET, on_event=events.append)
    assert type(error) is RefusedError
    assert isinstance(events[0], Started)
    assert {type(event) for event in events[1:]} <= {Progress}


class OwnError(Exception):
    """What a caller raises for its own reasons."""


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "exception",
    [
        OwnError("own"),
        RuntimeError("own"),
        ValueError("own"),
        UnicodeError("own"),
        OSError("own"),
        BrokenPipeError("own"),
        ConnectionResetError("own"),
        TimeoutError("own"),
        requests.ConnectionError("own"),
        KeyboardInterrupt(),
        Interrupted(15),
    ],
    ids=lambda exception: type(exception).__name__,
)
@pytest.mark.parametrize("when", [Started, Progress, Redirected, Finished])
def test_what_the_callback_raises_reaches_the_caller_and_hangs_up(
    when: type[Event], exception: BaseException, small: Path
) -> None:
    gone = threading.Event()

    def script(connection: Connection) -> None:
        (redirect(307, "/next") if when is Redirected else answer(200))(connection)
        with suppress(ClientGoneError):
            connection.read_head()
        gone.set()

    def on_event(event: Event) -> None:
        if isinstance(event, when):
            raise exception

    with raw_server(script) as server:
        with pytest.raises(type(exception)) as caught:
            put(small, server.url + TARGET, on_event=on_event)
        assert caught.value is exception
        assert when is Started or gone.wait(30)
    assert len(server.requests) == (0 if when is Started else 1)


def test_what_the_callback_raises_amid_the_body_ends_it_there(serve: Serve, huge: Archive) -> None:
    gone = threading.Event()

    def script(connection: Connection) -> None:
        connection.read_head()
        with suppress(ClientGoneError):
            connection.read_body()
        gone.set()

    def on_event(event: Event) -> None:
        if isinstance(event, Progress) and event.done > MIB:
            raise OwnError

    with serve(script) as server:
        with pytest.raises(OwnError):
            put(huge, server.url + TARGET, on_event=on_event)
        assert gone.wait(30)
    assert 0 < server.requests[0].body_bytes <= 2 * MIB
