"""Between a client and a real store: hands requests on to it, up to a fault of the network."""

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
) -> Script:
    """Hand a request on to the store on that port, and its answer back.

    Args:
        port: the store's.
        body: how much of the body to hand on. Less than 1 ends in `then`, and the store sees its
            client gone.
        answer: how much of the answer to hand back. Less than 1 ends in `then`: the store has done
            what it was asked for, and the client does not know.
        then: what becomes of the client's connection.
        damage: whether to change a byte on the way.
        without: a header that gets lost on the way.
    """

    def script(connection: Connection) -> None:
        head = re.sub(rb"(?im)^connection:.*\r\n", b"", connection.read_head())
        if without:
            head = re.sub(rb"(?im)^%b:.*\r\n" % without.encode(), b"", head)
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        left = int(int(length[1]) * body) if length else 0
        with socket.create_connection((LOOPBACK, port), _STORE_TIMEOUT) as store:
            store.sendall(head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n")
            flaw = damage
            with suppress(ConnectionError):  # it may answer early and close
                while left:
                    piece = bytearray(connection.read_body(min(left, _PIECE_BYTES)))
                    left -= len(piece)
                    if flaw:
                        piece[0] ^= 1
                        flaw = False
                    store.sendall(piece)
            if body < 1:
                store.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                store.close()
                then(connection)
                return
            answered = _read_all(store)
        connection.send(answered[: int(len(answered) * answer)])
        if answer < 1:
            then(connection)

    return script


def relay(port: int) -> Script:
    """Hand all bytes on as they come, in both directions: only the store sends 100 Continue."""

    def script(connection: Connection) -> None:
        connection.continues = False
        head = connection.read_head()
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        left = int(length[1]) if length else 0
        with (
            socket.create_connection((LOOPBACK, port), _STORE_TIMEOUT) as store,
            ThreadPoolExecutor(1) as back,
        ):
            back.submit(_hand_back, store, connection)
            try:
                store.sendall(head)
                while left:
                    piece = connection.read_body(min(left, _PIECE_BYTES))
                    left -= len(piece)
                    store.sendall(piece)
                connection.read_body(1)  # until one of the two closes
            except ConnectionError:
                pass
            finally:
                with suppress(OSError):
                    store.shutdown(socket.SHUT_RDWR)

    return script


def _hand_back(store: socket.socket, connection: Connection) -> None:
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
