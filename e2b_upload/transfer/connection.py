"""Connections that notice a stall, and that read an answer before the whole body is sent.

What urllib3's own connections do not do:

- count a timeout from the last byte that moved, in sending as in reading, and stop at the deadline;
- look for an answer before each piece of the body, so that a store that has refused, or that claims
  success too early, gets no more of it. Over TLS the failed send is an SSL error, which urllib3
  takes for a broken connection (#3148, #3382);
- wait for ``100 Continue`` (RFC 9110, 10.1.1) before a body whose head says
  ``Expect: 100-continue``;
- skip interim answers (RFC 9110, 15.2; http.client takes a 103 for the final one);
- send the request target exactly as it was given.
"""

from __future__ import annotations

import errno
import fcntl
import io
import math
import re
import select
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
from urllib3.util.ssltransport import SSLTransport

from e2b_upload.transfer.dial import dial

if TYPE_CHECKING:
    from requests import PreparedRequest
    from urllib3 import PoolManager

    from e2b_upload.transfer.deadline import Deadline

CONTINUE_SECONDS = 1.0
"""How long a body waits for ``100 Continue``; as long as curl and botocore wait."""

_GONE = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError)
_NOT_READY = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# http.client takes a bare line feed for the end of a line, too.
_STATUS = re.compile(rb"HTTP/1\.\d[ \t]+(\d\d\d)")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_HEAD_END_BYTES = len("\r\n\r\n")
_STATUS_BYTES = len("HTTP/1.1 100")
_CONTINUE = 100
_EARLY_BYTES = 64 * 1024  # of an answer that are read before the body is sent
_MAX_INTERIM = 100
_ANSWER_STALLS = 5


