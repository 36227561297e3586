"""What goes wrong, and what comes of it: one line each.

In an environment, `{port}` is the port of the row's server. What a message says is looked for in
it; a success says nothing.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import KW_ONLY, dataclass, field
from signal import SIGHUP, SIGINT, SIGTERM
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from tests.cli.cases import xml
from tests.cli.harness import LIMITED, PASSWORD, QUERY, SIGNATURE
from tests.faults import grounds
from tests.faults.grounds import (
    azure,
    base64_of,
    expiring,
    proxied,
    scripted,
    seaweed,
)
from tests.support.crc import crc64nvme
from tests.support.faultproxy import forward, relay
from tests.support.rawserver import (
    Connection,
    answer,
    garbage,
    read_on,
    reset_after,
    response,
    silent,
    stall_sending,
)
from tests.transfer.common import early, redirect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from signal import Signals

    from tests.faults.grounds import (
        Fault,
        Ground,
        Memory,
        Secure,
        Site,
    )
    from tests.support.rawserver import (
        Script,
    )

Stored: TypeAlias = Literal["old", "new", "nothing", "something else", ""]

MUCH: Final = 12_000_000
"""More than what lies between a client and a server holds."""


@dataclass(frozen=True, kw_only=True)
class Interrupt:
    """A signal, and when it comes: after a line with these words, when this is so."""

    signal: Signals
    words: str
    when: Callable[[Site], bool] = lambda _: True


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        name: what happens.
        ground: where it does.
        code: the exit code.
        says: words of the message, "" for a success.
        attempts: how many there are.
        stored: what is stored in the end; "" where there is no store.
        options: more of them, separated by blanks.
        verified: what proves the arrival.
        hint: words of what to do next.
        told: words among all that is said.
        status: of the JSON object of a success.
        first_body: the most bytes of a body that the first request brings.
        requests: how many come, where redirects are followed: more than attempts.
        random_bytes: how much of the context does not compress.
        zeros: the size of a file that is all hole.
        sh: a shell's script that runs the command, `"$0" "$@"`.
        python: is run before it, in the same process.
        privileged: whether root may do what it may.
        env: what else the environment says.
        files: what else the working folder holds.
        needs: a program that `sh` calls.
        interrupt: a signal that comes.
    """

    name: str
    ground: Ground
    code: int
    says: str
    attempts: int
    stored: Stored
    options: str = ""
    _: KW_ONLY
    verified: str | None = None
    hint: str = ""
    told: str = ""
    status: Literal["uploaded", "present"] = "uploaded"
    first_body: int | None = None
    requests: int | None = None
    random_bytes: int = 300_000
    zeros: int = 0
    sh: str = ""
    python: str = ""
    privileged: bool = True
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    needs: str = ""
    interrupt: Interrupt | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def waits_in_vain(self) -> bool:
        """Whether an attempt is told of that never comes."""
        return self.interrupt is not None and self.interrupt.words == "retrying in"


# Waits are half of what they may be at most where the next attempt must not come too soon, and a
# tenth where many of them would take long.
_HALF: Final = "import random\nrandom.random = lambda: 0.5"
_HURRIED: Final = "import random\nrandom.random = lambda: 0.1"
_AT_ONCE: Final = "import random\nrandom.random = lambda: 0.0"

_CUSTOMER_KEY: Final = "x-amz-server-side-encryption-customer-key"
_UNKNOWN: Final = "ticket=1"
"""The query of a URL that no known store signs."""


def _signed(*headers: str) -> str:
    """Return the query of a URL whose signature covers these headers."""
    names = "%3B".join(("host", *headers))
    return f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-SignedHeaders={names}&{QUERY}"


_EXPIRED: Final = f"{_signed()}&X-Amz-Date=20200101T000000Z&X-Amz-Expires=3600"
_ONCE: Final = "--retries 0"
_TWICE: Final = "--retries 1"
_HUGE: Final = 200_000_000


def _always(*scripts: Script) -> Callable[[Memory], list[Script]]:
    return lambda _: [*scripts]


def _then_stores(*scripts: Script) -> Callable[[Memory], list[Script]]:
    return lambda store: [*scripts, store.takes()]


def _at(**fault: object) -> Fault:
    return lambda port: forward(port, **fault)  # type: ignore[arg-type]


def _hang_up(connection: Connection) -> None:
    connection.read_head()
    connection.read_body()
    connection.close()


def _reset(connection: Connection) -> None:
    connection.read_head()
    connection.read_body()
    connection.reset()


def _early_and_deaf(connection: Connection) -> None:
    connection.narrow()
    connection.read_head()
    connection.send(response(403, xml("AccessDenied", "no"), {"Connection": "keep-alive"}))
    connection.wait()


def _hints_for_ever(connection: Connection) -> None:
    connection.read_head()
    connection.read_body()
    while True:
        connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        connection.wait(0.01)


