"""Answers that come before the body was sent: what is sent after them, and what they mean."""

import gzip
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from e2b_upload import Archive, RefusedError, UnavailableError, put
from e2b_upload.events import Event, Progress
from e2b_upload.transfer.connection import CONTINUE_SECONDS
from e2b_upload.transfer.put import EXPECT_BYTES
from tests.support.rawserver import Connection, Script, answer, raw_server, read_on, response
from tests.transfer.common import KIB, MIB, TARGET, USUAL, Serve, failure_of, xml
from tests.transfer.ways import Travel

SIZE = 30 * MIB
ENOUGH = 3 * MIB
MOST_BUFFERED = 16 * MIB  # what may lie between a client and a server

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def heads(requests: list[bytes]) -> list[bool]:
    """Return which requests expected to be told to go on."""
    return [b"expect: 100-continue" in head.lower() for head in requests]


def without_expect(script: Script) -> Script:
    """Let the body come at once."""

    def play(connection: Connection) -> None:
        connection.send(CONTINUE)
        script(connection)

    return play


@pytest.mark.parametrize("status", [200, 201, 204])
def test_success_amid_the_body_is_damage_however_fast_the_server_reads(
    status: int, serve: Serve, archive: Callable[[int], Archive]
) -> None:
    with serve(read_on(status, ENOUGH)) as server:
        error = failure_of(archive(SIZE), server.url + TARGET, retries=4)
    assert (type(error).__name__, error.exit_code, error.http_status) == ("DamagedError", 5, status)
    assert f"of {SIZE} bytes: what it stored is not the archive" in error.message
    assert len(server.requests) == 2  # once more, and no more
    assert all(request.body_bytes < SIZE for request in server.requests)


def test_success_amid_the_body_then_in_time(
    serve: Serve, archive: Callable[[int], Archive]
) -> None:
    with serve(read_on(200, ENOUGH), answer(200)) as server:
        assert put(archive(SIZE), server.url + TARGET, retries=1).attempts == 2


@pytest.mark.parametrize("status", [200, 403])
def test_an_answer_instead_of_100_costs_no_body(
    status: int, way: Travel, archive: Callable[[int], Archive]
) -> None:
    def at_once(connection: Connection) -> None:
        connection.continues = False
        read_on(status, 0, xml("AccessDenied") if status == 403 else b"")(connection)

    with way(at_once) as (url, server):
        error = failure_of(archive(SIZE), url + TARGET)
    assert error.http_status == status
    assert server.requests[-1].body_bytes == 0


@pytest.mark.parametrize("status", [200, 403])
def test_a_100_after_the_final_answer_is_not_for_the_body(
    status: int, way: Travel, archive: Callable[[int], Archive]
) -> None:
    def both(connection: Connection) -> None:
        connection.continues = False
        connection.read_head()
        connection.send(response(status) + CONTINUE)
        connection.read_body()

    with way(both) as (url, server):
        error = failure_of(archive(SIZE), url + TARGET)
    assert error.http_status == status
    assert server.requests[-1].body_bytes == 0


def test_a_refusal_stops_the_body_although_the_server_reads_on(
    way: Travel, archive: Callable[[int], Archive]
) -> None:
    with way(read_on(413, MIB)) as (url, server):
        error = failure_of(archive(SIZE), url + TARGET)
    assert (type(error), error.http_status) == (RefusedError, 413)
    assert server.requests[-1].body_bytes < MIB + MOST_BUFFERED


@pytest.mark.parametrize("size", [1, EXPECT_BYTES - 1, EXPECT_BYTES, SIZE])
def test_a_large_body_waits_for_100(
    size: int, way: Travel, archive: Callable[[int], Archive]
) -> None:
    """The server that sends 100 when it begins to read gets the whole body at once."""
    sent, early = archive(size), []

    def store(connection: Connection) -> None:
        connection.read_head()
        early.append(len(connection._read_ahead))
        connection.read_body()
        connection.send(response(200))

    with way(store) as (url, server):
        assert put(sent, url + TARGET, retries=0).http_status == 200
    request = server.requests[-1]
    assert request.body_sha256 == sent.sha256
    assert heads([request.head]) == [size >= EXPECT_BYTES]
    if size >= EXPECT_BYTES:
        assert early == [0]


