"""What a person, and a script, are told of attempts that fail; and who sets how many there are."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from e2b_upload.events import Expiring
from e2b_upload.pipeline import Target
from e2b_upload.transfer.retry import Patience
from e2b_upload.transfer.url import parse
from tests.cli.cases import STORED, xml
from tests.cli.conftest import Call
from tests.cli.harness import QUERY
from tests.support.rawserver import Script, answer, raw_server, silent

if TYPE_CHECKING:
    from e2b_upload.events import Event

BUSY = answer(503, xml("SlowDown", "breathe\x1b[2J[/][bold]\nnow"))
SHOWN = r"503 SlowDown: breathe\x1b[2J[/][bold] now"


def test_a_retry_is_told_with_its_reason_and_its_wait(call: Call) -> None:
    with raw_server(BUSY, STORED) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}", "--retries", "1", "--json")
    assert ended.code == 0
    assert ended.json["attempts"] == 2
    (line,) = [line for line in ended.lines if "retrying" in line]
    assert line.startswith("warning: ")
    assert SHOWN in line
    assert "retrying in " in line
    assert line.endswith("(attempt 2 of 2)")


def test_the_last_failure_tells_how_often_it_was_tried(call: Call) -> None:
    with raw_server(BUSY) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}", "--retries", "1")
    assert ended.code == 5
    assert len(server.requests) == 2
    assert "Tried 2 times." in ended.err


def test_quiet_says_nothing_of_a_retry_that_helped(call: Call) -> None:
    with raw_server(BUSY, STORED) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}", "--retries", "1", "-q")
    assert (ended.code, ended.err) == (0, "")


@pytest.fixture
def full_port() -> Iterator[int]:
    """Listen where no connection is taken any more."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # one or two fill the queue
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


OPTIONS: dict[str, tuple[str, Script | None, str]] = {
    "--retries": ("2", answer(500), "Tried 3 times"),
    "--stall-timeout": ("0.5", silent(), "no byte moved in time"),
    "--max-time": ("0.5", silent(), "was not done in 0.5 seconds"),
    "--connect-timeout": ("0.5", None, "no connection in time"),
}


@pytest.mark.parametrize("way", ["option", "environment"])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("command", ["build ctx", "put ctx/a"])
def test_patience_is_set(command: str, way: str, option: str, call: Call, full_port: int) -> None:
    value, script, words = OPTIONS[option]
    name = "E2B_UPLOAD" + option.removeprefix("-").replace("-", "_").upper()
    # An option wins over the environment.
    more, env = ([option, value], {name: "300"}) if way == "option" else ([], {name: value})
    with raw_server(script or STORED) as server:
        port = full_port if script is None else server.port
        url = f"http://127.0.0.1:{port}/k?{QUERY}"
        ended = call(*command.split(), "--url", url, *more, env=env)
    assert ended.code == 5
    assert words in ended.err


def test_a_url_that_expires_soon_is_warned_of() -> None:
    events: list[Event] = []
    date, expires = "X-Amz-Date=20260101T000000Z", "X-Amz-Expires=3153600000"
    url = parse(f"https://store.invalid/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&{date}&{expires}")
    target = Target(url, {}, Patience(), None, events.append, None)
    target.foresee(60)
    assert not events
    target.foresee(3_153_600_000)
    (event,) = events
    assert isinstance(event, Expiring)
    assert 0 < event.seconds < 3_153_600_000


EXPIRED_AGO = {"AWS SigV4": 60, "a URL that does not tell": None, "AWS SigV4, valid": -600}


@pytest.mark.parametrize("late", EXPIRED_AGO.values(), ids=EXPIRED_AGO)
@pytest.mark.parametrize("command", ["build ctx", "put ctx/a"])
def test_a_refusal_of_a_url_that_expired_says_so(
    command: str, late: int | None, call: Call
) -> None:
    query = QUERY
    if late is not None:
        signed = datetime.now(UTC) - timedelta(seconds=900 + late)
        query = f"X-Amz-Date={signed:%Y%m%dT%H%M%SZ}&X-Amz-Expires=900&{QUERY}"
    with raw_server(answer(403)) as server:
        error = call(*command.split(), "--url", f"{server.url}/k?{query}", "--json").told(6)
        assert len(server.requests) == 1  # the store decides
    said = "By this machine's clock the URL expired" in error["hint"]
    assert said is (late == 60), error


def test_a_url_that_expired_a_minute_ago_may_be_valid_by_the_stores_clock(call: Call) -> None:
    signed = datetime.now(UTC) - timedelta(seconds=960)
    query = f"X-Amz-Date={signed:%Y%m%dT%H%M%SZ}&X-Amz-Expires=900&{QUERY}"
    with raw_server(STORED) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{query}")
    assert ended.code == 0
    assert "warning: the URL has expired by this machine's clock" in ended.err