def _trickles(connection: Connection) -> None:
    connection.read_head()
    connection.read_body()
    connection.send(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.send(b"x")
        connection.wait(0.05)


def _header_without_end(connection: Connection) -> None:
    connection.read_head()
    connection.read_body()
    connection.send(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.send(b"x" * 4096)


def _hops(count: int) -> Callable[[Memory], list[Script]]:
    return lambda store: [
        *(redirect(307, f"/hop-{hop}?{QUERY}") for hop in range(count)),
        store.takes(),
    ]


def _busy(seconds: str, date: str = "") -> Script:
    headers = {"Retry-After": seconds} | ({"Date": date} if date else {})
    return answer(503, xml("SlowDown", "Please reduce your request rate."), headers)


def _checksum(name: str, digest: Callable[[bytes], bytes]) -> Callable[[Memory], list[Script]]:
    def headers(body: bytes) -> dict[str, str]:
        return {f"x-amz-checksum-{name}": base64_of(digest(body))}

    return lambda store: [store.takes(headers)]


def _instead_of_100(
    status: int, text: bytes = b"", headers: dict[str, str] | None = None
) -> Script:
    """Answer on the head alone, and read whatever comes."""

    def script(connection: Connection) -> None:
        connection.continues = False
        read_on(status, 0, text, headers)(connection)

    return script


def _hangs_up_instead_of_100(connection: Connection) -> None:
    connection.read_head()
    connection.reset()


def _error_document(code: str) -> Script:
    return answer(200, xml(code, "The store says so."))


def _breaks_off(store: Memory, *, etag: bool = False) -> Script:
    """Store the body, announce an answer of 100 bytes, and send two."""
    return store.takes({"Content-Length": "100"}, text=b"OK", etag=etag)


_BAD_DIGEST: Final = answer(400, xml("BadDigest", "The Content-MD5 you specified did not match."))
_NETWORK: Final = [
    Row("nobody listens", grounds.refusing, 5, "no connection", 2, "", _TWICE),
    Row("nobody listens, then somebody does", grounds.refusing_at_first, 0, "", 2, "new", _TWICE,
        verified="md5", python=_HALF),
    Row("the first address drops packets", grounds.first_address(drops=True), 0, "", 1, "new",
        "--connect-timeout 60 --max-time 20", verified="md5", python=grounds.RESOLVED),
    Row("the first address refuses", grounds.first_address(), 0, "", 1, "new", _ONCE,
        verified="md5", python=grounds.RESOLVED),
    Row("every address drops packets", grounds.first_address(drops=True, alone=True), 5,
        "no connection in time", 2, "old", f"{_TWICE} --connect-timeout 1",
        python=grounds.RESOLVED, requests=0),
    Row("reset before the first byte of the body", seaweed(_at(body=0.0), _at()), 0, "", 2, "new",
        _TWICE, verified="md5"),
    Row("reset at 50% of the body", seaweed(_at(body=0.5), _at()), 0, "", 2, "new", _TWICE,
        verified="md5"),
    Row("reset at 50% of the body, no retries", seaweed(_at(body=0.5)), 5, "broke after", 1, "old",
        _ONCE),
    Row("reset at 50% of the body, each time", seaweed(_at(body=0.5)), 5, "broke after", 3, "old",
        "--retries 2", hint="Tried 3 times"),
    Row("reset at 50% of the first object ever", seaweed(_at(body=0.5), before=None), 5,
        "broke after", 1, "nothing", _ONCE),
    Row("reset at 50% of a large body", scripted(_then_stores(reset_after(MUCH // 2))), 0, "", 2,
        "new", _TWICE, verified="md5", random_bytes=MUCH),
    Row("reset at 100% of the body, nothing stored", scripted(_then_stores(_reset)), 0, "", 2,
        "new", _TWICE, verified="md5"),
    Row("reset when all was stored, before the answer", seaweed(_at(answer=0.0), _at()), 0, "", 2,
        "new", _TWICE, verified="md5"),
    Row("reset when all was stored, no retries", seaweed(_at(answer=0.0)), 5, "broke after", 1,
        "new", _ONCE),
    Row("half an answer", seaweed(_at(answer=0.5, then=Connection.close), _at()), 0, "", 2, "new",
        _TWICE, verified="md5"),
    Row("closed without an answer", scripted(_then_stores(_hang_up)), 0, "", 2, "new", _TWICE,
        verified="md5"),
    Row("stalls while sending", scripted(_always(stall_sending())), 5, "stalled after", 2, "old",
        f"{_TWICE} --stall-timeout 1", random_bytes=MUCH),
    Row("stalls while sending, then does not", scripted(_then_stores(stall_sending())), 0, "", 2,
        "new", f"{_TWICE} --stall-timeout 2", verified="md5", random_bytes=MUCH),
    Row("stalls before the answer", seaweed(_at(answer=0.0, then=Connection.wait), _at()), 0, "", 2,
        "new", f"{_TWICE} --stall-timeout 2", verified="md5"),
    Row("never answers, --max-time", scripted(_always(silent())), 5, "was not done in", 1, "old",
        "--max-time 2", hint="--max-time"),
    Row("an answer that is trickled, --max-time", scripted(_always(_trickles)), 5,
        "was not done in", 1, "old", "--max-time 2", hint="--max-time"),
    Row("an answer whose header has no end", scripted(_always(_header_without_end)), 5, "broke", 1,
        "old", _ONCE),
    Row("an answer that is not HTTP", scripted(_then_stores(garbage())), 0, "", 2, "new", _TWICE,
        verified="md5"),
    Row("an answer that is not HTTP, no retries", scripted(_always(garbage())), 5, "not HTTP", 1,
        "old", _ONCE),
    Row("103 before 200", scripted(lambda store: [
        store.takes(first=b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")]), 0, "", 1, "new",
        verified="md5"),
    Row("103 again and again", scripted(_always(_hints_for_ever)), 5, "not HTTP", 1, "old", _ONCE),
]  # fmt: skip

_JSON: Final = (
    b'{"error": {"code": 403, "errors": [{"reason": "forbidden"}], "message": "Caller does not '
    b'have storage.objects.create access"}}'
)
_TRANSIENT_5XX: Final = sorted({*range(500, 600)} - {501, 505})
_ANSWERS: Final = [
    Row("500", scripted(_always(answer(500))), 5, "500", 2, "old", _TWICE, hint="Tried 2 times"),
    Row("500, then 200", scripted(_then_stores(answer(500))), 0, "", 2, "new", _TWICE,
        verified="md5"),
    Row("400 InternalError, then 200",
        scripted(_then_stores(answer(400, xml("InternalError", "")))), 0, "", 2, "new", _TWICE,
        verified="md5"),
    Row("408, 425, 429 and 502, then 200",
        scripted(_then_stores(*map(answer, (408, 425, 429, 502)))), 0, "", 5, "new", verified="md5",
        python=_HURRIED),
    Row("every 5xx except 501 and 505, then 200",
        scripted(_then_stores(*map(answer, _TRANSIENT_5XX))), 0, "", 99, "new", "--retries 98",
        verified="md5", python=_AT_ONCE),
    Row("520, each time", scripted(_always(answer(520))), 5, "520", 2, "old", _TWICE,
        hint="Tried 2 times"),
    Row("503, Retry-After in seconds", scripted(_then_stores(_busy("1"))), 0, "", 2, "new", _TWICE,
        verified="md5", told="retrying in 1.0 s"),
    Row("503, Retry-After as a date",
        scripted(_then_stores(_busy(
            "Wed, 21 Oct 2026 07:28:01 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"))), 0, "", 2, "new",
        _TWICE, verified="md5", told="retrying in 1.0 s"),
    Row("503, Retry-After beyond --max-time", scripted(_always(_busy("1000000000"))), 5, "SlowDown",
        1, "old", "--max-time 20", hint="--max-time"),
    Row("503, Retry-After of 30 years", scripted(_always(_busy("1000000000"))), 130, "SIGINT", 1,
        "old", told="retrying in 2 min 0 s",
        interrupt=Interrupt(signal=SIGINT, words="retrying in")),
    Row("400 RequestTimeout, then 200",
        scripted(_then_stores(answer(400, xml("RequestTimeout", "idle")))), 0, "", 2, "new", _TWICE,
        verified="md5"),
    *(
        Row(f"{status} {code}, then 200", scripted(_then_stores(answer(status, xml(code, "")))), 0,
            "", 2, "new", _TWICE, verified="md5")
        for status, code in (
            (400, "IncompleteBody"), (400, "Throttling"), (409, "ConditionalRequestConflict"),
            (409, "OperationAborted"))
    ),
    Row("403, early, 200 MB", scripted(_always(early(403, xml("AccessDenied", "no")))), 6,
        "403 AccessDenied", 1, "old", "--compression none", zeros=_HUGE),
    Row("403, early, 200 MB, TLS",
        scripted(_always(early(403, xml("AccessDenied", "no"))), secure=grounds.trusted), 6,
        "403 AccessDenied", 1, "old", "--compression none", zeros=_HUGE),
    Row("403, early, and reads no more", scripted(_always(_early_and_deaf)), 6,
        "403 AccessDenied", 1, "old", "--compression none --stall-timeout 30", zeros=_HUGE),
    Row("403, early, and reads no more, TLS",
        scripted(_always(_early_and_deaf), secure=grounds.trusted), 6, "403 AccessDenied", 1, "old",
        "--compression none --stall-timeout 30", zeros=_HUGE),
    Row("403 RequestTimeTooSkewed",
        scripted(_always(answer(403, xml("RequestTimeTooSkewed", "The difference is too large")))),
        6, "403 RequestTimeTooSkewed", 1, "old", hint="clock"),
    Row("404", scripted(_always(answer(404))), 6, "404", 1, "old"),
    Row("411", scripted(_always(answer(411))), 6, "411", 1, "old", hint="Content-Length"),
    Row("412", scripted(_always(answer(412))), 6, "412", 1, "old", hint="condition"),
    Row("413", scripted(_always(answer(413))), 6, "413", 1, "old", hint="send less"),
    Row("501", scripted(_always(answer(501))), 6, "501", 1, "old"),
    Row("505", scripted(_always(answer(505))), 6, "505", 1, "old"),
    Row("403, JSON", scripted(_always(answer(403, _JSON))), 6, "403 forbidden: Caller does not", 1,
        "old", hint="fresh URL"),
    Row("400 SlowDown in JSON, then 200",
        scripted(_then_stores(answer(400, b'{"code": "SlowDown"}'))), 0, "", 2, "new", _TWICE,
        verified="md5"),
    Row("403, plain text", scripted(_always(answer(403, b"blocked by policy 7"))), 6,
        "403: blocked by policy 7", 1, "old"),
    Row("403, an HTML page", scripted(_always(answer(403, b"<html><title>Firewall</title>"))), 6,
        "403: Firewall", 1, "old"),
    Row("409 without a body, x-ms-error-code",
        scripted(_always(answer(409, b"", {"x-ms-error-code": "BlobImmutableDueToPolicy"}))), 6,
        "409 BlobImmutableDueToPolicy", 1, "old"),
    Row("400 without a body, x-ms-error-code: ServerBusy, then 200",
        scripted(_then_stores(answer(400, b"", {"x-ms-error-code": "ServerBusy"}))), 0, "", 2,
        "new", _TWICE, verified="md5"),
    Row("400 of another region",
        scripted(_always(answer(400, b"<Error><Code>AuthorizationQueryParametersError</Code>"
                                     b"<Region>ap-south-1</Region></Error>"))), 6,
        "AuthorizationQueryParametersError", 1, "old", hint="the region ap-south-1"),
    Row("204", scripted(lambda store: [store.takes(status=204)]), 0, "", 1, "new", verified="md5"),
    Row("202, which is no success", scripted(_always(answer(202))), 6, "202", 1, "old"),
]  # fmt: skip

_REDIRECTS: Final = [
    *(
        Row(str(status), scripted(_always(redirect(status, f"/there?{QUERY}"))), 6, "redirected", 1,
            "old", hint="endpoint")
        for status in (301, 302, 303)
    ),
    Row("301, another region", scripted(_always(answer(
            301, b"<Error><Endpoint>b.s3.ap-south-1.amazonaws.com</Endpoint></Error>",
            {"x-amz-bucket-region": "ap-south-1"}))), 6, "redirected", 1, "old",
        hint="the region ap-south-1 and the endpoint b.s3.ap-south-1.amazonaws.com"),
    Row("307 without a Location", scripted(_always(answer(307))), 6,
        "redirected without a Location", 1, "old", hint="endpoint"),
    *(
        Row(f"{status}, same host",
            scripted(lambda store, status=status: [  # type: ignore[misc]
                redirect(status, f"/there?{QUERY}"), store.takes()]),
            0, "", 1, "new", verified="md5", requests=2)
        for status in (307, 308)
    ),
    Row("307 to another host: storage headers are kept, secrets are not",
        grounds.redirecting(kept=("x-amz-acl: private", "Content-Type: application/gzip"),
                            dropped=(f"Authorization: {PASSWORD}",)), 0, "", 1, "new",
        f"-H x-amz-acl:private -H Content-Type:application/gzip -H Authorization:{PASSWORD}",
        verified="md5", requests=2),
    Row("307 to another host: a signed secret header would be lost",
        grounds.redirecting(query=_signed(_CUSTOMER_KEY)), 6, "stored without it", 1, "old",
        f"-H {_CUSTOMER_KEY}:{PASSWORD}", hint="Ask for a URL of localhost", requests=1),
    Row("307 to another host: a secret header that encrypts would be lost", grounds.redirecting(),
        6, "stored without it", 1, "old", f"-H {_CUSTOMER_KEY}:{PASSWORD}",
        hint=f"leave {_CUSTOMER_KEY} out", requests=1),
    Row("307 to another host: the target has expired", grounds.redirecting(_EXPIRED), 6, "expired",
        1, "old", hint="fresh URL", requests=1),
    Row("307 to another host: the target takes smaller archives only",
        grounds.redirecting(query=_UNKNOWN), 6, "too large for http://localhost", 1, "old",
        hint="--max-size", requests=1,
        python="from e2b_upload.transfer import presigned\n"
        "presigned._MAX_BYTES = {'AWS SigV4': 100_000}"),
    Row("307 to another host: the target lacks permission to write",
        grounds.redirecting("sv=2021-12-02&sr=b&sp=r&sig=Zm9yZXZlcg%3D%3D"), 6,
        "no permission to write", 1, "old", "-H x-ms-blob-type:BlockBlob", hint="c or w",
        requests=1),
    Row("307, from https to http",
        scripted(_always(redirect(307, f"http://127.0.0.1:{{port}}/there?{QUERY}")),
                 secure=grounds.trusted), 6, "not encrypted", 1, "old", hint="endpoint"),
    Row("307, five hops", scripted(_hops(5)), 0, "", 1, "new", verified="md5", requests=6),
    Row("307, six hops", scripted(_hops(6)), 6, "more than 5 times", 1, "old", requests=6),
    Row("307, to itself", scripted(_always(redirect(307, f"/builds/key?{QUERY}"))), 6,
        "more than 5 times", 1, "old", requests=6),
    Row("307, then 500, then from the beginning",
        scripted(lambda store: [
            redirect(307, f"/there?{QUERY}"), answer(500), store.takes()]), 0, "", 2, "new", _TWICE,
        verified="md5", requests=3),
]  # fmt: skip

_RECEIPTS: Final = [
    Row("an ETag that is the archive's MD5", seaweed(), 0, "", 1, "new", verified="md5"),
    Row("an ETag of something else, then the right one",
        scripted(lambda store: [store.takes(damaged=True), store.takes()]), 0, "", 2, "new",
        verified="md5"),
    Row("an ETag of something else, each time",
        scripted(lambda store: [store.takes(damaged=True)]), 5, "something else than the archive",
        2, "new", hint="--ignore-checksum"),
    Row("an ETag of something else, no retries",
        scripted(lambda store: [store.takes(damaged=True)]), 5, "something else than the archive",
        1, "new", _ONCE),
    Row("a byte changes on the way, once", seaweed(_at(damage=True), _at()), 0, "", 2, "new",
        verified="md5"),
    Row("a byte changes on the way, each time", seaweed(_at(damage=True)), 5, "BadDigest", 2,
        "old"),
    Row("a byte changes on the way, Content-MD5 is lost there",
        seaweed(_at(damage=True, without="content-md5")), 5, "something else than the archive", 2,
        "something else"),
    Row("400 BadDigest, then 200", scripted(_then_stores(_BAD_DIGEST)), 0, "", 2, "new",
        verified="md5"),
    Row("400 BadDigest, each time", scripted(_always(_BAD_DIGEST)), 5, "BadDigest", 2, "old"),
    Row("an ETag under a key of KMS, which is no MD5",
        scripted(lambda store: [store.takes(
            {"x-amz-server-side-encryption": "aws:kms"}, damaged=True)]), 0, "", 1, "new",
        verified="content-md5"),
    Row("an ETag under a key of the caller's, which is no MD5",
        scripted(lambda store: [store.takes(
            {"x-amz-server-side-encryption-customer-algorithm": "AES256"}, damaged=True)]), 0, "",
        1, "new", verified="content-md5"),
    Row("an ETag of an object in parts, which is no MD5",
        scripted(lambda store: [store.takes({"ETag": f'"{"0" * 32}-1"'})]), 0, "", 1, "new",
        verified="content-md5"),
    Row("x-goog-hash", scripted(lambda store: [store.takes(
            lambda body: {"ETag": '"CJ2"', "x-goog-hash": "crc32c=AAAAAA==,md5=" + base64_of(
                hashlib.md5(body, usedforsecurity=False).digest())})]), 0, "", 1, "new",
        verified="md5"),
    Row("x-amz-checksum-sha256",
        scripted(_checksum("sha256", lambda body: hashlib.sha256(body).digest())), 0, "", 1, "new",
        verified="sha256"),
    Row("x-amz-checksum-sha256 of something else",
        scripted(_checksum("sha256", lambda body: hashlib.sha256(body + b"!").digest())), 5,
        "something else than the archive", 2, "new"),
    Row("x-amz-checksum-crc64nvme, KMS",
        scripted(lambda store: [store.takes(lambda body: {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-checksum-crc64nvme": base64_of(crc64nvme(body))}, damaged=True)]), 0, "", 1,
        "new", verified="crc64nvme"),
    Row("x-amz-checksum-crc32, KMS",
        scripted(lambda store: [store.takes(lambda body: {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-checksum-crc32": base64_of(zlib.crc32(body).to_bytes(4))}, damaged=True)]), 0,
        "", 1, "new", verified="crc32"),
]  # fmt: skip


def _certified(secure: Secure) -> Ground:
    return scripted(_always(answer(200)), secure=secure)


_STORE_OF_CAS: Final = scripted(_then_stores(), secure=grounds.trusted, trusting="SSL_CERT_FILE")


_WAY: Final = [
    Row("a certificate that expired", _certified(grounds.expired), 6, "expired", 1, "old",
        hint="clock", requests=0),
    Row("another host's certificate", _certified(grounds.of_another_host), 6,
        "does not cover the host localhost", 1, "old", hint="Is the host right", requests=0),
    Row("a client certificate is required", _certified(grounds.client_certificate), 6,
        "requires a client certificate", 1, "old", hint="does not require one", requests=0),
    Row("a client certificate is required, TLS 1.2", _certified(grounds.client_certificate_tls12),
        6, "refused the TLS handshake", 1, "old", hint="client certificate", requests=0),
    Row("another authority's certificate", _certified(grounds.of_another_authority), 6,
        "does not verify", 1, "old", hint="REQUESTS_CA_BUNDLE", requests=0),
    Row("a self-signed certificate", _certified(grounds.self_signed), 6, "self-signed", 1, "old",
        hint="REQUESTS_CA_BUNDLE", requests=0),
    Row("a CA in SSL_CERT_FILE", _STORE_OF_CAS, 0, "", 1, "new", verified="md5"),
    Row("SSL_CERT_FILE that does not exist", _STORE_OF_CAS, 2, "SSL_CERT_FILE", 1, "old",
        hint="SSL_CERT_FILE", env={"SSL_CERT_FILE": "no.pem"}, requests=0),
    Row("SSL_CERT_FILE without a certificate", _STORE_OF_CAS, 2, "no certificate", 1, "old",
        hint="SSL_CERT_FILE", env={"SSL_CERT_FILE": "empty.pem"}, files={"empty.pem": b""},
        requests=0),
    Row("plain HTTP where https is asked for", grounds.plain_for_https, 6, "no TLS", 1, "old",
        hint="https"),
    Row("TLS that ends in the handshake", grounds.tls_cut, 5, "broke", 2, "old", _TWICE),
    Row("a proxy that is not there", grounds.proxy_refusing, 5, "cannot be reached", 2, "", _TWICE,
        hint="HTTPS_PROXY"),
    Row("a proxy that wants a password, https", proxied(early(407), https=True), 6, "407", 1, "",
        hint="NO_PROXY"),
    Row("a proxy that wants a password, http", proxied(answer(407), https=False), 6, "407", 1, "",
        hint="NO_PROXY"),
    Row("a proxy that refuses, https", proxied(early(403), https=True), 6, "403", 1, ""),
    Row("a proxy that refuses, http", proxied(answer(403), https=False), 6, "403", 1, ""),
    Row("a proxy whose way is down, https", proxied(early(503), https=True), 5, "503", 2, "",
        _TWICE, hint="later"),
]  # fmt: skip

_FULL: Final = 'mount -t tmpfs -o size=1m tmpfs spool && exec "$0" "$@"'
_NO_THREADS: Final = """
if [ "$(id -u)" = 0 ]; then
  set -- setpriv --reuid=61234 --regid=61234 --clear-groups --inh-caps=+dac_override \
    --ambient-caps=+dac_override --no-new-privs prlimit --nproc=1 "$0" "$@"
else
  set -- prlimit --nproc=1 "$0" "$@"
fi
exec "$@"
"""
_EMPTIED: Final = 'rm ctx/*; exec "$0" "$@"'
_MACHINE: Final = [
    Row("the spool's disk is full", seaweed(), 4, "the disk is full", 0, "old",
        "--spool-dir spool", random_bytes=4_000_000, needs="unshare",
        sh=f"""exec unshare -m sh -c '{_FULL}' "$0" "$@" """, hint="--spool-dir"),
    Row("a limit on the size of files", seaweed(), 4, "a limit on the size of files", 0, "old",
        random_bytes=4_000_000, sh=LIMITED, hint="--spool-dir"),
    Row("the disk of -o is full", seaweed(), 4, "the disk is full", 0, "old", "-o /dev/full"),
    Row("the spool's folder may not be written", seaweed(), 4, "in spool: Permission denied", 0,
        "old", "--spool-dir spool", privileged=False, sh='chmod 500 spool; exec "$0" "$@"',
        hint="--spool-dir"),
    Row("the spool's folder is missing", seaweed(), 4, "in no: No such file", 0, "old",
        "--spool-dir no", hint="--spool-dir"),
    Row("no file descriptors left", seaweed(), 3, "Too many open files", 0, "old",
        sh='ulimit -n 16; exec "$0" "$@"', files={f"ctx{'/deep' * 40}/file": b""}),
    Row("no threads left", seaweed(), 4, "no more threads", 0, "old", sh=_NO_THREADS,
        needs="setpriv", hint="ulimit -u"),
    Row("everything is excluded", seaweed(), 3, "nothing to archive", 0, "old", "-x '**'",
        hint="--allow-empty", told="excluded by --exclude 1: **"),
    Row("an empty context", seaweed(), 3, "is empty", 0, "old", sh=_EMPTIED, hint="--allow-empty"),
    Row("an empty context, --allow-empty", seaweed(), 0, "", 1, "new", "--allow-empty",
        verified="md5", sh=_EMPTIED),
    Row("time zone Pacific/Kiritimati", seaweed(), 0, "", 1, "new", verified="md5",
        env={"TZ": "Pacific/Kiritimati"}),
    Row("time zone America/Los_Angeles", seaweed(), 0, "", 1, "new", verified="md5",
        env={"TZ": "America/Los_Angeles"}),
    Row("the clock is two hours ahead", seaweed(), 6, "expired", 0, "old", needs="faketime",
        sh='exec faketime -f +2h "$0" "$@"', hint="clock"),
    Row("the clock is two hours behind", seaweed(), 6, "not valid yet", 0, "old", needs="faketime",
        sh='exec faketime -f -2h "$0" "$@"', hint="clock"),
    Row("the clock is ten minutes behind", seaweed(), 0, "", 1, "new", verified="md5",
        needs="faketime", sh='exec faketime -f -10m "$0" "$@"'),
    Row("the clock is ten minutes ahead, the URL holds for one more", seaweed(expires=60), 0, "", 1,
        "new", verified="md5", needs="faketime", sh='exec faketime -f +10m "$0" "$@"'),
    Row("the clock is ten minutes behind, the URL expired", seaweed(late=True), 6, "expired", 1,
        "old", needs="faketime", sh='exec faketime -f -10m "$0" "$@"', hint="clock"),
]  # fmt: skip

_URLS: Final = [
    Row("a path and a query that HTTP libraries rewrite: they are sent unchanged",
        grounds.unchanged(f"/b/%7Eme/a%2fb/%41[1]\\100%?x=[%7e|]&{QUERY}"), 0, "", 1, "new",
        verified="md5"),
    Row("signed by SigV2, whose signature covers each escape in the path",
        seaweed(escaped="%7Eme%2fa%41-"), 0, "", 1, "new", verified="md5"),
    Row("expired in 2020", scripted(_always(answer(403)), query=_EXPIRED), 6, "expired", 0, "old",
        hint="fresh URL"),
    Row("expires while a retry is waited for: the store decides",
        expiring(_always(_busy("2"), answer(403, xml("AccessDenied", "Request has expired"))),
                 expires=1), 6,
        "403 AccessDenied", 2, "old", hint="By this machine's clock the URL expired"),
    Row("expires=3600, which is a duration and not a date",
        scripted(lambda store: [store.takes()], query="expires=3600&token=5f2b77c1"), 0, "", 1,
        "new", verified="md5"),
    Row("a quote left at the end of the URL",
        scripted(_always(answer(403)), query=f'{QUERY}"'), 2, "quotes", 0, "old", hint="Remove"),
    Row("the URL was copied from JSON",
        scripted(_always(answer(403)), query=rf"a=b\u0026{QUERY}"), 2, "copied from JSON", 0, "old",
        hint="jq -r"),
    Row("the URL was copied from a shell, with its escapes",
        scripted(_always(answer(403)), query=rf"a=b\&{QUERY}"), 2, "shell's escapes", 0, "old",
        hint="Write & instead"),
    Row("a signed header is missing", seaweed(ContentType="application/gzip"), 6, "content-type", 0,
        "old", hint="-H"),
    Row("a signed header is there", seaweed(ContentType="application/gzip"), 0, "", 1, "new",
        "-H Content-Type:application/gzip", verified="md5"),
    Row("signed with the CRC-64 of another archive",
        scripted(_always(answer(400)), query=f"x-amz-checksum-crc64nvme=AAECAwQFBgc%3D&{QUERY}"), 6,
        "signed x-amz-checksum-crc64nvme is not the archive's", 0, "old", hint="crc64nvme is"),
    Row("the Content-MD5 of another archive", scripted(_always(_BAD_DIGEST)), 6,
        "header content-md5 is not the archive's", 0, "old",
        "-H Content-MD5:1B2M2Y8AsgTpgAmY7PhCfg==", hint="md5 is"),
    Row("the x-goog-hash of another archive", scripted(_always(_BAD_DIGEST)), 6,
        "header x-goog-hash is not the archive's", 0, "old", "-H x-goog-hash:crc32c=AAAAAA==",
        hint="crc32c is"),
    Row("a range of sizes that the archive does not fit", scripted(_always(answer(400))), 6,
        "does not fit the header x-goog-content-length-range", 0, "old",
        "-H x-goog-content-length-range:0,1000", hint="MIN,MAX"),
    Row("signed with the checksum of nothing", grounds.checksum_of_nothing, 6, "checksum", 0,
        "old"),
    Row("signed for another key", seaweed(tampered=True), 6, "403 SignatureDoesNotMatch", 1, "old",
        hint="-H"),
    Row("signed for a bucket that is not there", seaweed(bucket="nowhere", before=None), 6,
        "404 NoSuchBucket", 1, "nothing", hint="bucket"),
    Row("Azure: a SAS that may not write", azure(permissions="r"), 6, "no permission to write", 0,
        "old", "-H x-ms-blob-type:BlockBlob", hint="c or w"),
    Row("Azure: no x-ms-blob-type", azure(), 6, "x-ms-blob-type", 0, "old", hint="-H"),
    Row("Azure: expired an hour ago", azure(expires=-3600), 6, "expired", 0, "old",
        "-H x-ms-blob-type:BlockBlob", hint="fresh URL"),
    Row("Azure: expired a minute ago: the store decides", azure(expires=-60), 6,
        "403 AuthorizationFailure", 1, "old", "-H x-ms-blob-type:BlockBlob",
        hint="By this machine's clock the URL expired"),
]  # fmt: skip

_BLOB: Final = "-H x-ms-blob-type:BlockBlob"
_STORES: Final = [
    Row("Azure: all is well", azure(), 0, "", 1, "new", _BLOB, verified="md5"),
    Row("Azure: reset at 50% of the body", azure(_at(body=0.5), _at()), 0, "", 2, "new",
        f"{_TWICE} {_BLOB}", verified="md5"),
    Row("Azure: reset at 50% of the body, no retries", azure(_at(body=0.5)), 5, "broke after", 1,
        "old", f"{_ONCE} {_BLOB}"),
    Row("nginx as strict as AWS, and a password in ~/.netrc", seaweed(through="port"), 0, "", 1,
        "new", verified="md5",
        files={"home/.netrc": b"machine 127.0.0.1 login someone password something\n"}),
    Row("nginx: reset at 50% of the body", seaweed(_at(body=0.5), _at(), through="port"), 0, "", 2,
        "new", _TWICE, verified="md5"),
    Row("nginx: 413, larger than it takes", seaweed(through="small"), 6, "413", 1, "old",
        hint="send less"),
    Row("nginx: 502, no store behind it", seaweed(through="orphan"), 5, "502", 2, "old", _TWICE),
]  # fmt: skip

_WAITING: Final = 5_000_000
"""Bytes of a body that waits for 100 Continue."""
_LARGE: Final = 30_000_000
_BUFFERED: Final = 16_000_000
"""Bytes that may lie between a client and a server."""
_EARLY: Final = [
    *(
        Row(f"200 after 3 MB of 30 MB, each time, and the server reads on{over}",
            scripted(lambda store: [store.takes_part(3_000_000)], secure=secure), 5,
            "what it stored is not the archive", 2, "something else", "--compression none",
            hint="Try again", zeros=_LARGE, first_body=3_000_000 + _BUFFERED)
        for over, secure in (("", None), (", TLS", grounds.trusted))
    ),
    *(
        Row(f"200 after 3 MB of 12 MB, then after all of them{over}",
            scripted(lambda store: [store.takes_part(3_000_000), store.takes()], secure=secure), 0,
            "", 2, "new", verified="md5", random_bytes=MUCH)
        for over, secure in (("", None), (", TLS", grounds.trusted))
    ),
    *(
        Row(f"413 after 1 MB of 30 MB, and the server reads on{over}",
            scripted(_always(read_on(413, 1_000_000)), secure=secure), 6, "413", 1, "old",
            "--compression none", hint="send less", zeros=_LARGE, first_body=1_000_000 + _BUFFERED)
        for over, secure in (("", None), (", TLS", grounds.trusted))
    ),
    *(
        Row(f"403 instead of 100 Continue: the body is not sent{over}",
            scripted(_always(_instead_of_100(403, xml("AccessDenied", "no"))), secure=secure), 6,
            "403 AccessDenied", 1, "old", hint="fresh URL", random_bytes=_WAITING, first_body=0)
        for over, secure in (("", None), (", TLS", grounds.trusted))
    ),
    Row("nginx: 413 instead of 100 Continue: the body is not sent", seaweed(relay, through="small"),
        6, "413", 1, "old", hint="send less", random_bytes=_WAITING, first_body=0),
    Row("nginx: 100 Continue", seaweed(relay, through="port"), 0, "", 1, "new", verified="md5",
        random_bytes=_WAITING),
    Row("SeaweedFS: 100 Continue", seaweed(relay), 0, "", 1, "new", verified="md5",
        random_bytes=_WAITING),
    Row("Azure: 100 Continue", azure(relay), 0, "", 1, "new", _BLOB, verified="md5",
        random_bytes=_WAITING),
    Row("200 instead of 100 Continue, each time", scripted(_always(_instead_of_100(200))), 5,
        "after 0 of", 2, "old", random_bytes=_WAITING, first_body=0),
    Row("503 instead of 100 Continue, then 200", scripted(_then_stores(_instead_of_100(503))), 0,
        "", 2, "new", _TWICE, verified="md5", random_bytes=_WAITING, first_body=0),
    Row("307 instead of 100 Continue: only the target gets the body",
        scripted(_then_stores(
            _instead_of_100(307, headers={"Location": f"/there?{QUERY}"}))), 0, "", 1, "new",
        verified="md5", random_bytes=_WAITING, first_body=0, requests=2),
    Row("no 100 Continue: the body follows after a second",
        scripted(lambda store: [store.takes(invites=False)]), 0, "", 1, "new", verified="md5",
        random_bytes=_WAITING),
    Row("reset instead of 100 Continue, then 200", scripted(_then_stores(_hangs_up_instead_of_100)),
        0, "", 2, "new", _TWICE, verified="md5", random_bytes=_WAITING, first_body=0),
    Row("417, then 200 without Expect", scripted(_then_stores(_instead_of_100(417))), 0, "", 1,
        "new", _ONCE, verified="md5", random_bytes=_WAITING, first_body=0, requests=2),
    Row("417, with Expect and without", scripted(_always(_instead_of_100(417))), 6, "417", 1,
        "old", random_bytes=_WAITING, first_body=0, requests=2),
]  # fmt: skip

_PAGE: Final = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head></html>\n"
_AWS: Final = "http://builds.s3.us-east-1.amazonaws.com"
_SUCCESS: Final = [
    *(
        Row(f"200 with the Error document {code}, then a success",
            scripted(_then_stores(_error_document(code))), 0, "", 2, "new", _TWICE, verified="md5")
        for code in ("InternalError", "SlowDown", "RequestTimeout")
    ),
    *(
        Row(f"200 with the Error document {code}, each time",
            scripted(_always(_error_document(code))), status, f"200 {code}", attempts, "old",
            _TWICE)
        for code, status, attempts in (
            ("InternalError", 5, 2), ("SlowDown", 5, 2), ("BadDigest", 5, 2),
            ("AccessDenied", 6, 1), ("EntityTooLarge", 6, 1), ("Unheard-Of", 6, 1))
    ),
    Row("200 with an HTML page instead of a known store's answer", scripted(_always(
            answer(200, _PAGE))), 6, "with an HTML page", 1, "old", hint="login"),
    Row("200 with an HTML page, and headers of the store", scripted(lambda store: [store.takes(
            {"x-amz-request-id": "4442587FB7D0A2F9"}, text=_PAGE, etag=False)]), 0, "", 1, "new",
        verified="content-md5"),
    Row("200 with an HTML page from an upload server of unknown kind: a warning",
        scripted(lambda store: [store.takes(text=_PAGE, etag=False)], query=_UNKNOWN), 0, "", 1,
        "new", told="with an HTML page"),
    Row("a success whose answer breaks off, then a whole one",
        scripted(lambda store: [_breaks_off(store), store.takes()]), 0, "", 2, "new", _TWICE,
        verified="md5"),
    Row("a success whose answer breaks off, each time",
        scripted(lambda store: [_breaks_off(store)]), 5, "may be stored or not", 2, "new", _TWICE),
    Row("a success whose answer breaks off, with the right ETag",
        scripted(lambda store: [_breaks_off(store, etag=True)]), 0, "", 1, "new", verified="md5"),
    Row("no digest in the answer of a store that checks Content-MD5",
        scripted(lambda store: [store.takes(etag=False)]), 0, "", 1, "new",
        verified="content-md5"),
    Row("no digest in the answer of a store of unknown kind",
        scripted(lambda store: [store.takes(etag=False)], query=_UNKNOWN), 0, "", 1, "new"),
    *(
        Row(f"an ETag of something else, with {header}: {value}",
            scripted(lambda store, header=header, value=value: [  # type: ignore[misc]
                store.takes({header: value}, damaged=True)]), 0, "", 1, "new",
            verified="content-md5")
        for header, value in (
            ("x-obs-server-side-encryption", "kms"), ("x-oss-server-side-encryption", "KMS"),
            ("x-cos-server-side-encryption", "cos/kms"), ("x-amz-server-side-encryption", "AES256"))
    ),
    Row("AWS: an ETag of something else, with x-amz-server-side-encryption: AES256",
        scripted(lambda store: [store.takes(
            {"x-amz-server-side-encryption": "AES256"}, damaged=True)], origin=_AWS,
            env={"HTTP_PROXY": "http://127.0.0.1:{port}"}), 5, "something else than the archive", 2,
        "new"),
    Row("the right ETag, with x-obs-server-side-encryption: kms",
        scripted(lambda store: [store.takes({"x-obs-server-side-encryption": "kms"})]), 0, "", 1,
        "new", verified="md5"),
    Row("an ETag of something else, a known store",
        scripted(lambda store: [store.takes(damaged=True)]), 0, "", 1, "new", "--ignore-checksum",
        verified="content-md5"),
    Row("an ETag of something else, a store of unknown kind",
        scripted(lambda store: [store.takes(damaged=True)], query=_UNKNOWN), 0, "", 1, "new",
        "--ignore-checksum"),
    Row("x-amz-checksum-sha256 of something else, ignored",
        scripted(_checksum("sha256", lambda body: hashlib.sha256(body + b"!").digest())), 0, "", 1,
        "new", "--ignore-checksum", verified="content-md5"),
]  # fmt: skip

_ABSENT: Final = "--if-absent"
_OWN_CONDITION: Final = "-H If-None-Match:*"
_EXISTS: Final = xml("PreconditionFailed", "At least one of the preconditions did not hold.")
_GOOGLE: Final = "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-SignedHeaders=host"
_GOOGLE_SIGNATURE: Final = f"X-Goog-Signature={SIGNATURE}"
_GENERATION: Final = "x-goog-if-generation-match"
_CONDITIONS: Final = [
    Row("SeaweedFS: the object exists", seaweed(), 0, "", 1, "old", _ABSENT, status="present"),
    Row("SeaweedFS: the object does not exist", seaweed(before=None), 0, "", 1, "new", _ABSENT,
        verified="md5"),
    Row("Azure: the object exists: 409 BlobAlreadyExists", azure(), 0, "", 1, "old",
        f"{_ABSENT} {_BLOB}", status="present"),
    Row("Azure: the object does not exist", azure(before=None), 0, "", 1, "new",
        f"{_ABSENT} {_BLOB}", verified="md5"),
    Row("the object exists: 412 instead of 100 Continue, the body is not sent",
        scripted(_always(_instead_of_100(412, _EXISTS))), 0, "", 1, "old", _ABSENT,
        status="present", random_bytes=_WAITING, first_body=0),
    Row("SeaweedFS: the answer to the first attempt is lost",
        seaweed(_at(answer=0.0), _at(), before=None), 0, "", 2, "new", f"{_ABSENT} {_TWICE}",
        status="present"),
    Row("Azure: the answer to the first attempt is lost",
        azure(_at(answer=0.0), _at(), before=None), 0, "", 2, "new", f"{_ABSENT} {_TWICE} {_BLOB}",
        status="present"),
    Row("500 to the first attempt, then 412", scripted(_always(
            answer(500), answer(412, _EXISTS))), 0, "", 2, "old", f"{_ABSENT} {_TWICE}",
        status="present"),
    Row("SeaweedFS: the first attempt stores damaged bytes, the second finds them",
        seaweed(_at(damage=True, without="content-md5"), _at(), before=None), 5,
        "something else than the archive", 2, "something else", f"{_ABSENT} {_TWICE}"),
    Row("200 after 1 MB of 5 MB, then 412", scripted(lambda store: [
            store.takes_part(1_000_000), answer(412, _EXISTS)]), 5,
        "what it stored is not the archive", 2, "something else", f"{_ABSENT} {_TWICE}",
        random_bytes=_WAITING),
    Row("SeaweedFS: 412 after a lost answer, without --if-absent",
        seaweed(_at(answer=0.0), _at(), before=None), 6, "412", 2, "new",
        f"{_OWN_CONDITION} {_TWICE}", hint="probably this archive"),
    Row("Azure: 409 after a lost answer, without --if-absent",
        azure(_at(answer=0.0), _at(), before=None), 6, "409 BlobAlreadyExists", 2, "new",
        f"{_OWN_CONDITION} {_TWICE} {_BLOB}", hint="probably this archive"),
    Row("SeaweedFS: 412 to the first attempt, without --if-absent", seaweed(), 6, "412", 1, "old",
        _OWN_CONDITION, hint="condition"),
    Row("Google: the condition is not signed", scripted(_always(answer(200)),
            query=f"{_GOOGLE}&{_GOOGLE_SIGNATURE}"), 6, "cannot be used with --if-absent", 0, "old",
        _ABSENT, hint=f"signed with {_GENERATION}: 0"),
    Row("Google: the condition is signed, and the object does not exist",
        scripted(lambda store: [store.takes()],
                 query=f"{_GOOGLE}%3B{_GENERATION}&{_GOOGLE_SIGNATURE}"), 0, "", 1, "new", _ABSENT,
        verified="md5"),
    Row("Google: the condition is signed, and the object exists",
        scripted(_always(answer(412, _EXISTS)),
                 query=f"{_GOOGLE}%3B{_GENERATION}&{_GOOGLE_SIGNATURE}"), 0, "", 1, "old", _ABSENT,
        status="present"),
    Row("another condition beside --if-absent", scripted(_always(answer(200))), 2,
        "exclude each other", 0, "old", f"{_ABSENT} -H If-Match:*", hint="Leave if-match out"),
]  # fmt: skip


def _sending(site: Site) -> bool:
    return site.requests > 0


def _silent(site: Site) -> bool:
    return any(request.body_bytes for server in site.servers for request in server.requests)


_MOMENTS: Final = {
    "while packing": (_always(answer(200)), "packing", lambda _: True),
    "while sending": (_always(stall_sending()), "uploading", _sending),
    "while the store is silent": (_always(silent()), "uploading", _silent),
    "while waiting for a retry": (_always(_busy("60")), "retrying in", _sending),
}
_SIGNALS: Final = [
    Row(f"{signum.name} {moment}", scripted(scripts), 128 + signum, f"stopped by {signum.name}",
        0 if moment == "while packing" else 1, "old",
        zeros=64 << 30 if moment == "while packing" else 0,
        random_bytes=MUCH if moment == "while sending" else 300_000,
        interrupt=Interrupt(signal=signum, words=words, when=when))
    for moment, (scripts, words, when) in _MOMENTS.items()
    for signum in (SIGINT, SIGTERM, SIGHUP)
]  # fmt: skip

TABLE: Final = {
    "The network": _NETWORK,
    "What the store answers": _ANSWERS,
    "Answers before the body is sent": _EARLY,
    "A success that is none": _SUCCESS,
    "Redirects": _REDIRECTS,
    "Whether it arrived whole": _RECEIPTS,
    "Certificates and proxies": _WAY,
    "This machine": _MACHINE,
    "The URL": _URLS,
    "Only if the object does not exist": _CONDITIONS,
    "Other stores": _STORES,
    "Signals": _SIGNALS,
}
"""All rows, by what they are about."""

ROWS: Final = [row for rows in TABLE.values() for row in rows]
