"""Connect to whichever of a host's addresses answers first ("Happy Eyeballs", RFC 8305)."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_AddressInfo: TypeAlias = tuple[int, int, int, str, Any]

ATTEMPT_DELAY_SECONDS = 0.25
"""An address that does not answer delays the next one by this long (RFC 8305, section 5)."""

# How much an error tells, from the most to the least: an address refused, any other error, no route
# to the host, no route from this machine.
_ORDER = {
    errno.ECONNREFUSED: 0,
    errno.EHOSTUNREACH: 2,
    errno.ENETUNREACH: 3,
    errno.EADDRNOTAVAIL: 3,
    errno.EAFNOSUPPORT: 3,
    errno.EINVAL: 3,
}
_ANY_OTHER = 1


def dial(
    host: str,
    port: int,
    *,
    timeout: float,
    socket_options: Sequence[tuple[int, int, int | bytes]] = (),
    wait: Callable[[float], float],
) -> socket.socket:
    """Return a connection to a host, with ``timeout`` set on it.

    Attempts start 250 ms apart, IPv6 and IPv4 in turn; a failed attempt starts the next at once.
    The first connection wins and the others are closed.

    Args:
        host: a name, or an address without brackets, such as ``fe80::1%eth0``.
        port: its port.
        timeout: seconds for all attempts together, after the name has been looked up.
        socket_options: set on each socket before it connects.
        wait: returns for how many seconds to wait until a time on the monotonic clock, or less;
            what it raises ends the attempts.

    Raises:
        socket.gaierror: the name cannot be resolved.
        TimeoutError: no connection in time.
        OSError: every attempt failed; the error that tells most.
    """
    addresses = _interleaved(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    end = time.monotonic() + timeout
    next_start = 0.0
    errors: list[OSError] = []
    with selectors.DefaultSelector() as pending:
        try:
            while addresses or pending.get_map():
                if time.monotonic() >= end:
                    errors.append(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
                    break
                if addresses and time.monotonic() >= next_start:
                    try:
                        pending.register(
                            _begin(addresses.pop(0), socket_options), selectors.EVENT_WRITE
                        )
                    except OSError as error:
                        errors.append(error)
                        continue
                    next_start = time.monotonic() + ATTEMPT_DELAY_SECONDS
                for key, _events in pending.select(
                    wait(min(end, next_start) if addresses else end)
                ):
                    sock = cast("socket.socket", key.fileobj)
                    pending.unregister(sock)
                    if not (code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                        sock.settimeout(timeout)
                        return sock
                    sock.close()
                    errors.append(OSError(code, os.strerror(code)))
                    next_start = 0.0
        finally:
            for key in pending.get_map().values():
                cast("socket.socket", key.fileobj).close()
    raise min(errors, key=lambda error: _ORDER.get(error.errno or 0, _ANY_OTHER))


def _interleaved(found: Sequence[_AddressInfo]) -> list[_AddressInfo]:
    """Return addresses in their order, but with the families in turn."""
    families = dict.fromkeys(each[0] for each in found)
    groups = ([each for each in found if each[0] == family] for family in families)
    return [each for row in zip_longest(*groups) for each in row if each]


def _begin(
    address: _AddressInfo, socket_options: Sequence[tuple[int, int, int | bytes]]
) -> socket.socket:
    """Return a socket that has begun to connect."""
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        for option in socket_options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        sock.connect(where)
    except OSError as error:
        if error.errno != errno.EINPROGRESS:
            sock.close()
            raise
    return sock
