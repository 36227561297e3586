"""The helpers are only worth what they get right themselves."""

import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.support.docker_cli import DockerEntry, docker_available, docker_entries
from tests.support.rawserver import (
    BODY_KEPT,
    ClientGoneError,
    Connection,
    Script,
    answer,
    early,
    garbage,
    raw_server,
    reset_after,
    response,
    silent,
    stall_sending,
    tls_context,
)

PATIENCE = 10
MORE_THAN_BUFFERS_HOLD = 64 << 20


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # neither a proxy nor the machine's own CAs
        yield session


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, bytes]:
    return tls_context()


@pytest.fixture
def ca_file(tls: tuple[ssl.SSLContext, bytes], tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_bytes(tls[1])
    return str(path)


def trusting(ca: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=ca.decode())


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def exchange(port: int, request: bytes) -> bytes:
    """Send, and return all that comes back before the server closes."""
    with connect(port) as client, client.makefile("rb") as received:
        client.sendall(request)
        return received.read()


def send_until_cut_off(client: socket.socket) -> None:
    while True:
        client.sendall(bytes(1 << 16))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_request_is_recorded_to_the_byte() -> None:
    head = (
        b"PUT /a?b=%2F HTTP/1.1\r\nHost: x:1\r\n"
        b"X-Twice: 1\r\ncontent-length:  5 \r\nX-Twice: 2\r\n\r\n"
    )
    with raw_server(answer(201, b"made", {"ETag": '"e"'})) as server:
        received = exchange(server.port, head + b"hello")
    assert received == (
        b'HTTP/1.1 201 Created\r\nContent-Length: 4\r\nConnection: close\r\nETag: "e"\r\n\r\nmade'
    )
    (request,) = server.requests
    assert (request.head, request.body) == (head, b"hello")
    assert (request.method, request.target) == ("PUT", "/a?b=%2F")
    assert request.headers == [
        ("Host", "x:1"),
        ("X-Twice", "1"),
        ("content-length", "5"),
        ("X-Twice", "2"),
    ]


def test_a_request_may_come_byte_by_byte() -> None:
    with raw_server(answer(200)) as server, connect(server.port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello":
            client.sendall(bytes([byte]))
        assert client.recv(1 << 16) == response(200)
    assert server.requests[0].body == b"hello"


def test_each_connection_takes_the_next_script_and_the_last_one_repeats(
    http: requests.Session,
) -> None:
    with raw_server(answer(503), answer(200)) as server:
        statuses = [http.put(server.url, data=b"x", timeout=PATIENCE).status_code for _ in range(3)]
    assert statuses == [503, 200, 200]
    assert [request.body for request in server.requests] == [b"x"] * 3


def test_a_script_can_answer_twice_on_one_connection(http: requests.Session) -> None:
    def twice(connection: Connection) -> None:
        for body in (b"first", b"second"):
            connection.read_head()
            connection.send(
                response(200, connection.read_body() + body, {"Connection": "keep-alive"})
            )
        connection.wait()

    with raw_server(twice) as server:
        answers = [http.put(server.url, data=x, timeout=PATIENCE).content for x in (b"1", b"2")]
    assert answers == [b"1first", b"2second"]
    assert [request.body for request in server.requests] == [b"1", b"2"]


def test_of_a_big_body_the_beginning_the_length_and_the_hash_are_kept(
    http: requests.Session,
) -> None:
    body = os.urandom(1 << 20) * (BODY_KEPT // (1 << 20) + 1)
    with raw_server(answer(200)) as server:
        http.put(server.url, data=body, timeout=PATIENCE)
    (request,) = server.requests
    assert request.body == body[:BODY_KEPT]
    assert request.body_bytes == len(body)
    assert request.body_sha256 == hashlib.sha256(body).hexdigest()


def test_tls_is_spoken_with_who_trusts_the_ca(
    http: requests.Session, tls: tuple[ssl.SSLContext, bytes], ca_file: str
) -> None:
    with raw_server(answer(200, b"secret"), tls=tls[0]) as server:
        assert server.url == f"https://localhost:{server.port}"
        for url in (server.url, f"https://127.0.0.1:{server.port}"):
            put = http.put(url, data=b"x" * 100_000, timeout=PATIENCE, verify=ca_file)
            assert put.content == b"secret"
    assert [request.body for request in server.requests] == [b"x" * 100_000] * 2


def test_clients_that_give_up_on_tls_are_no_error(
    http: requests.Session, tls: tuple[ssl.SSLContext, bytes]
) -> None:
    with raw_server(answer(200), tls=tls[0]) as server:
        with pytest.raises(requests.exceptions.SSLError):
            http.get(server.url, timeout=PATIENCE)
        with connect(server.port) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connect(server.port).close()
    assert server.requests == []


def test_early_answers_while_the_client_is_still_sending() -> None:
    with raw_server(early(403, b"no")) as server, connect(server.port) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")
        with pytest.raises(ConnectionError):
            send_until_cut_off(client)
        assert client.recv(1 << 16) == response(403, b"no")
    assert server.requests[0].body_bytes == 0


@pytest.mark.parametrize("n_bytes", [0, 1, 100_000])
def test_reset_after_resets_after_so_many_bytes(n_bytes: int) -> None:
    with raw_server(reset_after(n_bytes)) as server, connect(server.port) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 999999\r\n\r\n" + bytes(n_bytes))
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert server.requests[0].body == bytes(n_bytes)


def test_reset_resets_under_tls_too(
    http: requests.Session, tls: tuple[ssl.SSLContext, bytes], ca_file: str
) -> None:
    with (
        raw_server(reset_after(5), tls=tls[0]) as server,
        pytest.raises(requests.exceptions.ConnectionError),
    ):
        http.put(server.url, data=b"hello", timeout=PATIENCE, verify=ca_file)
    assert server.requests[0].body == b"hello"


def test_stall_sending_holds_a_client_up_in_the_middle_of_its_body() -> None:
    with raw_server(stall_sending()) as server, connect(server.port) as client:
        client.settimeout(0.2)
        client.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")
        with pytest.raises(TimeoutError):
            client.sendall(bytes(MORE_THAN_BUFFERS_HOLD))
    assert server.requests[0].body_bytes == 0


def test_silent_reads_all_and_never_answers(http: requests.Session) -> None:
    with raw_server(silent()) as server, pytest.raises(requests.exceptions.ReadTimeout):
        http.put(server.url, data=b"x" * 1000, timeout=0.2)
    assert server.requests[0].body_bytes == 1000


def test_garbage_is_not_http(http: requests.Session) -> None:
    with raw_server(garbage()) as server, pytest.raises(requests.exceptions.ConnectionError):
        http.put(server.url, data=b"x", timeout=PATIENCE)
    assert server.requests[0].body == b"x"


def send_forever(connection: Connection) -> None:
    while True:
        connection.send(bytes(1 << 16))


@pytest.mark.parametrize(
    "script",
    [Connection.read_head, send_forever, Connection.wait],
    ids=["reading", "sending", "waiting"],
)
@pytest.mark.parametrize("transport", ["tcp", "tls", "tls before its handshake"])
def test_whatever_a_script_is_at_ends_with_the_test(
    script: Script, transport: str, tls: tuple[ssl.SSLContext, bytes]
) -> None:
    threads = threading.active_count()
    with ExitStack() as clients:  # they outlive the server: it is not they who end the script
        with raw_server(script, tls=None if transport == "tcp" else tls[0]) as server:
            client = clients.enter_context(connect(server.port))
            if transport == "tls":
                secure = trusting(tls[1]).wrap_socket(client, server_hostname="localhost")
                clients.enter_context(secure)
            time.sleep(0.05)  # for the script to be well on its way
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 1
        assert threading.active_count() == threads
        with pytest.raises(ConnectionRefusedError):
            connect(server.port)


def test_a_client_that_goes_away_is_no_error() -> None:
    with raw_server(answer(200)) as server:
        connect(server.port).close()
        with connect(server.port) as client:
            client.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello")
        until(lambda: [request.body for request in server.requests] == [b"hello"])


def test_a_script_is_told_that_the_client_has_gone() -> None:
    told = threading.Event()

    def script(connection: Connection) -> None:
        with pytest.raises(ClientGoneError):
            connection.read_head()
        told.set()

    with raw_server(script) as server:
        connect(server.port).close()
        until(told.is_set)


@pytest.mark.parametrize("error", [AssertionError, FileNotFoundError, KeyError])
def test_what_else_a_script_raises_is_raised_when_the_test_is_over(error: type[Exception]) -> None:
    def script(connection: Connection) -> None:
        connection.read_head()
        raise error

    with pytest.raises(error), raw_server(script) as server:
        assert exchange(server.port, b"GET / HTTP/1.1\r\n\r\n") == b""


needs_docker = pytest.mark.skipif(not docker_available(), reason="there is no docker command")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """Stands apart from what else a test puts into its temporary folder."""
    path = tmp_path / "context"
    path.mkdir()
    (path / "Dockerfile").write_text("FROM scratch\n")
    return path


@pytest.mark.real
@needs_docker
def test_docker_sends_what_is_not_ignored_and_its_own_two_files_always(context: Path) -> None:
    def regular(content: bytes, mode: int = 0o644) -> DockerEntry:
        return DockerEntry("file", mode, len(content), None, hashlib.sha256(content).hexdigest())

    contents = {
        ".dockerignore": b"*.log\n.dockerignore\nDockerfile\n!kept.log\n",
        "Dockerfile": b"FROM scratch\n",
        "kept.log": b"kept",
        "one": b"linked twice",
        "new\nline": b"",
        os.fsdecode(b"not-utf8-\xff"): b"x",
        "long-" * 40 + "ü": b"y",
        "dropped.log": b"dropped",
    }
    for name, content in contents.items():
        path = context / name
        path.write_bytes(content)
        path.chmod(0o644)
    (context / "setuid").write_bytes(b"#!")
    (context / "setuid").chmod(0o4755)
    (context / "two").hardlink_to(context / "one")
    (context / "dangling").symlink_to("no/where")
    (context / "empty").mkdir()
    (context / "empty").chmod(0o750)
    os.mkfifo(context / "fifo")
    (context / "fifo").chmod(0o600)

    del contents["dropped.log"]
    assert docker_entries(context) == {
        **{name: regular(content) for name, content in contents.items()},
        "setuid": regular(b"#!", 0o4755),
        "two": DockerEntry("hardlink", 0o644, 0, "one", None),
        "dangling": DockerEntry("symlink", 0o777, 0, "no/where", None),
        "empty": DockerEntry("directory", 0o750, 0, None, None),
        "fifo": DockerEntry("fifo", 0o600, 0, None, None),
    }


@pytest.mark.real
@needs_docker
def test_docker_entries_of_megabytes_arrive_whole(context: Path) -> None:
    content = os.urandom(5_000_001)
    (context / "big").write_bytes(content)
    assert docker_entries(context)["big"].sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.real
@needs_docker
def test_what_docker_says_of_a_failure_is_raised(context: Path) -> None:
    (context / ".dockerignore").write_text("[\n")
    with pytest.raises(RuntimeError, match="syntax error in pattern"):
        docker_entries(context)
