"""The servers of the fault table, and what is between them and the client."""

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
from functools import partial
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
NOWHERE: Final = "http://store.invalid/builds/key?" + QUERY
"""A URL that only a proxy can reach."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a setup may use: a directory, and the fixtures of shared servers, by name."""

    place: Place
    shared: Callable[[str], Any]


@dataclass(frozen=True, kw_only=True)
class Site:
    """A server that is ready.

    Attributes:
        url: for the upload.
        servers: those that record requests.
        stored: returns the SHA-256 of what is stored, or None if there is nothing.
        env: environment variables.
        when_told: called with each line on standard error.
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
"""Returns the TLS context of a server, and the certificate that its client must trust."""

Setup: TypeAlias = Callable[[Tools], AbstractContextManager[Site]]
"""Sets up the servers of a row."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


class Memory:
    """One object."""

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
        """Return a script that stores the body.

        Args:
            headers: of the answer, or a function that returns them for a body.
            status: of the answer.
            first: sent before the body is read.
            damaged: True for an ETag that is the MD5 of other bytes.
            etag: False for an answer without an ETag.
            text: the body of the answer.
            invites: False if the server does not send `100 Continue`.
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
        """Return a script that stores this many bytes, answers with success, and reads on."""

        def script(connection: Connection) -> None:
            connection.read_head()
            self.sha256 = sha256(connection.read_body(size))
            connection.send(response(200))
            connection.read_body(connection._content_length() - size)

        return script


def scripted(
    scripts: Callable[[Memory], list[Script]],
    *,
    query: str | Callable[[], str] = QUERY,
    secure: Secure | None = None,
    trusting: str = "REQUESTS_CA_BUNDLE",
    env: Mapping[str, str] | None = None,
    origin: str = "",
    https: bool = False,
) -> Setup:
    """Return a server that plays scripts.

    Args:
        scripts: returns them.
        query: of the URL.
        secure: returns the TLS context of the server, and the certificate to trust.
        trusting: the variable that names the certificate.
        env: the environment; `{port}` is that of the server.
        origin: of the URL, if it is not that of the server.
        https: True for an https URL of a server without TLS.
    """

    @contextmanager
    def setup(tools: Tools) -> Iterator[Site]:
        memory, context, given = Memory(), None, dict(env or {})
        if secure:
            context, authority = secure()
            given[trusting] = str(tools.place.write("ca.pem", authority))
        with raw_server(*scripts(memory), tls=context) as server:
            url = (origin or server.url).replace("http:", "https:" if https else "http:")
            yield Site(
                url=f"{url}/builds/key?{query() if callable(query) else query}",
                servers=() if https else (server,),
                stored=lambda: memory.sha256,
                env={name: value.format(port=server.port) for name, value in given.items()},
            )

    return setup


def always(*scripts: Script, **options: Any) -> Setup:
    """Return a server that plays these scripts, and repeats the last one."""
    return scripted(lambda _: [*scripts], **options)


def then_stores(*scripts: Script, **options: Any) -> Setup:
    """Return a server that plays these scripts, and then stores the archive."""
    return scripted(lambda store: [*scripts, store.takes()], **options)


def takes(
    headers: Mapping[str, str] | Callable[[bytes], Mapping[str, str]] | None = None,
    *,
    query: str = QUERY,
    origin: str = "",
    env: Mapping[str, str] | None = None,
    **how: Any,
) -> Setup:
    """Return a server that stores the archive, and answers as `Memory.takes`."""
    return scripted(
        lambda store: [store.takes(headers, **how)], query=query, origin=origin, env=env
    )


def dated(*, age: int, expires: int, more: str = "") -> str:
    """Return the query of a URL that was signed this many seconds ago."""
    signed = (datetime.now(UTC) - timedelta(seconds=age)).strftime("%Y%m%dT%H%M%SZ")
    return (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={signed}&X-Amz-Expires={expires}"
        f"&X-Amz-SignedHeaders=host{more}&{QUERY}"
    )


def expiring(*scripts: Script, expires: int, more: str = "") -> Setup:
    """Return a server with a URL that is signed when the row starts."""
    return always(*scripts, query=partial(dated, age=0, expires=expires, more=more))


# Some signers make such URLs, which accept only an empty object.
checksum_of_nothing: Final = expiring(
    answer(400, b"<Error><Code>BadDigest</Code></Error>"),
    expires=3600,
    more="&x-amz-checksum-crc32=AAAAAA%3D%3D",
)


def _receive(answered: bytes, connection: Connection) -> None:
    connection._receive()
    connection.send(answered)


plain_for_https: Final = always(partial(_receive, response(400)), https=True)
tls_cut: Final = always(partial(_receive, b""), https=True)


@contextmanager
def _taken() -> Iterator[tuple[socket.socket, int]]:
    """Reserve a port that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken, taken.getsockname()[1]


@contextmanager
def refusing(_: Tools) -> Iterator[Site]:
    with _taken() as (_taken_socket, port):
        yield Site(url=f"http://127.0.0.1:{port}/builds/key?{QUERY}")


@contextmanager
def refusing_at_first(_: Tools) -> Iterator[Site]:
    """Listen once a first attempt has failed."""
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
"""Resolves every name to the ports of this machine in `RESOLVED`."""


def first_address(*, drops: bool = False, alone: bool = False) -> Setup:
    """Return a host whose first address refuses or drops packets; the second, if any, works."""

    @contextmanager
    def setup(_: Tools) -> Iterator[Site]:
        memory = Memory()
        with _taken() as (taken, port), raw_server(memory.takes()) as server, ExitStack() as stack:
            if drops:
                stack.enter_context(dropping_packets(taken))
            yield Site(
                url=NOWHERE,
                servers=(server,),
                stored=lambda: memory.sha256,
                env={"RESOLVED": f"{port}" if alone else f"{port} {server.port}"},
            )

    return setup


