"""Connections that notice a stall, and that hear an answer to a body they could not send.

What urllib3's own do not do: count a time-out from the last byte that moved, in sending as in
reading; stop when the time for all of it is up; hear the answer of a store that refuses early, be
it that it closes (over TLS the failed send is an SSL error there, which urllib3 takes for a broken
connection: #3148, #3382), be it that it reads no more; and wait for the final answer after interim
ones (RFC 9110, 15.2: http.client takes a 103 for final).
"""

from __future__ import annotations

import errno
import fcntl
import io
import math
import re
import socket
import ssl
import struct
import termios
import time
from contextlib import suppress
from functools import cached_property, partial
from http.client import BadStatusLine, HTTPResponse, parse_headers
from typing import TYPE_CHECKING, Any, cast

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from e2b_upload.transfer.dial import dial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import PreparedRequest
    from urllib3 import PoolManager

    from e2b_upload.transfer.deadline import Deadline

_GONE = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError)
_NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_STATUS = re.compile(rb"(?:\A|\r\n\r\n)HTTP/1\.\d (\d)")
_HEARD_BYTES = 64 * 1024
_STATUS_BYTES = len("HTTP/1.1 100")
_MOST_INTERIM = 100


class _Stall:
    """When to give a wait up: so long after the last byte moved.

    A byte that only leaves the system's buffer counts, too: that holds megabytes, which on a slow
    way take longer than the time-out.
    """

    def __init__(self, sock: socket.socket, seconds: float, deadline: Deadline) -> None:
        self._sock = sock
        self._seconds = seconds
        self._deadline = deadline
        self._queued = _queued(sock)
        self._until = time.monotonic() + seconds
        # TLS within a proxy's TLS is urllib3's own, and loses what it was doing when it is cut off.
        self.looks_up = isinstance(sock, socket.socket)

    def wait_a_little(self, until: float = math.inf) -> None:
        """Let the socket's next call wait no longer than until somebody has to look up."""
        until = min(self._until, until)
        wait = self._deadline.slice if self.looks_up else self._deadline.left
        self._sock.settimeout(wait(until))

    def is_over(self) -> bool:
        """Whether nothing moved for too long."""
        if not self.looks_up:
            return True
        queued = _queued(self._sock)
        if queued < self._queued:
            self._until = time.monotonic() + self._seconds
        self._queued = queued
        return time.monotonic() >= self._until


def _queued(sock: socket.socket) -> int:
    """Return how many bytes the system has still to deliver; 0 where it does not tell."""
    try:
        count: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    except OSError:
        return 0
    return count


class _Sending(HTTPConnection):
    """A connection that looks up several times a second, whatever it waits for.

    Attributes:
        stall_timeout: seconds in which a byte must move.
        deadline: of the whole put.
        target: what to ask for. urllib3 logs what it is given, so it is given no query.
        piece_bytes: how much is handed to the system at once.
        is_whole: whether all that was to be sent went, as far as the system's buffer.
    """

    stall_timeout: float
    deadline: Deadline
    target: str
    piece_bytes = 1024 * 1024
    is_whole = False
    _heard = b""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        # http.client calls it with the socket.
        self.response_class = partial(_Answer, self)  # type: ignore[assignment]

    def connect(self) -> None:
        self.deadline.call(super().connect, self.close)

    def set_tunnel(self, host: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Name the host to a proxy without its zone id, which only this machine can resolve."""
        super().set_tunnel(host.strip("[]").partition("%")[0], *args, **kwargs)

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, with its errors, but to all of a host's addresses."""
        if hasattr(self, "_socks_options"):
            return super()._new_conn()  # the proxy connects
        try:
            return dial(
                self._dns_host,
                self.port,
                timeout=cast("float", self.timeout),
                socket_options=self.socket_options or (),
                wait=self.deadline.slice,
            )
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, str(error)) from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        del url
        super().putrequest(method, self.target, *args, **kwargs)

    def send(self, data: Any) -> None:  # noqa: ANN401  (http.client's own signature)
        if self.sock is None:
            self.connect()
        rest = memoryview(data)
        self.is_whole = False
        try:
            while rest:
                start = time.monotonic()
                rest = rest[self._send(rest[: self.piece_bytes]) :]
                self._adapt(time.monotonic() - start)
            self.is_whole = True
        except _GONE as error:
            # urllib3 reads the answer after a broken pipe, and only then.
            raise BrokenPipeError(errno.EPIPE, "the peer stopped reading") from error

    def _send(self, piece: memoryview) -> int:
        """Send as much of a piece as goes, and return how much that was."""
        stall = None
        if isinstance(self.sock, socket.socket):
            # Most pieces go without a wait, and 4,000 make a gigabyte: they pay for no more.
            self.sock.settimeout(self.deadline.slice(math.inf))
        else:
            stall = self._stall()
            stall.wait_a_little()
        while True:
            try:
                return self.sock.send(piece)
            except TimeoutError:
                stall = stall or self._stall()
                if stall.looks_up and self._is_answered():
                    raise BrokenPipeError(errno.EPIPE, "the peer answered") from None
                if stall.is_over():
                    raise
                stall.wait_a_little()

    def _stall(self) -> _Stall:
        return _Stall(self.sock, self.stall_timeout, self.deadline)

    def _is_answered(self) -> bool:
        """Whether the store has said all that it wants to, before it took the whole body."""
        self.sock.settimeout(0)
        try:
            data = self.sock.recv(_HEARD_BYTES)
        except _NOTHING_YET:
            return False
        self._heard += data
        if not data or len(self._heard) > _HEARD_BYTES:
            return True
        if statuses := _STATUS.findall(self._heard):
            return bool(statuses[-1] != b"1")
        return len(self._heard) > _STATUS_BYTES  # less may be the beginning of a status line

    def take_heard(self) -> bytes:
        """Return what was read of the answer by now; it is to be read once."""
        heard, self._heard = self._heard, b""
        return heard

    def _adapt(self, seconds: float) -> None:
        """Choose the next piece's size, after one that took so long."""


