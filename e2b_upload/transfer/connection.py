"""Connections that notice a stalled send, and that hear the answer to a body they could not send.

urllib3 knows a time-out for connecting, which it also applies to each ``sendall``, and one for
reading. And over TLS it loses the answer of a store that refuses early and closes: the failed send
is an SSL error there, which it takes for a broken connection (urllib3 #3148, #3382).
"""

from __future__ import annotations

import errno
import ssl
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from urllib3 import PoolManager

_GONE = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError)


class _Sending(HTTPConnection):
    """A connection whose time-out counts from the last byte that moved, in ``send`` as in read."""

    stall_timeout: float

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self.stall_timeout)

    def send(self, data: Any) -> None:  # noqa: ANN401  (http.client's own signature)
        if self.sock is None:
            self.connect()
        rest = memoryview(data)
        try:
            # sendall() has one time-out for the whole piece: on a slow link it would run out.
            while rest:
                rest = rest[self.sock.send(rest) :]
        except _GONE as error:
            # urllib3 reads the answer after a broken pipe, and only then.
            raise BrokenPipeError(errno.EPIPE, "the peer stopped reading") from error


class _SendingTls(_Sending, HTTPSConnection):
    """The same over TLS."""


class SendingAdapter(HTTPAdapter):
    """Mounts these connections in a requests session, directly and through an HTTP proxy.

    A SOCKS proxy keeps urllib3's own: its connections come from another package.

    Args:
        stall_timeout: seconds in which at least one byte must move.
    """

    def __init__(self, stall_timeout: float) -> None:
        plain = type("Plain", (_Sending,), {"stall_timeout": stall_timeout})
        secure = type("Secure", (_SendingTls,), {"stall_timeout": stall_timeout})
        self._pools = {
            "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }
        super().__init__()

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
