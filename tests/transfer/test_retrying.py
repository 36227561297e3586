"""Attempts against a server that fails, and what the answer is compared with."""

import base64
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from e2b_upload import Archive, RefusedError, UnavailableError, build, put
from e2b_upload.events import Progress, Retrying, Started
from tests.support.rawserver import (
    Connection,
    Script,
    answer,
    garbage,
    raw_server,
    reset_after,
    response,
    silent,
    stall_sending,
)
from tests.transfer.common import (
    KIB,
    MIB,
    PATH,
    SECRETS,
    TARGET,
    Serve,
    Tls,
    failure_of,
    leaked,
    raw,
    redirect,
    xml,
)

if TYPE_CHECKING:
    from e2b_upload.events import Event

PLAIN = f"{PATH}?token=0123456789abcdef"
OTHER = '"0123456789abcdef0123456789abcdef"'


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2b_upload.transfer.retry.BASE_SECONDS", 0.01)


def store(connection: Connection) -> None:
    """Take it, and tell its MD5 as S3 does."""
    head = connection.read_head().lower()
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    md5 = hashlib.new("md5", usedforsecurity=False)
    while length:
        md5.update(connection.read_body(piece := min(length, 256 * KIB)))
        length -= piece
    connection.send(response(200, headers={"ETag": f'"{md5.hexdigest()}"'}))


def hang_up(connection: Connection) -> None:
    connection.read_head()
    connection.read_body()


PASSING = {
    "reset at 0": reset_after(0),
    "reset in the middle": reset_after(MIB),
    "reset before the answer": reset_after(3 * MIB),
    "no answer": hang_up,
    "half an answer": raw(b"HTTP/1.1 200 OK\r\nETa"),
    "garbage": garbage(),
    "500": answer(500, xml("InternalError")),
    "503": answer(503, xml("SlowDown")),
    "503 with Retry-After": answer(503, headers={"Retry-After": "0"}),
    "408": answer(408),
    "425": answer(425),
    "429": answer(429),
    "507": answer(507),
    "520": answer(520),
    "599": answer(599),
    "409 OperationAborted": answer(409, xml("OperationAborted")),
    "409 ConditionalRequestConflict": answer(409, xml("ConditionalRequestConflict")),
    "400 IncompleteBody": answer(400, xml("IncompleteBody")),
    "400 RequestTimeout": answer(400, xml("RequestTimeout")),
    "wrong ETag": answer(200, headers={"ETag": OTHER}),
    "BadDigest": answer(400, xml("BadDigest")),
}


@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_tried_again_from_the_start(
    script: Script, serve: Serve, archive: Callable[[int], Archive]
) -> None:
    events: list[Event] = []
    sent = archive(3 * MIB)
    with serve(script, store) as server:
        receipt = put(str(sent.path), server.url + TARGET, on_event=events.append)
    assert (receipt.attempts, receipt.http_status, receipt.verified) == (2, 200, "md5")
    assert len(server.requests) == 2
    assert server.requests[1].body_sha256 == sent.sha256
    retrying = next(event for event in events if isinstance(event, Retrying))
    damaged = script in {PASSING["wrong ETag"], PASSING["BadDigest"]}
    assert (retrying.attempt, retrying.attempts) == (2, 2 if damaged else 5)
    assert 0 <= retrying.seconds <= 0.01
    assert retrying.reason
    assert "X-Amz" not in retrying.reason
    after = events[events.index(retrying) + 1 :]
    assert after[0] == Started(step="put", total=3 * MIB, target=server.url + PATH)
    assert isinstance(after[1], Progress)
    assert after[1].done <= MIB


def test_it_is_tried_as_often_as_allowed_and_the_last_failure_is_told(
    serve: Serve, small: Path
) -> None:
    with serve(answer(500), reset_after(5), answer(503, xml("SlowDown", "breathe"))) as server:
        error = failure_of(small, server.url + TARGET, retries=2)
    assert type(error) is UnavailableError
    assert len(server.requests) == 3
    assert (error.http_status, error.code) == (503, "SlowDown")
    assert error.hint.startswith("Tried 3 times. ")


@pytest.mark.parametrize("status", [301, 302, 400, 403, 404, 409, 411, 412, 413, 418, 501, 505])
def test_a_refusal_is_not_tried_again(status: int, small: Path) -> None:
    with raw_server(answer(status)) as server:
        error = failure_of(small, server.url + TARGET, retries=4)
    assert type(error) is RefusedError
    assert len(server.requests) == 1
    assert "Tried" not in error.hint


