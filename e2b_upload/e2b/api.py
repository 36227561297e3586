"""E2B's API, as far as an upload needs it: which template, and where its files are put.

The calls are those of E2B's Python SDK 2.63.0. The key goes to the API's own address and nowhere
else, so no redirect is followed. What the API answers comes from outside: it is bounded and checked
before it is used or shown.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from e2b_upload.errors import RefusedError, UnavailableError, UsageError, printable
from e2b_upload.transfer.answer import PASSING_STATUS, redact_location
from e2b_upload.transfer.attempts import Attempts
from e2b_upload.transfer.exchange import Request
from e2b_upload.transfer.headers import checked_headers
from e2b_upload.transfer.retry import read_retry_after
from e2b_upload.transfer.url import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from e2b_upload.errors import UploadError
    from e2b_upload.events import OnEvent
    from e2b_upload.transfer.answer import Answer
    from e2b_upload.transfer.attempts import Plan
    from e2b_upload.transfer.retry import Patience
    from e2b_upload.transfer.url import PresignedUrl

    # What a status means: what happened, and what to do next.
    Meanings: TypeAlias = Mapping[int, tuple[str, str]]

Read = TypeVar("Read")

DOMAIN = "e2b.app"

_KEYS_PAGE = "https://e2b.dev/dashboard"
_GOOD_KEY = f"The key comes from E2B_API_KEY: is it whole, and of the right team? See {_KEYS_PAGE}"
_GOOD_ADDRESS = (
    "Set E2B_API_URL to the whole address of the API, or E2B_DOMAIN to a domain such as e2b.app."
)

_DOMAIN = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")
_HASH = re.compile("[0-9a-f]{64}")
# No COPY hashes to it: what is hashed begins with that word.
_HASH_OF_NOTHING = hashlib.sha256().hexdigest()

_MAX_NAME = 256  # characters; an id has 20
_MAX_WORDS = 500  # characters of the API's words that are shown
# Azure wants one header with a PUT, and nobody many.
_MAX_HEADERS, _MAX_HEADER_CHARS = 64, 16 * 1024
# E2B documents none; here is where proxies and tracing put theirs.
_REQUEST_ID = ("x-request-id", "x-trace-id", "traceparent", "x-cloud-trace-context", "cf-ray")
_NOT_FOUND = 404


class _NonsenseError(Exception):
    """An answer that does not say what E2B's API would say; the words tell why."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where the files of one hash are put.

    Attributes:
        present: whether they are there already.
        url: a presigned one, for 30 minutes; None only where they are present.
        headers: what must be sent with the PUT.
    """

    present: bool
    url: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class Api:
    """Asks E2B's API, each time in as many attempts as it takes.

    Several threads may ask at once.

    Args:
        key: of a team.
        url: the address of the API; None for that of the domain.
        domain: None for E2B's own.
        patience: how often, and how long; its ``max_time`` holds for each call.
        on_event: told of retries.

    Raises:
        UsageError: no key, or a key or an address that cannot be used.
    """

    def __init__(
        self,
        key: str | None,
        *,
        url: str | None = None,
        domain: str | None = None,
        patience: Patience,
        on_event: OnEvent,
    ) -> None:
        self._key = _checked_key(key)
        self._address = replace(_address(url, domain), more_secrets=frozenset({self._key}))
        self._patience = patience
        self._on_event = on_event

    def template_id(self, name_or_id: str, *, create: bool = False) -> str:
        """Return the id of a template of the key's team.

        A name and an id are looked up alike, and the answer has the id: E2B's own service knows
        both. Some servers know names alone, so what is not found is taken for an id if the server
        gives a link to upload to for it. Nothing is concluded from what the text looks like.

        Args:
            name_or_id: may have a namespace and a tag, ``namespace/name:tag``. The tag names a
                build of the template: it does not matter here, be there such a build or not.
            create: whether to request a template of that name where there is none. That registers
                a build, as the SDK does, whose own then takes its place.

        Raises:
            UsageError: what can be no name.
            RefusedError: there is none, or it is another team's; a wrong key.
            UnavailableError: the API or the network failed as often as it was tried.
            AbandonedError: it was cancelled.
        """
        name = _checked(name_or_id.partition(":")[0])
        shown = printable(name)
        try:
            return self._ask(
                "GET",
                f"/templates/aliases/{quote(name, safe='')}",
                _read_id,
                meanings={
                    403: (
                        f"the template '{shown}' is another team's",
                        "Choose another name, or set E2B_API_KEY to a key of that team.",
                    ),
                    404: (
                        f"this team has no template '{shown}'",
                        "Is the name right, and the key of the right team? `create` creates it.",
                    ),
                },
            )
        except RefusedError as error:
            if error.http_status != _NOT_FOUND:
                raise
            missing = error
        try:
            self.upload_link(name, _HASH_OF_NOTHING)
        except RefusedError as error:
            if error.http_status != _NOT_FOUND:
                raise
        else:
            return name
        if not create:
            raise missing
        # Where an answer gets lost and this is sent again, it meets the template of the first time.
        return self._ask(
            "POST",
            "/v3/templates",
            _read_id,
            body={"name": name_or_id},
            meanings={
                403: (
                    f"this team cannot have a template '{shown}'",
                    "Choose another name, or set E2B_API_KEY to a key of the right team.",
                )
            },
        )

    def upload_link(self, template_id: str, files_hash: str) -> Link:
        """Return where the files of one COPY are put, and whether they are there already.

        Args:
            template_id: as :meth:`template_id` returned it.
            files_hash: 64 lower-case hexadecimal digits.

        Raises:
            UsageError: what can be no id or hash.
            RefusedError: the team has no such template; a wrong key; a link that cannot be used.
            UnavailableError: the API or the network failed as often as it was tried.
            AbandonedError: it was cancelled.
        """
        if not _HASH.fullmatch(files_hash):
            raise UsageError(
                f"'{printable(files_hash[:_MAX_NAME])}' is not a files hash",
                hint="It has 64 lower-case hexadecimal digits.",
            )
        return self._ask(
            "GET",
            f"/templates/{quote(_checked(template_id), safe='')}/files/{files_hash}",
            _read_link,
            meanings={
                404: (
                    f"the template '{printable(template_id)}' is not this team's, or is gone",
                    "Is it the right template, and the key of the right team?",
                )
            },
        )

    def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[dict[str, Any]], Read],
        *,
        body: object = None,
        meanings: Meanings,
    ) -> Read:
        """Ask until there is an answer, and return what is read in it.

        Args:
            method: ``GET`` or ``POST``.
            path: below the API's address, escaped.
            read: takes the object that was answered.
            body: is sent as JSON; None for nothing.
            meanings: of statuses that mean something of their own in this call.
        """
        address = self._address
        url = replace(address, url=address.url + path, shown=address.shown + path)
        headers = {"X-API-KEY": self._key, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = Request(method, url, headers, b"" if body is None else json.dumps(body).encode())

        def ask() -> Plan[Read]:
            answer = yield request
            if not _is_success(answer):
                raise _failure(answer, url, meanings)
            return _read(answer, url, read)

        return Attempts(self._patience, f"the request to {url.host}", self._on_event).run(ask)


def _is_success(answer: Answer) -> bool:
    return 200 <= answer.http_status < 300  # noqa: PLR2004


def _is_redirect(answer: Answer) -> bool:
    return 300 <= answer.http_status < 400  # noqa: PLR2004


def _is_passing(answer: Answer) -> bool:
    """Whether the answer may be another the next time. E2B's API may say so itself."""
    if (told := answer.headers.get("should-retry")) is not None:
        return told.strip().lower() == "true"
    return answer.http_status in PASSING_STATUS


