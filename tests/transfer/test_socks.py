"""A SOCKS proxy (RFC 1928) on the way: the same sending and hearing through it."""

import time
from pathlib import Path

import pytest

from e2b_upload import Archive, UnavailableError, put
from tests.support.rawserver import Connection, answer, raw_server, silent
from tests.transfer.common import TARGET, failure_of, xml
from tests.transfer.ways import socks


@pytest.fixture(params=["socks5", "socks5h"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_put_goes_through(scheme: str, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(socks(answer(500)), socks(answer(200))) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        assert put(small, f"http://127.0.0.2{TARGET}").attempts == 2
    assert [request.target for request in proxy.requests] == [TARGET, TARGET]
    assert proxy.requests[1].body == small.read_bytes()


def test_it_has_an_end(huge: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(socks(silent())) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{proxy.port}")
        start = time.monotonic()
        error = failure_of(huge, f"http://store.invalid{TARGET}", max_time=1)
        assert time.monotonic() - start < 10
    assert type(error) is UnavailableError
    assert "was not done in 1 seconds" in error.message


def test_an_early_refusal_is_heard(huge: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 403 Forbidden\r\n\r\n" + xml("AccessDenied"))
        connection.wait()

    with raw_server(socks(refuse)) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{proxy.port}")
        error = failure_of(huge, f"http://store.invalid{TARGET}", stall_timeout=2)
    assert error.http_status == 403
