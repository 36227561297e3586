"""What goes wrong between a client and a store, and what a client has to make of it."""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from tests.soak.stores import Dialect, Reply, Store, refusal
from tests.support.rawserver import Connection, Recorded, Script, answer, garbage
from tests.transfer.common import early

SHORT_STALL: Final = 0.25
STALL_TIMEOUT: Final = 1.5
"""Seconds; far from the short stall, for the machine may be busy."""

BUFFERED: Final = 5 << 20
"""Bytes that can be between a client and a server: Linux gives a socket at most 4 MiB to send."""

PASSING_5XX: Final = [status for status in range(500, 600) if status not in {501, 505}]
REFUSING_5XX: Final = [501, 505]
PASSING_400: Final = [
    *("RequestTimeout", "IncompleteBody", "InternalError", "SlowDown", "ServerBusy"),
    *("Throttling", "ThrottlingException", "OperationTimedOut"),
]
PASSING_409: Final = ["OperationAborted", "ConditionalRequestConflict"]

_MOST_REQUESTS: Final = 6  # one, and as many redirects as are followed
_EARLY_BYTES: Final = 1 << 19  # of a body that are read before an early answer
_RECEIVE_BUFFER: Final = 1 << 16

Effect: TypeAlias = Literal["stored", "passing", "damaged", "rejected", "exists", "refused"]
"""What the client makes of the answer.

Success; worth another attempt; the store has other bytes, or has refused other bytes, both worth
one more attempt; an object exists; not worth another attempt.
"""
Takes: TypeAlias = Literal["nothing", "the archive", "other bytes"]
Condition: TypeAlias = Literal["none", "if_absent", "header"]
"""No condition, the option `if_absent`, or the caller's own header `If-None-Match: *`."""


@dataclass
class Site:
    """One build's server, with its store behind it."""

    store: Store
    dialect: Dialect
    secret: str = ""
    """Of its URL's query: may not be seen anywhere."""
    silent: bool = False
    """Does not answer `Expect: 100-continue`."""
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
            connection.continues = not self.silent
            script(connection)

        return counted


Scripts: TypeAlias = Sequence[Script]
# A number from 0 to 1 says where, of all places, it goes wrong.
Make: TypeAlias = Callable[[Site, float], Scripts]


class Fault(NamedTuple):
    """One thing that may happen to an attempt.

    Attributes:
        effect: the result of the attempt, unless a condition fails.
        make: gives the scripts of the connections that it takes.
        connections: how many that are.
        takes: what the store holds afterwards, unless a condition fails.
        asks: True if the client gets the store's own answer, so that it learns of a failed
            condition.
        overtaken: True if somebody else stores the archive first.
        partly: True if the server might not read the whole body.
        needs_known: True if a client notices it only with a store that it knows.
        needs_digest: True if a client notices it only in an answer with a digest.
        needs_bytes: True if a client notices it only if the body does not fit into the buffers.
    """

    effect: Effect
    make: Make
    connections: int = 1
    takes: Takes = "nothing"
    asks: bool = False
    overtaken: bool = False
    partly: bool = False
    needs_known: bool = False
    needs_digest: bool = False
    needs_bytes: bool = False

    @property
    def lets_meet(self) -> bool:
        """True if the client can meet an object that it did not know of."""
        return self.overtaken or (self.takes != "nothing" and self.effect != "stored")


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
            head, end, _ = bytes(site.take(connection)).partition(b"\r\n\r\n")
            connection.send((head + end)[: 1 + int(where * (len(head) + 2))])
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


def _says_one_code(status: int, codes: Sequence[str]) -> Make:
    def make(site: Site, where: float) -> Scripts:
        return _says(status, codes[int(where * len(codes))], AT_ONCE)(site, where)

    return make


def _says_one_of(statuses: Sequence[int], headers: Mapping[str, str] | None = None) -> Make:
    def make(site: Site, where: float) -> Scripts:
        return _says(statuses[int(where * len(statuses))], headers=headers)(site, where)

    return make