@pytest.mark.parametrize(
    "script",
    [answer(200, headers={"ETag": OTHER}), answer(400, xml("BadDigest"))],
    ids=["ETag", "BadDigest"],
)
def test_damage_twice_is_the_end(script: Script, small: Path) -> None:
    with raw_server(script) as server:
        error = failure_of(small, server.url + TARGET, retries=4)
    assert isinstance(error, UnavailableError)
    assert error.exit_code == 5
    assert len(server.requests) == 2


def test_as_long_a_wait_as_the_store_asks_for(small: Path) -> None:
    events: list[Event] = []
    start = time.monotonic()
    with raw_server(answer(503, headers={"Retry-After": "1"}), answer(200)) as server:
        assert put(small, server.url + TARGET, on_event=events.append).attempts == 2
    assert time.monotonic() - start >= 1
    assert [event.seconds for event in events if isinstance(event, Retrying)] == [1]


def test_each_attempt_begins_at_the_url_and_a_redirect_is_none(small: Path) -> None:
    scripts = (redirect(307, f"{PATH}2?b=c"), answer(500), redirect(308, f"{PATH}3?d=e"), store)
    with raw_server(*scripts) as server:
        receipt = put(small, server.url + TARGET)
    assert receipt.attempts == 2
    assert receipt.url == f"{server.url}{PATH}3"
    assert [request.target.partition("?")[0] for request in server.requests] == [
        PATH,
        f"{PATH}2",
        PATH,
        f"{PATH}3",
    ]


# Content-MD5: by it the store refuses what was damaged.


def md5_header(data: bytes) -> str:
    return base64.b64encode(hashlib.new("md5", data, usedforsecurity=False).digest()).decode()


def sent_md5(server_requests: list[dict[str, str]]) -> list[str | None]:
    return [headers.get("Content-MD5") for headers in server_requests]


@pytest.mark.parametrize(("target", "allowed"), [(TARGET, True), (PLAIN, False), (PATH, False)])
def test_a_build_sends_its_md5_where_the_signature_allows_it(
    target: str, *, allowed: bool, tmp_path: Path
) -> None:
    (tmp_path / "ctx").mkdir()
    (tmp_path / "ctx" / "a").write_text("a")
    with raw_server(answer(500), store) as server:
        assert build(tmp_path / "ctx", server.url + target).verified == "md5"
    md5s = sent_md5([dict(request.headers) for request in server.requests])
    assert md5s == [md5_header(server.requests[1].body) if allowed else None] * 2


def test_each_attempt_sends_the_md5(small: Path) -> None:
    with raw_server(answer(500), store) as server:
        put(small, server.url + TARGET)
    md5s = sent_md5([dict(request.headers) for request in server.requests])
    assert md5s == [md5_header(small.read_bytes())] * 2


def test_a_signed_md5_is_sent_at_once(small: Path) -> None:
    target = TARGET.replace("SignedHeaders=host", "SignedHeaders=content-md5%3Bhost")
    with raw_server(store) as server:
        put(small, server.url + target)
    md5s = sent_md5([dict(request.headers) for request in server.requests])
    assert md5s == [md5_header(small.read_bytes())]


def test_the_caller_s_own_md5_stays(small: Path) -> None:
    own = {"content-md5": md5_header(small.read_bytes())}
    with raw_server(answer(500), store) as server:
        put(small, server.url + TARGET, headers=own)
    for request in server.requests:
        given = [item for item in request.headers if item[0].lower() == "content-md5"]
        assert given == [*own.items()]


# Time.


def trickle(connection: Connection) -> None:
    connection.read_head()
    connection.read_body()
    connection.send(b"HTTP/1.1 200 OK\r\nX-Trickle: ")
    while True:
        connection.send(b"a")
        connection.wait(0.05)


def sip(connection: Connection) -> None:
    connection.narrow()
    connection.read_head()
    while True:
        connection.read_body(KIB)
        connection.wait(0.05)


SLOW = {
    "silent": silent(),
    "stalled": stall_sending(),
    "trickled answer": trickle,
    "slow": sip,
    "503 for long": answer(503, headers={"Retry-After": "100"}),
    "no handshake": Connection.wait,
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW.keys())
@pytest.mark.slow
def test_nothing_takes_longer_than_max_time(script: Script, serve: Serve, huge: Archive) -> None:
    start = time.monotonic()
    with serve(script) as server:
        error = failure_of(huge, server.url + TARGET, max_time=1.0, retries=4)
        took = time.monotonic() - start
    assert type(error) is UnavailableError
    assert took < 10
    assert "`max_time`" in error.hint
    if script is not SLOW["503 for long"]:
        assert "was not done in 1 seconds" in error.message
        assert took >= 1