class _NestedTls:
    """TLS inside a proxy's TLS, without blocking: urllib3's SSLTransport loses bytes in a timeout.

    Its calls follow those of a non-blocking ``ssl.SSLSocket``.
    """

    def __init__(self, transport: SSLTransport) -> None:
        self._tls, self._proxy = transport.sslobj, transport.socket
        self._incoming, self._outgoing = transport.incoming, transport.outgoing
        self._encrypted = b""  # on its way to the proxy
        self._accepted = 0  # bytes of the body that it holds

    def send(self, data: memoryview) -> int:
        """Send all of it, or raise; call it again with the same bytes then."""
        if not self._accepted:
            self._accepted = self._tls.write(data)
        while self._encrypted or self._outgoing.pending:
            self._encrypted = self._encrypted or self._outgoing.read()
            self._encrypted = self._encrypted[self._proxy.send(self._encrypted) :]
        accepted, self._accepted = self._accepted, 0
        return accepted

    def recv(self, size: int) -> bytes:
        """Return what has arrived, or raise."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                if encrypted := self._proxy.recv(_EARLY_BYTES):
                    self._incoming.write(encrypted)
                else:
                    self._incoming.write_eof()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""


class _Stall:
    """Waits for a socket, and ends when no byte has moved for too long.

    A byte that only leaves the system's buffer counts as well: the buffer holds megabytes, which
    take longer than the timeout on a slow link.
    """

    def __init__(self, descriptor: int, seconds: float, deadline: Deadline) -> None:
        self._descriptor = descriptor
        self._seconds = seconds
        self._deadline = deadline
        self._queued = _queued(descriptor)
        self._end = time.monotonic() + seconds

    def wait(self, events: int, until: float = math.inf) -> None:
        """Wait until the socket is ready for one of the events.

        Args:
            events: ``select.POLLIN``, ``select.POLLOUT`` or both.
            until: on the monotonic clock, in seconds.

        Raises:
            TimeoutError: nothing moved for too long, or ``until`` has passed.
            Carried: as :meth:`Deadline.left`.
        """
        poll = select.poll()
        poll.register(self._descriptor, events)
        while True:
            ready = poll.poll(self._deadline.slice(min(self._end, until)) * 1000)
            queued, now = _queued(self._descriptor), time.monotonic()
            # Room in the buffer and fewer bytes in it are the same progress, seen twice.
            if queued < self._queued or any(event & select.POLLOUT for _, event in ready):
                self._end = now + self._seconds
            self._queued = queued
            if ready:
                return
            if now >= min(self._end, until):
                raise TimeoutError(errno.ETIMEDOUT, "no byte moved in time")


def _queued(descriptor: int) -> int:
    """Return how many bytes the system has still to deliver; 0 if it does not tell."""
    try:
        count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0]
    except OSError:
        return 0
    return count


def _status_of(answers: bytes) -> int:
    """Return the status of the final answer if it has begun, else that of the last interim one.

    0 stands for nothing yet, and 999 for what is not HTTP, so that it is read and explained.
    """
    status = at = 0
    while at < len(answers):
        line = _STATUS.match(answers, at)
        if line is None:  # a few bytes may become a status line
            return status if len(answers) - at <= _STATUS_BYTES else 999
        status, end = int(line[1]), _HEAD_END.search(answers, at)
        if status >= 200 or end is None:  # noqa: PLR2004
            break
        at = end.end()
    return status


class _Sending(HTTPConnection):
    """A connection that checks for an answer and for the deadline, whatever it waits for.

    Attributes:
        stall_timeout: seconds in which a byte must move.
        deadline: of the whole upload.
        target: path and query to request, exactly as they are sent.
    """

    stall_timeout: float
    deadline: Deadline
    target: str
    _early = b""  # of the answer, read while the request was sent
    _nested: _NestedTls | None = None
    _arrivals: select.poll | None = None  # set once TLS, if any, has begun
    _expects = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        # http.client calls it with the socket.
        self.response_class = partial(_Answer, self)  # type: ignore[assignment]

    def connect(self) -> None:
        self.deadline.call(super().connect, self.close)
        self._nested = _NestedTls(self.sock) if isinstance(self.sock, SSLTransport) else None
        self._arrivals = select.poll()
        self._arrivals.register(self.sock.fileno(), select.POLLIN)

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
        # urllib3 knows "/" or, for a proxy, "http://host/": it would rewrite and log the target.
        super().putrequest(method, url.removesuffix("/") + self.target, *args, **kwargs)

    def putheader(self, header: Any, *values: Any) -> None:  # noqa: ANN401
        self._expects |= header.lower() == "expect"
        super().putheader(header, *values)

    def endheaders(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().endheaders(*args, **kwargs)
        if self._expects:
            self._await_continue()

    def send(self, data: Any) -> None:  # noqa: ANN401  (http.client's own signature)
        if self.sock is None:
            self.connect()
        wire = self.wire()
        rest = memoryview(data)
        stall = None  # most pieces are sent without a wait, and 4,000 make a gigabyte
        try:
            while rest:
                self.deadline.left(math.inf)
                if self._read_early() >= 200:  # noqa: PLR2004
                    raise BrokenPipeError(errno.EPIPE, "the peer answered")
                try:
                    rest = rest[wire.send(rest) :]
                except _NOT_READY as error:
                    stall = stall or self._stall()
                    # TLS may have to read before it can write.
                    reads = isinstance(error, ssl.SSLWantReadError)
                    stall.wait(select.POLLIN if reads else select.POLLIN | select.POLLOUT)
        except _GONE as error:
            # urllib3 reads the answer after a broken pipe, and only then.
            raise BrokenPipeError(errno.EPIPE, "the peer stopped reading") from error

    def wire(self) -> Any:  # noqa: ANN401  (a socket, or what is like one)
        """Return what sends and receives without blocking."""
        self.sock.settimeout(0)  # urllib3 sets a timeout now and then
        return self._nested or self.sock

    def _stall(self) -> _Stall:
        return _Stall(self.sock.fileno(), self.stall_timeout, self.deadline)

    def take_early(self) -> bytes:
        """Return what has been read of the answer, once."""
        early, self._early = self._early, b""
        return early

    def _read_early(self) -> int:
        """Read what has arrived of an answer.

        Returns:
            As :func:`_status_of`; 999 also for the end of the connection.
        """
        if self._may_have_arrived():
            with suppress(*_NOT_READY):
                data = (self._nested or self.sock).recv(_EARLY_BYTES)
                if not data or len(self._early) > _EARLY_BYTES:
                    return 999
                self._early += data
        return _status_of(self._early)

    def _may_have_arrived(self) -> bool:
        """Whether there is something to read; cheaper than an exception for each piece."""
        if self._arrivals is None or self._nested:
            return True
        pending = self.sock.pending() if isinstance(self.sock, ssl.SSLSocket) else 0
        return bool(pending or self._arrivals.poll(0))

    def _await_continue(self) -> None:
        """Wait until the peer wants the body or refuses it; a silent one gets it."""
        until, stall = time.monotonic() + CONTINUE_SECONDS, self._stall()
        self.wire()
        if hasattr(socket, "TCP_QUICKACK") and not self._nested:
            # A server under Nagle's algorithm holds the 100 back until its TLS session tickets are
            # acknowledged, which Linux otherwise delays by 40 ms.
            with suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        with suppress(TimeoutError, *_GONE):  # sending the body meets the same again
            # 102 and 103 leave it open.
            while (status := self._read_early()) < 200 and status != _CONTINUE:  # noqa: PLR2004
                stall.wait(select.POLLIN, until)


class _SendingTls(_Sending, HTTPSConnection):
    """The same over TLS."""


class _Incoming(io.RawIOBase):
    """What the store answers.

    A byte must arrive within the stall timeout, and the whole answer within `_ANSWER_STALLS` times
    as long: a server that sends one byte at a time could go on for days.
    """

    def __init__(self, connection: _Sending, sock: socket.socket) -> None:
        self._sock = sock
        self._open = sock.makefile("rb", buffering=0)  # keeps it open as long as this is
        self._early = connection.take_early()
        self._connection = connection
        self._wire = connection.wire()
        self.begun: float | None = None
        self.unsent = 0  # bytes that the system had still to deliver when the answer came
        self.head_bytes: int | None = 0  # of the answer's head so far; None when it is whole
        self._head_tail = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  (io's own signature)
        self._early = self._early or self._receive(len(buffer))
        data = self._early[: len(buffer)]
        if self.head_bytes is not None:
            data = self._to_end_of_head(data)
        self._early = self._early[len(data) :]
        if self.begun is None:
            self.begun, self.unsent = time.monotonic(), _queued(self._sock.fileno())
        if self.head_bytes is not None:
            # http.client takes the end of the connection for the end of the headers.
            if not data and self.head_bytes:
                raise ConnectionResetError(errno.ECONNRESET, "closed amid the answer")
            self.head_bytes += len(data)
        buffer[: len(data)] = data
        return len(data)

    def _to_end_of_head(self, data: bytes) -> bytes:
        """Return data up to the end of a head, so that each answer's time and queue are its own."""
        seen = self._head_tail + data
        end = _HEAD_END.search(seen)
        self._head_tail = b"" if end else seen[1 - _HEAD_END_BYTES :]
        return data[: end.end() - len(seen) + len(data)] if end else data

    def _receive(self, size: int) -> bytes:
        timeout = self._connection.stall_timeout
        stall = _Stall(self._sock.fileno(), timeout, self._connection.deadline)
        until = math.inf if self.begun is None else self.begun + _ANSWER_STALLS * timeout
        self._sock.settimeout(0)
        self._connection.deadline.left(until)
        while time.monotonic() < until:  # a flood never blocks
            try:
                data: bytes = self._wire.recv(size)
            except _NOT_READY as error:
                wants_write = isinstance(error, ssl.SSLWantWriteError)
                stall.wait(select.POLLOUT if wants_write else select.POLLIN)
            else:
                return data
        raise ConnectionAbortedError(errno.ECONNABORTED, "its answer does not end")

    def close(self) -> None:
        with suppress(OSError):  # TLS may begin now, behind a proxy that gave its answer
            self._sock.settimeout(self._connection.timeout)
        self._open.close()
        super().close()


