"""Where the builds of the table go: servers, and what lies between."""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import trustme

from tests.cli.harness import QUERY
from tests.support.faultproxy import forward
from tests.support.rawserver import Script, answer, dropping_packets, raw_server, response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.cli.harness import Place
    from tests.support.azurite import Azurite
    from tests.support.nginx import Nginx
    from tests.support.rawserver import Connection, RawServer
    from tests.support.seaweed import Seaweed

OLD: Final = b"what was there before"
DEAF: Final = "http://store.invalid/builds/key?" + QUERY
"""Reached by proxies only."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a ground is made with: a folder, and the servers that all tests share, by name."""

    place: Place
    shared: Callable[[str], Any]


@dataclass(frozen=True, kw_only=True)
class Site:
    """A ground that is ready.

    Attributes:
        url: where to put.
        servers: those that record what came.
        stored: gives the SHA-256 of what is stored, or None where nothing is.
        env: what the environment has to say for it.
        when_told: is called with each line on standard error.
    """

    url: str
    servers: tuple[RawServer, ...] = ()
    stored: Callable[[], str | None] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    when_told: Callable[[str], object] = lambda _: None

    @property
    def requests(self) -> int:
        return sum(len(server.requests) for server in self.servers)


Secure: TypeAlias = Callable[[], tuple[ssl.SSLContext, bytes]]
"""Gives a server's TLS, and the authority whom its client is to trust."""

Ground: TypeAlias = Callable[[Tools], AbstractContextManager[Site]]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Memory:
    """One object, which only a whole body that is answered with success replaces."""

    def __init__(self) -> None:
        self.sha256 = sha256(OLD)

    def takes(
        self,
        headers: Mapping[str, str] | Callable[[bytes], Mapping[str, str]] | None = None,
        *,
        status: int = 200,
        first: bytes = b"",
        damaged: bool = False,
        etag: bool = True,
        text: bytes = b"",
        invites: bool = True,
    ) -> Script:
        """Make a script that stores the body.

        Args:
            headers: of the answer, or what makes them of the body.
            status: of the answer.
            first: is sent before the body is read.
            damaged: whether the answer's ETag is the MD5 of another object.
            etag: whether the answer has one.
            text: the answer's body.
            invites: whether a client that expects ``100 Continue`` gets it.
        """

        def script(connection: Connection) -> None:
            connection.continues = invites
            connection.read_head()
            if first:
                connection.send(first)
            body = connection.read_body()
            self.sha256 = sha256(body)
            md5 = hashlib.md5(b"damaged" if damaged else body, usedforsecurity=False).hexdigest()
            more = headers(body) if callable(headers) else headers or {}
            own = {"ETag": f'"{md5}"'} if etag else {}
            connection.send(response(status, text, {**own, **more}))

        return script

    def takes_part(self, size: int) -> Script:
        """Make a script that stores so many bytes, answers with success, and reads on."""

        def script(connection: Connection) -> None:
            connection.read_head()
            self.sha256 = sha256(connection.read_body(size))
            connection.send(response(200))
            connection.read_body(connection._content_length() - size)

        return script


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def scripted(
    scripts: Callable[[Memory], list[Script]],
    *,
    query: str = QUERY,
    secure: Secure | None = None,
    trusting: str = "REQUESTS_CA_BUNDLE",
    env: Mapping[str, str] | None = None,
    origin: str = "",
) -> Ground:
    """Make a server that plays the scripts.

    Args:
        scripts: makes them.
        query: of the URL.
        secure: gives the server's TLS, and the authority to trust.
        trusting: the variable that names the authority.
        env: what the environment says; ``{port}`` is the server's.
        origin: of the URL, if it is not the server's own.
    """

    @contextmanager
    def ground(tools: Tools) -> Iterator[Site]:
        memory, context, given = Memory(), None, dict(env or {})
        if secure:
            context, authority = secure()
            given[trusting] = str(tools.place.write("ca.pem", authority))
        with raw_server(*scripts(memory), tls=context) as server:
            yield Site(
                url=f"{origin or server.url}/builds/key?{query}",
                servers=(server,),
                stored=lambda: memory.sha256,
                env={name: value.format(port=server.port) for name, value in given.items()},
            )

    return ground


def dated(*, age: int, expires: int, more: str = "") -> str:
    """Return the query of a URL that was signed so many seconds ago."""
    signed = (datetime.now(UTC) - timedelta(seconds=age)).strftime("%Y%m%dT%H%M%SZ")
    return (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={signed}&X-Amz-Expires={expires}"
        f"&X-Amz-SignedHeaders=host{more}&{QUERY}"
    )


def expiring(scripts: Callable[[Memory], list[Script]], *, expires: int) -> Ground:
    """Make a server for a URL that is signed now."""

    def ground(tools: Tools) -> AbstractContextManager[Site]:
        return scripted(scripts, query=dated(age=0, expires=expires))(tools)

    return ground


