"""Connections that notice a stalled send, and that hear the answer to a body they could not send.

urllib3 knows a time-out for connecting, which it also applies to each ``sendall``, and one for
reading. And over TLS it loses the answer of a store that refuses early and closes: the failed send
is an SSL error there, which it takes for a broken connection (urllib3 #3148, #3382).
"""

from __future__ import annotations

import errno
import ssl
import time
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import PreparedRequest
    from urllib3 import PoolManager

_GONE = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError)


class _Sending(HTTPConnection):
    """A connection whose time-out counts from the last byte that moved, in ``send`` as in read.

    Attributes:
        stall_timeout: seconds in which a byte must move.
        target: what to ask for. urllib3 logs what it is given, so it is given no query.
        piece_bytes: how much is handed to the system at once.
    """

    stall_timeout: float
    target: str
    piece_bytes = 1024 * 1024

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self.stall_timeout)

    def request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if self.sock is not None:
            self.timeout = self.stall_timeout  # urllib3 sets it to the one for connecting
        super().request(*args, **kwargs)

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        del url
        super().putrequest(method, self.target, *args, **kwargs)

    def send(self, data: Any) -> None:  # noqa: ANN401  (http.client's own signature)
        if self.sock is None:
            self.connect()
        rest = memoryview(data)
        try:
            # sendall() has one time-out for the whole piece: on a slow link it would run out.
            while rest:
                start = time.monotonic()
                rest = rest[self.sock.send(rest[: self.piece_bytes]) :]
                self._adapt(time.monotonic() - start)
        except _GONE as error:
            # urllib3 reads the answer after a broken pipe, and only then.
            raise BrokenPipeError(errno.EPIPE, "the peer stopped reading") from error

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


class SendingAdapter(HTTPAdapter):
    """Mounts these connections in a requests session, directly and through an HTTP proxy.

    A SOCKS proxy keeps urllib3's own: its connections come from another package.

    Args:
        stall_timeout: seconds in which at least one byte must move.
    """

    def __init__(self, stall_timeout: float) -> None:
        self._plain = type("Plain", (_Sending,), {"stall_timeout": stall_timeout})
        self._secure = type("Secure", (_SendingTls,), {"stall_timeout": stall_timeout})
        self._pools = {
            "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": self._plain}),
            "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": self._secure}),
        }
        super().__init__()

    def request_url(self, request: PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """Return the target without its query: the connections know the whole one."""
        target: str = super().request_url(request, proxies)
        self._plain.target = self._secure.target = target  # type: ignore[attr-defined]
        proxy = select_proxy(request.url or "", proxies) or ""
        return target if proxy.startswith("socks") else target.partition("?")[0]

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> PoolManager:  # noqa: ANN401
        """Make the pools of connections through a proxy."""
        manager: PoolManager = super().proxy_manager_for(proxy, **kwargs)
        if isinstance(manager, ProxyManager):
            manager.pool_classes_by_scheme = self._pools
        return manager
