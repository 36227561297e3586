"""Real servers that answer before the body is sent: 100 Continue, a refusal, a condition."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest

from e2b_upload import RefusedError, put
from e2b_upload.transfer.connection import CONTINUE_SECONDS
from tests.support.faultproxy import relay
from tests.support.rawserver import raw_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from e2b_upload import Receipt
    from tests.support.azurite import Azurite
    from tests.support.nginx import Nginx
    from tests.support.rawserver import RawServer
    from tests.support.seaweed import Seaweed

    Reach = Callable[[str], AbstractContextManager["Route"]]

pytestmark = pytest.mark.real

SIZE = 5 << 20
SOON = 0.8 * CONTINUE_SECONDS
TRIES = 5  # on a busy machine a PUT may take longer than the wait
BLOB = {"x-ms-blob-type": "BlockBlob"}


class Route(NamedTuple):
    """A URL of a real server, and the relay before it, which records what is sent."""

    url: str
    relay: RawServer
    headers: dict[str, str]
    stored: Callable[[], bytes | None]

    def put(self, archive: Path, *, if_absent: bool = False) -> Receipt:
        return put(archive, self.url, headers=self.headers, if_absent=if_absent, retries=0)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(random.Random(SIZE).randbytes(SIZE))
    return path


@pytest.fixture(params=["SeaweedFS", "nginx", "Azurite"])
def reach(request: pytest.FixtureRequest) -> Reach:
    """Sign a URL of a real server, for a key, and put a relay before the server."""
    if request.param == "Azurite":
        blobs: Azurite = request.getfixturevalue("blobs")
        return lambda key: _azurite(blobs, key)
    s3: Seaweed = request.getfixturevalue("s3")
    port = urlsplit(s3.endpoint).port or 0
    if request.param == "nginx":
        port = request.getfixturevalue("before_s3").port
    return lambda key: _seaweed(s3, port, f"{request.param}-{key}")


@contextmanager
def _seaweed(s3: Seaweed, port: int, key: str) -> Iterator[Route]:
    with raw_server(relay(port)) as server:
        url = replace(s3, endpoint=server.url).presign_put(key)
        yield Route(url, server, {}, lambda: s3.get(key) if s3.exists(key) else None)


@contextmanager
def _azurite(blobs: Azurite, key: str) -> Iterator[Route]:
    with raw_server(relay(blobs.port)) as server:
        url = blobs.presign_put(key, port=server.port)
        yield Route(url, server, BLOB, lambda: blobs.get(key))


def test_a_server_that_says_100_gets_the_body_at_once(reach: Reach, archive: Path) -> None:
    def seconds(route: Route) -> float:
        start = time.monotonic()
        assert route.put(archive).verified == "md5"
        return time.monotonic() - start

    with reach("continued") as route:
        assert any(seconds(route) < SOON for _ in range(TRIES))
        request = route.relay.requests[0]
        assert ("Expect", "100-continue") in request.headers
        assert request.body_bytes == SIZE
        assert route.stored() == archive.read_bytes()


def test_nginx_refuses_before_a_byte_of_the_body_is_sent(
    s3: Seaweed, before_s3: Nginx, archive: Path
) -> None:
    with _seaweed(s3, before_s3.small, "refused") as route:
        with pytest.raises(RefusedError, match="413"):
            route.put(archive)
        assert [request.body_bytes for request in route.relay.requests] == [0]
        with pytest.raises(RefusedError, match="413"):
            route._replace(headers={"Expect": ""}).put(archive)
        assert route.relay.requests[1].body_bytes > 0
        assert route.stored() is None


def test_if_absent_stores_once(reach: Reach, archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tar.gz"
    other.write_bytes(bytes(SIZE))
    with reach("once") as route:
        first, second = (route.put(file, if_absent=True) for file in (archive, other))
        assert (first.status, first.verified) == ("uploaded", "md5")
        assert (second.status, second.verified) == ("present", None)
        assert ("If-None-Match", "*") in route.relay.requests[1].headers
        assert route.stored() == archive.read_bytes()
