"""A stand-in of E2B's API on loopback, with a real S3 server behind it, and a build by E2B's SDK.

The stand-in answers what `Template.build` of the SDK asks for, from the call that requests a build
to the poll of its status, and misbehaves on command. What it stores is in S3 alone: files are
present when their object exists. PUTs go through it, so that they can be counted.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import secrets
import string
import sys
import threading
import time
import uuid
from collections import defaultdict, deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.support.servers import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.seaweed import Seaweed

LINK_SECONDS = 30 * 60

_PIECE_BYTES = 1 << 20
_CLIENT_TIMEOUT = 30.0  # seconds until a handler gives a silent client up
_ROUTES = {
    "request": re.compile(r"POST /v3/templates"),
    "alias": re.compile(r"GET /templates/aliases/([^/]+)"),
    "link": re.compile(r"GET /templates/([^/]+)/files/([^/]+)"),
    "start": re.compile(r"POST /v2/templates/([^/]+)/builds/([^/]+)"),
    "status": re.compile(r"GET /templates/([^/]+)/builds/([^/]+)/status"),
}


@dataclass(frozen=True)
class Reply:
    """What the stand-in answers: an object, which goes as JSON, or bytes, which go as they are."""

    status: int
    content: object
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0


Behaviour: TypeAlias = "Callable[[Reply], Reply]"
"""What becomes of an honest reply."""


def refusal(status: int, message: str = "made up", **more: object) -> Reply:
    return Reply(status, {"code": status, "message": message, **more})


def error(
    status: int,
    message: str = "made up",
    *,
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> Behaviour:
    """Answer with an error as E2B words it; `more` are further members."""
    return lambda _: dataclasses.replace(refusal(status, message, **more), headers=headers or {})


def text(body: bytes, status: int = 200) -> Behaviour:
    """Answer with these bytes."""
    return lambda _: Reply(status, body)


def with_members(**members: object) -> Behaviour:
    return lambda reply: dataclasses.replace(reply, content={**_object(reply), **members})


def without_members(*names: str) -> Behaviour:
    def change(reply: Reply) -> Reply:
        kept = {name: value for name, value in _object(reply).items() if name not in names}
        return dataclasses.replace(reply, content=kept)

    return change


def late(seconds: float) -> Behaviour:
    return lambda reply: dataclasses.replace(reply, delay=seconds)


def huge(size: int) -> Behaviour:
    """Answer with valid JSON of at least so many bytes."""
    return with_members(padding="x" * size)


def _object(reply: Reply) -> dict[str, object]:
    assert isinstance(reply.content, dict)
    return reply.content


@dataclass(frozen=True)
class Call:
    """One call of the API, and the status that it was answered with.

    `name` is a key of `_ROUTES`, or empty for what the stand-in does not know; `arguments` are the
    variable segments of the path, unescaped; `headers` have lower-case names.
    """

    name: str
    method: str
    target: str
    arguments: tuple[str, ...]
    headers: Mapping[str, str]
    body: Any
    status: int


@dataclass(frozen=True)
class Put:
    """One PUT of an object, and what the store answered."""

    key: str
    headers: Mapping[str, str]
    size: int
    status: int


@dataclass
class _Template:
    template_id: str
    name: str
    is_mine: bool
    builds: dict[str, dict[str, Any]] = field(default_factory=dict)


class Standin:
    """E2B's API of one team.

    Attributes:
        url: what E2B_API_URL is to be.
        key: the one that it takes.
        calls: those so far, in the order in which they were answered.
        puts: those so far that the store answered.
        link_seconds: how long a link is good for, from the next one on.
        link_headers: what must be sent with a PUT, from the next link on; they are signed. Such as
            `Content-Type`.
        far: seconds until each answer, the store's as well, sets out.
        speed: bytes a second that the store takes of each connection, or None for as many as come.
        knows_ids: whether a template is also looked up by its id, as E2B's own service does.
    """

    def __init__(self, s3: Seaweed) -> None:
        self.key = f"e2b_{secrets.token_hex(20)}"
        self.calls: list[Call] = []
        self.puts: list[Put] = []
        self.link_seconds = LINK_SECONDS
        self.link_headers: dict[str, str] = {}
        self.far = 0.0
        self.speed: float | None = None
        self.knows_ids = True
        self.failures: list[BaseException] = []
        self.over = threading.Event()
        self.s3 = s3
        self._scripts: dict[str, deque[Behaviour]] = defaultdict(deque)
        self._templates: list[_Template] = []
        self._lock = threading.Lock()
        self._api = _Server(_ApiHandler, self)
        self._store = _Server(_StoreHandler, self)
        self._presigner = dataclasses.replace(s3, endpoint=self._store.url)
        self.url = self._api.url

    def script(self, name: str, *behaviours: Behaviour) -> None:
        """Let the next calls of that name meet these, one each; then all is well again."""
        self._scripts[name].extend(behaviours)

    def add(self, name: str, *, is_mine: bool = True) -> str:
        """Make a template, of this team or of another one, and return its id."""
        letters = string.ascii_lowercase + string.digits
        template_id = "".join(secrets.choice(letters) for _ in range(20))
        self._templates.append(_Template(template_id, name, is_mine))
        return template_id

    def count(self, name: str) -> int:
        return sum(call.name == name for call in self.calls)

    def key_of(self, template_id: str, files_hash: str) -> str:
        """Return the S3 key of an archive."""
        return f"{template_id}/{files_hash}"

    def archive(self, template_id: str, files_hash: str) -> bytes:
        """Return an archive that is stored."""
        return self.s3.get(self.key_of(template_id, files_hash))

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer a call, and take it down."""
        path = urlsplit(target).path
        routes = ((name, route.fullmatch(f"{method} {path}")) for name, route in _ROUTES.items())
        name, match = next((found for found in routes if found[1]), ("", None))
        arguments = tuple(map(unquote, match.groups())) if match else ()
        said = json.loads(body) if body else None
        with self._lock:
            reply = self._honest(name, arguments, headers, said, target)
            if self._scripts[name]:
                reply = self._scripts[name].popleft()(reply)
            self.calls.append(Call(name, method, target, arguments, headers, said, reply.status))
        return reply

    def _honest(
        self,
        name: str,
        arguments: tuple[str, ...],
        headers: Mapping[str, str],
        said: Any,
        target: str,
    ) -> Reply:
        if headers.get("x-api-key") != self.key:
            return refusal(
                401,
                "Invalid API key, please visit https://e2b.dev/docs/api-key for more information.",
            )
        if name == "request":
            return self._request(said)
        if name == "alias":
            return self._alias(*arguments)
        if not name:
            return refusal(404, "no matching operation was found")
        template = self._find(lambda each: each.is_mine and each.template_id == arguments[0])
        if template is None:
            return refusal(404, f"Error when getting template: {arguments[0]}")
        if name == "link":
            return self._link(template, arguments[1])
        if name == "start":
            return self._start(template, arguments[1], said)
        return self._status(template, arguments[1], target)

    def _find(self, matches: Callable[[_Template], bool]) -> _Template | None:
        return next(filter(matches, self._templates), None)

    def _request(self, said: Any) -> Reply:
        name, _, tag = said.get("name", "").partition(":")
        if not name:
            return refusal(400, "Name is required")
        template = self._find(lambda each: each.name == name)
        if template is None:
            template_id = self.add(name)
            template = self._find(lambda each: each.template_id == template_id)
            assert template is not None
        if not template.is_mine:
            return refusal(403, f"Alias '{name}' already used")
        build_id = str(uuid.uuid4())
        template.builds[build_id] = {"status": "waiting"}
        return Reply(
            202,
            {
                "templateID": template.template_id,
                "buildID": build_id,
                "public": False,
                "names": [name],
                "tags": [*filter(None, [tag]), *said.get("tags", [])] or ["default"],
                "aliases": [name],
            },
        )

    def _alias(self, alias: str) -> Reply:
        name, _, tag = alias.partition(":")
        template = self._find(lambda each: each.name == name)
        if template is None and self.knows_ids:
            template = self._find(lambda each: each.template_id == name)
        if template is None:
            return refusal(404, f"template '{name}' not found")
        if not template.is_mine:
            return refusal(403, f"you don't have access to template '{name}'")
        if tag and tag != "default":  # no build here has a tag
            return refusal(404, f"tag '{tag}' does not exist for template '{name}'")
        return Reply(200, {"templateID": template.template_id, "public": False})

    def _link(self, template: _Template, files_hash: str) -> Reply:
        if not re.fullmatch("[0-9a-f]{64}", files_hash):
            return refusal(400, "Invalid files hash")
        key = self.key_of(template.template_id, files_hash)
        signed = {name.replace("-", ""): value for name, value in self.link_headers.items()}
        content: dict[str, object] = {
            "present": self.s3.exists(key),
            "url": self._presigner.presign_put(key, self.link_seconds, **signed),
        }
        if self.link_headers:
            content["headers"] = dict(self.link_headers)
        return Reply(201, content)

    def _start(self, template: _Template, build_id: str, said: Any) -> Reply:
        if build_id not in template.builds:
            return refusal(404, "Build not found")
        copies = [step for step in said.get("steps", []) if step["type"] == "COPY"]
        missing = [
            step["filesHash"]
            for step in copies
            if not self.s3.exists(self.key_of(template.template_id, step["filesHash"]))
        ]
        template.builds[build_id] = {"status": "error" if missing else "ready"}
        if missing:
            template.builds[build_id]["reason"] = {"message": f"no files of hash {missing[0]}"}
        return Reply(202, b"")

    def _status(self, template: _Template, build_id: str, target: str) -> Reply:
        offset = int(parse_qs(urlsplit(target).query).get("logsOffset", ["0"])[0])
        log = [{"timestamp": "2026-01-01T00:00:00Z", "level": "info", "message": "building"}]
        return Reply(
            200,
            {
                "logs": [],
                "logEntries": log[offset:],
                "templateID": template.template_id,
                "buildID": build_id,
                **template.builds[build_id],
            },
        )

    @contextmanager
    def running(self) -> Iterator[Standin]:
        """Serve as long as the block lasts; what went wrong within is raised when it is over."""
        try:
            with self._api.running(), self._store.running():
                try:
                    yield self
                finally:
                    self.over.set()
        finally:
            if self.failures:
                raise self.failures[0]


