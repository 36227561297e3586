"""The guarantees of raw_server that no other test would miss."""

import socket
import threading
import time
from contextlib import ExitStack

import pytest

from tests.support.rawserver import Connection, Script, raw_server


def send_forever(connection: Connection) -> None:
    while True:
        connection.send(bytes(1 << 16))


def test_an_assertion_in_a_script_fails_the_test() -> None:
    def script(connection: Connection) -> None:
        assert connection.read_head() == b"nothing"

    with (  # noqa: PT012  (the server raises at its end)
        pytest.raises(AssertionError),
        raw_server(script) as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(1) == b""


@pytest.mark.parametrize(
    "script",
    [Connection.read_head, send_forever, Connection.wait],
    ids=["reading", "sending", "waiting"],
)
def test_every_script_ends_with_the_test(script: Script) -> None:
    threads = threading.active_count()
    with ExitStack() as clients:  # they outlive the server, so they do not end the script
        with raw_server(script) as server:
            clients.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            time.sleep(0.05)  # until the script has started
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 1
        assert threading.active_count() == threads
