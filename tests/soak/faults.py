"""What goes wrong between a client and a store, and what a client has to make of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from tests.soak.stores import Dialect, Reply, Store, refusal
from tests.support.rawserver import Connection, Recorded, Script, garbage
from tests.transfer.common import early

SHORT_STALL: Final = 0.25
STALL_TIMEOUT: Final = 1.5
"""Seconds; far from the short stall, for the machine may be busy."""

_MOST_REQUESTS: Final = 6  # one, and as many redirects as are followed

Effect: TypeAlias = Literal["stored", "passing", "damaged", "refused"]
"""Success; worth another attempt; worth one more; not worth any."""


@dataclass
class Site:
    """One build's server, with its store behind it."""

    store: Store
    dialect: Dialect
    secret: str = ""
    """Of its URL's query: may not be seen anywhere."""
    connections: int = 0
    reached: Callable[[], None] = field(default=lambda: None)
    """Called when the client is where a signal shall meet it."""

    def read(self, connection: Connection) -> tuple[Recorded, bytes]:
        """Read a whole request."""
        connection.read_head()
        body = connection.read_body()
        return connection._recording.so_far(), body

    def take(self, connection: Connection) -> Reply:
        """Read a whole request and store it."""
        return self.store.put(*self.read(connection), self.dialect)

    def count(self, script: Script) -> Script:
        """Return the same script, counted when it is played."""

        def counted(connection: Connection) -> None:
            self.connections += 1
            script(connection)

        return counted


Scripts: TypeAlias = Sequence[Script]
# A number from 0 to 1 says where, of all places, it goes wrong.
Make: TypeAlias = Callable[[Site, float], Scripts]


class Fault(NamedTuple):
    """One thing that may happen to an attempt.

    Attributes:
        effect: what comes of it.
        make: gives the scripts of the connections that it takes.
        connections: how many that are.
        needs_proof: whether a client can only notice where the store tells a digest.
    """

    effect: Effect
    make: Make
    connections: int = 1
    needs_proof: bool = False


def serve(site: Site, where: float) -> Scripts:
    """Store it and say so."""
    del where
    return [lambda connection: connection.send(bytes(site.take(connection)))]


def _reset(site: Site, where: float) -> Scripts:
    del site

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body(int(where * connection._content_length()))
        connection.reset()

    return [script]


def _reset_at_once(site: Site, where: float) -> Scripts:
    del site, where
    return [lambda connection: connection.reset()]


def _hang_up(site: Site, where: float) -> Scripts:
    del where

    def script(connection: Connection) -> None:
        site.read(connection)
        connection.close()

    return [script]


def _lost(site: Site, where: float) -> Scripts:
    del where

    def script(connection: Connection) -> None:
        site.take(connection)
        connection.reset()

    return [script]


def _half(hold: Script) -> Make:
    def make(site: Site, where: float) -> Scripts:
        def script(connection: Connection) -> None:
            answer = bytes(site.take(connection))
            connection.send(answer[: 1 + int(where * (len(answer) - 2))])
            hold(connection)

        return [script]

    return make


def _says(status: int, code: str = "", headers: Mapping[str, str] | None = None) -> Make:
    def make(site: Site, where: float) -> Scripts:
        del where

        def script(connection: Connection) -> None:
            site.read(connection)
            connection.send(bytes(refusal(status, code, headers, secret=site.secret)))

        return [script]

    return make


def _stall_and_serve(site: Site, where: float) -> Scripts:
    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body(int(where * connection._content_length()))
        connection.wait(SHORT_STALL)
        before = connection._recording.so_far().body_bytes
        connection.read_body(connection._content_length() - before)
        connection.wait(SHORT_STALL)
        request = connection._recording.so_far()
        connection.send(bytes(site.store.put(request, request.body, site.dialect)))

    return [script]


def _stall_for_ever(site: Site, where: float) -> Scripts:
    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body(int(where * connection._content_length()))
        site.reached()
        connection.wait()

    return [script]


def _garbage(site: Site, where: float) -> Scripts:
    del site, where
    return [garbage()]


def _continue(site: Site, where: float) -> Scripts:
    del where

    def script(connection: Connection) -> None:
        answer = bytes(site.take(connection))
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + answer)

    return [script]


def _wrong_claim(site: Site, where: float) -> Scripts:
    del where

    def script(connection: Connection) -> None:
        reply = site.take(connection)
        connection.send(bytes(reply._replace(headers=site.dialect.proof(b"something else"))))

    return [script]


def _early(site: Site, where: float) -> Scripts:
    del where
    return [early(403, refusal(403, "AccessDenied", secret=site.secret).body)]


def _redirect(site: Site) -> Script:
    def script(connection: Connection) -> None:
        request, _ = site.read(connection)
        connection.send(bytes(Reply(307, {"Location": request.target})))

    return script