@contextmanager
def proxy_refusing(_: Tools) -> Iterator[Site]:
    """Name a proxy that does not exist."""
    with _taken() as (_taken_socket, port):
        env = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), f"http://127.0.0.1:{port}")
        yield Site(url=NOWHERE.replace("http:", "https:"), env=env)


def proxied(script: Script, *, https: bool) -> Setup:
    """Return a proxy that plays the script."""

    @contextmanager
    def setup(_: Tools) -> Iterator[Site]:
        with raw_server(script) as server:
            env = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), server.url)
            url = NOWHERE.replace("http:", "https:") if https else NOWHERE
            yield Site(url=url, servers=(server,), env=env)

    return setup


def redirecting(
    there: str = QUERY,
    *,
    query: str = QUERY,
    kept: tuple[str, ...] = (),
    dropped: tuple[str, ...] = (),
) -> Setup:
    """Redirect to another host, which stores the archive.

    Args:
        there: the query of the second URL.
        query: the query of the first URL.
        kept: headers that both hosts must receive, as `Name: value`.
        dropped: headers that only the first host must receive.
    """

    @contextmanager
    def setup(_: Tools) -> Iterator[Site]:
        memory = Memory()
        with raw_server(memory.takes()) as second:
            where = f"{second.url.replace('127.0.0.1', 'localhost')}/builds/key?{there}"
            with raw_server(answer(307, b"", {"Location": where})) as server:
                yield Site(
                    url=f"{server.url}/builds/key?{query}",
                    servers=(server, second),
                    stored=lambda: memory.sha256,
                )
            heads = [request.head.decode() for request in (*server.requests, *second.requests)]
            for header in (*kept, *dropped):
                assert [header in head for head in heads] == [True, header in kept]

    return setup


def unchanged(target: str) -> Setup:
    """Return a server that must receive exactly this path and query."""

    @contextmanager
    def setup(_: Tools) -> Iterator[Site]:
        memory = Memory()
        with raw_server(memory.takes()) as server:
            yield Site(url=server.url + target, servers=(server,), stored=lambda: memory.sha256)
            assert [request.target for request in server.requests] == [target]

    return setup


# Real stores. The proxy in front of them counts requests and injects faults. Signatures hold,
# because the URLs are signed for the port of the proxy.

Fault: TypeAlias = Callable[[int], Script]


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
) -> Setup:
    """Return an object in SeaweedFS, behind faults of which the last one repeats.

    Args:
        faults: one for each connection.
        before: what is stored at the beginning.
        through: the name of a port of nginx.
        bucket: to sign for, instead of the existing one.
        tampered: True if the URL is for another key than it was signed for.
        expires: seconds until the URL does.
        late: True if it has expired.
        escaped: the key in the URL, escaped; its signature covers each byte.
        signed: parameters that become signed headers.
    """

    @contextmanager
    def setup(tools: Tools) -> Iterator[Site]:
        s3: Seaweed = tools.shared("s3")
        port = urlsplit(s3.endpoint).port or 0
        if through:
            nginx: Nginx = tools.shared("before_s3")
            port = getattr(nginx, through)
        key = unquote(escaped) + secrets.token_hex(8)
        if before is not None:
            s3.put(key, before)
        with raw_server(*(fault(port) for fault in faults or (forward,))) as server:
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

    return setup


def azure(
    *faults: Fault, permissions: str = "cw", expires: int = 3600, before: bytes | None = OLD
) -> Setup:
    """Return a blob in Azurite, behind faults of which the last one repeats."""

    @contextmanager
    def setup(tools: Tools) -> Iterator[Site]:
        store: Azurite = tools.shared("blobs")
        blob = secrets.token_hex(8)
        if before is not None:
            store.put(blob, before)

        def stored() -> str | None:
            data = store.get(blob)
            return None if data is None else sha256(data)

        with raw_server(*(fault(store.port) for fault in faults or (forward,))) as server:
            url = store.presign_put(blob, permissions, expires, server.port)
            yield Site(url=url, servers=(server,), stored=stored)

    return setup


# Certificates


def _certificate(
    *names: str,
    not_after: datetime | None = None,
    newest: ssl.TLSVersion | None = None,
    trusted: bool = True,
) -> tuple[ssl.SSLContext, bytes]:
    """Return a context, which requires a client certificate if `newest` is given, and a CA."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=not_after).configure_cert(context)
    if newest:
        context.maximum_version = newest
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    pem: bytes = (authority if trusted else trustme.CA()).cert_pem.bytes()
    return context, pem


_PAST: Final = datetime.now(UTC) - timedelta(days=1)
trusted: Final = partial(_certificate, "127.0.0.1", "localhost")
expired: Final = partial(_certificate, "localhost", not_after=_PAST)
of_another_host: Final = partial(_certificate, "store.invalid")
of_another_authority: Final = partial(_certificate, "localhost", trusted=False)
client_certificate: Final = partial(_certificate, "localhost", newest=ssl.TLSVersion.TLSv1_3)
client_certificate_tls12: Final = partial(_certificate, "localhost", newest=ssl.TLSVersion.TLSv1_2)


def self_signed() -> tuple[ssl.SSLContext, bytes]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with NamedTemporaryFile() as file:
        file.write(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
        file.flush()
        context.load_cert_chain(file.name)
    pem: bytes = trustme.CA().cert_pem.bytes()
    return context, pem