@contextmanager
def standin(s3: Seaweed) -> Iterator[Standin]:
    """Run a stand-in as long as the block lasts."""
    with Standin(s3).running() as server:
        yield server


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing it waits for them

    def __init__(self, handler: type[_Handler], of: Standin) -> None:
        super().__init__((LOOPBACK, 0), handler)
        self.of = of
        self.url = f"http://{LOOPBACK}:{self.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        with self:
            thread.start()
            try:
                yield
            finally:
                self.shutdown()
                thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address
        failure = sys.exception()
        if failure is not None and not isinstance(failure, OSError):  # the client may go
            self.of.failures.append(failure)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _CLIENT_TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        del format, args

    def lower_headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.close_connection = True  # no thread waits for a client that keeps its connection
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _ApiHandler(_Handler):
    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        of = self.server.of
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        reply = of.answer(self.command, self.path, self.lower_headers(), body)
        of.over.wait(reply.delay + of.far)
        content = reply.content
        headers = dict(reply.headers)
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.reply(reply.status, content, headers)


class _StoreHandler(_Handler):
    """Hands a PUT on to S3. The signature holds: it is of the host that the client asked."""

    def do_PUT(self) -> None:
        of = self.server.of
        size = left = int(self.headers["Content-Length"])
        store = HTTPConnection(urlsplit(of.s3.endpoint).netloc, timeout=_CLIENT_TIMEOUT)
        try:
            store.putrequest("PUT", self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "connection":
                    store.putheader(name, value)
            store.endheaders()
            while left:
                piece = self.rfile.read(min(left, _PIECE_BYTES))
                if not piece:
                    return  # the client went away
                left -= len(piece)
                with suppress(ConnectionError):  # the store may refuse early
                    store.send(piece)
                if of.speed is not None:
                    of.over.wait(len(piece) / of.speed)
            answer = store.getresponse()
            body = answer.read()
        finally:
            store.close()
        key = unquote(urlsplit(self.path).path).removeprefix(f"/{of.s3.bucket}/")
        of.puts.append(Put(key, self.lower_headers(), size, answer.status))
        dropped = {"connection", "content-length", "transfer-encoding", "date", "server"}
        headers = {
            name: value for name, value in answer.getheaders() if name.lower() not in dropped
        }
        of.over.wait(of.far)
        self.reply(answer.status, body, headers)


@dataclass(frozen=True)
class SdkBuild:
    """What a build by the SDK asked the stand-in for.

    Attributes:
        template_id, build_id: the SDK's own answer.
        calls: all of them.
        hashes: those that it asked a link for, in that order.
        puts: its uploads.
        keys: where in S3 the archive of each hash is.
        seconds: wall time.
    """

    template_id: str
    build_id: str
    calls: tuple[Call, ...]
    hashes: tuple[str, ...]
    puts: tuple[Put, ...]
    keys: Mapping[str, str]
    seconds: float


def sdk_build(
    server: Standin,
    context: Path,
    copies: Iterable[tuple[str, str]] = (),
    *,
    name: str = "sdk",
    dockerfile: str | None = None,
    ignore: Sequence[str] = (),
    use_async: bool = False,
    wait: bool = False,
    **copy_options: Any,
) -> SdkBuild:
    """Build a template with E2B's SDK, as it is.

    Args:
        server: what it builds against.
        context: the folder.
        copies: source and destination of each COPY.
        name: of the template, with or without a tag.
        dockerfile: the text of one to take the steps from, before `copies`.
        ignore: patterns given in code, after those of the file.
        use_async: build with its async twin.
        wait: for the build to be done, as `Template.build` does.
        copy_options: of every COPY, such as `resolve_symlinks` and `force_upload`.
    """
    with _alone():
        import e2b

        of = e2b.AsyncTemplate if use_async else e2b.Template
        blank = of(file_context_path=str(context), file_ignore_patterns=list(ignore))
        template = blank.from_dockerfile(dockerfile) if dockerfile else blank.from_image("scratch")
        for source, destination in copies:
            template = template.copy(source, destination, **copy_options)
        calls, puts = len(server.calls), len(server.puts)
        start = time.monotonic()
        build = of.build if wait else of.build_in_background
        built = build(template, name, api_key=server.key, api_url=server.url)
        info = asyncio.run(built) if asyncio.iscoroutine(built) else built
        seconds = time.monotonic() - start
    asked = tuple(server.calls[calls:])
    hashes = tuple(call.arguments[1] for call in asked if call.name == "link")
    return SdkBuild(
        template_id=info.template_id,
        build_id=info.build_id,
        calls=asked,
        hashes=hashes,
        puts=tuple(server.puts[puts:]),
        keys={each: server.key_of(info.template_id, each) for each in hashes},
        seconds=seconds,
    )


@contextmanager
def _alone() -> Iterator[None]:
    """Take the settings out that would lead the SDK elsewhere. Its Rust client sees no guard."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("E2B_") or name.lower().endswith("_proxy"):
                patch.delenv(name)
        yield
