"""A fake E2B API on loopback with a real S3 server behind it, and a build by the E2B SDK.

The fake answers what `Template.build` of the SDK calls, and misbehaves on request. An archive is
present if its object is in S3. PUTs go through the fake, which counts them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import secrets
import string
import threading
import uuid
from collections import defaultdict, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.environment import without_settings
from tests.support.faultproxy import forward
from tests.support.rawserver import raw_server, response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.rawserver import Connection
    from tests.support.seaweed import Seaweed

_ROUTES = {
    "request": re.compile(r"POST /v3/templates"),
    "alias": re.compile(r"GET /templates/aliases/([^/]+)"),
    "link": re.compile(r"GET /templates/([^/]+)/files/([^/]+)"),
    "start": re.compile(r"POST /v2/templates/([^/]+)/builds/([^/]+)"),
    "status": re.compile(r"GET /templates/([^/]+)/builds/([^/]+)/status"),
}


@dataclass(frozen=True)
class Reply:
    """An answer: an object, which is sent as JSON, or bytes, which are sent unchanged."""

    status: int
    content: object
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0


Behaviour: TypeAlias = "Callable[[Reply], Reply]"
"""Changes a correct reply into another one."""


def refusal(status: int, message: str = "made up", **more: object) -> Reply:
    return Reply(status, {"code": status, "message": message, **more})


def error(
    status: int,
    message: str = "made up",
    *,
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> Behaviour:
    """Answer with an error in E2B's format; `more` are further members."""
    return lambda _: dataclasses.replace(refusal(status, message, **more), headers=headers or {})


def text(body: bytes, status: int = 200) -> Behaviour:
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
    """Answer with valid JSON of at least this many bytes."""
    return with_members(padding="x" * size)


def _object(reply: Reply) -> dict[str, object]:
    assert isinstance(reply.content, dict)
    return reply.content