@pytest.mark.slow
def test_an_answer_that_is_trickled_has_an_end(serve: Serve, small: Path) -> None:
    with serve(trickle) as server:
        error = failure_of(small, server.url + TARGET, stall_timeout=0.5)
    assert type(error) is UnavailableError
    assert "after 20 of 20 bytes: its answer does not end" in error.message


# Answers that come early, and answers before the answer.


@pytest.mark.parametrize("hold", [True, False], ids=["holds the line", "closes"])
def test_a_refusal_by_a_store_that_reads_no_more_is_heard(
    *, hold: bool, serve: Serve, huge: Archive
) -> None:
    def script(connection: Connection) -> None:
        connection.narrow()
        connection._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.read_head()
        connection.send(response(403, xml("AccessDenied")))
        if hold:
            connection.wait()

    start = time.monotonic()
    with serve(script) as server:
        error = failure_of(huge, server.url + TARGET, stall_timeout=60, retries=4)
        took = time.monotonic() - start
    assert (error.http_status, error.code) == (403, "AccessDenied")
    assert took < 30


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"


@pytest.mark.parametrize(
    "interim", [INTERIM, INTERIM * 5, b"HTTP/1.1 102 Processing\r\n\r\n" + INTERIM]
)
def test_interim_answers_are_none(interim: bytes, serve: Serve, small: Path) -> None:
    with serve(
        raw(interim + response(403, xml("AccessDenied"))), raw(interim + response(200))
    ) as server:
        assert failure_of(small, server.url + TARGET).code == "AccessDenied"
        assert put(small, server.url + TARGET).http_status == 200


def test_interim_answers_without_end_are_no_answer(small: Path) -> None:
    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        while True:
            connection.send(INTERIM)

    with raw_server(script) as server:
        error = failure_of(small, server.url + TARGET)
    assert type(error) is UnavailableError
    assert "not HTTP" in error.message


def test_an_interim_answer_amid_the_body_does_not_end_it(
    serve: Serve, archive: Callable[[int], Archive]
) -> None:
    def script(connection: Connection) -> None:
        connection.read_head()
        connection.send(INTERIM)
        connection.wait(1.0)  # the sender is blocked, looks, and finds that
        connection.read_body()
        connection.send(response(200))

    sent = archive(16 * MIB)
    with serve(script) as server:
        assert put(sent, server.url + TARGET).attempts == 1
    assert server.requests[0].body_sha256 == sent.sha256


# Somebody else does not want it any more.


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW.keys())
def test_it_ends_soon_when_it_is_abandoned(script: Script, serve: Serve, huge: Archive) -> None:
    from e2b_upload.transfer.body import Source
    from e2b_upload.transfer.deadline import AbandonedError, cancelled_by
    from e2b_upload.transfer.put import Putting
    from e2b_upload.transfer.settings import UploadSettings
    from e2b_upload.transfer.url import parse

    abandoned, raised = threading.Event(), []

    def upload(url: str, descriptor: int) -> None:
        source = Source(descriptor, lambda _: bytes(16))
        try:
            with cancelled_by(abandoned):
                Putting(source, parse(url), UploadSettings(), lambda _: None).put()
        except AbandonedError as error:
            raised.append(error)

    with serve(script) as server, Path(str(huge.path)).open("rb") as file:
        thread = threading.Thread(target=upload, args=(server.url + TARGET, file.fileno()))
        thread.start()
        time.sleep(0.5)
        abandoned.set()
        thread.join(10)
        assert not thread.is_alive()
    assert raised


# What an attacker found.


@pytest.mark.slow
def test_an_interim_answer_in_pieces_amid_the_body_does_not_end_it(
    serve: Serve, archive: Callable[[int], Archive]
) -> None:
    def script(connection: Connection) -> None:
        connection.read_head()
        for piece in (b"HTTP/1.", b"1 10", b"3 Early Hints\r\n", b"\r\n"):
            connection.send(piece)
            connection.wait(0.6)
        connection.read_body()
        connection.send(response(200))

    sent = archive(16 * MIB)
    with serve(script) as server:
        assert put(sent, server.url + TARGET, retries=0).attempts == 1
    assert server.requests[0].body_sha256 == sent.sha256


@pytest.mark.slow
def test_interim_answers_keep_the_wait_alive(serve: Serve, small: Path) -> None:
    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        for _ in range(6):
            connection.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            connection.wait(0.4)
        connection.send(response(200))

    with serve(script) as server:
        receipt = put(small, server.url + TARGET, stall_timeout=1, retries=0)
    assert receipt.http_status == 200


