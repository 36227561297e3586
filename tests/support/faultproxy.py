"""A proxy in front of a real store, as scripts of a raw server, which injects network faults."""

from __future__ import annotations

import re
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.support.rawserver import Connection
from tests.support.servers import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.rawserver import Script

_PIECE_BYTES = 1 << 16
_STORE_TIMEOUT = 30.0


def forward(
    port: int,
    *,
    body: float = 1.0,
    answer: float = 1.0,
    then: Callable[[Connection], None] = Connection.reset,
    damage: bool = False,
    without: str = "",
    on_piece: Callable[[int], object] = lambda _: None,
    on_answer: Callable[[Connection, bytes], object] = lambda *_: None,
) -> Script:
    """Forward a request to the store on this port, and its answer back.

    Args:
        port: of the store.
        body: the share of the body to forward. If less than 1, the connection to the store is
            reset, and `then` is called.
        answer: the share of the answer to forward. If less than 1, `then` is called.
        then: ends the connection to the client.
        damage: changes a byte on the way.
        without: drops this header on the way.
        on_piece: called with the size of each piece of the body.
        on_answer: called with the answer of the store before it is forwarded.
    """

    def script(connection: Connection) -> None:
        head = connection.read_head()
        for name in filter(None, ("connection", "expect", without)):
            head = re.sub(rb"(?im)^%b:.*\r\n" % name.encode(), b"", head)
        left = int(connection._content_length() * body)
        with socket.create_connection((LOOPBACK, port), _STORE_TIMEOUT) as store:
            store.sendall(head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n")
            flaw = damage
            while left:
                piece = bytearray(connection.read_some(min(left, _PIECE_BYTES)))
                left -= len(piece)
                if flaw:
                    piece[0] ^= 1
                    flaw = False
                with suppress(ConnectionError):  # it may answer early and close
                    store.sendall(piece)
                on_piece(len(piece))
            if body < 1:
                store.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                store.close()
                then(connection)
                return
            answered = _read_all(store)
        on_answer(connection, answered)
        connection.send(answered[: int(len(answered) * answer)])
        if answer < 1:
            then(connection)

    return script


def relay(port: int) -> Script:
    """Forward all bytes in both directions as they come, so only the store sends 100 Continue."""

    def script(connection: Connection) -> None:
        connection.continues = False
        head = connection.read_head()
        left = connection._content_length()
        with (
            socket.create_connection((LOOPBACK, port), _STORE_TIMEOUT) as store,
            ThreadPoolExecutor(1) as back,
        ):
            back.submit(_send_back, store, connection)
            try:
                store.sendall(head)
                while left:
                    piece = connection.read_some(left)
                    left -= len(piece)
                    store.sendall(piece)
                connection.read_some(1)  # until one of the two closes
            except ConnectionError:
                pass
            finally:
                with suppress(OSError):
                    store.shutdown(socket.SHUT_RDWR)

    return script


def _send_back(store: socket.socket, connection: Connection) -> None:
    with suppress(OSError):
        while piece := store.recv(_PIECE_BYTES):
            connection.send(piece)
    connection.abort()


def _read_all(store: socket.socket) -> bytes:
    answered = b""
    with suppress(ConnectionResetError):
        while piece := store.recv(_PIECE_BYTES):
            answered += piece
    return answered