def _page(site: Site, where: float) -> Scripts:
    del site, where
    return [answer(200, b"<!DOCTYPE html><title>Welcome</title>", {"Content-Type": "text/html"})]


def _overtaken(site: Site, where: float) -> Scripts:
    del where

    def script(connection: Connection) -> None:
        request, body = site.read(connection)
        site.store.put(request, body, site.dialect)
        connection.send(bytes(site.store.put(request, body, site.dialect)))

    return [script]


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


def _reads_on(status: int, *, keeps: bool = False) -> Make:
    """Answer on the head alone or soon after it, and read the rest at full speed.

    Above one half, `where` says how much of the body is read first. With `keeps`, that is stored.
    """

    def make(site: Site, where: float) -> Scripts:
        def script(connection: Connection) -> None:
            # A larger one would take in what the client must not have sent yet.
            connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            connection.read_head()
            length = connection._content_length()
            first = max(0, int((2 * where - 1) * min(length, _EARLY_BYTES)))
            body = connection.read_body(first) if first else b""
            reply = Reply(status, {})
            if status != 200:
                reply = refusal(status, "AccessDenied", secret=site.secret)
            elif keeps:
                request = _with_body(connection._recording.so_far(), body)
                kept = site.store.put(request, body, site.dialect)
                reply = reply if kept.status == 200 else kept
            connection.continues = False  # it has answered
            connection.send(bytes(reply))
            connection.read_body(length - first)

        return [script]

    return make


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


def _with_body(request: Recorded, body: bytes) -> Recorded:
    """Return a request as something on the way rewrites it: another length, and no digest."""
    lines = [
        line
        for line in request.head.decode("latin-1").split("\r\n")
        if not line.lower().startswith(("content-length:", "content-md5:"))
    ]
    lines.insert(1, f"Content-Length: {len(body)}")
    head = "\r\n".join(lines).encode("latin-1")
    return Recorded(head=head, body=body, body_bytes=len(body), body_sha256="")


def _rewritten(change: Callable[[bytes, float], bytes]) -> Make:
    """Store something else, and say truly what that is: something rewrites length and digest."""

    def make(site: Site, where: float) -> Scripts:
        def script(connection: Connection) -> None:
            request, body = site.read(connection)
            body = change(body, where)
            reply = site.store.put(_with_body(request, body), body, site.dialect)
            connection.send(bytes(reply))

        return [script]

    return make


def _close(connection: Connection) -> None:
    connection.close()


def _hold(connection: Connection) -> None:
    connection.wait()


AT_ONCE: Final = {"Retry-After": "0"}
LATER: Final = {"Retry-After": "100"}

_SERVE: Final = Fault("stored", serve, takes="the archive", asks=True)
_DAMAGE: Final = Fault("damaged", serve, takes="other bytes", asks=True, needs_digest=True)

