import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2b_upload import Archive
from tests.support.rawserver import Connection, raw_server, tls_context
from tests.transfer.common import USUAL, Chameleon, Serve, Tls
from tests.transfer.ways import WAYS, Travel

_SETTINGS = {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"}


@pytest.fixture(autouse=True)
def _machine_without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name in _SETTINGS or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what waits for a peer give up soon."""
    monkeypatch.setitem(USUAL, "connect_timeout", 0.3)
    monkeypatch.setitem(USUAL, "stall_timeout", 0.3)


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    context, pem = tls_context()
    ca = tmp_path_factory.mktemp("authority") / "ca.pem"
    ca.write_bytes(pem)
    return Tls(context, ca)


@pytest.fixture(params=["tcp", "tls"])
def serve(request: pytest.FixtureRequest, tls: Tls, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Start a raw server that is trusted, once in plain text and once under TLS."""
    context = tls.context if request.param == "tls" else None
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    return lambda *scripts: raw_server(*scripts, tls=context)


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def way(request: pytest.FixtureRequest, tls: Tls, monkeypatch: pytest.MonkeyPatch) -> Travel:
    """Start a raw server, once for each way to it."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    return lambda *scripts: request.param(tls, *scripts)


@pytest.fixture
def archive(tmp_path: Path) -> Callable[[int], Archive]:
    """Write a file of random bytes."""

    def write(size: int) -> Archive:
        data = random.Random(size).randbytes(size)
        path = tmp_path / f"{size}.tar.gz"
        path.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        return Archive(bytes=size, sha256=sha256, md5="", path=str(path))

    return write


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.tar.gz"
    path.write_bytes(b"not quite an archive")
    return path


@pytest.fixture
def huge(tmp_path: Path) -> Archive:
    """Make a file of 200 MB, more than any buffer takes; it is all hole."""
    path, size = tmp_path / "huge.tar.gz", 200_000_000
    with path.open("wb") as file:
        file.truncate(size)
    return Archive(bytes=size, sha256="", md5="", path=str(path))


@pytest.fixture(scope="module")
def chameleon() -> Iterator[Chameleon]:
    def play(connection: Connection) -> None:
        now.script(connection)

    with raw_server(play) as server:
        now = Chameleon(server)
        yield now
