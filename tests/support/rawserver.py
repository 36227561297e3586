"""A scripted TCP server: records each request to the byte, and misbehaves on command."""

import hashlib
import itertools
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import responses
from typing import TYPE_CHECKING, Final, TypeAlias

import trustme

if TYPE_CHECKING:
    from concurrent.futures import Future

BODY_KEPT: Final = 16 << 20
"""Of a longer body only this much is kept; its length and its hash are of the whole."""

Script: TypeAlias = Callable[["Connection"], None]

_HEAD_END: Final = b"\r\n\r\n"
_RECEIVE_BYTES: Final = 1 << 18
_POLL_SECONDS: Final = 0.02
_MOST_THREADS: Final = 128


class ClientGoneError(ConnectionError):
    """The client closed or reset the connection, or the test is over: a script ends here."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One request, as far as its script has read it."""

    head: bytes
    body: bytes
    body_bytes: int
    body_sha256: str

    @property
    def method(self) -> str:
        return self._request_line[0]

    @property
    def target(self) -> str:
        return self._request_line[1]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names and values in wire order, repeats kept."""
        lines = self.head.removesuffix(_HEAD_END).decode("latin-1").split("\r\n")[1:]
        return [(name, value.strip(" \t")) for name, _, value in (x.partition(":") for x in lines)]

    @property
    def _request_line(self) -> list[str]:
        return self.head.decode("latin-1").split("\r\n", 1)[0].split(" ")


class _Recording:
    """A request while it is being read."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.expects = b"\r\nexpect: 100-continue\r\n" in head.lower()
        self._body_bytes = 0
        self._sha256 = hashlib.sha256()
        self.kept = bytearray()

    def add(self, piece: bytes) -> None:
        self._body_bytes += len(piece)
        self._sha256.update(piece)
        self.kept += piece[: BODY_KEPT - len(self.kept)]

    def so_far(self) -> Recorded:
        return Recorded(
            head=self._head,
            body=bytes(self.kept),
            body_bytes=self._body_bytes,
            body_sha256=self._sha256.hexdigest(),
        )


@contextmanager
def _client_may_go() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClientGoneError from error


class Connection:
    """One accepted connection, in the hands of its script."""

    def __init__(
        self, accepted: socket.socket, recordings: list[_Recording], test_over: threading.Event
    ) -> None:
        self._socket = accepted
        self._recordings = recordings
        self._recording = _Recording(b"")
        self._test_over = test_over
        self._read_ahead = b""
        self.continues = True

    def read_head(self) -> bytes:
        """Read up to and with the empty line."""
        while _HEAD_END not in self._read_ahead:
            self._read_ahead += self._receive()
        head, end, self._read_ahead = self._read_ahead.partition(_HEAD_END)
        self._recording = _Recording(head + end)
        self._recordings.append(self._recording)
        return head + end

    def read_body(self, n: int | None = None) -> bytes:
        """Read `n` bytes, or what Content-Length says; return what is kept of them.

        Who expects to be told to go on is told so first, unless `continues` is False.
        """
        left = self._content_length() if n is None else n
        if left and self.continues and self._recording.expects:
            self._recording.expects = False
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        kept_before = len(self._recording.kept)
        while left:
            received = self._read_ahead or self._receive()
            piece, self._read_ahead = received[:left], received[left:]
            self._recording.add(piece)
            left -= len(piece)
        return bytes(self._recording.kept[kept_before:])

    def send(self, data: bytes) -> None:
        with _client_may_go():
            self._socket.sendall(data)

    def wait(self, seconds: float | None = None) -> None:
        """Do nothing for so long, by default until the test is over."""
        if self._test_over.wait(seconds):
            raise ClientGoneError

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        with _client_may_go():
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def narrow(self) -> None:
        """Let the client run only a little ahead of what is read."""
        with _client_may_go():
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)

    def play(self, script: Script) -> None:
        with suppress(ClientGoneError), closing(self):
            if isinstance(self._socket, ssl.SSLSocket):
                with _client_may_go():
                    self._socket.do_handshake()
            script(self)

    def abort(self) -> None:
        """Wake the script out of whatever it does with the socket, from another thread."""
        with suppress(OSError):
            # SSLSocket.shutdown would take the TLS state away under the script's feet
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _receive(self) -> bytes:
        with _client_may_go():
            if data := self._socket.recv(_RECEIVE_BYTES):
                return data
        raise ClientGoneError

    def _content_length(self) -> int:
        headers = self._recording.so_far().headers
        return next((int(value) for name, value in headers if name.lower() == "content-length"), 0)


