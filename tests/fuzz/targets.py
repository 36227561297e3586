"""Functions of any bytes that come from outside; each raises if something is wrong.

Hypothesis calls them in the test suite (`test_fuzz.py`), with the files of `corpus/` as well, and
atheris for as long as you like (`make fuzz`).
"""

import base64
import functools
import gzip
import hashlib
import os
import resource
import secrets
import socket
import stat
import struct
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, get_args
from unittest import mock

import e2b_upload
from e2b_upload import Receipt, SourceError, UploadError, UsageError
from e2b_upload.archive.deflate import Compression
from e2b_upload.context.dockerignore import Rules, read
from e2b_upload.errors import RefusedError, UnavailableError
from e2b_upload.events import Event, LeftOut
from e2b_upload.transfer.headers import checked_headers
from e2b_upload.transfer.receipt import Algorithm
from e2b_upload.transfer.retry import MOST_RETRY_AFTER, read_retry_after
from e2b_upload.transfer.url import parse
from tests.archive.reading import expected, listed
from tests.support import trees
from tests.support.crc import crc32c, crc64ecma, crc64nvme
from tests.support.environment import without_settings
from tests.support.rawserver import Connection, raw_server, response
from tests.support.trees import File, Folder, HardLink, Node, Symlink

T = TypeVar("T")
Target: TypeAlias = Callable[[bytes], None]

BODY: Final = b"not quite an archive"
CANARY: Final = secrets.token_hex(16)
"""A secret that random input never contains."""

_NUMBER: Final = "X-Number-Of-The-Put"
STALL_TIMEOUT, HELD_TIMEOUT, MAX_TIME = 1.0, 0.1, 5.0
# Generous: nothing takes more than a second, but the machine may be busy.
_PATIENCE: Final = 30.0
_MOST_WORDS: Final = 16_384
_MOST_MEMORY: Final = 64 << 20
_HOLD: Final = 0xFF
_MOST_BYTES: Final = 1 << 20


class Stage:
    """A file to upload, and a server that can answer anything.

    Attributes:
        url: of the server.
        head: of the last request.
    """

    def __init__(self, archive: Path) -> None:
        self.url = ""
        self.head = b""
        self._archive = archive
        self._number = 0
        self._answers: Iterator[bytes] = iter(())
        self._hold = False

    def play(self, connection: Connection) -> None:
        """Answer a request of the current upload; one of an earlier upload may arrive late."""
        head = connection.read_head()
        if b"\r\n%s: %d\r\n" % (_NUMBER.encode(), self._number) not in head:
            return
        self.head = head
        connection.read_body()
        connection.send(next(self._answers, b""))
        if self._hold:
            connection.wait()

    def put(
        self,
        url: str,
        answers: Iterable[bytes] = (),
        *,
        hold: bool = False,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Receipt | UploadError:
        """Upload to a server that answers this, and return the result, which must be in time."""
        self._number += 1
        self._answers, self._hold, self.head = iter(answers), hold, b""
        headers = {**(headers or {}), _NUMBER: str(self._number)}
        start = time.monotonic()
        try:
            return e2b_upload.put(self._archive, url, headers=headers, **options)
        except UploadError as error:
            check(error)
            return error
        finally:
            assert time.monotonic() - start < _PATIENCE

    def put_and_hear(self, answer: bytes, *, hold: bool = False) -> Receipt | UploadError:
        """Upload to a server that gives this answer, also after redirects."""
        return self.put(
            f"{self.url}/bucket/key?X-Amz-Signature={CANARY}",
            repeat(answer),
            hold=hold,
            retries=0,
            stall_timeout=HELD_TIMEOUT if hold else STALL_TIMEOUT,
            max_time=MAX_TIME,
        )


_stage: Stage


@contextmanager
def stage() -> Iterator[None]:
    """Run the server while the block runs; nothing else can be reached."""
    global _stage  # noqa: PLW0603  (a target is a function of bytes alone)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        archive = folder / "archive.tar.gz"
        archive.write_bytes(BODY)
        stack.enter_context(without_settings(HOME=str(folder)))
        _stage = Stage(archive)
        server = stack.enter_context(raw_server(_stage.play))
        _stage.url = server.url
        look_up = socket.getaddrinfo

        def only_here(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host != "127.0.0.1" or port != server.port:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return look_up(host, port, *args, **kwargs)

        stack.enter_context(mock.patch("socket.getaddrinfo", only_here))
        yield


def check(error: UploadError, *, words: str = "") -> None:
    """Check an error: short, on one line, with a hint, without secrets."""
    assert error.hint
    assert words in error.message
    assert error.message.isprintable()
    assert len(error.message) < _MOST_WORDS
    shown = [*traceback.format_exception(error), repr(error), error.hint]
    shown += [error.code or "", error.request_id or ""]
    assert CANARY not in "\n".join(shown), shown


class Cursor:
    """Reads decisions from bytes; after their end it returns zeros and empty strings."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, count: int) -> bytes:
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def byte(self) -> int:
        return int.from_bytes(self.take(1))

    def some(self) -> bytes:
        """Return as many bytes as the first byte says."""
        return self.take(self.byte())

    def choice(self, values: Sequence[T]) -> T:
        return values[self.byte() % len(values)]


# Contexts


def ignore_file(data: bytes) -> None:
    """Parse an ignore file, and match the paths that follow, with NULs between them."""
    text, *names = data[:4096].split(b"\0")
    start = time.monotonic()
    try:
        rules = Rules(read(text, "f"))
    except UsageError as error:
        check(error, words="line ")
        return
    for name in names:
        parts = [p for p in name.decode("utf-8", "surrogateescape").split("/") if p]
        matched: frozenset[int] = frozenset()
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            above = matched
            leaf = rules.decide_file(path, above)
            decided, matched = rules.decide(path, above)
            # The decision is the same for a file and a directory, and pattern by pattern.
            assert leaf == decided, (text, path)
            last = max((i for i, p in enumerate(rules.patterns) if p.match_file(path)), default=-1)
            assert leaf == max(last, *above, -1), (text, path)
            rules.may_keep_below(path)
    assert time.monotonic() - start < _PATIENCE


_NAMES: Final = (*trees.HOSTILE_NAMES, *(b"abcdefgh"[i : i + 1] for i in range(8)))
_TARGETS: Final = (b"a", b".", b"..", b"../../..", b"/", b"/etc/passwd", b"t" * 101, b"no/where")
_COMPRESSIONS: Final[tuple[Compression, ...]] = get_args(Compression)
_SIZES: Final = (0, 1, 511, 512, 513, 70_000)


def tree(data: bytes) -> None:
    """Pack a tree of files: tarfile reads the same tree, unless a file is not readable."""
    cursor = Cursor(data)
    compression = cursor.choice(_COMPRESSIONS)
    threads = cursor.choice((None, 1, 2))
    nodes, fifos = _read_tree(cursor)
    fifos -= {path.partition(b"/")[0] for path in nodes}
    locked = [path for path, node in nodes.items() if b"/" not in path and isinstance(node, File)]
    locked = locked[: cursor.byte() % 2]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as elsewhere:
        trees.make(nodes, folder)
        output = os.path.join(elsewhere, "out")
        source = trees.snapshot(folder)
        for name in fifos:
            os.mkfifo(os.path.join(os.fsencode(folder), name))
        for path in locked:
            os.chmod(os.path.join(os.fsencode(folder), path), 0)
            source.update((name, source[name]._replace(mode=0)) for name in source[path].names)
        left_out = set[bytes]()

        def on_event(event: Event) -> None:
            if isinstance(event, LeftOut):
                left_out.add(os.fsencode(event.path))

        try:
            e2b_upload.pack(
                folder,
                output,
                compression=compression,
                threads=threads,
                no_ignore=True,
                allow_empty=True,
                on_event=on_event,
            )
        except SourceError as error:
            check(error)
            assert locked
            assert os.geteuid()
            return
        assert listed(output) == expected(source)
        assert left_out == fifos


def _read_tree(cursor: Cursor) -> tuple[dict[bytes, Node], set[bytes]]:
    nodes: dict[bytes, Node] = {}
    fifos = set[bytes]()
    parents, sources = [b""], list[bytes]()
    while cursor.rest and len(nodes) < 24:
        kind = cursor.byte() % 5
        name = cursor.choice(_NAMES) if cursor.byte() % 4 else cursor.some()
        name = name.translate(None, b"/\0")
        if name in (b"", b".", b"..") or len(name) > 255:
            continue
        parent = cursor.choice(parents)
        path = parent + b"/" + name if parent else name
        if path in nodes:
            continue
        mode = int.from_bytes(cursor.take(2)) & 0o7777
        seconds = struct.unpack(">i", cursor.take(4).rjust(4, b"\0"))[0] * 1_000_000_000
        if kind == 0:
            content = cursor.some() if cursor.byte() % 2 else b"x" * cursor.choice(_SIZES)
            nodes[path] = File(content, mode | stat.S_IRUSR, seconds)
            sources.append(path)
        elif kind == 1:
            nodes[path] = Folder(mode | stat.S_IRWXU, seconds)
            parents.append(path)
        elif kind == 2:
            wild = cursor.some().replace(b"\0", b"")
            nodes[path] = Symlink(wild or cursor.choice(_TARGETS), seconds)
        elif kind == 3 and sources:
            nodes[path] = HardLink(cursor.choice(sources))
        elif kind == 4:
            fifos.add(name)
    return nodes, fifos


# What a caller passes


def url(data: bytes) -> None:
    """Parse a URL and upload to it; the text after a NUL surrounds the secret in it."""
    before, _, around = data[:4096].partition(b"\0")
    text = before.decode("utf-8", "surrogateescape")
    name, _, rest = around.decode("utf-8", "surrogateescape").partition("\0")
    user = name.translate(dict.fromkeys(map(ord, "/?#")))  # otherwise it would be part of the path
    for secret_in in (f"{text}?{name}={CANARY}{rest}", f"https://{user}:{CANARY}@{text}{rest}"):
        try:
            parsed = parse(secret_in)
        except UsageError as error:
            check(error)
        else:
            assert CANARY not in repr(parsed)
            assert CANARY not in parsed.host
            assert parsed.shown.isprintable()
            assert CANARY not in parsed.redact(f"no way to {secret_in}")
        outcome = _stage.put(secret_in, retries=0, max_time=MAX_TIME)  # nothing can be reached
        assert isinstance(outcome, UploadError)


_EXPECTED: Final = frozenset(
    {
        *("content-md5", "x-ms-blob-content-md5", "x-goog-hash", "x-goog-content-length-range"),
        *("x-amz-content-sha256", *(f"x-amz-checksum-{name}" for name in get_args(Algorithm))),
    }
)
"""Headers that are compared with the archive."""


def headers(data: bytes) -> None:
    """Lines `Name: value`: they are sent as they are, or refused without a word of the value."""
    lines = [line.partition(b":") for line in data[:4096].split(b"\0")]
    given = {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape") + CANARY
        for name, _, value in lines
    }
    try:
        checked = checked_headers(given)
    except UsageError as error:
        check(error)
        outcome = _stage.put(f"{_stage.url}/key", headers=given)
        assert isinstance(outcome, UsageError)
        return
    outcome = _stage.put(
        f"{_stage.url}/key", [response(200)], headers=given, retries=0, max_time=MAX_TIME
    )
    if any(name.lower() in _EXPECTED for name in checked) and isinstance(outcome, RefusedError):
        assert not _stage.head
        return
    assert isinstance(outcome, Receipt), (outcome, given)
    sent = [
        (name.lower(), value.strip(b" \t"))
        for name, _, value in (line.partition(b":") for line in _stage.head.split(b"\r\n")[1:-2])
    ]
    assert len({name.lower() for name in checked}) <= len(sent)
    for name, value in checked.items():
        there = [told for given_name, told in sent if given_name == name.lower().encode()]
        same_name = [v for k, v in checked.items() if k.lower() == name.lower()]
        assert there == [same_name[-1].encode("utf-8", "surrogateescape")], (name, value, there)
    assert [told for name, told in sent if name == b"content-length"] == [b"%d" % len(BODY)]


# What a server answers


def answer(data: bytes) -> None:
    """Upload to a server that sends these bytes; after a first 0xff it does not close."""
    hold = data[:1] == bytes([_HOLD])
    said = data[hold:_MOST_BYTES]
    before = _peak()
    outcome = _stage.put_and_hear(said, hold=hold)
    assert _peak() - before < _MOST_MEMORY
    if isinstance(outcome, Receipt):
        assert outcome.http_status in {200, 201, 204}
        assert b"HTTP/" in said
        assert b"\n\r\n" in said or b"\n\n" in said, said  # half a head is not a success
        _check_receipt(outcome, said)
    else:
        assert isinstance(outcome, (RefusedError, UnavailableError)), (said, outcome)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


_STATUSES: Final = (
    *(200, 201, 204, 206, 100, 101, 103, 199, 301, 302, 304, 307, 308, 400, 401, 403, 404, 407),
    *(408, 409, 411, 412, 413, 425, 429, 500, 501, 503, 505, 509, 520, 600, 999, 99, 0, 1000),
)
_HEADERS: Final = (
    *(b"ETag", b"Content-Length", b"Transfer-Encoding", b"Content-Encoding", b"Location"),
    *(b"Retry-After", b"Date", b"x-goog-hash", b"Content-MD5", b"x-amz-checksum-sha256"),
    *(b"x-amz-checksum-crc32", b"x-amz-checksum-sha1", b"x-amz-server-side-encryption"),
    *(b"x-amz-request-id", b"Connection", b"Content-Type", b"Set-Cookie", b" folded", b""),
    *(b"x-ms-error-code", b"x-amz-error-message", b"x-amz-bucket-region"),
)
_FORMS: Final = (
    CANARY,
    f"?X-Amz-Signature={CANARY}&a=b",
    f"?X-Amz-Signature&#61;{CANARY}&amp;amp;a=b",
    "".join(f"&#{ord(char)};" for char in CANARY),
    "".join(f"&#x{ord(char):x};" for char in CANARY),
    "".join(f"&amp;#{ord(char)};" for char in CANARY),
    "".join(f"\\u{ord(char):04x}" for char in CANARY),
    "".join(f"\\\\x{ord(char):02x}" for char in CANARY),
    "".join(f"%{ord(char):02x}" for char in CANARY),
    "".join(f"%25{ord(char):02X}" for char in CANARY),
)
"""The secret, in the forms in which a server might repeat it."""

_VALUES: Final = (
    *(b"0", b"-1", b"1e9", b"99999999999999999999", b"chunked", b"gzip", b"deflate", b"br"),
    *(b"zstd", b"gzip, gzip, gzip", b"identity", b"close", b"keep-alive", b"aws:kms", b"/key"),
    *(b"//", b"http://[", b"https://127.0.0.1/", b"ftp://h/", b"\r\n folded", b"\t", b"\xff\x00"),
    b"Thu, 01 Jan 1970 00:00:00 GMT",
    *(form.encode() for form in _FORMS),
    b"a=b; Path=/" * 50,
    b"x" * 70_000,
)
_CODES: Final = (b"AccessDenied", b"SlowDown", b"BadDigest", b"RequestTimeout", b"&lt;\x1b[2J")


@functools.cache
def _bomb() -> bytes:
    """Return gzip data that unpacks to twice the memory allowed."""
    packer = zlib.compressobj(1, wbits=31)
    pieces = [packer.compress(bytes(1 << 20)) for _ in range(2 * _MOST_MEMORY >> 20)]
    return b"".join([*pieces, packer.flush()])


def _body(cursor: Cursor) -> bytes:
    rest = cursor.rest
    code = cursor.choice(_CODES)
    xml = b"<Error><Code>" + code + b"</Code><Message>" + rest + b"</Message></Error>"
    form = cursor.choice(_FORMS).encode()
    half = rest[: cursor.byte()]
    said = half + form + rest
    return cursor.choice(
        (
            rest,
            xml,
            xml + CANARY.encode(),
            said,
            b"<html><title>" + said + b"</title>",
            b"<Error><Endpoint>" + said + b"</Endpoint><Region>" + form + b"</Region></Error>",
            b"<Error><AuthenticationErrorDetail>" + said + b"</AuthenticationErrorDetail></Error>",
            *(b'{"%s": "%s"}' % (name, said) for name in (b"code", b"message", b"error", b"a")),
            b'{"error": {"errors": [{"reason": "%s", "message": "%s"}]}}' % (half, form),
            b'{"detail": [{"msg": "' + form + b'"',
            b'{"error":' * len(rest[:9000]) + b"1" + b"}" * len(rest[:9000]),
            b"[" * 60_000 + rest,
            rest[:100] * 10_000,
            b"%x\r\n" % len(rest) + rest + b"\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\n" + rest,
            b"-1\r\n" + rest,
            b"5;" + b"x" * 70_000 + b"\r\n" + rest,
            _bomb(),
            gzip.compress(_bomb()),
            gzip.compress(rest)[:-4],
            zlib.compress(xml),
        )
    )


def answer_head(data: bytes) -> None:
    """Upload to a server with a damaged answer: status line, headers, body."""
    cursor = Cursor(data[:_MOST_BYTES])
    status = cursor.choice(_STATUSES)
    line = cursor.choice(
        (b"HTTP/1.1 %d OK", b"HTTP/1.0 %d", b"HTTP/1.1  %d  ", b"HTTP/9 %d x", b"HTTP/1.1 %d \xff")
    )
    end = cursor.choice((b"\r\n", b"\r\n", b"\n", b"\r", b" \r\n"))
    lines = [line % status]
    for _ in range(cursor.byte() % 8):
        name = cursor.choice((*_HEADERS, cursor.rest[:40]))
        value = cursor.choice((*_VALUES, cursor.rest[:200]))
        lines.append(name + cursor.choice((b": ", b":", b"", b" : ")) + value)
    if cursor.byte() == 7:  # more headers than are read
        lines += [b"x-%d: y" % number for number in range(300)]
    answer(end.join([*lines, b"", b""]) + _body(cursor))


def retry_after(data: bytes) -> None:
    """Parse Retry-After and Date: the retry comes in time, or not at all."""
    wait, _, date = data[:4096].replace(b"\r", b"").replace(b"\n", b"").partition(b"\0")
    lines = [b"HTTP/1.1 503 Slow Down", b"Retry-After: " + wait, b"Date: " + date]
    said = b"\r\n".join([*lines, b"Content-Length: 0", b"", b""])
    read = {
        name: value.strip().decode("latin-1")
        for name, value in (("retry-after", wait), ("date", date))
    }
    seconds = read_retry_after(read, time.time())
    assert seconds is None or 0 <= seconds <= MOST_RETRY_AFTER
    outcome = _stage.put(
        f"{_stage.url}/key", [said, response(200)], retries=1, stall_timeout=1, max_time=0.05
    )
    if isinstance(outcome, Receipt):
        assert outcome.attempts == 2
    else:
        assert isinstance(outcome, UnavailableError), outcome


_RECEIPT_HEADERS: Final = (
    *("ETag", "x-goog-hash", "Content-MD5", "x-amz-checksum-sha256", "x-amz-checksum-sha1"),
    *("x-amz-checksum-crc32", "x-amz-server-side-encryption", "x-amz-checksum-md5"),
    *("x-amz-server-side-encryption-customer-algorithm", "x-goog-hash"),
    *("x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme"),
)
_DIGESTS: Final = {
    "md5": hashlib.md5(BODY, usedforsecurity=False).digest(),
    "sha256": hashlib.sha256(BODY).digest(),
    "sha1": hashlib.sha1(BODY, usedforsecurity=False).digest(),
    "crc64nvme": crc64nvme(BODY),
    "crc64ecma": crc64ecma(BODY),
    "crc32c": crc32c(BODY),
    "crc32": zlib.crc32(BODY).to_bytes(4),
}


def receipt(data: bytes) -> None:
    """Verify with the headers of an answer: only a true digest counts."""
    cursor = Cursor(data[:4096])
    true = [*_DIGESTS.values()]
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: 0"]
    for _ in range(1 + cursor.byte() % 4):
        name = cursor.choice(_RECEIPT_HEADERS)
        digest = cursor.choice((*true, cursor.some()))
        in_hex, in_base64 = digest.hex().encode(), base64.b64encode(digest)
        forms = [b'"%b"' % in_hex, in_hex, in_base64, b"md5=" + in_base64]
        forms += (b"crc32c=AAAAAA==, md5=" + in_base64, b"md5=AAAA, crc32c=" + in_base64)
        value = cursor.choice((*forms, b"aws:kms", digest.translate(None, b"\r\n")))
        lines.append(name.encode() + b": " + value)
    said = b"\r\n".join([*lines, b"", b""])
    outcome = _stage.put_and_hear(said)
    if isinstance(outcome, Receipt):
        _check_receipt(outcome, said)
    else:
        assert isinstance(outcome, UnavailableError), (said, outcome)


def _check_receipt(outcome: Receipt, said: bytes) -> None:
    """Check that the answer contains the digest that verified the upload."""
    assert outcome.attempts == 1
    if outcome.verified in {None, "content-md5"}:  # the store accepted the header
        return
    digest = _DIGESTS[outcome.verified]
    in_base64 = base64.b64encode(digest)
    assert digest.hex().encode() in said.lower() or in_base64 in said, (outcome, said)


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (ignore_file, tree, url, headers, answer, answer_head, retry_after, receipt)
}
CORPUS: Final = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[Path]:
    """Return the corpus of a target."""
    with suppress(FileNotFoundError):
        return sorted((CORPUS / name).iterdir())
    return []