class _Answer(HTTPResponse):
    """The final answer: interim ones before it are skipped."""

    def __init__(self, connection: _Sending, sock: socket.socket, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(sock, **kwargs)
        self.fp.close()
        self._incoming = _Incoming(connection, sock)
        self.fp = io.BufferedReader(self._incoming)

    @property
    def unsent(self) -> int:
        """Bytes of the request that were still in the system's buffer when the answer came.

        A peer that has read all of it has acknowledged all of it.
        """
        return self._incoming.unsent

    def begin(self) -> None:
        super().begin()
        self._incoming.head_bytes = None

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MAX_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200:  # noqa: PLR2004
                return version, status, reason
            parse_headers(self.fp)
            self._incoming.begun = None
        raise BadStatusLine("interim answers without end")


class SendingAdapter(HTTPAdapter):
    """Mounts these connections in a requests session, directly and through any proxy.

    Args:
        target: path and query to request, exactly as they are sent.
        stall_timeout: seconds in which at least one byte must move.
        deadline: of the whole upload.
    """

    def __init__(self, target: str, stall_timeout: float, deadline: Deadline) -> None:
        settings = {"target": target, "stall_timeout": stall_timeout, "deadline": deadline}
        self._kinds = {
            "http": type("Plain", (_Sending,), settings),
            "https": type("Secure", (_SendingTls,), settings),
        }
        super().__init__()

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
