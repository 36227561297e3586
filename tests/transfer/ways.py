"""Every way from the program to a store: direct, through proxies, with TLS and without."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, NamedTuple, Protocol

import pytest

from tests.support.rawserver import Connection, RawServer, Script, raw_server
from tests.transfer.common import Tls, tunnel

SOCKS_PORT: Final = 80


class Way(NamedTuple):
    """A server at the end of a way, and the URL that leads there."""

    url: str
    server: RawServer


class Travel(Protocol):
    """How a test starts a server, whatever lies on the way to it."""

    def __call__(self, *scripts: Script) -> AbstractContextManager[Way]: ...


@contextmanager
def direct(_: Tls, *scripts: Script) -> Iterator[Way]:
    with raw_server(*scripts) as server:
        yield Way(server.url, server)


@contextmanager
def direct_tls(tls: Tls, *scripts: Script) -> Iterator[Way]:
    with raw_server(*scripts, tls=tls.context) as server:
        yield Way(server.url, server)


@contextmanager
def http_proxy(_: Tls, *scripts: Script) -> Iterator[Way]:
    with raw_server(*scripts) as server, _environment(HTTP_PROXY=server.url):
        yield Way("http://store.invalid", server)


@contextmanager
def tunnelled(tls: Tls, *scripts: Script) -> Iterator[Way]:
    tunnels = [tunnel(tls.context, script) for script in scripts]
    with raw_server(*tunnels) as server, _environment(HTTPS_PROXY=server.url):
        yield Way("https://localhost", server)


@contextmanager
def tls_in_tls(tls: Tls, *scripts: Script) -> Iterator[Way]:
    """Speak TLS to the proxy, and TLS to the store inside of it."""
    tunnels = [_inside(tls.context, script) for script in scripts]
    with raw_server(*tunnels, tls=tls.context) as server, _environment(HTTPS_PROXY=server.url):
        yield Way("https://localhost", server)


@contextmanager
def socks_proxy(_: Tls, *scripts: Script) -> Iterator[Way]:
    with raw_server(*map(socks, scripts)) as server, _environment(ALL_PROXY=_socks_url(server)):
        yield Way("http://store.invalid", server)


@contextmanager
def socks_proxy_tls(tls: Tls, *scripts: Script) -> Iterator[Way]:
    wrapped = [socks(_under(tls.context, script)) for script in scripts]
    with raw_server(*wrapped) as server, _environment(ALL_PROXY=_socks_url(server)):
        yield Way("https://localhost", server)


WAYS: Final = [
    direct,
    direct_tls,
    http_proxy,
    tunnelled,
    tls_in_tls,
    socks_proxy,
    socks_proxy_tls,
]


def socks(script: Script) -> Script:
    """Be a SOCKS 5 proxy that asks for no password, and the store behind it as well."""

    def play(connection: Connection) -> None:
        version, methods = read(connection, 2)
        read(connection, methods)
        connection.send(bytes([version, 0]))
        *_, kind = read(connection, 4)
        read(connection, {1: 4, 3: read(connection, 1)[0] if kind == 3 else 0}[kind] + 2)
        connection.send(bytes([version, 0, 0, 1, 127, 0, 0, 1, 0, SOCKS_PORT]))
        script(connection)

    return play


def read(connection: Connection, count: int) -> bytes:
    while len(connection._read_ahead) < count:
        connection._read_ahead += connection._receive()
    taken, connection._read_ahead = connection._read_ahead[:count], connection._read_ahead[count:]
    return taken


def _socks_url(server: RawServer) -> str:
    return f"socks5h://127.0.0.1:{server.port}"


def _under(context: ssl.SSLContext, script: Script) -> Script:
    def play(connection: Connection) -> None:
        connection._socket = context.wrap_socket(connection._socket, server_side=True)
        script(connection)

    return play


def _inside(context: ssl.SSLContext, script: Script) -> Script:
    def play(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        inner = TlsInside(connection, context)
        connection._receive = inner.receive  # type: ignore[method-assign]
        connection.send = inner.send  # type: ignore[method-assign]
        script(connection)

    return play


class TlsInside:
    """The server's end of TLS inside a connection that may speak TLS itself."""

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        self._receive, self._send = connection._receive, connection.send
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._do(self._tls.do_handshake)

    def receive(self) -> bytes:
        data: bytes = self._do(lambda: self._tls.read(1 << 18))
        return data

    def send(self, data: bytes) -> None:
        self._do(lambda: self._tls.write(data))

    def _do(self, work: Callable[[], Any]) -> Any:
        while True:
            try:
                result = work()
            except ssl.SSLWantReadError:
                self._flush()
                self._in.write(self._receive())
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._out.pending:
            self._send(self._out.read())


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield
