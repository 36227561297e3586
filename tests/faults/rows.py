"""The fault table: what goes wrong, and how e2b-upload reacts, one row each.

In the environment of a row, `{port}` is the port of its server.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import KW_ONLY, dataclass, field
from signal import SIGHUP, SIGINT, SIGTERM
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tests.cli.harness import LIMITED, PASSWORD, QUERY, SIGNATURE
from tests.faults import setups
from tests.faults.setups import (
    always,
    azure,
    base64_of,
    expiring,
    proxied,
    scripted,
    seaweed,
    takes,
    then_stores,
)
from tests.support.crc import crc64nvme
from tests.support.faultproxy import forward, relay
from tests.support.rawserver import (
    Connection,
    answer,
    early,
    garbage,
    read_on,
    reset_after,
    response,
    silent,
    stall_sending,
)
from tests.transfer.common import redirect, xml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from signal import Signals

    from tests.faults.setups import Fault, Secure, Setup, Site
    from tests.support.rawserver import Script

Stored: TypeAlias = Literal["old", "new", "nothing", "something else", ""]

MUCH: Final = 12_000_000
"""Bytes that do not fit into the buffers between a client and a server."""


@dataclass(frozen=True, kw_only=True)
class Interrupt:
    """A signal that is sent after a line with these words, once `when` is true."""

    signal: Signals
    words: str
    when: Callable[[Site], bool] = lambda _: True


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        name: what happens.
        setup: sets up the server.
        code: the exit code.
        says: words of the message, "" for a success.
        attempts: how many there are.
        stored: what is stored at the end; "" if there is no store.
        options: of the command line.
        verified: what proves the upload.
        hint: words of the hint.
        told: words on standard error.
        status: in the JSON object of a success.
        first_body: the most bytes of the body in the first request.
        requests: how many there are, if not one per attempt.
        random_bytes: the size of an incompressible file in the context.
        zeros: the size of a sparse file in the context.
        sh: a shell script that runs the command, `"$0" "$@"`.
        python: runs before the command, in the same process.
        privileged: False to run without root's privileges.
        env: further environment variables.
        files: further files in the working directory.
        needs: a program that `sh` calls.
        interrupt: a signal.
    """

    name: str
    setup: Setup
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
        """True if the last announced attempt never starts."""
        return self.interrupt is not None and self.interrupt.words == "retrying in"


_ONCE: Final = "--retries 0"
_TWICE: Final = "--retries 1"


def ok(name: str, setup: Setup, options: str = "", attempts: int = 1, **more: Any) -> Row:
    """Return a row of a success, by default with an ETag that is the MD5."""
    return Row(name, setup, 0, "", attempts, "new", options, **{"verified": "md5", **more})


def retried(name: str, setup: Setup, **more: Any) -> Row:
    """Return a row of a success in the second attempt."""
    return ok(name, setup, _TWICE, 2, **more)


def fails(
    name: str,
    setup: Setup,
    says: str,
    options: str = _TWICE,
    *,
    attempts: int = 0,
    stored: Stored = "old",
    **more: Any,
) -> Row:
    """Return a row of a transient failure, by default in two attempts."""
    attempts = attempts or (1 if _ONCE in options else 2)
    return Row(name, setup, 5, says, attempts, stored, options, **more)


def refused(
    name: str, setup: Setup, says: str, options: str = "", stored: Stored = "old", **more: Any
) -> Row:
    """Return a row of a permanent failure in the first attempt."""
    return Row(name, setup, 6, says, 1, stored, options, **more)


def rejected(name: str, setup: Setup, says: str, options: str = "", **more: Any) -> Row:
    """Return a row of a permanent failure before any attempt."""
    return Row(name, setup, 6, says, 0, "old", options, **more)


# The next attempt after half of the longest wait, after a tenth of it, or at once.
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
_HUGE: Final = 200_000_000


def _at(**fault: Any) -> Fault:
    return lambda port: forward(port, **fault)


def _hang_up(connection: Connection) -> None:
    connection.read_request()


def _reset(connection: Connection) -> None:
    connection.read_request()
    connection.reset()


def _early_then_stops(connection: Connection) -> None:
    connection.narrow()
    connection.read_head()
    connection.send(response(403, xml("AccessDenied", "no"), {"Connection": "keep-alive"}))
    connection.wait()


def _for_ever(start: bytes, piece: bytes, pause: float = 0) -> Script:
    """Read the whole request, and never stop to answer."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(start)
        while True:
            connection.send(piece)
            connection.wait(pause)

    return script


def _hops(count: int) -> Setup:
    return then_stores(*(redirect(307, f"/hop-{hop}?{QUERY}") for hop in range(count)))


def _busy(seconds: str, date: str = "") -> Script:
    headers = {"Retry-After": seconds} | ({"Date": date} if date else {})
    return answer(503, xml("SlowDown", "Please reduce your request rate."), headers)


def _checksum(name: str, digest: Callable[[bytes], bytes], **options: Any) -> Setup:
    kms = {"x-amz-server-side-encryption": "aws:kms"} if "damaged" in options else {}
    header = f"x-amz-checksum-{name}"
    return takes(lambda body: {header: base64_of(digest(body)), **kms}, **options)


def _instead_of_100(
    status: int, text: bytes = b"", headers: dict[str, str] | None = None
) -> Script:
    """Answer after the head, and read whatever is sent."""

    def script(connection: Connection) -> None:
        connection.continues = False
        read_on(status, 0, text, headers)(connection)

    return script


def _hangs_up_instead_of_100(connection: Connection) -> None:
    connection.read_head()
    connection.reset()


def _error_document(code: str) -> Script:
    return answer(200, xml(code, "The store says so."))


_BREAKS_OFF: Final[dict[str, Any]] = {"headers": {"Content-Length": "100"}, "text": b"OK"}
"""An answer of two bytes that announces 100."""


_HALF_A_HEAD: Final = b"HTTP/1.1 200 OK\r\nX: "
_HINTS: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
_BAD_DIGEST: Final = answer(400, xml("BadDigest", "The Content-MD5 you specified did not match."))
_NETWORK: Final = [
    fails("nobody listens", setups.refusing, "no connection", stored=""),
    retried("nobody listens, then somebody does", setups.refusing_at_first, python=_HALF),
    ok("the first address drops packets", setups.first_address(drops=True),
        "--connect-timeout 60 --max-time 20", python=setups.RESOLVED),
    ok("the first address refuses", setups.first_address(), _ONCE, python=setups.RESOLVED),
    fails("every address drops packets", setups.first_address(drops=True, alone=True),
        "no connection in time", f"{_TWICE} --connect-timeout 1", python=setups.RESOLVED,
        requests=0),
    retried("reset before the first byte of the body", seaweed(_at(body=0.0), _at())),
    retried("reset at 50% of the body", seaweed(_at(body=0.5), _at())),
    fails("reset at 50% of the body, no retries", seaweed(_at(body=0.5)), "broke after", _ONCE),
    fails("reset at 50% of the body, each time", seaweed(_at(body=0.5)), "broke after",
        "--retries 2", attempts=3, hint="Tried 3 times"),
    fails("reset at 50% of the first object ever", seaweed(_at(body=0.5), before=None),
        "broke after", _ONCE, stored="nothing"),
    retried("reset at 50% of a large body", then_stores(reset_after(MUCH // 2)), random_bytes=MUCH),
    retried("reset at 100% of the body, nothing stored", then_stores(_reset)),
    retried("reset when all was stored, before the answer", seaweed(_at(answer=0.0), _at())),
    fails("reset when all was stored, no retries", seaweed(_at(answer=0.0)), "broke after", _ONCE,
        stored="new"),
    retried("half an answer", seaweed(_at(answer=0.5, then=Connection.close), _at())),
    retried("closed without an answer", then_stores(_hang_up)),
    fails("stalls while sending", always(stall_sending()), "stalled after",
        f"{_TWICE} --stall-timeout 1", random_bytes=MUCH),
    ok("stalls while sending, then does not", then_stores(stall_sending()),
        f"{_TWICE} --stall-timeout 2", attempts=2, random_bytes=MUCH),
    ok("stalls before the answer", seaweed(_at(answer=0.0, then=Connection.wait), _at()),
        f"{_TWICE} --stall-timeout 2", attempts=2),
    fails("never answers, --max-time", always(silent()), "was not done in", "--max-time 2",
        attempts=1, hint="--max-time"),
    fails("an answer that is trickled, --max-time", always(_for_ever(_HALF_A_HEAD, b"x", 0.05)),
        "was not done in", "--max-time 2", attempts=1, hint="--max-time"),
    fails("an answer whose header has no end", always(_for_ever(_HALF_A_HEAD, b"x" * 4096)),
        "broke", _ONCE),
    retried("an answer that is not HTTP", then_stores(garbage())),
    fails("an answer that is not HTTP, no retries", always(garbage()), "not HTTP", _ONCE),
    ok("103 before 200", takes(first=_HINTS)),
    fails("103 again and again", always(_for_ever(b"", _HINTS, 0.01)), "not HTTP", _ONCE),
]  # fmt: skip

_JSON: Final = (
    b'{"error": {"code": 403, "errors": [{"reason": "forbidden"}], "message": "Caller does not '
    b'have storage.objects.create access"}}'
)
_TRANSIENT_5XX: Final = sorted({*range(500, 600)} - {501, 505})
_ANSWERS: Final = [
    fails("500", always(answer(500)), "500", hint="Tried 2 times"),
    retried("500, then 200", then_stores(answer(500))),
    retried("400 InternalError, then 200", then_stores(answer(400, xml("InternalError", "")))),
    ok("408, 425, 429 and 502, then 200", then_stores(*map(answer, (408, 425, 429, 502))),
        attempts=5, python=_HURRIED),
    ok("every 5xx except 501 and 505, then 200", then_stores(*map(answer, _TRANSIENT_5XX)),
        "--retries 98", attempts=99, python=_AT_ONCE),
    fails("520, each time", always(answer(520)), "520", hint="Tried 2 times"),
    retried("503, Retry-After in seconds", then_stores(_busy("1")), told="retrying in 1.0 s"),
    retried("503, Retry-After as a date",
        then_stores(_busy("Wed, 21 Oct 2026 07:28:01 GMT", "Wed, 21 Oct 2026 07:28:00 GMT")),
        told="retrying in 1.0 s"),
    fails("503, Retry-After beyond --max-time", always(_busy("1000000000")), "SlowDown",
        "--max-time 20", attempts=1, hint="--max-time"),
    Row("503, Retry-After of 30 years", always(_busy("1000000000")), 130, "SIGINT", 1, "old",
        told="retrying in 2 min 0 s", interrupt=Interrupt(signal=SIGINT, words="retrying in")),
    retried(
        "400 RequestTimeout, then 200", then_stores(answer(400, xml("RequestTimeout", "idle")))),
    *(retried(f"{status} {code}, then 200", then_stores(answer(status, xml(code, ""))))
        for status, code in ((400, "IncompleteBody"), (400, "Throttling"),
        (409, "ConditionalRequestConflict"), (409, "OperationAborted"))),
    refused("403, early, 200 MB", always(early(403, xml("AccessDenied", "no"))), "403 AccessDenied",
        "--compression none", zeros=_HUGE),
    refused("403, early, 200 MB, TLS",
        always(early(403, xml("AccessDenied", "no")), secure=setups.trusted), "403 AccessDenied",
        "--compression none", zeros=_HUGE),
    refused("403, early, and reads no more", always(_early_then_stops), "403 AccessDenied",
        "--compression none --stall-timeout 30", zeros=_HUGE),
    refused("403, early, and reads no more, TLS", always(_early_then_stops, secure=setups.trusted),
        "403 AccessDenied", "--compression none --stall-timeout 30", zeros=_HUGE),
    refused("403 RequestTimeTooSkewed",
        always(answer(403, xml("RequestTimeTooSkewed", "The difference is too large"))),
        "403 RequestTimeTooSkewed", hint="clock"),
    refused("404", always(answer(404)), "404"),
    refused("411", always(answer(411)), "411", hint="Content-Length"),
    refused("412", always(answer(412)), "412", hint="condition"),
    refused("413", always(answer(413)), "413", hint="send less"),
    refused("501", always(answer(501)), "501"),
    refused("505", always(answer(505)), "505"),
    refused("403, JSON", always(answer(403, _JSON)), "403 forbidden: Caller does not",
        hint="fresh URL"),
    retried("400 SlowDown in JSON, then 200", then_stores(answer(400, b'{"code": "SlowDown"}'))),
    refused(
        "403, plain text", always(answer(403, b"blocked by policy 7")), "403: blocked by policy 7"),
    refused("403, an HTML page", always(answer(403, b"<html><title>Firewall</title>")),
        "403: Firewall"),
    refused("409 without a body, x-ms-error-code",
        always(answer(409, b"", {"x-ms-error-code": "BlobImmutableDueToPolicy"})),
        "409 BlobImmutableDueToPolicy"),
    retried("400 without a body, x-ms-error-code: ServerBusy, then 200",
        then_stores(answer(400, b"", {"x-ms-error-code": "ServerBusy"}))),
    refused("400 of another region", always(answer(400, b"<Error>"
        b"<Code>AuthorizationQueryParametersError</Code><Region>ap-south-1</Region></Error>")),
        "AuthorizationQueryParametersError", hint="the region ap-south-1"),
    ok("204", takes(status=204)),
    refused("202, which is no success", always(answer(202)), "202"),
]  # fmt: skip

_REDIRECTS: Final = [
    *(refused(
        str(status), always(redirect(status, f"/there?{QUERY}")), "redirected", hint="endpoint")
        for status in (301, 302, 303)),
    refused("301, another region", always(answer(301,
        b"<Error><Endpoint>b.s3.ap-south-1.amazonaws.com</Endpoint></Error>",
        {"x-amz-bucket-region": "ap-south-1"})), "redirected",
        hint="the region ap-south-1 and the endpoint b.s3.ap-south-1.amazonaws.com"),
    refused("307 without a Location", always(answer(307)), "redirected without a Location",
        hint="endpoint"),
    *(ok(f"{status}, same host", then_stores(redirect(status, f"/there?{QUERY}")), requests=2)
        for status in (307, 308)),
    ok("307 to another host: storage headers are kept, secrets are not", setups.redirecting(
        kept=("x-amz-acl: private", "Content-Type: application/gzip"),
        dropped=(f"Authorization: {PASSWORD}",)),
        f"-H x-amz-acl:private -H Content-Type:application/gzip -H Authorization:{PASSWORD}",
        requests=2),
    refused("307 to another host: a signed secret header would be lost",
        setups.redirecting(query=_signed(_CUSTOMER_KEY)), "stored without it",
        f"-H {_CUSTOMER_KEY}:{PASSWORD}", hint="Ask for a URL of localhost", requests=1),
    refused("307 to another host: a secret header that encrypts would be lost",
        setups.redirecting(), "stored without it", f"-H {_CUSTOMER_KEY}:{PASSWORD}",
        hint=f"leave {_CUSTOMER_KEY} out", requests=1),
    refused("307 to another host: the target has expired", setups.redirecting(_EXPIRED), "expired",
        hint="fresh URL", requests=1),
    refused("307 to another host: the target takes smaller archives only",
        setups.redirecting(query=_UNKNOWN), "too large for http://localhost", hint="--max-size",
        requests=1,
        python="from e2b_upload.transfer import presigned\n"
        "presigned._MAX_BYTES = {'AWS SigV4': 100_000}"),
    refused("307 to another host: the target lacks permission to write",
        setups.redirecting("sv=2021-12-02&sr=b&sp=r&sig=Zm9yZXZlcg%3D%3D"),
        "no permission to write", "-H x-ms-blob-type:BlockBlob", hint="c or w", requests=1),
    *(refused(f"307 from a known store to another host, which answers 200{what}",
        always(redirect(307, "http://localhost:{port}/portal"), answer(200, page)),
        "nothing shows that the archive is stored", hint="login", requests=2)
        for what, page in (("", b""), (" with an HTML page", b"<html></html>"))),
    refused("307, from https to http",
        always(redirect(307, f"http://127.0.0.1:{{port}}/there?{QUERY}"), secure=setups.trusted),
        "not encrypted", hint="endpoint"),
    ok("307, five hops", _hops(5), requests=6),
    refused("307, six hops", _hops(6), "more than 5 times", requests=6),
    refused("307, to itself", always(redirect(307, f"/builds/key?{QUERY}")), "more than 5 times",
        requests=6),
    retried("307, then 500, then from the beginning",
        then_stores(redirect(307, f"/there?{QUERY}"), answer(500)), requests=3),
]  # fmt: skip

_RECEIPTS: Final = [
    ok("an ETag that is the archive's MD5", seaweed()),
    ok("an ETag of something else, then the right one",
        scripted(lambda store: [store.takes(damaged=True), store.takes()]), attempts=2),
    fails("an ETag of something else, each time", takes(damaged=True),
        "something else than the archive", "", stored="new", hint="--ignore-checksum"),
    fails("an ETag of something else, no retries", takes(damaged=True),
        "something else than the archive", _ONCE, stored="new"),
    ok("a byte changes on the way, once", seaweed(_at(damage=True), _at()), attempts=2),
    fails("a byte changes on the way, each time", seaweed(_at(damage=True)), "BadDigest", ""),
    fails("a byte changes on the way, Content-MD5 is lost there",
        seaweed(_at(damage=True, without="content-md5")), "something else than the archive", "",
        stored="something else"),
    ok("400 BadDigest, then 200", then_stores(_BAD_DIGEST), attempts=2),
    fails("400 BadDigest, each time", always(_BAD_DIGEST), "BadDigest", ""),
    ok("an ETag under a key of KMS, which is no MD5",
        takes({"x-amz-server-side-encryption": "aws:kms"}, damaged=True), verified="content-md5"),
    ok("an ETag under a key of the caller's, which is no MD5",
        takes({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, damaged=True),
        verified="content-md5"),
    ok("an ETag of an object in parts, which is no MD5", takes({"ETag": f'"{"0" * 32}-1"'}),
        verified="content-md5"),
    ok("x-goog-hash", takes(lambda body: {"ETag": '"CJ2"',
        "x-goog-hash": "crc32c=AAAAAA==,md5=" + base64_of(
        hashlib.md5(body, usedforsecurity=False).digest())})),
    ok("x-amz-checksum-sha256",
        _checksum("sha256", lambda body: hashlib.sha256(body).digest()), verified="sha256"),
    fails("x-amz-checksum-sha256 of something else",
        _checksum("sha256", lambda body: hashlib.sha256(body + b"!").digest()),
        "something else than the archive", "", stored="new"),
    ok("x-amz-checksum-crc64nvme, KMS", _checksum("crc64nvme", crc64nvme, damaged=True),
        verified="crc64nvme"),
    ok("x-amz-checksum-crc32, KMS",
        _checksum("crc32", lambda body: zlib.crc32(body).to_bytes(4), damaged=True),
        verified="crc32"),
]  # fmt: skip


def _certified(secure: Secure) -> Setup:
    return always(answer(200), secure=secure)


_STORE_OF_CAS: Final = then_stores(secure=setups.trusted, trusting="SSL_CERT_FILE")
_CONNECTION: Final = [
    refused("a certificate that expired", _certified(setups.expired), "expired", hint="clock",
        requests=0),
    refused("another host's certificate", _certified(setups.of_another_host),
        "does not cover the host localhost", hint="Is the host right", requests=0),
    refused("a client certificate is required", _certified(setups.client_certificate),
        "requires a client certificate", hint="does not require one", requests=0),
    refused("a client certificate is required, TLS 1.2",
        _certified(setups.client_certificate_tls12), "refused the TLS handshake",
        hint="client certificate", requests=0),
    refused("another authority's certificate", _certified(setups.of_another_authority),
        "does not verify", hint="REQUESTS_CA_BUNDLE", requests=0),
    refused("a self-signed certificate", _certified(setups.self_signed), "self-signed",
        hint="REQUESTS_CA_BUNDLE", requests=0),
    ok("a CA in SSL_CERT_FILE", _STORE_OF_CAS),
    Row("SSL_CERT_FILE that does not exist", _STORE_OF_CAS, 2, "SSL_CERT_FILE", 1, "old",
        hint="SSL_CERT_FILE", env={"SSL_CERT_FILE": "no.pem"}, requests=0),
    Row("SSL_CERT_FILE without a certificate", _STORE_OF_CAS, 2, "no certificate", 1, "old",
        hint="SSL_CERT_FILE", env={"SSL_CERT_FILE": "empty.pem"}, files={"empty.pem": b""},
        requests=0),
    refused("plain HTTP where https is asked for", setups.plain_for_https, "no TLS", hint="https"),
    fails("TLS that ends in the handshake", setups.tls_cut, "broke"),
    fails("a proxy that is not there", setups.proxy_refusing, "cannot be reached", stored="",
        hint="HTTPS_PROXY"),
    refused("a proxy that wants a password, https", proxied(early(407), https=True), "407",
        stored="", hint="NO_PROXY"),
    refused("a proxy that wants a password, http", proxied(answer(407), https=False), "407",
        stored="", hint="NO_PROXY"),
    refused("a proxy that refuses, https", proxied(early(403), https=True), "403", stored=""),
    refused("a proxy that refuses, http", proxied(answer(403), https=False), "403", stored=""),
    fails("a proxy whose way is down, https", proxied(early(503), https=True), "503", stored="",
        hint="later"),
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
    Row("the spool's disk is full", seaweed(), 4, "the disk is full", 0, "old", "--spool-dir spool",
        random_bytes=4_000_000, needs="unshare", hint="--spool-dir",
        sh=f"""exec unshare -m sh -c '{_FULL}' "$0" "$@" """),
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
    ok("an empty context, --allow-empty", seaweed(), "--allow-empty", sh=_EMPTIED),
    ok("time zone Pacific/Kiritimati", seaweed(), env={"TZ": "Pacific/Kiritimati"}),
    ok("time zone America/Los_Angeles", seaweed(), env={"TZ": "America/Los_Angeles"}),
    rejected("the clock is two hours ahead", seaweed(), "expired", needs="faketime",
        sh='exec faketime -f +2h "$0" "$@"', hint="clock"),
    rejected("the clock is two hours behind", seaweed(), "not valid yet", needs="faketime",
        sh='exec faketime -f -2h "$0" "$@"', hint="clock"),
    ok("the clock is ten minutes behind", seaweed(), needs="faketime",
        sh='exec faketime -f -10m "$0" "$@"'),
    ok("the clock is ten minutes ahead, the URL holds for one more", seaweed(expires=60),
        needs="faketime", sh='exec faketime -f +10m "$0" "$@"'),
    refused("the clock is ten minutes behind, the URL expired", seaweed(late=True), "expired",
        needs="faketime", sh='exec faketime -f -10m "$0" "$@"', hint="clock"),
]  # fmt: skip

_URLS: Final = [
    ok("a path and a query that HTTP libraries rewrite: they are sent unchanged",
        setups.unchanged(f"/b/%7Eme/a%2fb/%41[1]\\100%?x=[%7e|]&{QUERY}")),
    ok("signed by SigV2, whose signature covers each escape in the path",
        seaweed(escaped="%7Eme%2fa%41-")),
    rejected("expired in 2020", always(answer(403), query=_EXPIRED), "expired", hint="fresh URL"),
    Row("expires while a retry is waited for: the store decides", expiring(
        _busy("2"), answer(403, xml("AccessDenied", "Request has expired")), expires=1), 6,
        "403 AccessDenied", 2, "old", hint="By this machine's clock the URL expired"),
    ok("expires=3600, which is a duration and not a date",
        takes(query="expires=3600&token=5f2b77c1")),
    Row("a quote left at the end of the URL", always(answer(403), query=f'{QUERY}"'), 2, "quotes",
        0, "old", hint="Remove"),
    Row("the URL was copied from JSON", always(answer(403), query=f"a=b\\u0026{QUERY}"), 2,
        "copied from JSON", 0, "old", hint="jq -r"),
    Row("the URL was copied from a shell, with its escapes",
        always(answer(403), query=f"a=b\\&{QUERY}"), 2, "shell's escapes", 0, "old",
        hint="Write & instead"),
    rejected("a signed header is missing", seaweed(ContentType="application/gzip"), "content-type",
        hint="--header"),
    ok("a signed header is there", seaweed(ContentType="application/gzip"),
        "-H Content-Type:application/gzip"),
    rejected("signed with the CRC-64 of another archive",
        always(answer(400), query=f"x-amz-checksum-crc64nvme=AAECAwQFBgc%3D&{QUERY}"),
        "signed x-amz-checksum-crc64nvme is not the archive's", hint="crc64nvme is"),
    rejected("the Content-MD5 of another archive", always(_BAD_DIGEST),
        "header content-md5 is not the archive's", "-H Content-MD5:1B2M2Y8AsgTpgAmY7PhCfg==",
        hint="md5 is"),
    rejected("the x-goog-hash of another archive", always(_BAD_DIGEST),
        "header x-goog-hash is not the archive's", "-H x-goog-hash:crc32c=AAAAAA==",
        hint="crc32c is"),
    rejected("a range of sizes that the archive does not fit", always(answer(400)),
        "does not fit the header x-goog-content-length-range",
        "-H x-goog-content-length-range:0,1000", hint="MIN,MAX"),
    rejected("signed with the checksum of nothing", setups.checksum_of_nothing, "checksum"),
    refused("signed for another key", seaweed(tampered=True), "403 SignatureDoesNotMatch",
        hint="--header"),
    refused("signed for a bucket that is not there", seaweed(bucket="nowhere", before=None),
        "404 NoSuchBucket", stored="nothing", hint="bucket"),
    rejected("Azure: a SAS that may not write", azure(permissions="r"), "no permission to write",
        "-H x-ms-blob-type:BlockBlob", hint="c or w"),
    rejected("Azure: no x-ms-blob-type", azure(), "x-ms-blob-type", hint="--header"),
    rejected("Azure: expired an hour ago", azure(expires=-3600), "expired",
        "-H x-ms-blob-type:BlockBlob", hint="fresh URL"),
    refused("Azure: expired a minute ago: the store decides", azure(expires=-60),
        "403 AuthorizationFailure", "-H x-ms-blob-type:BlockBlob",
        hint="By this machine's clock the URL expired"),
]  # fmt: skip

_BLOB: Final = "-H x-ms-blob-type:BlockBlob"
_STORES: Final = [
    ok("Azure: all is well", azure(), _BLOB),
    ok("Azure: reset at 50% of the body", azure(_at(body=0.5), _at()), f"{_TWICE} {_BLOB}",
        attempts=2),
    fails("Azure: reset at 50% of the body, no retries", azure(_at(body=0.5)), "broke after",
        f"{_ONCE} {_BLOB}"),
    ok("nginx as strict as AWS, and a password in ~/.netrc", seaweed(through="port"),
        files={"home/.netrc": b"machine 127.0.0.1 login someone password something\n"}),
    retried("nginx: reset at 50% of the body", seaweed(_at(body=0.5), _at(), through="port")),
    refused("nginx: 413, larger than it takes", seaweed(through="small"), "413", hint="send less"),
    fails("nginx: 502, no store behind it", seaweed(through="orphan"), "502"),
]  # fmt: skip

_WAITING: Final = 5_000_000
"""Bytes of a body that waits for 100 Continue."""
_LARGE: Final = 30_000_000
_BUFFERED: Final = 16_000_000
"""Bytes that may lie between a client and a server."""
_EARLY: Final = [
    *(fails(f"200 after 3 MB of 30 MB, each time, and the server reads on{over}",
        scripted(lambda store: [store.takes_part(3_000_000)], secure=secure),
        "what it stored is not the archive", "--compression none", stored="something else",
        hint="Try again", zeros=_LARGE, first_body=3_000_000 + _BUFFERED)
        for over, secure in (("", None), (", TLS", setups.trusted))),
    *(ok(f"200 after 3 MB of 12 MB, then after all of them{over}",
        scripted(lambda store: [store.takes_part(3_000_000), store.takes()], secure=secure),
        attempts=2, random_bytes=MUCH)
        for over, secure in (("", None), (", TLS", setups.trusted))),
    *(refused(f"413 after 1 MB of 30 MB, and the server reads on{over}",
        always(read_on(413, 1_000_000), secure=secure), "413", "--compression none",
        hint="send less", zeros=_LARGE, first_body=1_000_000 + _BUFFERED)
        for over, secure in (("", None), (", TLS", setups.trusted))),
    *(refused(f"403 instead of 100 Continue: the body is not sent{over}",
        always(_instead_of_100(403, xml("AccessDenied", "no")), secure=secure), "403 AccessDenied",
        hint="fresh URL", random_bytes=_WAITING, first_body=0)
        for over, secure in (("", None), (", TLS", setups.trusted))),
    refused("nginx: 413 instead of 100 Continue: the body is not sent",
        seaweed(relay, through="small"), "413", hint="send less", random_bytes=_WAITING,
        first_body=0),
    ok("nginx: 100 Continue", seaweed(relay, through="port"), random_bytes=_WAITING),
    ok("SeaweedFS: 100 Continue", seaweed(relay), random_bytes=_WAITING),
    ok("Azure: 100 Continue", azure(relay), _BLOB, random_bytes=_WAITING),
    fails("200 instead of 100 Continue, each time", always(_instead_of_100(200)), "after 0 of", "",
        random_bytes=_WAITING, first_body=0),
    retried("503 instead of 100 Continue, then 200", then_stores(_instead_of_100(503)),
        random_bytes=_WAITING, first_body=0),
    ok("307 instead of 100 Continue: only the target gets the body",
        then_stores(_instead_of_100(307, headers={"Location": f"/there?{QUERY}"})),
        random_bytes=_WAITING, first_body=0, requests=2),
    ok("no 100 Continue: the body follows after a second", takes(invites=False),
        random_bytes=_WAITING),
    retried("reset instead of 100 Continue, then 200", then_stores(_hangs_up_instead_of_100),
        random_bytes=_WAITING, first_body=0),
    ok("417, then 200 without Expect", then_stores(_instead_of_100(417)), _ONCE,
        random_bytes=_WAITING, first_body=0, requests=2),
    refused("417, with Expect and without", always(_instead_of_100(417)), "417",
        random_bytes=_WAITING, first_body=0, requests=2),
]  # fmt: skip

_PAGE: Final = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head></html>\n"
_AWS: Final = "http://builds.s3.us-east-1.amazonaws.com"
_SUCCESS: Final = [
    *(retried(
        f"200 with the Error document {code}, then a success", then_stores(_error_document(code)))
        for code in ("InternalError", "SlowDown", "RequestTimeout")),
    *(Row(f"200 with the Error document {code}, each time", always(_error_document(code)), status,
        f"200 {code}", attempts, "old", _TWICE) for code, status, attempts in (
        ("InternalError", 5, 2), ("SlowDown", 5, 2), ("BadDigest", 5, 2), ("AccessDenied", 6, 1),
        ("EntityTooLarge", 6, 1), ("Unheard-Of", 6, 1))),
    refused("200 with an HTML page instead of a known store's answer", always(answer(200, _PAGE)),
        "with an HTML page", hint="login"),
    refused("200 with a text instead of a known store's answer",
        always(answer(200, b"Web authentication required")), "with a text", hint="login"),
    refused("200 with an HTML page, and headers that only a CDN sends",
        always(answer(200, _PAGE, {"x-amz-cf-id": "1", "ETag": '"5f3a1b2c-264"'})),
        "with an HTML page", hint="login"),
    ok("200 with an HTML page, and headers of the store",
        takes({"x-amz-request-id": "4442587FB7D0A2F9"}, text=_PAGE, etag=False),
        verified="content-md5"),
    ok("200 with an HTML page from an upload server of unknown kind: a warning",
        takes(text=_PAGE, etag=False, query=_UNKNOWN),
        told="with an HTML page", verified=None),
    retried("a success whose answer breaks off, then a whole one",
        scripted(lambda store: [store.takes(**_BREAKS_OFF, etag=False), store.takes()])),
    fails("a success whose answer breaks off, each time",
        takes(**_BREAKS_OFF, etag=False), "may be stored or not", stored="new"),
    ok("a success whose answer breaks off, with the right ETag", takes(**_BREAKS_OFF)),
    ok("no digest in the answer of a store that checks Content-MD5", takes(etag=False),
        verified="content-md5"),
    ok("no digest in the answer of a store of unknown kind",
        takes(etag=False, query=_UNKNOWN), verified=None),
    *(ok(f"an ETag of something else, with {header}: {value}",
        takes({header: value}, damaged=True), verified="content-md5")
        for header, value in (
            ("x-obs-server-side-encryption", "kms"), ("x-oss-server-side-encryption", "KMS"),
            ("x-cos-server-side-encryption", "cos/kms"),
            ("x-amz-server-side-encryption", "AES256"))),
    fails("AWS: an ETag of something else, with x-amz-server-side-encryption: AES256",
        takes({"x-amz-server-side-encryption": "AES256"}, damaged=True, origin=_AWS,
            env={"HTTP_PROXY": "http://127.0.0.1:{port}"}),
        "something else than the archive", "", stored="new"),
    ok("the right ETag, with x-obs-server-side-encryption: kms",
        takes({"x-obs-server-side-encryption": "kms"})),
    ok("an ETag of something else, a known store", takes(damaged=True), "--ignore-checksum",
        verified="content-md5"),
    ok("an ETag of something else, a store of unknown kind",
        takes(damaged=True, query=_UNKNOWN), "--ignore-checksum",
        verified=None),
    ok("x-amz-checksum-sha256 of something else, ignored",
        _checksum("sha256", lambda body: hashlib.sha256(body + b"!").digest()),
        "--ignore-checksum", verified="content-md5"),
]  # fmt: skip

_ABSENT: Final = "--if-absent"
_OWN_CONDITION: Final = "-H If-None-Match:*"
_EXISTS: Final = xml("PreconditionFailed", "At least one of the preconditions did not hold.")
_GOOGLE: Final = "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-SignedHeaders=host"
_GOOGLE_SIGNATURE: Final = f"X-Goog-Signature={SIGNATURE}"
_GENERATION: Final = "x-goog-if-generation-match"
_CONDITIONS: Final = [
    Row("SeaweedFS: the object exists", seaweed(), 0, "", 1, "old", _ABSENT, status="present"),
    ok("SeaweedFS: the object does not exist", seaweed(before=None), _ABSENT),
    Row("Azure: the object exists: 409 BlobAlreadyExists", azure(), 0, "", 1, "old",
        f"{_ABSENT} {_BLOB}", status="present"),
    ok("Azure: the object does not exist", azure(before=None), f"{_ABSENT} {_BLOB}"),
    Row("the object exists: 412 instead of 100 Continue, the body is not sent",
        always(_instead_of_100(412, _EXISTS)), 0, "", 1, "old", _ABSENT, status="present",
        random_bytes=_WAITING, first_body=0),
    ok("SeaweedFS: the answer to the first attempt is lost",
        seaweed(_at(answer=0.0), _at(), before=None), f"{_ABSENT} {_TWICE}", attempts=2,
        status="present", verified=None),
    ok("Azure: the answer to the first attempt is lost", azure(_at(answer=0.0), _at(), before=None),
        f"{_ABSENT} {_TWICE} {_BLOB}", attempts=2, status="present", verified=None),
    *(refused(f"412 of a firewall, with {what}", always(answer(412, text)), "412", _ABSENT,
        hint="condition")
        for what, text in (("a text", b"Request blocked: policy precondition failed"),
            ("an HTML page", b"<html><title>412 Precondition Failed</title></html>"))),
    refused("412 without a body, and without any header of a store", always(answer(412)), "412",
        _ABSENT, hint="condition"),
    Row("500 to the first attempt, then 412", always(answer(500), answer(412, _EXISTS)), 0, "", 2,
        "old", f"{_ABSENT} {_TWICE}", status="present"),
    fails("SeaweedFS: the first attempt stores damaged bytes, the second finds them",
        seaweed(_at(damage=True, without="content-md5"), _at(), before=None),
        "something else than the archive", f"{_ABSENT} {_TWICE}", stored="something else"),
    fails("200 after 1 MB of 5 MB, then 412",
        scripted(lambda store: [store.takes_part(1_000_000), answer(412, _EXISTS)]),
        "what it stored is not the archive", f"{_ABSENT} {_TWICE}", stored="something else",
        random_bytes=_WAITING),
    Row("SeaweedFS: 412 after a lost answer, without --if-absent",
        seaweed(_at(answer=0.0), _at(), before=None), 6, "412", 2, "new",
        f"{_OWN_CONDITION} {_TWICE}", hint="probably this archive"),
    Row("Azure: 409 after a lost answer, without --if-absent",
        azure(_at(answer=0.0), _at(), before=None), 6, "409 BlobAlreadyExists", 2, "new",
        f"{_OWN_CONDITION} {_TWICE} {_BLOB}", hint="probably this archive"),
    refused("SeaweedFS: 412 to the first attempt, without --if-absent", seaweed(), "412",
        _OWN_CONDITION, hint="condition"),
    rejected("Google: the condition is not signed",
        always(answer(200), query=f"{_GOOGLE}&{_GOOGLE_SIGNATURE}"),
        "cannot be used with --if-absent", _ABSENT, hint=f"signed with {_GENERATION}: 0"),
    ok("Google: the condition is signed, and the object does not exist",
        takes(query=f"{_GOOGLE}%3B{_GENERATION}&{_GOOGLE_SIGNATURE}"), _ABSENT),
    Row("Google: the condition is signed, and the object exists",
        always(answer(412, _EXISTS), query=f"{_GOOGLE}%3B{_GENERATION}&{_GOOGLE_SIGNATURE}"), 0, "",
        1, "old", _ABSENT, status="present"),
    Row("another condition beside --if-absent", always(answer(200)), 2, "exclude each other", 0,
        "old", f"{_ABSENT} -H If-Match:*", hint="Leave if-match out"),
]  # fmt: skip


def _sending(site: Site) -> bool:
    return site.requests > 0


def _silent(site: Site) -> bool:
    return any(request.body_bytes for server in site.servers for request in server.requests)


_MOMENTS: Final = {
    "while packing": (always(answer(200)), "packing", lambda _: True),
    "while sending": (always(stall_sending()), "uploading", _sending),
    "while the store is silent": (always(silent()), "uploading", _silent),
    "while waiting for a retry": (always(_busy("60")), "retrying in", _sending),
}
_SIGNALS: Final = [
    Row(f"{signum.name} {moment}", setup, 128 + signum, f"stopped by {signum.name}",
        0 if moment == "while packing" else 1, "old",
        zeros=64 << 30 if moment == "while packing" else 0,
        random_bytes=MUCH if moment == "while sending" else 300_000,
        interrupt=Interrupt(signal=signum, words=words, when=when))
    for moment, (setup, words, when) in _MOMENTS.items()
    for signum in (SIGINT, SIGTERM, SIGHUP)
]  # fmt: skip

TABLE: Final = {
    "The network": _NETWORK,
    "What the store answers": _ANSWERS,
    "Answers before the body is sent": _EARLY,
    "A success that is none": _SUCCESS,
    "Redirects": _REDIRECTS,
    "Whether it arrived whole": _RECEIPTS,
    "Certificates and proxies": _CONNECTION,
    "This machine": _MACHINE,
    "The URL": _URLS,
    "Only if the object does not exist": _CONDITIONS,
    "Other stores": _STORES,
    "Signals": _SIGNALS,
}
"""All rows, by what they are about."""

ROWS: Final = [row for rows in TABLE.values() for row in rows]
