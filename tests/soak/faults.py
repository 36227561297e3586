"""What goes wrong between a client and a store, and how a client must react."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

from tests.soak.stores import Dialect, Reply, Store, refusal
from tests.support.rawserver import Connection, Recorded, early, garbage, response

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
    """The server of one build, with its store behind it.

    Attributes:
        store: keeps the object.
        dialect: of the store.
        secret: in the query of the URL; it must not be shown anywhere.
        silent: True if the server does not answer `Expect: 100-continue`.
        connections: so far.
        reached: called when the client is where a signal is to interrupt it.
    """

    store: Store
    dialect: Dialect
    secret: str = ""
    silent: bool = False
    connections: int = 0
    reached: Callable[[], object] = lambda: None

    def store_request(self, connection: Connection) -> Reply:
        """Read a whole request and store it."""
        return self.store.put(connection.read_request(), self.dialect)

    def count(self, play: "Play", where: float, connection: Connection) -> None:
        """Play a fault, and count its connection."""
        self.connections += 1
        connection.continues = not self.silent
        play(self, where, connection)


Play: TypeAlias = Callable[[Site, float, Connection], None]
"""A script of the server. A number from 0 to 1 says where, of all places, the fault happens."""


class Fault(NamedTuple):
    """One thing that may happen to an attempt.

    Attributes:
        effect: the result of the attempt, unless a condition fails.
        play: what the server does.
        redirects: how many come before that.
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
    play: Play
    redirects: int = 0
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

    def scripts(self, site: Site, where: float) -> list[Callable[[Connection], None]]:
        """Return the scripts of the connections of one attempt."""
        plays = [*[redirect] * self.redirects, self.play]
        return [partial(site.count, play, where) for play in plays]


def serve(site: Site, _where: float, connection: Connection) -> None:
    connection.send(bytes(site.store_request(connection)))


def redirect(_site: Site, _where: float, connection: Connection) -> None:
    connection.send(bytes(Reply(307, {"Location": connection.read_request().target})))


def _read_part(where: float, connection: Connection) -> None:
    connection.read_head()
    connection.read_body(int(where * connection._content_length()))


def _reset(_site: Site, where: float, connection: Connection) -> None:
    _read_part(where, connection)
    connection.reset()


def _close(_site: Site, _where: float, connection: Connection) -> None:
    connection.read_request()


def _store_and_reset(site: Site, _where: float, connection: Connection) -> None:
    site.store_request(connection)
    connection.reset()


def _half_an_answer(site: Site, where: float, connection: Connection, *, hold: bool) -> None:
    head, end, _ = bytes(site.store_request(connection)).partition(b"\r\n\r\n")
    connection.send((head + end)[: 1 + int(where * (len(head) + 2))])
    if hold:
        connection.wait()


def _say(
    site: Site,
    where: float,
    connection: Connection,
    *,
    statuses: Sequence[int],
    codes: Sequence[str] = ("",),
    headers: Mapping[str, str] | None = None,
) -> None:
    connection.read_request()
    status, code = statuses[int(where * len(statuses))], codes[int(where * len(codes))]
    connection.send(bytes(refusal(status, code, headers, secret=site.secret)))


def _page(_site: Site, _where: float, connection: Connection) -> None:
    connection.read_request()
    page = b"<!DOCTYPE html><title>Welcome</title>"
    connection.send(response(200, page, {"Content-Type": "text/html"}))


def _overtaken(site: Site, _where: float, connection: Connection) -> None:
    site.store_request(connection)
    connection.send(bytes(site.store.put(connection.request, site.dialect)))


def _stall_and_serve(site: Site, where: float, connection: Connection) -> None:
    _read_part(where, connection)
    connection.wait(SHORT_STALL)
    connection.read_body(connection._content_length() - connection.request.body_bytes)
    connection.wait(SHORT_STALL)
    connection.send(bytes(site.store.put(connection.request, site.dialect)))


def _stall_for_ever(site: Site, where: float, connection: Connection) -> None:
    _read_part(where, connection)
    site.reached()
    connection.wait()


def _interim_answers(site: Site, _where: float, connection: Connection) -> None:
    stored = bytes(site.store_request(connection))
    connection.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + stored)


def _wrong_digest(site: Site, _where: float, connection: Connection) -> None:
    reply = site.store_request(connection)
    connection.send(bytes(reply._replace(headers=site.dialect.proof(b"something else"))))


def _refuse_early(site: Site, _where: float, connection: Connection) -> None:
    early(403, refusal(403, "AccessDenied", secret=site.secret).body)(connection)


def _answer_and_read_on(
    site: Site, where: float, connection: Connection, *, status: int, keeps: bool = False
) -> None:
    """Answer after the head or soon after it, and read the rest at full speed.

    Above one half, `where` says how much of the body is read first. With `keeps`, that is stored.
    """
    connection.narrow(1 << 16)  # a larger buffer would accept what must not have been sent yet
    connection.read_head()
    length = connection._content_length()
    first = max(0, int((2 * where - 1) * min(length, _EARLY_BYTES)))
    body = connection.read_body(first) if first else b""
    reply = Reply(status, {})
    if status != 200:
        reply = refusal(status, "AccessDenied", secret=site.secret)
    elif keeps:
        kept = site.store.put(_rewritten(connection.request, body), site.dialect)
        reply = reply if kept.status == 200 else kept
    connection.continues = False  # it has answered
    connection.send(bytes(reply))
    connection.read_body(length - first)