def test_success_before_the_store_read_a_small_body_is_none(
    serve: Serve, archive: Callable[[int], Archive]
) -> None:
    """All of it lies in this system's buffer: the peer has not even room for it."""

    def script(connection: Connection) -> None:
        connection.narrow()
        connection.read_head()
        connection.send(response(200))
        connection.wait()

    with serve(script) as server:
        error = failure_of(archive(MIB), server.url + TARGET)
    assert isinstance(error, UnavailableError)


@pytest.mark.parametrize("delay", [0.4, 1.0])
@pytest.mark.slow
def test_a_slow_way_through_a_proxy(
    delay: float, small: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(connection: Connection) -> None:
        connection.read_head()
        connection.wait(delay)
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        connection.wait(delay)
        connection._socket = tls.context.wrap_socket(connection._socket, server_side=True)
        store(connection)

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    with raw_server(slowly) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert put(small, f"https://localhost{TARGET}", retries=0).verified == "md5"


@pytest.mark.slow
def test_a_proxy_that_speaks_tls_itself_may_pause(
    archive: Callable[[int], Archive], tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pausing(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        inner = TlsWithin(connection, tls)
        inner.take(pause_at=MIB, seconds=1.0)

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    sent = archive(8 * MIB)
    with raw_server(pausing, tls=tls.context) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert put(sent, f"https://localhost{TARGET}", retries=0).http_status == 200


class TlsWithin:
    """A store that speaks TLS inside of a connection that speaks TLS."""

    def __init__(self, connection: Connection, tls: Tls) -> None:
        self._connection = connection
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.context.wrap_bio(self._in, self._out, server_side=True)
        self._do(self._tls.do_handshake)

    def take(self, *, pause_at: int, seconds: float) -> None:
        """Read a request, pausing once, and answer it."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._do(lambda: self._tls.read(64 * KIB))
        head, _, body = head.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        taken, paused = len(body), False
        while taken < length:
            if taken >= pause_at and not paused:
                paused = True
                self._connection.wait(seconds)
            taken += len(self._do(lambda: self._tls.read(64 * KIB)))
        self._do(lambda: self._tls.write(response(200)))

    def _do(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._in.write(self._connection._receive())
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        if data := self._out.read():
            self._connection.send(data)


def test_a_byte_damaged_under_tls_is_tried_again(
    tls: Tls, archive: Callable[[int], Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    sent = archive(3 * MIB)
    with raw_server(store, tls=tls.context) as server:
        damaged = threading.Event()

        def relay(connection: Connection) -> None:
            with socket.create_connection(("127.0.0.1", server.port)) as there:
                back = threading.Thread(target=pass_back, args=(there, connection))
                back.start()
                passed = 0
                with suppress(OSError):  # of the store, or of the client that goes away
                    while True:
                        data = bytearray(connection._receive())
                        passed += len(data)
                        if passed > MIB and not damaged.is_set():
                            damaged.set()
                            data[-1] ^= 1
                        there.sendall(data)
                with suppress(OSError):
                    there.shutdown(socket.SHUT_RDWR)
                back.join()

        with raw_server(relay) as between:
            receipt = put(sent, f"https://localhost:{between.port}{TARGET}")
    assert damaged.is_set()
    assert (receipt.attempts, receipt.verified) == (2, "md5")


def pass_back(there: socket.socket, connection: Connection) -> None:
    with suppress(OSError):
        while data := there.recv(64 * KIB):
            connection.send(data)
    connection.abort()


def test_what_was_redirected_keeps_its_secrets(small: Path) -> None:
    """The target's owner may quote the URL that led there."""
    quoted = xml("SlowDown", f"you came from {SECRETS[2]}", f"R{SECRETS[2]}")
    scripts = (redirect(307, f"/login/{SECRETS[2]}?a=b"), answer(503, quoted))
    events: list[Event] = []
    with raw_server(*scripts) as server:
        error = failure_of(small, server.url + TARGET, on_event=events.append)
    assert error.code == "SlowDown"
    assert not leaked(SECRETS[2], repr(events))
    with raw_server(
        redirect(301, f"https://login.invalid/{SECRETS[2]};sig={SECRETS[2]}")
    ) as server:
        failure_of(small, server.url + TARGET)


def test_what_the_caller_s_headers_hold_is_not_shown(small: Path) -> None:
    secret = "s3cr3t-bearer-token"
    quoted = xml("AccessDenied", f"who is Bearer {secret}?")
    with raw_server(answer(403, quoted)) as server:
        failure_of(small, server.url + PATH, secret, headers={"Authorization": f"Bearer {secret}"})