class RawServer:
    """Where the server listens, and what it was sent."""

    def __init__(self, listener: socket.socket, recordings: list[_Recording]) -> None:
        self.port: int = listener.getsockname()[1]
        https = isinstance(listener, ssl.SSLSocket)
        self.url = f"https://localhost:{self.port}" if https else f"http://127.0.0.1:{self.port}"
        self._recordings = recordings

    @property
    def requests(self) -> list[Recorded]:
        """The requests so far, in the order in which their heads were read."""
        return [recording.so_far() for recording in self._recordings]


@contextmanager
def raw_server(
    *scripts: Script, tls: ssl.SSLContext | None = None, bound: socket.socket | None = None
) -> Iterator[RawServer]:
    """Play a script for each accepted connection: the next one, in the end the last one for all.

    `bound` is a socket that has an address and does not listen yet, where the server is to be.

    What a script raises, other than for a client that went away, is raised when the test is over.
    """
    coming = itertools.chain(scripts, itertools.repeat(scripts[-1]))
    recordings: list[_Recording] = []
    connections: list[Connection] = []
    plays: list[Future[None]] = []
    test_over = threading.Event()

    listener = bound or socket.create_server(("127.0.0.1", 0))
    listener.listen()
    if tls:  # each handshake is left to the connection's own thread
        listener = tls.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)
    listener.settimeout(_POLL_SECONDS)

    def accept() -> None:
        while not test_over.is_set():
            with suppress(OSError):  # nobody came, or only to leave again before TLS began
                connection = Connection(listener.accept()[0], recordings, test_over)
                connections.append(connection)
                plays.append(threads.submit(connection.play, next(coming)))

    with listener, ThreadPoolExecutor(_MOST_THREADS) as threads:
        accepting = threads.submit(accept)
        try:
            yield RawServer(listener, recordings)
        finally:
            test_over.set()
            accepting.result()
            for connection in connections:
                connection.abort()
            for play in plays:
                play.result()


@contextmanager
def dropping_packets(bound: socket.socket) -> Iterator[None]:
    """Have a socket that has an address ignore who connects: its backlog is full, and stays so."""
    bound.listen(0)
    with ExitStack() as waiting:
        for _ in range(3):
            client = waiting.enter_context(socket.socket(bound.family))
            client.setblocking(False)
            client.connect_ex(bound.getsockname())
        yield


def tls_context() -> tuple[ssl.SSLContext, bytes]:
    """Make a server's context for localhost and 127.0.0.1, and the PEM of the CA that signed it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context, authority.cert_pem.bytes()


def response(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """Put together what `answer` sends; `headers` may replace the two that are always there."""
    fields = {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
    lines = [f"HTTP/1.1 {status} {responses.get(status, 'Unheard Of')}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode("latin-1") + _HEAD_END + body


def answer(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Script:
    """Read the whole request, then answer."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.send(response(status, body, headers))

    return script


def early(status: int, body: bytes = b"") -> Script:
    """Answer on the head alone and close while the client is still sending."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.send(response(status, body))

    return script


def read_on(
    status: int, after: int = 0, body: bytes = b"", headers: dict[str, str] | None = None
) -> Script:
    """Answer after so much of the body, and read the rest at full speed."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body(after)
        connection.send(response(status, body, headers))
        connection.read_body(connection._content_length() - after)

    return script


def reset_after(n_bytes: int) -> Script:
    """Read so much of the body, then reset the connection."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body(n_bytes)
        connection.reset()

    return script


def stall_sending() -> Script:
    """Read the head and nothing ever after: a client is stuck once some megabytes are buffered."""

    def script(connection: Connection) -> None:
        connection.narrow()
        connection.read_head()
        connection.wait()

    return script


def silent() -> Script:
    """Read the whole request and never answer."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.wait()

    return script


def garbage() -> Script:
    """Read the whole request and answer with what is not HTTP."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.send(b"\x00\xffthis is not HTTP\r\n\r\n")

    return script