def _read(answer: Answer, url: PresignedUrl, read: Callable[[dict[str, Any]], Read]) -> Read:
    """Return what is read in an answer of success."""
    status = answer.http_status
    if answer.is_cut:
        raise UnavailableError(
            f"the answer of {url.host} broke off", hint="Try again.", http_status=status
        )
    try:
        said = _json(answer.body) if answer.whole else None
        if not isinstance(said, dict):
            raise _NonsenseError(f"it answered {status} without an object of JSON")  # noqa: TRY301
        return read(said)
    except _NonsenseError as error:
        raise RefusedError(
            printable(url.redact(f"{url.host} does not answer as E2B's API does: {error}")),
            hint=f"Is it E2B's API at all? {_GOOD_ADDRESS}",
            http_status=status,
        ) from None


def _read_id(said: dict[str, Any]) -> str:
    template_id = said.get("templateID")
    if not isinstance(template_id, str) or not _is_segment(template_id):
        raise _NonsenseError("its answer has no template's id")
    return template_id


def _read_link(said: dict[str, Any]) -> Link:
    present, url = said.get("present"), said.get("url")
    if not isinstance(present, bool):
        raise _NonsenseError("its answer does not tell whether the files are present")
    if url is None and not present:
        raise _NonsenseError("it gave no URL to upload to")
    if url is not None and not isinstance(url, str):
        raise _NonsenseError("the URL that it gave is no text")
    headers = _read_headers(said.get("headers"))
    try:
        return Link(present, None if url is None else parse(url).url, headers)
    except UsageError as error:
        raise _NonsenseError(f"it gave no URL to upload to: {error.message}") from None