@contextmanager
def refusing(_: Tools) -> Iterator[Site]:
    """Give a port that is taken, and that refuses to connect."""
    with _taken() as (taken, port):
        del taken
        yield Site(url=f"http://127.0.0.1:{port}/builds/key?{QUERY}")


@contextmanager
def refusing_at_first(_: Tools) -> Iterator[Site]:
    """Listen when a first attempt has failed."""
    memory = Memory()
    with _taken() as (taken, port), ExitStack() as running:

        def when_told(line: str) -> None:
            if "retrying in" in line:
                running.enter_context(raw_server(memory.takes(), bound=taken))

        url = f"http://127.0.0.1:{port}/builds/key?{QUERY}"
        yield Site(url=url, stored=lambda: memory.sha256, when_told=when_told)


RESOLVED: Final = """
import os, socket
socket.getaddrinfo = lambda *_, **__: [
    (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", int(port)))
    for port in os.environ["RESOLVED"].split()
]
"""
"""Has every name resolve to this machine, to the ports that the ground says."""


def first_address(*, drops: bool = False, alone: bool = False) -> Ground:
    """Give a host whose first address refuses or drops packets; the second, if any, works."""

    @contextmanager
    def ground(_: Tools) -> Iterator[Site]:
        memory = Memory()
        with _taken() as (taken, port), raw_server(memory.takes()) as server, ExitStack() as stack:
            if drops:
                stack.enter_context(dropping_packets(taken))
            yield Site(
                url=DEAF,
                servers=(server,),
                stored=lambda: memory.sha256,
                env={"RESOLVED": f"{port}" if alone else f"{port} {server.port}"},
            )

    return ground


@contextmanager
def proxy_refusing(_: Tools) -> Iterator[Site]:
    """Name a proxy that is not there."""
    with _taken() as (taken, port):
        del taken
        proxy = f"http://127.0.0.1:{port}"
        yield Site(
            url=DEAF.replace("http:", "https:"), env={"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
        )


def proxied(script: Script, *, https: bool) -> Ground:
    """Name a proxy that plays the script."""

    @contextmanager
    def ground(_: Tools) -> Iterator[Site]:
        with raw_server(script) as server:
            env = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), server.url)
            url = DEAF.replace("http:", "https:") if https else DEAF
            yield Site(url=url, servers=(server,), env=env)

    return ground


def redirecting(
    there: str = QUERY,
    *,
    query: str = QUERY,
    kept: tuple[str, ...] = (),
    dropped: tuple[str, ...] = (),
) -> Ground:
    """Redirect to another host, which stores what it gets.

    Args:
        there: the query of the URL on the other host.
        query: of the first URL.
        kept: headers that both hosts must see, as ``Name: value``.
        dropped: headers that only the first host must see.
    """

    @contextmanager
    def ground(_: Tools) -> Iterator[Site]:
        memory = Memory()

        def first(connection: Connection) -> None:
            connection.read_head()
            connection.read_body()
            where = f"{second.url.replace('127.0.0.1', 'localhost')}/builds/key?{there}"
            connection.send(response(307, b"", {"Location": where}))

        with raw_server(memory.takes()) as second, raw_server(first) as server:
            yield Site(
                url=f"{server.url}/builds/key?{query}",
                servers=(server, second),
                stored=lambda: memory.sha256,
            )
            heads = [request.head.decode() for request in (*server.requests, *second.requests)]
            for header in (*kept, *dropped):
                assert [header in head for head in heads] == [True, header in kept]

    return ground


def unchanged(target: str) -> Ground:
    """Make a server that has to be asked for exactly this path and query."""

    @contextmanager
    def ground(_: Tools) -> Iterator[Site]:
        memory = Memory()
        with raw_server(memory.takes()) as server:
            yield Site(url=server.url + target, servers=(server,), stored=lambda: memory.sha256)
            assert [request.target for request in server.requests] == [target]

    return ground


@contextmanager
def _taken() -> Iterator[tuple[socket.socket, int]]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken, taken.getsockname()[1]


@contextmanager
def plain_for_https(_: Tools) -> Iterator[Site]:
    """Answer TLS as a plain HTTP server does."""

    def script(connection: Connection) -> None:
        connection._receive()
        connection.send(response(400))

    memory = Memory()
    with raw_server(script) as server:
        url = server.url.replace("http:", "https:")
        yield Site(url=f"{url}/builds/key?{QUERY}", stored=lambda: memory.sha256)


def _hang_up(connection: Connection) -> None:
    connection._receive()


@contextmanager
def tls_cut(_: Tools) -> Iterator[Site]:
    """Hang up when TLS begins."""
    memory = Memory()
    with raw_server(_hang_up) as server:
        url = server.url.replace("http:", "https:")
        yield Site(url=f"{url}/builds/key?{QUERY}", stored=lambda: memory.sha256)