@pytest.mark.parametrize(
    "before", [b"", HINTS, HINTS + HINTS], ids=["nothing", "a hint", "two hints"]
)
def test_a_silent_server_gets_the_body_after_a_second(
    before: bytes, way: Travel, archive: Callable[[int], Archive]
) -> None:
    sent, waited = archive(EXPECT_BYTES), []

    def silent(connection: Connection) -> None:
        connection.continues = False
        connection.read_head()
        connection.send(before)
        start = time.monotonic()
        connection.read_body()
        waited.append(time.monotonic() - start)
        connection.send(CONTINUE + response(200))  # a late one is skipped

    with way(silent) as (url, server):
        assert put(sent, url + TARGET, retries=0).attempts == 1
    assert CONTINUE_SECONDS * 0.9 < waited[0] < CONTINUE_SECONDS * 5
    assert server.requests[-1].body_sha256 == sent.sha256


@pytest.mark.parametrize(
    "pieces", [[HINTS + CONTINUE], [HINTS, CONTINUE], [*map(bytes, zip(CONTINUE))]]
)
def test_100_is_understood_however_it_comes(
    pieces: list[bytes], serve: Serve, archive: Callable[[int], Archive]
) -> None:
    sent = archive(EXPECT_BYTES)

    def store(connection: Connection) -> None:
        connection.continues = False
        connection.read_head()
        for piece in pieces:
            connection.send(piece)
            connection.wait(0.005)
        start = time.monotonic()
        connection.read_body()
        assert time.monotonic() - start < CONTINUE_SECONDS
        connection.send(response(200))

    with serve(store) as server:
        put(sent, server.url + TARGET, retries=0)
    assert server.requests[0].body_sha256 == sent.sha256


def test_417_is_retried_once_without_the_header(
    way: Travel, archive: Callable[[int], Archive]
) -> None:
    sent = archive(EXPECT_BYTES)

    def unmet(connection: Connection) -> None:
        connection.continues = False
        read_on(417)(connection)

    with way(unmet, answer(200)) as (url, server):
        receipt = put(sent, url + TARGET, retries=0)
    assert receipt.attempts == 1
    first, second = [request for request in server.requests if request.method == "PUT"]
    assert heads([first.head, second.head]) == [True, False]
    assert (first.body_bytes, second.body_sha256) == (0, sent.sha256)


def test_417_to_a_request_without_the_header_is_an_answer(
    serve: Serve, archive: Callable[[int], Archive]
) -> None:
    with serve(answer(417)) as server:
        error = failure_of(archive(EXPECT_BYTES), server.url + TARGET)
        assert failure_of(archive(KIB), server.url + TARGET).http_status == 417
    assert (type(error), error.http_status) == (RefusedError, 417)
    assert heads([request.head for request in server.requests]) == [True, False, False]


def test_the_header_can_be_turned_off(archive: Callable[[int], Archive]) -> None:
    with raw_server(answer(200)) as server:
        put(archive(EXPECT_BYTES), server.url + TARGET, headers={"Expect": ""})
    assert b"expect" not in server.requests[0].head.lower()


def test_a_small_body_may_be_asked_to_wait(archive: Callable[[int], Archive]) -> None:
    def refuse(connection: Connection) -> None:
        connection.continues = False
        read_on(403)(connection)

    with raw_server(refuse) as server:
        failure_of(archive(KIB), server.url + TARGET, headers={"Expect": "100-continue"})
    assert server.requests[0].body_bytes == 0


def test_a_redirect_instead_of_100_costs_no_body(
    way: Travel, archive: Callable[[int], Archive]
) -> None:
    sent = archive(EXPECT_BYTES)

    def away(connection: Connection) -> None:
        connection.continues = False
        read_on(307, headers={"Location": "/there"})(connection)

    with way(away, answer(200)) as (url, server):
        put(sent, url + TARGET, retries=0)
    first, second = [request for request in server.requests if request.method == "PUT"]
    assert (first.body_bytes, second.body_sha256) == (0, sent.sha256)


@pytest.mark.parametrize("end", [Connection.close, Connection.reset])
def test_a_server_that_hangs_up_instead_of_100(
    end: Callable[[Connection], None], serve: Serve, archive: Callable[[int], Archive]
) -> None:
    def hang_up(connection: Connection) -> None:
        connection.read_head()
        end(connection)

    with serve(hang_up) as server:
        error = failure_of(archive(EXPECT_BYTES), server.url + TARGET)
    assert (type(error), error.http_status) == (UnavailableError, None)
    assert f"after 0 of {EXPECT_BYTES} bytes" in error.message


