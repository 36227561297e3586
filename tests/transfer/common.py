"""What these tests share: a URL full of secrets, a failure that must keep them, odd scripts."""

import html
import socket
import ssl
import traceback
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias
from urllib.parse import unquote

import pytest

from e2b_upload import Archive, UploadError, put
from tests.support.rawserver import Connection, RawServer, Script, response

KIB: Final = 1 << 10
MIB: Final = 1 << 20

PATH: Final = "/bucket/key.tar.gz"
SECRETS: Final = (
    "AKIAIOSFODNN7EXAMPLE%2F20260101%2Feu-west-3%2Fs3",
    "IQoJb3JpZ2luX2VjEJr%2F%2F%2F%2FwEaCXVzLWVhc3QtMSJHMEUCIQ%3D%3D",
    "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024",
)
TARGET: Final = (
    f"{PATH}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={SECRETS[0]}"
    "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3153600000&X-Amz-SignedHeaders=host"
    f"&X-Amz-Security-Token={SECRETS[1]}&X-Amz-Signature={SECRETS[2]}"
)


class Tls(NamedTuple):
    """What a server needs, and what its client must trust."""

    context: ssl.SSLContext
    ca: Path


class Serve(Protocol):
    """How a test starts a server, whatever it speaks."""

    def __call__(self, *scripts: Script) -> AbstractContextManager[RawServer]: ...


class Chameleon:
    """A server that stays while its script changes: what Hypothesis needs."""

    def __init__(self, server: RawServer) -> None:
        self.server = server
        self.script: Script


Source: TypeAlias = Archive | str | Path


USUAL: Final = {"retries": 0}
"""What :func:`failure_of` puts with."""


def failure_of(source: Source, url: str, *secrets: str, **options: Any) -> UploadError:
    """Put once, and return how it failed: with a hint, and without a word of what is secret."""
    with pytest.raises(UploadError) as caught:
        put(source, url, **{**USUAL, **options})
    assert caught.value.hint
    assert_kept(caught.value, *SECRETS, *secrets)
    return caught.value


def assert_kept(error: UploadError, *secrets: str) -> None:
    """Look for pieces of secrets in all that can be shown of an error and of what caused it."""
    shown = [*traceback.format_exception(error), repr(error), error.hint]
    shown += [error.code or "", error.request_id or ""]
    for secret in secrets:
        assert not leaked(secret, "\n".join(shown))


def leaked(secret: str, text: str, *, size: int = 8) -> list[str]:
    """Return the pieces of a secret that a text shows."""
    forms = {secret, unquote(secret), html.escape(secret)}
    pieces = {form[at : at + size] for form in forms for at in range(len(form) - size + 1)}
    return sorted(piece for piece in pieces if piece in text)


def xml(code: str, message: str = "", request_id: str = "4442587FB7D0A2F9") -> bytes:
    """Put together what S3 says of an error."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>"
        f"<RequestId>{request_id}</RequestId><HostId>eftixk72aD6Ap51TnqcoF8eF</HostId></Error>"
    ).encode()


def early(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Script:
    """Answer on the head alone and close while the client is still sending."""

    def script(connection: Connection) -> None:
        # Else Nagle's algorithm may hold the answer back until close() throws it away.
        connection._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.read_head()
        connection.send(response(status, body, headers))

    return script


def raw(answer: bytes, *, hold: bool = False) -> Script:
    """Read the whole request and answer with these bytes; then close, or hold the line."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.send(answer)
        if hold:
            connection.wait()

    return script


def redirect(status: int, location: str) -> Script:
    """Read the whole request and redirect it; ``{port}`` is the server's own."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        there = location.format(port=connection._socket.getsockname()[1])
        connection.send(response(status, b"", {"Location": there}))

    return script


def pausing(seconds: float) -> Script:
    """Let all buffers fill up for so long, then read the whole request and answer."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.wait(seconds)
        connection.read_body()
        connection.send(response(200))

    return script


def tunnel(context: ssl.SSLContext, script: Script) -> Script:
    """Be a proxy that tunnels, and at the other end the store as well."""

    def play(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        connection._socket = context.wrap_socket(connection._socket, server_side=True)
        script(connection)

    return play