@dataclass(frozen=True)
class Call:
    """One call of the API, and the status of its answer.

    Attributes:
        name: a key of `_ROUTES`, or empty if the fake does not know the call.
        method: of the request.
        target: of the request.
        arguments: the variable segments of the path, unescaped.
        headers: with names in lower case.
        body: parsed.
        status: of the answer.
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
    """One PUT of an object, and the status that the store returned."""

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


@dataclass
class Standin:
    """E2B's API of one team.

    Attributes:
        s3: the store.
        url: for E2B_API_URL.
        upload: the endpoint of the store that links name.
        key: for E2B_API_KEY.
        calls: so far, in the order of their answers.
        puts: so far, if the store answered them.
        link_seconds: how long the next links are valid.
        link_headers: what the next links require, such as `Content-Type`; they are signed.
        far: seconds before each answer, also of the store.
        speed: bytes per second that the store accepts on each connection, or None for no limit.
        knows_ids: True if a template is also found by its id, as in E2B's own service.
    """

    s3: Seaweed
    url: str = ""
    upload: str = ""
    key: str = field(default_factory=lambda: f"e2b_{secrets.token_hex(20)}")
    calls: list[Call] = field(default_factory=list)
    puts: list[Put] = field(default_factory=list)
    link_seconds: int = 30 * 60
    link_headers: dict[str, str] = field(default_factory=dict)
    far: float = 0
    speed: float | None = None
    knows_ids: bool = True

    def __post_init__(self) -> None:
        self._scripts: dict[str, deque[Behaviour]] = defaultdict(deque)
        self._templates: list[_Template] = []
        self._lock = threading.Lock()

    def script(self, name: str, *behaviours: Behaviour) -> None:
        """Let the next calls of this name meet one behaviour each."""
        self._scripts[name].extend(behaviours)

    def add(self, name: str, *, is_mine: bool = True) -> str:
        """Create a template of this team or of another one, and return its id."""
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
        """Return a stored archive."""
        return self.s3.get(self.key_of(template_id, files_hash))

    def answer_call(self, connection: Connection) -> None:
        """Play the API: record and answer one call."""
        request = connection.read_request()
        path = f"{request.method} {urlsplit(request.target).path}"
        routes = ((name, route.fullmatch(path)) for name, route in _ROUTES.items())
        name, match = next((found for found in routes if found[1]), ("", None))
        arguments = tuple(map(unquote, match.groups())) if match else ()
        headers = _lower(request.headers)
        said = json.loads(request.body) if request.body else None
        with self._lock:
            reply = self._correct(name, arguments, headers, said, request.target)
            if self._scripts[name]:
                reply = self._scripts[name].popleft()(reply)
            call = (name, request.method, request.target, arguments, headers, said, reply.status)
            self.calls.append(Call(*call))
        connection.wait(reply.delay + self.far)
        content, sent = reply.content, dict(reply.headers)
        if not isinstance(content, bytes):
            content, sent["Content-Type"] = json.dumps(content).encode(), "application/json"
        connection.send(response(reply.status, content, sent))

    def forward_put(self, connection: Connection) -> None:
        """Play the store. The signature holds: it covers the host that the client asked."""

        def on_piece(size: int) -> None:
            if self.speed is not None:
                connection.wait(size / self.speed)

        def on_answer(_: Connection, answered: bytes) -> None:
            request = connection.request
            path = unquote(urlsplit(request.target).path)
            key, status = path.removeprefix(f"/{self.s3.bucket}/"), int(answered.split(b" ", 2)[1])
            self.puts.append(Put(key, _lower(request.headers), request.body_bytes, status))
            connection.wait(self.far)

        port = urlsplit(self.s3.endpoint).port or 0
        forward(port, on_piece=on_piece, on_answer=on_answer)(connection)

    def _correct(
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
        there = dataclasses.replace(self.s3, endpoint=self.upload)
        content: dict[str, object] = {
            "present": self.s3.exists(key),
            "url": there.presign_put(key, self.link_seconds, **signed),
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
def standin(s3: Seaweed) -> Iterator[Standin]:
    """Run a fake while the block runs."""
    server = Standin(s3)
    with raw_server(server.answer_call) as api, raw_server(server.forward_put) as store:
        server.url, server.upload = api.url, store.url
        yield server


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


@dataclass(frozen=True)
class SdkBuild:
    """What a build by the SDK did.

    Attributes:
        template_id: of the template.
        calls: all calls of the API.
        hashes: those of the links, in the order of the calls.
        puts: its uploads.
        keys: of the archives in S3, by their hashes.
    """

    template_id: str
    calls: tuple[Call, ...]
    hashes: tuple[str, ...]
    puts: tuple[Put, ...]
    keys: Mapping[str, str]


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
    """Build a template with E2B's SDK.

    Args:
        server: the API.
        context: the directory.
        copies: source and destination of each COPY.
        name: of the template, with or without a tag.
        dockerfile: the text of a Dockerfile whose steps come before `copies`.
        ignore: patterns that follow those of the ignore file.
        use_async: True for `AsyncTemplate`.
        wait: True to wait for the build, as `Template.build` does.
        copy_options: of every COPY, such as `resolve_symlinks` and `force_upload`.
    """
    with without_settings():  # its Rust client bypasses the guard of tests/conftest.py
        import e2b

        of = e2b.AsyncTemplate if use_async else e2b.Template
        blank = of(file_context_path=str(context), file_ignore_patterns=list(ignore))
        template = blank.from_dockerfile(dockerfile) if dockerfile else blank.from_image("scratch")
        for source, destination in copies:
            template = template.copy(source, destination, **copy_options)
        calls, puts = len(server.calls), len(server.puts)
        build = of.build if wait else of.build_in_background
        built = build(template, name, api_key=server.key, api_url=server.url)
        info = asyncio.run(built) if asyncio.iscoroutine(built) else built
    asked = tuple(server.calls[calls:])
    hashes = tuple(call.arguments[1] for call in asked if call.name == "link")
    return SdkBuild(
        template_id=info.template_id,
        calls=asked,
        hashes=hashes,
        puts=tuple(server.puts[puts:]),
        keys={each: server.key_of(info.template_id, each) for each in hashes},
    )
