"""A host of several addresses, some of which do not answer; addresses with a zone id."""

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import trustme

from e2b_upload import RefusedError, UnavailableError, put
from e2b_upload.transfer.deadline import AbandonedError, Carried, Deadline, cancelled_by
from e2b_upload.transfer.dial import ATTEMPT_DELAY_SECONDS, dial
from tests.support.rawserver import RawServer, Recorded, answer, dropping_packets, raw_server
from tests.transfer.common import PATH, TARGET, failure_of, tunnel

Address: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]

TIMEOUT: Final = 10.0
WAIT: Final = Deadline(None, "").slice
UNSUPPORTED: Final[Address] = (socket.AF_X25, socket.SOCK_STREAM, 0, "", ("", 0))
"""An address of a family that the system does not have, so that no attempt can begin."""


def address_of(bound: socket.socket) -> Address:
    return (bound.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", bound.getsockname())


@contextmanager
def refusing(host: str = "127.0.0.1") -> Iterator[Address]:
    """Give an address that is taken, and that refuses to connect."""
    with bound_to(host) as bound:
        yield address_of(bound)


@contextmanager
def hanging(host: str = "127.0.0.1") -> Iterator[Address]:
    """Give an address that drops packets."""
    with bound_to(host) as bound, dropping_packets(bound):
        yield address_of(bound)


@contextmanager
def bound_to(host: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as bound:
        bound.bind((host, 0))
        yield bound


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[Address]:
    with bound_to(host) as listener:
        listener.listen()
        yield address_of(listener)


def answering(server: RawServer) -> Address:
    where = ("127.0.0.1", server.port)
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)


Resolve: TypeAlias = Callable[..., None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Have each name resolve to these addresses, in this order."""

    def to(*addresses: Address) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*addresses])

    return to


def sockets() -> set[str]:
    """Return the sockets that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


class Stopwatch:
    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start


# --- which address


def test_an_address_that_drops_packets_hangs() -> None:
    """The ground that the other tests stand on."""
    with hanging() as (*_, where), socket.socket() as sock:
        sock.settimeout(1)
        with pytest.raises(TimeoutError):
            sock.connect(where)


def test_an_address_that_drops_packets_costs_a_quarter_of_a_second(
    small: Path, resolve: Resolve
) -> None:
    with hanging() as dropping, raw_server(answer(200)) as server:
        resolve(dropping, answering(server))
        watch = Stopwatch()
        receipt = put(small, f"http://store.invalid{TARGET}", connect_timeout=TIMEOUT, retries=0)
        assert ATTEMPT_DELAY_SECONDS <= watch.seconds < 3
    assert receipt.attempts == 1
    assert server.requests[0].body == small.read_bytes()


def test_a_proxy_has_addresses_too(
    small: Path, resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    with hanging() as dropping, raw_server(answer(200)) as proxy:
        resolve(dropping, answering(proxy))
        watch = Stopwatch()
        put(small, f"http://store.invalid{TARGET}", connect_timeout=TIMEOUT, retries=0)
        assert watch.seconds < 3
    assert proxy.requests[0].target == f"http://store.invalid{TARGET}"


def test_refused_addresses_cost_no_time(resolve: Resolve) -> None:
    with refusing() as refused, listening() as good:
        resolve(*[refused] * 29, good)
        watch = Stopwatch()
        with dial("h", 1, timeout=TIMEOUT, wait=WAIT) as sock:
            assert sock.getpeername() == good[4]
            assert sock.gettimeout() == TIMEOUT
        assert watch.seconds < 2


def test_the_families_take_turns(resolve: Resolve) -> None:
    with hanging("::1") as dropping, listening() as good:
        resolve(*[dropping] * 10, good)
        watch = Stopwatch()
        with dial("h", 1, timeout=TIMEOUT, wait=WAIT) as sock:
            assert sock.getpeername() == good[4]
        assert watch.seconds < 8 * ATTEMPT_DELAY_SECONDS  # without turns: 10


def test_the_first_connection_wins(resolve: Resolve) -> None:
    with hanging() as dropping, refusing() as refused, bound_to("127.0.0.1") as late:
        resolve(dropping, refused, address_of(late))
        late.listen()
        with dial("h", 1, timeout=TIMEOUT, wait=WAIT) as sock:
            assert sock.getpeername() == late.getsockname()


def test_socket_options_are_set(resolve: Resolve) -> None:
    with listening() as good:
        resolve(good)
        options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        with dial("h", 1, timeout=TIMEOUT, socket_options=options, wait=WAIT) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# --- when none connects


def test_all_refuse(small: Path, resolve: Resolve) -> None:
    with refusing() as refused, refusing("::1") as also_refused:
        resolve(refused, also_refused)
        error = failure_of(small, f"http://store.invalid{TARGET}")
    assert type(error) is UnavailableError
    assert error.message == "no connection to store.invalid: Connection refused"


@pytest.mark.parametrize("count", [1, 5, 30])
def test_the_connect_timeout_bounds_all_addresses_together(
    count: int, small: Path, resolve: Resolve
) -> None:
    with hanging() as dropping:
        resolve(*[dropping] * count)
        watch = Stopwatch()
        error = failure_of(small, f"http://store.invalid{TARGET}", connect_timeout=0.8)
        assert 0.8 <= watch.seconds < 3
    assert type(error) is UnavailableError
    assert error.message == "store.invalid does not answer: no connection in time"


def test_the_most_telling_error_is_told(small: Path, resolve: Resolve) -> None:
    url = f"http://store.invalid{TARGET}"
    with refusing() as refused, hanging() as dropping:
        for addresses in ([UNSUPPORTED, refused], [refused, UNSUPPORTED], [dropping, refused]):
            resolve(*addresses)
            assert "Connection refused" in failure_of(small, url, connect_timeout=0.5).message
        resolve(UNSUPPORTED, dropping)
        assert "no connection in time" in failure_of(small, url, connect_timeout=0.5).message
        resolve(UNSUPPORTED)
        assert "not supported" in failure_of(small, url).message


def test_a_name_that_is_not_known(small: Path) -> None:
    error = failure_of(small, f"http://store.invalid{TARGET}")
    assert error.message.startswith("the name store.invalid cannot be resolved")


# --- what is left open


def test_the_losers_are_closed(resolve: Resolve) -> None:
    with hanging() as dropping, listening() as good, refusing() as refused:
        before = sockets()
        resolve(dropping, dropping, good)
        dial("h", 1, timeout=TIMEOUT, wait=WAIT).close()
        assert sockets() == before
        resolve(dropping, refused, UNSUPPORTED)
        with pytest.raises(ConnectionRefusedError):
            dial("h", 1, timeout=0.5, wait=WAIT)
        assert sockets() == before


def test_what_is_abandoned_is_closed(resolve: Resolve) -> None:
    cancelled = threading.Event()
    with hanging() as dropping:
        before = sockets()
        resolve(dropping, dropping)
        threading.Timer(0.4, cancelled.set).start()
        watch = Stopwatch()
        with cancelled_by(cancelled):
            wait = Deadline(None, "").slice
        with pytest.raises(Carried) as caught:
            dial("h", 1, timeout=60, wait=wait)
        assert isinstance(caught.value.error, AbandonedError)
        assert watch.seconds < 3
        assert sockets() == before


def test_an_upload_whose_time_is_up_leaves_no_socket(small: Path, resolve: Resolve) -> None:
    with hanging() as dropping:
        before = sockets()
        resolve(dropping)
        url = f"http://store.invalid{TARGET}"
        error = failure_of(small, url, connect_timeout=60, max_time=0.5)
        assert "was not done in 0.5 seconds" in error.message
        watch = Stopwatch()
        while sockets() != before and watch.seconds < 5:  # its thread looks up four times a second
            time.sleep(0.05)
        assert sockets() == before


# --- zone ids


@contextmanager
def on_ipv6(tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    bound = socket.socket(socket.AF_INET6)
    try:
        bound.bind(("::1", 0))
    except OSError as why:
        bound.close()
        pytest.skip(f"there is no IPv6: {why}")
    with raw_server(answer(200), bound=bound, tls=tls) as server:
        yield server


def serving(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Make a server's context for this name, signed by a CA that is trusted."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def host_of(request: Recorded) -> str:
    return dict(request.headers)["Host"]


LOOPBACK: Final = socket.if_nametoindex("lo") if sys.platform == "linux" else 1
ZONES: Final = [f"[::1%25{LOOPBACK}]", f"[::1%{LOOPBACK}]"]
"""As RFC 6874 has it, and as people write it. ``::1`` takes only the number of an interface."""


@pytest.mark.parametrize("host", ZONES)
def test_a_zone_id_is_connected_to_and_not_sent(host: str, small: Path) -> None:
    with on_ipv6() as server:
        receipt = put(small, f"http://{host}:{server.port}{TARGET}", retries=0)
    assert receipt.url == f"http://{host}:{server.port}{PATH}"
    assert host_of(server.requests[0]) == f"[::1]:{server.port}"


@pytest.mark.parametrize("host", ZONES)
def test_a_certificate_is_verified_without_the_zone_id(
    host: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_ipv6(serving("::1", tmp_path, monkeypatch)) as server:
        put(small, f"https://{host}:{server.port}{TARGET}", retries=0)
    with on_ipv6(serving("::2", tmp_path, monkeypatch)) as server:
        error = failure_of(small, f"https://{host}:{server.port}{TARGET}")
    assert type(error) is RefusedError
    assert f"the certificate of {host}:{server.port} does not cover the host ::1" in error.message


@pytest.mark.parametrize("host", ["[::1]", *ZONES])
def test_a_proxy_sees_no_zone_id(
    host: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = serving("::1", tmp_path, monkeypatch)
    with raw_server(tunnel(context, answer(200))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        put(small, f"https://{host}:9000{TARGET}", retries=0)
    connect, request = proxy.requests
    assert connect.target == "[::1]:9000"
    assert host_of(request) == "[::1]:9000"


def test_an_interface_that_is_not_there(small: Path) -> None:
    error = failure_of(small, f"http://[fe80::1%25nowhere]:9000{TARGET}")
    assert "the name [fe80::1%25nowhere]:9000 cannot be resolved" in error.message


IN_A_NETWORK_OF_ITS_OWN: Final = """
import socket, sys
from e2b_upload import put
from tests.support.rawserver import answer, raw_server
for host in ("[fe80::1%25lo]", "[fe80::1%lo]"):
    bound = socket.socket(socket.AF_INET6)
    bound.bind(("fe80::1", 0, 0, socket.if_nametoindex("lo")))
    with raw_server(answer(200), bound=bound) as server:
        put(sys.argv[1], f"http://{host}:{server.port}/k", retries=0)
        print(dict(server.requests[0].headers)["Host"] == f"[fe80::1]:{server.port}")
"""
NAMESPACE: Final = ["unshare", "--map-root-user", "--net"]
LINK_LOCAL: Final = "ip link set lo up && ip addr add fe80::1/64 dev lo nodad"


def test_a_link_local_address(small: Path) -> None:
    try:
        subprocess.run([*NAMESPACE, "sh", "-c", LINK_LOCAL], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as why:
        pytest.skip(f"no network namespace with a link-local address: {why}")
    script = f'{LINK_LOCAL} && exec "$0" "$@"'
    command = [sys.executable, "-c", IN_A_NETWORK_OF_ITS_OWN, str(small)]
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", script, *command], check=False, capture_output=True, text=True
    )
    assert (done.stdout.split(), done.stderr) == (["True", "True"], "")