class _SendingTls(_Sending, HTTPSConnection):
    """The same over TLS."""

    # One record. Of a longer piece all must go within the time-out, which is why it is sent only
    # where a record goes in a second: at that rate it is a quarter of the default.
    record_bytes, long_bytes = 16 * 1024, 256 * 1024
    piece_bytes = record_bytes

    def _adapt(self, seconds: float) -> None:
        self.piece_bytes = self.long_bytes if seconds < 1 else self.record_bytes


class _Incoming(io.RawIOBase):
    """What the store says.

    A byte must move within the stall time-out, and once one has come all have as long.
    """

    def __init__(self, connection: _Sending, sock: socket.socket) -> None:
        self._sock = sock
        self._open = sock.makefile("rb", buffering=0)  # keeps it open as long as this is
        self._heard = connection.take_heard()
        self._deadline = connection.deadline
        self._stall_timeout = connection.stall_timeout
        self._connection = connection
        self.begun: float | None = None
        self.unsent = 0  # bytes that the system had still to deliver when the answer came
        self.head_bytes: int | None = 0  # of the answer's head so far; None when it is whole

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  (io's own signature)
        if self._heard:
            count = min(len(buffer), len(self._heard))
            buffer[:count], self._heard = self._heard[:count], self._heard[count:]
            self.head_bytes = count
            return count
        stall = _Stall(self._sock, self._stall_timeout, self._deadline)
        until = math.inf if self.begun is None else self.begun + self._stall_timeout
        while True:
            stall.wait_a_little(until)
            try:
                count = self._sock.recv_into(buffer)
            except TimeoutError:
                if stall.is_over() or time.monotonic() >= until:
                    raise
                continue
            if self.begun is None:
                self.begun, self.unsent = time.monotonic(), _queued(self._sock)
            if self.head_bytes is not None:
                # http.client takes the end of the connection for the end of the headers.
                if not count and self.head_bytes:
                    raise ConnectionResetError(errno.ECONNRESET, "closed amid the answer")
                self.head_bytes += count
            return count

    def close(self) -> None:
        with suppress(OSError):  # TLS may begin now, behind a proxy that gave its answer
            self._sock.settimeout(self._connection.timeout)
        self._open.close()
        super().close()


class _Answer(HTTPResponse):
    """An answer, the final one: what comes before it is skipped."""

    def __init__(self, connection: _Sending, sock: socket.socket, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(sock, **kwargs)
        self.fp.close()
        self._incoming = _Incoming(connection, sock)
        self._is_whole = connection.is_whole
        self.fp = io.BufferedReader(self._incoming)

    def begin(self) -> None:
        super().begin()
        self._incoming.head_bytes = None
        if self.status < 300 and self._is_whole and self._incoming.unsent:  # noqa: PLR2004
            # An answer to all of it would have come with word that all of it is there.
            raise ConnectionResetError(errno.ECONNRESET, "it answered before it had taken all")

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200:  # noqa: PLR2004
                return version, status, reason
            parse_headers(self.fp)
            self._incoming.begun = None
        raise BadStatusLine("interim answers without end")


class SendingAdapter(HTTPAdapter):
    """Mounts these connections in a requests session, directly and through any proxy.

    Args:
        stall_timeout: seconds in which at least one byte must move.
        deadline: of the whole put.
    """

    def __init__(self, stall_timeout: float, deadline: Deadline) -> None:
        settings = {"stall_timeout": stall_timeout, "deadline": deadline}
        self._kinds = {
            "http": type("Plain", (_Sending,), settings),
            "https": type("Secure", (_SendingTls,), settings),
        }
        super().__init__()

    def request_url(self, request: PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """Return the target without its query: the connections know the whole one."""
        target: str = super().request_url(request, proxies)
        for kind in self._kinds.values():
            kind.target = target  # type: ignore[attr-defined]
        return target.partition("?")[0]

    def build_connection_pool_key_attributes(
        self,
        request: PreparedRequest,
        verify: Any,  # noqa: ANN401
        cert: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Return where to connect to, and how TLS verifies it."""
        where, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        if "%" in where["host"]:
            # urllib3 knows an IPv6 address with a zone id (RFC 6874) only by its brackets.
            where["host"] = f"[{where['host']}]"
        if where["scheme"] == "https":
            tls = {"cert_reqs": "CERT_REQUIRED", "ssl_context": self._trusting}
        return where, tls

    @cached_property
    def _trusting(self) -> ssl.SSLContext:
        from e2b_upload.transfer.trust import make_context  # noqa: PLC0415  (http needs none)

        return make_context()

    def cert_verify(self, *_: Any) -> None:  # noqa: ANN401
        """Leave it to the context: requests would trust certifi as well."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self._teach(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> PoolManager:  # noqa: ANN401
        """Make the pools of connections through a proxy."""
        if proxy.lower().startswith("https:"):
            kwargs["proxy_ssl_context"] = self._trusting
        manager: PoolManager = super().proxy_manager_for(proxy, **kwargs)
        self._teach(manager)
        return manager

    def _teach(self, manager: PoolManager) -> None:
        """Have a manager's connections, whichever they are, send and hear as these do."""
        pools: dict[str, Any] = {}
        for scheme, kind in self._kinds.items():
            pool: Any = manager.pool_classes_by_scheme[scheme]
            connection = type("Connection", (kind, pool.ConnectionCls), {})
            pools[scheme] = type("Pool", (pool,), {"ConnectionCls": connection})
        manager.pool_classes_by_scheme = pools