def _read_headers(said: object) -> dict[str, str]:
    if said is None:
        return {}
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise _NonsenseError("the headers that it gave are no text")
    if len(said) > _MAX_HEADERS or len("".join([*said, *said.values()])) > _MAX_HEADER_CHARS:
        raise _NonsenseError("the headers that it gave are too many, or too long")
    # The archive's exact length is ours to tell; the SDK leaves this one out, too.
    wanted = {name: value for name, value in said.items() if name.lower() != "content-length"}
    try:
        return checked_headers(wanted)
    except UsageError as error:
        raise _NonsenseError(f"of the headers that it gave, {error.message}") from None


def _failure(answer: Answer, url: PresignedUrl, meanings: Meanings) -> UploadError:
    """Return the error that an answer other than success stands for."""
    status = answer.http_status
    said = _json(answer.body)
    said = said if isinstance(said, dict) else {}

    def first(values: Mapping[str, object], *names: str) -> str | None:
        return next(filter(None, (_words(values.get(name), url) for name in names)), None)

    code, message = first(said, "error_code", "code"), first(said, "message")
    request_id = first(answer.headers, *_REQUEST_ID)
    told = f"{status} {code}" if code and code != str(status) else str(status)
    told += f": {message}" if message else ""
    told += f" (request id {request_id})" if request_id else ""
    kind: type[UploadError] = RefusedError
    if _is_passing(answer):
        kind = UnavailableError
        what, hint = f"{url.host} cannot answer now", "It may pass: try again later."
    elif _is_redirect(answer):
        where = redact_location(answer, url)
        what, hint = f"{url.host} redirects to {where}, where the key does not go", _GOOD_ADDRESS
    else:
        what, hint = meanings.get(status) or _meaning(status, url)
    error = kind(
        printable(f"{what}: {told}"),
        hint=hint,
        http_status=status,
        code=code,
        request_id=request_id,
    )
    if isinstance(error, UnavailableError):
        error.retry_after = read_retry_after(answer.headers, answer.time)
    return error


def _meaning(status: int, url: PresignedUrl) -> tuple[str, str]:
    """Return what a status means in any call."""
    if status in {401, 403}:
        return f"{url.host} refuses the API key", _GOOD_KEY
    if status == _NOT_FOUND:
        return f"there is nothing at {url.shown}", f"Is it E2B's API at all? {_GOOD_ADDRESS}"
    return f"{url.host} refuses the request", "The same request will be refused again."


def _words(said: object, url: PresignedUrl) -> str | None:
    """Return what a server said: on one line, bounded, and without secrets."""
    if isinstance(said, bool) or not isinstance(said, (str, int)):
        return None
    return " ".join(url.redact(str(said)).split())[:_MAX_WORDS] or None


def _json(text: bytes) -> object:
    """Return what a text says; None where it is no JSON."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def _checked_key(key: str | None) -> str:
    key = (key or "").strip()
    if not key:
        raise UsageError(
            "there is no API key of E2B",
            hint=f"Set E2B_API_KEY to a key of your team: {_KEYS_PAGE}",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            "the API key of E2B holds a space, a control character or a letter that is not ASCII",
            hint=f"Set E2B_API_KEY to the key alone: {_KEYS_PAGE}",
        )
    return key


def _address(url: str | None, domain: str | None) -> PresignedUrl:
    """Return the API's address, to which paths can be appended."""
    if not url:
        domain = (domain or DOMAIN).strip()
        if not _DOMAIN.fullmatch(domain):  # it is not shown: it may be the key by mistake
            raise UsageError(
                "the domain of the E2B API is not a domain", hint=_GOOD_ADDRESS, parameter="domain"
            )
        url = f"https://api.{domain}"
    try:
        address = parse(url)
    except UsageError as error:
        raise UsageError(
            f"the address of the E2B API: {error.message}", hint=_GOOD_ADDRESS, parameter="api_url"
        ) from None
    if "?" in address.url:
        raise UsageError(
            f"the address of the E2B API: the URL {address.shown} holds a query",
            hint=_GOOD_ADDRESS,
            parameter="api_url",
        )
    return replace(address, url=address.url.rstrip("/"), shown=address.shown.rstrip("/"))


def _checked(name: str) -> str:
    """Return the name or the id of a template."""
    if not _is_segment(name):
        raise UsageError(
            f"'{printable(name[:_MAX_NAME])}' is not the name or the id of a template",
            hint="Write it as name, name:tag or namespace/name.",
        )
    return name


def _is_segment(text: str) -> bool:
    """Whether a text can be one segment of a path, where . and .. would be resolved."""
    return 0 < len(text) <= _MAX_NAME and text.isprintable() and text not in {".", ".."}