def _flip(body: bytes, where: float) -> bytes:
    at = int(where * len(body))
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def _cut(body: bytes, where: float) -> bytes:
    return body[: int(where * len(body))]


def _damage_on_the_way(site: Site, where: float, connection: Connection) -> None:
    request = connection.read_request()
    damaged = Recorded(request.head, _flip(request.body, where))
    connection.send(bytes(site.store.put(damaged, site.dialect)))


def _rewritten(request: Recorded, body: bytes) -> Recorded:
    """Return a request with another body, as a proxy rewrites it: another length, no digest."""
    lines = [
        line
        for line in request.head.decode("latin-1").split("\r\n")
        if not line.lower().startswith(("content-length:", "content-md5:"))
    ]
    lines.insert(1, f"Content-Length: {len(body)}")
    return Recorded("\r\n".join(lines).encode("latin-1"), body)


def _store_another(
    site: Site, where: float, connection: Connection, *, change: Callable[[bytes, float], bytes]
) -> None:
    """Store other bytes, and report their true digest."""
    request = connection.read_request()
    changed = _rewritten(request, change(request.body, where))
    connection.send(bytes(site.store.put(changed, site.dialect)))


AT_ONCE: Final = {"Retry-After": "0"}
LATER: Final = {"Retry-After": "100"}


def _says(
    status: int | Sequence[int],
    codes: str | Sequence[str] = "",
    headers: Mapping[str, str] | None = None,
) -> Play:
    statuses = [status] if isinstance(status, int) else status
    codes = [codes] if isinstance(codes, str) else codes
    return partial(_say, statuses=statuses, codes=codes, headers=headers)


_SERVE: Final = Fault("stored", serve, takes="the archive", asks=True)
_DAMAGE: Final = Fault("damaged", serve, takes="other bytes", asks=True, needs_digest=True)

FAULTS: Final[Mapping[str, Fault]] = {
    "none": _SERVE,
    "reset at once": Fault("passing", lambda *args: args[2].reset(), partly=True),
    "reset in the body": Fault("passing", _reset, partly=True),
    "closed without an answer": Fault("passing", _close),
    "stored, answer lost": Fault("passing", _store_and_reset, takes="the archive"),
    "half an answer": Fault("passing", partial(_half_an_answer, hold=False), takes="the archive"),
    "half an answer, then silence": Fault(
        "passing", partial(_half_an_answer, hold=True), takes="the archive"
    ),
    "garbage": Fault("passing", lambda *args: garbage()(args[2])),
    "5xx": Fault("passing", _says(PASSING_5XX, "", AT_ONCE)),
    "501 or 505": Fault("refused", _says(REFUSING_5XX)),
    "408, 425 or 429": Fault("passing", _says([408, 425, 429])),
    "500 InternalError": Fault("passing", _says(500, "InternalError", AT_ONCE)),
    "503": Fault("passing", _says(503)),
    "503 SlowDown, at once": Fault("passing", _says(503, "SlowDown", AT_ONCE)),
    "429, at once": Fault("passing", _says(429, "", AT_ONCE)),
    "400 that is transient": Fault("passing", _says(400, PASSING_400, AT_ONCE)),
    "409 that is transient": Fault("passing", _says(409, PASSING_409, AT_ONCE)),
    "200 InternalError": Fault("passing", _says(200, "InternalError")),
    "200 SlowDown, at once": Fault("passing", _says(200, "SlowDown", AT_ONCE)),
    "200 AccessDenied": Fault("refused", _says(200, "AccessDenied")),
    "200 and a page": Fault("refused", _page, needs_known=True),
    "short stall": _SERVE._replace(play=_stall_and_serve),
    "long stall": Fault("passing", _stall_for_ever, partly=True),
    "100 and 103 first": _SERVE._replace(play=_interim_answers),
    "307 once": _SERVE._replace(redirects=1),
    "another upload is faster": _SERVE._replace(play=_overtaken, overtaken=True),
    "wrong digest told": _DAMAGE._replace(play=_wrong_digest, takes="the archive"),
    "BadDigest": Fault("rejected", _says(400, "BadDigest", AT_ONCE)),
    "damaged on the way": Fault("rejected", _damage_on_the_way, asks=True, needs_known=True),
    "damaged in the store": _DAMAGE._replace(play=partial(_store_another, change=_flip)),
    "truncated in the store": _DAMAGE._replace(play=partial(_store_another, change=_cut)),
    "200 early, reads on": Fault(
        "damaged", partial(_answer_and_read_on, status=200), partly=True, needs_bytes=True
    ),
    "200 early, part stored": _DAMAGE._replace(
        play=partial(_answer_and_read_on, status=200, keeps=True),
        needs_digest=False,
        needs_bytes=True,
    ),
    "403 before the body": Fault("refused", _refuse_early),
    "403 early, reads on": Fault("refused", partial(_answer_and_read_on, status=403)),
    "403 ExpiredToken": Fault("refused", _says(403, "ExpiredToken")),
    "412": Fault("exists", _says(412, "PreconditionFailed")),
    "301": Fault("refused", _says(301, "PermanentRedirect", {"Location": "/elsewhere"})),
    "307 to itself": Fault("refused", redirect, redirects=_MOST_REQUESTS - 1),
}
# For what happens while the client waits: for the answer, or for its next attempt.
HELD: Final = Fault("passing", _stall_for_ever)
PUT_OFF: Final = Fault("passing", _says(503, "", LATER))


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
        attempts, connections = attempts + 1, connections + fault.redirects + 1
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