def test_max_time_ends_an_upload_that_never_waits(
    way: Travel, archive: Callable[[int], Archive]
) -> None:
    """The server takes each piece at once."""

    def slowly(event: Event) -> None:
        if isinstance(event, Progress):
            time.sleep(0.05)

    start = time.monotonic()
    with way(answer(200)) as (url, _):
        error = failure_of(archive(SIZE), url + TARGET, max_time=1, on_event=slowly)
    assert "was not done in 1 seconds" in error.message
    assert time.monotonic() - start < 4


def test_a_wait_for_100_has_an_end(archive: Callable[[int], Archive]) -> None:
    """However many interim answers come."""

    def hints(connection: Connection) -> None:
        connection.continues = False
        connection.read_head()
        while True:
            connection.send(HINTS)
            connection.wait(0.05)

    with raw_server(hints) as server:
        start = time.monotonic()
        error = failure_of(archive(EXPECT_BYTES), server.url + TARGET, max_time=3)
    assert type(error) is UnavailableError
    assert time.monotonic() - start < 6


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"HTTP/1.1 100 Continue\n\n" + OK, id="100 with bare line feeds"),
        pytest.param(OK + CONTINUE, id="200, then 100"),
        pytest.param(OK + b"HTTP/1.1 102 Processing\r\n\r\n", id="200, then 102"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n" + CONTINUE, id="100 in its body"
        ),
        pytest.param(HINTS + OK, id="103, then 200"),
    ],
)
def test_an_early_success_is_seen_whatever_is_around_it(
    first: bytes, serve: Serve, archive: Callable[[int], Archive]
) -> None:
    def early(connection: Connection) -> None:
        connection.continues = False
        connection.read_head()
        connection.send(first)
        connection.read_body()
        connection.send(response(403))

    with serve(early) as server:
        error = failure_of(archive(EXPECT_BYTES), server.url + TARGET)
    assert (type(error).__name__, error.http_status) == ("DamagedError", 200)


def test_an_interim_answer_does_not_hide_an_early_success(
    serve: Serve, archive: Callable[[int], Archive]
) -> None:
    """Its head comes with a 103 while bytes are queued, and its body when none are any more."""
    size = 2_500_000

    def early(connection: Connection) -> None:
        connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        connection.read_head()
        connection.read_body(100_000)
        connection.wait(0.5)
        connection.send(HINTS + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        connection.read_body(size - 100_000)
        connection.send(b"hello")

    with serve(early) as server:
        error = failure_of(archive(size), server.url + TARGET)
    assert (error.http_status, error.exit_code in {5, 6}) == (200, True)


@pytest.mark.parametrize(
    ("head", "more"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 1000),
        (b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"") * 1000),
        (b"\r\n", b" " * 10_000),
    ],
    ids=["trailers", "empty gzip members", "white space"],
)
@pytest.mark.slow
def test_a_flood_in_an_answer_has_an_end(
    head: bytes, more: bytes, serve: Serve, archive: Callable[[int], Archive]
) -> None:
    def flood(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.send(b"HTTP/1.1 200 OK\r\n" + head)
        while True:
            connection.send(more)

    start = time.monotonic()
    with serve(flood) as server:
        put_or_fail(archive(KIB), server.url + TARGET, stall_timeout=0.5)
        put_or_fail(archive(KIB), server.url + TARGET, max_time=1)
    assert time.monotonic() - start < 10


def test_a_slow_answer_counts_each_byte(serve: Serve, archive: Callable[[int], Archive]) -> None:
    def slow(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        for piece in (
            b"HTTP/1.1 200 OK\r\n",
            b"A: b\r\n",
            b"Content-Length: 2\r\n\r\n",
            b" ",
            b" ",
        ):
            connection.send(piece)
            time.sleep(0.3)

    with serve(slow) as server:
        receipt = put(archive(KIB), server.url + TARGET, stall_timeout=0.8, retries=0)
    assert receipt.http_status == 200


def put_or_fail(sent: Archive, url: str, **options: Any) -> None:
    with suppress(UnavailableError):
        put(sent, url, **{**USUAL, **options})