def _redirect_once(site: Site, where: float) -> Scripts:
    return [_redirect(site), *serve(site, where)]


def _redirect_for_ever(site: Site, where: float) -> Scripts:
    del where
    return [_redirect(site)] * _MOST_REQUESTS


def _changed(body: bytes, where: float) -> bytes:
    at = int(where * len(body))
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def _damaged_on_the_way(site: Site, where: float) -> Scripts:
    def script(connection: Connection) -> None:
        request, body = site.read(connection)
        connection.send(bytes(site.store.put(request, _changed(body, where), site.dialect)))

    return [script]


def _rewritten(change: Callable[[bytes, float], bytes]) -> Make:
    """Store something else, and say truly what that is: something rewrites length and digest."""

    def make(site: Site, where: float) -> Scripts:
        def script(connection: Connection) -> None:
            request, body = site.read(connection)
            body = change(body, where)
            lines = [
                line
                for line in request.head.decode("latin-1").split("\r\n")
                if not line.lower().startswith(("content-length:", "content-md5:"))
            ]
            lines.insert(1, f"Content-Length: {len(body)}")
            head = "\r\n".join(lines).encode("latin-1")
            request = Recorded(head=head, body=body, body_bytes=len(body), body_sha256="")
            connection.send(bytes(site.store.put(request, body, site.dialect)))

        return [script]

    return make


def _close(connection: Connection) -> None:
    connection.close()


def _hold(connection: Connection) -> None:
    connection.wait()


AT_ONCE: Final = {"Retry-After": "0"}
LATER: Final = {"Retry-After": "100"}

FAULTS: Final[Mapping[str, Fault]] = {
    "none": Fault("stored", serve),
    "reset at once": Fault("passing", _reset_at_once),
    "reset in the body": Fault("passing", _reset),
    "closed without an answer": Fault("passing", _hang_up),
    "stored, answer lost": Fault("passing", _lost),
    "half an answer": Fault("passing", _half(_close)),
    "half an answer, then silence": Fault("passing", _half(_hold)),
    "garbage": Fault("passing", _garbage),
    "500": Fault("passing", _says(500)),
    "500 InternalError": Fault("passing", _says(500, "InternalError", AT_ONCE)),
    "503": Fault("passing", _says(503)),
    "503 SlowDown, at once": Fault("passing", _says(503, "SlowDown", AT_ONCE)),
    "429": Fault("passing", _says(429)),
    "429, at once": Fault("passing", _says(429, headers=AT_ONCE)),
    "400 RequestTimeout": Fault("passing", _says(400, "RequestTimeout", AT_ONCE)),
    "short stall": Fault("stored", _stall_and_serve),
    "long stall": Fault("passing", _stall_for_ever),
    "100 and 103 first": Fault("stored", _continue),
    "307 once": Fault("stored", _redirect_once, 2),
    "wrong digest told": Fault("damaged", _wrong_claim, needs_proof=True),
    "BadDigest": Fault("damaged", _says(400, "BadDigest", AT_ONCE)),
    "damaged on the way": Fault("damaged", _damaged_on_the_way, needs_proof=True),
    "damaged in the store": Fault("damaged", _rewritten(_changed), needs_proof=True),
    "truncated in the store": Fault(
        "damaged",
        _rewritten(lambda body, where: body[: int(where * len(body))]),
        needs_proof=True,
    ),
    "403 before the body": Fault("refused", _early),
    "403 ExpiredToken": Fault("refused", _says(403, "ExpiredToken")),
    "412": Fault("refused", _says(412, "PreconditionFailed")),
    "301": Fault("refused", _says(301, "PermanentRedirect", {"Location": "/elsewhere"})),
    "307 to itself": Fault("refused", _redirect_for_ever, _MOST_REQUESTS),
}
# For what is to happen while the client waits: for the answer, for its next attempt.
HELD: Final = Fault("passing", _stall_for_ever)
PUT_OFF: Final = Fault("passing", _says(503, headers=LATER))


class Outcome(NamedTuple):
    """What a build comes to."""

    code: int
    attempts: int
    connections: int


def outcome(faults: Sequence[Fault], retries: int) -> Outcome:
    """Return what comes of an upload that meets these faults, one an attempt."""
    attempts = connections = damaged = 0
    for fault in (*faults, FAULTS["none"]):
        attempts, connections = attempts + 1, connections + fault.connections
        damaged += fault.effect == "damaged"
        if fault.effect == "stored":
            return Outcome(0, attempts, connections)
        if fault.effect == "refused":
            return Outcome(6, attempts, connections)
        if attempts > retries or (fault.effect == "damaged" and damaged > 1):
            break
    return Outcome(5, attempts, connections)
