"""A scripted TCP server that records each request to the byte and misbehaves on command."""

import hashlib
import itertools
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import responses
from typing import TYPE_CHECKING, Final, TypeAlias

import trustme

if TYPE_CHECKING:
    from concurrent.futures import Future

Script: TypeAlias = Callable[["Connection"], None]

_BODY_KEPT: Final = 16 << 20
_HEAD_END: Final = b"\r\n\r\n"
_RECEIVE_BYTES: Final = 1 << 18
_POLL_SECONDS: Final = 0.02
_MOST_THREADS: Final = 128


class ClientGoneError(ConnectionError):
    """The client closed or reset the connection, or the test is over. It ends the script."""


class Recorded:
    """One request, as far as its script has read it. Only the first 16 MiB of the body are kept."""

    def __init__(self, head: bytes = b"", body: bytes = b"") -> None:
        self.head = head
        self.body_bytes = 0
        self.kept = bytearray()
        self._sha256 = hashlib.sha256()
        self.add(body)

    def add(self, piece: bytes) -> None:
        self.body_bytes += len(piece)
        self._sha256.update(piece)
        self.kept += piece[: _BODY_KEPT - len(self.kept)]

    @property
    def body(self) -> bytes:
        return bytes(self.kept)

    @property
    def body_sha256(self) -> str:
        """The digest of the whole body, even if it is not kept."""
        return self._sha256.hexdigest()

    @property
    def method(self) -> str:
        return self._lines[0].split(" ")[0]

    @property
    def target(self) -> str:
        return self._lines[0].split(" ")[1]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names and values in the order they were sent, with repeats."""
        pairs = (line.partition(":") for line in self._lines[1:])
        return [(name, value.strip(" \t")) for name, _, value in pairs]

    def header(self, wanted: str) -> str:
        """Return the value of a header, or an empty string."""
        return next((value for name, value in self.headers if name.lower() == wanted), "")

    @property
    def _lines(self) -> list[str]:
        return self.head.removesuffix(_HEAD_END).decode("latin-1").split("\r\n")


@contextmanager
def _client_may_go() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClientGoneError from error


class Connection:
    """One accepted connection, which a script controls.

    Attributes:
        request: the last request, as far as it has been read.
        continues: False if the server does not answer `Expect: 100-continue`.
    """

    def __init__(
        self, accepted: socket.socket, recorded: list[Recorded], test_over: threading.Event
    ) -> None:
        self.request = Recorded()
        self.continues = True
        self._socket = accepted
        self._recorded = recorded
        self._test_over = test_over
        self._read_ahead = b""
        self._expects = False

    def read_head(self) -> bytes:
        """Read up to and including the empty line."""
        while _HEAD_END not in self._read_ahead:
            self._read_ahead += self._receive()
        head, end, self._read_ahead = self._read_ahead.partition(_HEAD_END)
        self.request = Recorded(head + end)
        self._expects = self.request.header("expect") == "100-continue"
        self._recorded.append(self.request)
        return head + end

    def read_body(self, n: int | None = None) -> bytes:
        """Read `n` bytes, by default the whole body, and return the bytes of it that are kept.

        If the client expects `100 Continue`, it is sent first.
        """
        left = self._content_length() if n is None else n
        kept_before = len(self.request.kept)
        while left:
            left -= len(self.read_some(left))
        return bytes(self.request.kept[kept_before:])

    def read_some(self, most: int) -> bytes:
        """Read and return the next bytes of a body."""
        if self.continues and self._expects:
            self._expects = False
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        received = self._read_ahead or self._receive()
        piece, self._read_ahead = received[:most], received[most:]
        self.request.add(piece)
        return piece

    def read_request(self) -> Recorded:
        """Read a whole request."""
        self.read_head()
        self.read_body()
        return self.request

    def send(self, data: bytes) -> None:
        with _client_may_go():
            self._socket.sendall(data)

    def wait(self, seconds: float | None = None) -> None:
        """Do nothing for this long, by default until the test is over."""
        if self._test_over.wait(seconds):
            raise ClientGoneError

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        with _client_may_go():
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def narrow(self, size: int = 1 << 12) -> None:
        """Shrink the receive buffer, so that the client cannot send much more than is read."""
        with _client_may_go():
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def play(self, script: Script) -> None:
        with suppress(ClientGoneError), closing(self):
            if isinstance(self._socket, ssl.SSLSocket):
                with _client_may_go():
                    self._socket.do_handshake()
            script(self)

    def abort(self) -> None:
        """Interrupt the script, from another thread."""
        with suppress(OSError):
            # SSLSocket.shutdown would remove the TLS state while the script uses it.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _receive(self) -> bytes:
        with _client_may_go():
            if data := self._socket.recv(_RECEIVE_BYTES):
                return data
        raise ClientGoneError

    def _content_length(self) -> int:
        return int(self.request.header("content-length") or 0)


class RawServer:
    """Where the server listens, and the requests so far, in the order of their heads."""

    def __init__(self, listener: socket.socket, recorded: list[Recorded]) -> None:
        address = listener.getsockname()  # of a Unix socket: a path
        self.port: int = 0 if isinstance(address, str) else address[1]
        https = isinstance(listener, ssl.SSLSocket)
        self.url = f"https://localhost:{self.port}" if https else f"http://127.0.0.1:{self.port}"
        self._recorded = recorded

    @property
    def requests(self) -> list[Recorded]:
        return [*self._recorded]


@contextmanager
def raw_server(
    *scripts: Script, tls: ssl.SSLContext | None = None, bound: socket.socket | None = None
) -> Iterator[RawServer]:
    """Play one script for each connection, and the last one for all further connections.

    If a script raises, except for a client that went away, the error is raised at the end of the
    block, so scripts can assert.

    Args:
        scripts: in the order of the connections.
        tls: the context of an HTTPS server.
        bound: a socket that has an address and does not listen yet.
    """
    coming = itertools.chain(scripts, itertools.repeat(scripts[-1]))
    recorded: list[Recorded] = []
    connections: list[Connection] = []
    plays: list[Future[None]] = []
    test_over = threading.Event()

    listener = bound or socket.create_server(("127.0.0.1", 0))
    listener.listen()
    if tls:  # the thread of the connection does the handshake
        listener = tls.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)
    listener.settimeout(_POLL_SECONDS)

    def accept() -> None:
        while not test_over.is_set():
            with suppress(OSError):  # nobody connected, or the client left before TLS began
                connection = Connection(listener.accept()[0], recorded, test_over)
                connections.append(connection)
                plays.append(threads.submit(connection.play, next(coming)))

    with listener, ThreadPoolExecutor(_MOST_THREADS) as threads:
        accepting = threads.submit(accept)
        try:
            yield RawServer(listener, recorded)
        finally:
            test_over.set()
            accepting.result()
            for connection in connections:
                connection.abort()
            for play in plays:
                play.result()


@contextmanager
def dropping_packets(bound: socket.socket) -> Iterator[None]:
    """Make a bound socket ignore who connects: its backlog is full and stays full."""
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
    """Return a whole response; `headers` may replace the two default ones."""
    fields = {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
    lines = [f"HTTP/1.1 {status} {responses.get(status, 'Unheard Of')}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode("latin-1") + _HEAD_END + body


def answer(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Script:
    """Read the whole request, then answer."""
    return answer_raw(response(status, body, headers))


def answer_raw(data: bytes) -> Script:
    """Read the whole request, then send these bytes."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(data)

    return script


def garbage() -> Script:
    """Read the whole request, then send bytes that are not HTTP."""
    return answer_raw(b"\x00\xffthis is not HTTP\r\n\r\n")


def early(status: int, body: bytes = b"") -> Script:
    """Answer after the head and close while the client is still sending."""

    def script(connection: Connection) -> None:
        # Otherwise Nagle's algorithm may delay the answer until close() discards it.
        connection._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.read_head()
        connection.send(response(status, body))

    return script


def read_on(
    status: int, after: int = 0, body: bytes = b"", headers: dict[str, str] | None = None
) -> Script:
    """Answer after `after` bytes of the body, and read the rest at full speed."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body(after)
        connection.send(response(status, body, headers))
        connection.read_body(connection._content_length() - after)

    return script


def reset_after(n_bytes: int) -> Script:
    """Read this much of the body, then reset the connection."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body(n_bytes)
        connection.reset()

    return script


def stall_sending() -> Script:
    """Read only the head: the client stalls when some megabytes are buffered."""

    def script(connection: Connection) -> None:
        connection.narrow()
        connection.read_head()
        connection.wait()

    return script


def silent() -> Script:
    """Read the whole request and never answer."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.wait()

    return script