def checksum_of_nothing(tools: Tools) -> AbstractContextManager[Site]:
    """Give a URL that some signers make, which takes an empty object only."""
    scripts = [answer(400, b"<Error><Code>BadDigest</Code></Error>")]
    query = dated(age=0, expires=3600, more="&x-amz-checksum-crc32=AAAAAA%3D%3D")
    return scripted(lambda _: scripts, query=query)(tools)


# Real stores. The proxy before them counts requests and makes faults; signatures hold, because the
# URLs are signed for the proxy's port.

Fault: TypeAlias = Callable[[int], Script]


def passing(port: int) -> Script:
    return forward(port)


def seaweed(
    *faults: Fault,
    before: bytes | None = OLD,
    through: str = "",
    bucket: str = "",
    tampered: bool = False,
    expires: int = 3600,
    late: bool = False,
    escaped: str = "",
    **signed: str,
) -> Ground:
    """Make an object in SeaweedFS, reached by way of faults, in the end of the last one.

    Args:
        faults: one for each connection.
        before: what is stored beforehand.
        through: the name of an nginx's port to go through.
        bucket: to sign for, instead of the one that is there.
        tampered: whether the URL is for another key than it was signed for.
        expires: in how many seconds it does.
        late: whether it has expired by now.
        escaped: what the key begins with in the URL, escaped; its signature covers each byte.
        signed: what is signed beside, as boto3 names it.
    """

    @contextmanager
    def ground(tools: Tools) -> Iterator[Site]:
        s3: Seaweed = tools.shared("s3")
        port = urlsplit(s3.endpoint).port or 0
        if through:
            nginx: Nginx = tools.shared("before_s3")
            port = getattr(nginx, through)
        key = unquote(escaped) + secrets.token_hex(8)
        if before is not None:
            s3.put(key, before)
        with raw_server(*(fault(port) for fault in faults or (passing,))) as server:
            here = replace(s3, endpoint=server.url, bucket=bucket or s3.bucket)
            url = here.presign_put("another" if tampered else key, 1 if late else expires, **signed)
            if escaped:
                url = here.presign_raw_put(key.replace(unquote(escaped), escaped))
            if late:
                time.sleep(1.1)  # until it expires
            yield Site(
                url=url.replace("/another?", f"/{key}?"),
                servers=(server,),
                stored=lambda: s3.digest(key) if s3.exists(key) else None,
            )

    return ground


def azure(
    *faults: Fault, permissions: str = "cw", expires: int = 3600, before: bytes | None = OLD
) -> Ground:
    """Make a blob in Azurite, reached by way of faults."""

    @contextmanager
    def ground(tools: Tools) -> Iterator[Site]:
        store: Azurite = tools.shared("blobs")
        blob = secrets.token_hex(8)
        if before is not None:
            store.put(blob, before)

        def stored() -> str | None:
            data = store.get(blob)
            return None if data is None else sha256(data)

        with raw_server(*(fault(store.port) for fault in faults or (passing,))) as server:
            url = store.presign_put(blob, permissions, expires, server.port)
            yield Site(url=url, servers=(server,), stored=stored)

    return ground


# Certificates.


def trusted() -> tuple[ssl.SSLContext, bytes]:
    authority = trustme.CA()
    return _serving(authority.issue_cert("127.0.0.1", "localhost")), _pem(authority)


def expired() -> tuple[ssl.SSLContext, bytes]:
    authority = trustme.CA()
    past = datetime.now(UTC) - timedelta(days=1)
    return _serving(authority.issue_cert("localhost", not_after=past)), _pem(authority)


def of_another_host() -> tuple[ssl.SSLContext, bytes]:
    authority = trustme.CA()
    return _serving(authority.issue_cert("store.invalid")), _pem(authority)


def of_another_authority() -> tuple[ssl.SSLContext, bytes]:
    return _serving(trustme.CA().issue_cert("localhost")), _pem(trustme.CA())


def client_certificate(
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> tuple[ssl.SSLContext, bytes]:
    authority = trustme.CA()
    context = _serving(authority.issue_cert("localhost"))
    context.maximum_version = newest
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    return context, _pem(authority)


def client_certificate_tls12() -> tuple[ssl.SSLContext, bytes]:
    return client_certificate(ssl.TLSVersion.TLSv1_2)


def self_signed() -> tuple[ssl.SSLContext, bytes]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with NamedTemporaryFile() as file:
        file.write(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
        file.flush()
        context.load_cert_chain(file.name)
    return context, _pem(trustme.CA())


def _serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _pem(authority: trustme.CA) -> bytes:
    pem: bytes = authority.cert_pem.bytes()
    return pem
