"""How retries and the responses of a store are reported, and which options change them."""

import hashlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.cases import STORED, xml
from tests.cli.conftest import Call
from tests.cli.harness import ACTIONS, QUERY, SUCCESS_KEYS, Place, annotations
from tests.support.rawserver import Script, answer, raw_server, silent

ARCHIVE = b"any file will do"
BUSY = answer(503, xml("SlowDown", "breathe\x1b[2J[/][bold]\nnow"))
PAGE = b"<!doctype html><title>Stored</title>"
OTHER = {"ETag": '"0123456789abcdef0123456789abcdef"'}


@pytest.fixture(autouse=True)
def _archive(place: Place) -> None:
    place.write("archive", ARCHIVE)


# Retries.


def test_retry(call: Call) -> None:
    for more in (["--json"], ["-q"]):
        with raw_server(BUSY, STORED) as server:
            url = f"{server.url}/k?{QUERY}"
            ended = call("build", "ctx", "--url", url, "--retries", "1", *more)
        assert ended.code == 0
        if more == ["-q"]:
            assert ended.err == ""
            continue
        assert ended.json["attempts"] == 2
        (line,) = [line for line in ended.lines if "retrying" in line]
        assert line.startswith("warning: ")
        assert r"503 SlowDown: breathe\x1b[2J[/][bold] now" in line
        assert "retrying in " in line
        assert line.endswith("(attempt 2 of 2)")


def test_put_retries_from_the_spool(call: Call) -> None:
    with raw_server(answer(503), STORED) as server:
        url = f"{server.url}/k?{QUERY}"
        told = call("put", "-", "--url", url, "--retries", "1", "--json", stdin=ARCHIVE).json
    assert told["attempts"] == 2
    assert [request.body for request in server.requests] == [ARCHIVE] * 2


@pytest.fixture
def full_port() -> Iterator[int]:
    """Listen on a port whose queue of connections is full."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # one or two fill the queue
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


LIMITS: dict[str, tuple[str, Script | None, str]] = {
    "--retries": ("1", answer(500), "Tried 2 times."),
    "--stall-timeout": ("0.2", silent(), "no byte moved in time"),
    "--max-time": ("0.2", silent(), "was not done in 0.2 seconds"),
    "--connect-timeout": ("0.2", None, "no connection in time"),
}


@pytest.mark.parametrize("option", LIMITS)
@pytest.mark.parametrize(("command", "way"), [("build ctx", "option"), ("put ctx/a", "variable")])
def test_retries_and_timeouts(
    command: str, way: str, option: str, call: Call, full_port: int
) -> None:
    value, script, words = LIMITS[option]
    name = "E2B_UPLOAD" + option.removeprefix("-").replace("-", "_").upper()
    # The option overrides the variable.
    more, env = ([option, value], {name: "300"}) if way == "option" else ([], {name: value})
    with raw_server(script or STORED) as server:
        port = full_port if script is None else server.port
        url = f"http://127.0.0.1:{port}/k?{QUERY}"
        ended = call(*command.split(), "--url", url, *more, env=env)
    assert ended.code == 5
    assert words in ended.err


# Expired URLs.


def signed(late: int) -> str:
    """Return a query that expired so many seconds ago."""
    date = datetime.now(UTC) - timedelta(seconds=900 + late)
    return f"X-Amz-Date={date:%Y%m%dT%H%M%SZ}&X-Amz-Expires=900&{QUERY}"


@pytest.mark.parametrize(
    ("command", "late", "says_so"),
    [
        *(("build ctx", 60, True), ("put ctx/a", 60, True)),
        *(("build ctx", None, False), ("put ctx/a", -600, False)),
    ],
)
def test_rejection_of_an_expired_url(
    command: str, late: int | None, call: Call, *, says_so: bool
) -> None:
    query = QUERY if late is None else signed(late)
    with raw_server(answer(403)) as server:
        error = call(*command.split(), "--url", f"{server.url}/k?{query}", "--json").told(6)
        assert len(server.requests) == 1  # the store decides
    assert ("By this machine's clock the URL expired" in error["hint"]) is says_so


def test_recently_expired_url_is_still_sent(call: Call) -> None:
    """The clock of the store counts, not that of this machine."""
    with raw_server(STORED) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{signed(60)}")
    assert ended.code == 0
    assert "warning: the URL has expired by this machine's clock" in ended.err


# Objects that exist, checksums, and pages.


@pytest.mark.parametrize("command", ["build ctx", "put archive"])
def test_if_absent(command: str, place: Place, call: Call) -> None:
    args = [*command.split(), "--if-absent", "--url"]
    env = {"GITHUB_STEP_SUMMARY": str(place.path / "summary.md")}
    with raw_server(answer(412, b"", {"x-amz-request-id": "1"})) as server:
        url = f"{server.url}/builds/key"
        told = call(*args, f"{url}?{QUERY}", "--json", env=env).json
        ended = call(*args, f"{url}?{QUERY}")
        quiet = call(*args, f"{url}?{QUERY}", "-q")
    assert list(told) == SUCCESS_KEYS
    assert (told["status"], told["http_status"], told["attempts"]) == ("present", 412, 1)
    assert (told["url"], told["verified"]) == (url, None)
    assert told["archive"]["sha256"]
    assert (ended.code, ended.out) == (0, b"")
    assert ended.lines[-1].startswith(f"present: {url} exists and was left as it is; ")
    assert (quiet.code, quiet.err) == (0, "")
    assert b"If-None-Match: *" in server.requests[0].head
    assert "present" in (place.path / "summary.md").read_text()


def test_ignore_checksum(call: Call) -> None:
    with raw_server(answer(200, b"", OTHER)) as server:
        args = ("put", "archive", "--url", f"{server.url}/k?{QUERY}")
        refused = call(*args)
        told = call(*args, "--ignore-checksum", "--json").json
    assert refused.code == 5
    assert hashlib.md5(ARCHIVE, usedforsecurity=False).hexdigest() in refused.err
    assert "--ignore-checksum" in refused.err
    assert (told["status"], told["verified"]) == ("uploaded", "content-md5")


def test_page_of_an_unknown_server(call: Call) -> None:
    """There it is a warning; in the place of a known store it is an error."""
    with raw_server(answer(200, PAGE)) as server:
        args = ("put", "archive", "--url", f"{server.url}/upload?ticket=1")
        ended, quiet = call(*args, env=ACTIONS), call(*args, "-q")
        error = call("put", "archive", "--url", f"{server.url}/k?{QUERY}", "--json").told(6)
    assert ended.code == 0
    host = f"127.0.0.1:{server.port}"
    assert f"warning: {host} answered 200 with an HTML page" in ended.err
    assert [level for level, _ in annotations(ended)] == ["warning"]
    assert (quiet.code, quiet.err) == (0, "")
    assert "HTML page" in error["message"]
    assert error["http_status"] == 200
