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
from tests.cli.harness import LIMITED, QUERY
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
from tests.support.faultproxy import forward
from tests.support.rawserver import (
    Connection,
    answer,
    garbage,
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
    Row("307 without a Location", scripted(_always(answer(307))), 6, "redirected (nowhere)", 1,
        "old", hint="endpoint"),
    *(
        Row(f"{status}, same host",
            scripted(lambda store, status=status: [  # type: ignore[misc]
                redirect(status, f"/there?{QUERY}"), store.takes()]),
            0, "", 1, "new", verified="md5", requests=2)
        for status in (307, 308)
    ),
    Row("307, another host: it gets no header of the caller's", grounds.redirecting_elsewhere, 0,
        "", 1, "new", "-H X-For-The-First:secret", verified="md5", requests=2),
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
        2, "new", hint="Something on the way"),
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
            {"x-amz-server-side-encryption": "aws:kms"}, damaged=True)]), 0, "", 1, "new"),
    Row("an ETag under a key of the caller's, which is no MD5",
        scripted(lambda store: [store.takes(
            {"x-amz-server-side-encryption-customer-algorithm": "AES256"}, damaged=True)]), 0, "",
        1, "new"),
    Row("an ETag of an object in parts, which is no MD5",
        scripted(lambda store: [store.takes({"ETag": f'"{"0" * 32}-1"'})]), 0, "", 1, "new"),
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
            "x-amz-checksum-crc64nvme": base64_of(crc64nvme(body))})]), 0, "", 1, "new",
        verified="crc64nvme"),
    Row("x-amz-checksum-crc32, KMS",
        scripted(lambda store: [store.takes(lambda body: {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-checksum-crc32": base64_of(zlib.crc32(body).to_bytes(4))})]), 0, "", 1, "new",
        verified="crc32"),
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
    Row("expired in 2020", scripted(_always(answer(403)), query=(
            f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20200101T000000Z&X-Amz-Expires=3600"
            f"&X-Amz-SignedHeaders=host&{QUERY}")), 6, "expired", 0, "old", hint="fresh URL"),
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
    "Redirects": _REDIRECTS,
    "Whether it arrived whole": _RECEIPTS,
    "Certificates and proxies": _WAY,
    "This machine": _MACHINE,
    "The URL": _URLS,
    "Other stores": _STORES,
    "Signals": _SIGNALS,
}
"""All rows, by what they are about."""

ROWS: Final = [row for rows in TABLE.values() for row in rows]