FAULTS: Final[Mapping[str, Fault]] = {
    "none": _SERVE,
    "reset at once": Fault("passing", _reset_at_once, partly=True),
    "reset in the body": Fault("passing", _reset, partly=True),
    "closed without an answer": Fault("passing", _hang_up),
    "stored, answer lost": Fault("passing", _lost, takes="the archive"),
    "half an answer": Fault("passing", _half(_close), takes="the archive"),
    "half an answer, then silence": Fault("passing", _half(_hold), takes="the archive"),
    "garbage": Fault("passing", _garbage),
    "5xx": Fault("passing", _says_one_of(PASSING_5XX, AT_ONCE)),
    "501 or 505": Fault("refused", _says_one_of(REFUSING_5XX)),
    "408, 425 or 429": Fault("passing", _says_one_of([408, 425, 429])),
    "500 InternalError": Fault("passing", _says(500, "InternalError", AT_ONCE)),
    "503": Fault("passing", _says(503)),
    "503 SlowDown, at once": Fault("passing", _says(503, "SlowDown", AT_ONCE)),
    "429, at once": Fault("passing", _says(429, headers=AT_ONCE)),
    "400 that is transient": Fault("passing", _says_one_code(400, PASSING_400)),
    "409 that is transient": Fault("passing", _says_one_code(409, PASSING_409)),
    "200 InternalError": Fault("passing", _says(200, "InternalError")),
    "200 SlowDown, at once": Fault("passing", _says(200, "SlowDown", AT_ONCE)),
    "200 AccessDenied": Fault("refused", _says(200, "AccessDenied")),
    "200 and a page": Fault("refused", _page, needs_known=True),
    "short stall": _SERVE._replace(make=_stall_and_serve),
    "long stall": Fault("passing", _stall_for_ever, partly=True),
    "100 and 103 first": _SERVE._replace(make=_continue),
    "307 once": _SERVE._replace(make=_redirect_once, connections=2),
    "another upload is faster": _SERVE._replace(make=_overtaken, overtaken=True),
    "wrong digest told": _DAMAGE._replace(make=_wrong_claim, takes="the archive"),
    "BadDigest": Fault("rejected", _says(400, "BadDigest", AT_ONCE)),
    "damaged on the way": Fault("rejected", _damaged_on_the_way, asks=True, needs_known=True),
    "damaged in the store": _DAMAGE._replace(make=_rewritten(_changed)),
    "truncated in the store": _DAMAGE._replace(
        make=_rewritten(lambda body, where: body[: int(where * len(body))])
    ),
    "200 early, reads on": Fault("damaged", _reads_on(200), partly=True, needs_bytes=True),
    "200 early, part stored": _DAMAGE._replace(
        make=_reads_on(200, keeps=True), needs_digest=False, needs_bytes=True
    ),
    "403 before the body": Fault("refused", _early),
    "403 early, reads on": Fault("refused", _reads_on(403)),
    "403 ExpiredToken": Fault("refused", _says(403, "ExpiredToken")),
    "412": Fault("exists", _says(412, "PreconditionFailed")),
    "301": Fault("refused", _says(301, "PermanentRedirect", {"Location": "/elsewhere"})),
    "307 to itself": Fault("refused", _redirect_for_ever, _MOST_REQUESTS),
}
# For what is to happen while the client waits: for the answer, for its next attempt.
HELD: Final = Fault("passing", _stall_for_ever)
PUT_OFF: Final = Fault("passing", _says(503, headers=LATER))


class Outcome(NamedTuple):
    """What a build comes to.

    Attributes:
        code: its exit code.
        attempts: how many it takes.
        connections: how many it takes, redirects included.
        present: True if it stores nothing because the object exists.
        probably: True if the hint must say that the object is probably the archive, None if it may.
    """

    code: int
    attempts: int
    connections: int
    present: bool = False
    probably: bool | None = False


def outcome(faults: Sequence[Fault], retries: int, condition: Condition = "none") -> Outcome:
    """Return the result of an upload that meets these faults, one in each attempt."""
    attempts = connections = damaged = 0
    held: Takes = "nothing"
    told = False  # an answer said that the store holds other bytes
    whole: bool | None = False  # the store got the whole body in an attempt without a result
    for fault in (*faults, FAULTS["none"]):
        attempts, connections = attempts + 1, connections + fault.connections
        if fault.overtaken and held == "nothing":
            held = "the archive"
        effect = fault.effect
        if condition == "none" or held == "nothing":
            held = held if fault.takes == "nothing" else fault.takes
        elif fault.asks:
            effect = "exists"
        if effect == "exists" and not told:
            if condition == "if_absent":
                return Outcome(0, attempts, connections, present=True)
            return Outcome(6, attempts, connections, probably=whole)
        if effect == "stored":
            return Outcome(0, attempts, connections)
        if effect == "refused":
            return Outcome(6, attempts, connections)
        if effect == "passing":
            whole = whole or (None if fault.partly else True)
        else:
            damaged += 1
            told = told or effect == "damaged"
        if attempts > retries or damaged > 1:
            break
    return Outcome(5, attempts, connections)
