"""`build --template`: the report of each COPY, and the requests to E2B and to the store."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from e2b_upload.cli.progress import watch
from e2b_upload.cli.report import Report
from e2b_upload.events import Progress, Started
from tests.cli.cases import api, files_hash, link, link_or_store
from tests.cli.harness import ARCHIVE_KEYS, AT_ANY_MOMENT, COPY_KEYS, KEY, plain, secrets_in
from tests.support.rawserver import answer, raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2b_upload.events import Event
    from tests.cli.conftest import Call
    from tests.cli.harness import Place
    from tests.support.rawserver import RawServer, Script

KNOWN = api(200, {"templateID": "z9y8x7", "public": False})
BUILD = ("build", "ctx", "--template", "t", "--copy", "a:/a", "--copy", ".:/b")


@pytest.fixture
def server() -> Iterator[RawServer]:
    """Act as E2B's API, which has the files of the first COPY only, and as the store."""
    script = link_or_store({files_hash()}, headers={"X-Signed": "yes"})
    with raw_server(KNOWN, script) as server:
        yield server


def env(server: RawServer, **more: str) -> dict[str, str]:
    return {"E2B_API_KEY": KEY, "E2B_API_URL": server.url, **more}


def test_json(server: RawServer, call: Call) -> None:
    told = call(*BUILD, "--json", env=env(server)).json
    assert told["status"] == "uploaded"
    assert told["template_id"] == "z9y8x7"
    there, put = told["copies"]
    assert list(there) == list(put) == COPY_KEYS
    assert there == {
        "copy": "a:/a",
        "files_hash": files_hash(),
        "status": "present",
        "archive": None,
        "url": None,
        "attempts": 0,
        "verified": None,
    }
    body = server.requests[-1].body
    assert list(put["archive"]) == ARCHIVE_KEYS
    assert put["archive"]["sha256"] == hashlib.sha256(body).hexdigest()
    assert (put["copy"], put["status"], put["attempts"]) == (".:/b", "uploaded", 1)
    assert put["url"] == f"{server.url}/bucket/key"


def test_all_present(call: Call) -> None:
    with raw_server(KNOWN, link(present=True)) as server:
        assert call(*BUILD, "--json", env=env(server)).json["status"] == "present"
        assert [request.method for request in server.requests] == ["GET"] * 3


def test_messages(server: RawServer, call: Call) -> None:
    ended = call(*BUILD, "--progress", "none", env=env(server))
    there, put = ended.lines
    assert there == f"present: a:/a, {files_hash()[:12]}…"
    assert put.startswith("uploaded: .:/b, ")
    assert f" from 1 file of 2 B to {server.url}/bucket/key in " in put
    assert ended.out == b""


def test_verbose_messages(server: RawServer, call: Call) -> None:
    lines = call(*BUILD, "--progress", "none", "-v", env=env(server)).lines
    assert lines[0] == "template z9y8x7"
    assert lines.index(f"files hash {files_hash()}") == 2
    assert lines[-1].endswith("the store answered 200, verified by content-md5")


def test_plain_progress(server: RawServer, call: Call) -> None:
    lines = call(*BUILD, "--progress", "plain", env=env(server)).lines
    *steps, there, put = (line.split()[0] for line in lines)
    # The COPYs run at the same time: the last one to be packed reports that all are.
    assert sorted(steps) == ["hashed", "hashing", "hashing", "packed", "packing", "uploading"]
    assert (there, put) == ("present:", "uploaded:")


@pytest.mark.slow
def test_display(server: RawServer, place: Place) -> None:
    ended = place.on_terminal(*BUILD, env=env(server))
    assert ended.code == 0, ended.err
    assert "uploaded: .:/b" in plain(ended.err)


def told(*events: Event) -> None:
    """Report these events as plain lines."""
    with watch(Report(), "plain") as on_event:
        for event in events:
            on_event(event)


def test_plain_progress_of_concurrent_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 0.5)  # half a second per event
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    told(
        Started(step="put", target="a", total=1_000_000),
        Progress(step="put", done=500_000),
        Started(step="pack", total=4_000_000, target="ctx"),
        Progress(step="put", done=800_000),
        Progress(step="pack", done=2_000_000, entries=3),
        Started(step="put", target="b", total=3_000_000, done=900_000),
        Progress(step="put", done=1_400_000),
        Started(step="put", target="b", total=3_000_000, done=1_000_000),  # another attempt
        Started(step="put", target="c", total=3_500_000),  # no progress yet
    )
    assert capsys.readouterr().err.splitlines() == [
        "uploading 1.0 MB to a",
        "  50%, 500.0 kB, 1.0 MB/s",
        "packing ctx",
        "  uploading: 80%, 800.0 kB, 533.3 kB/s",
        "  packing: 50%, 3 entries, 2.0 MB, 2.0 MB/s",
        "uploading 2.0 MB to b",
        "  46%, 1.4 MB, 1.0 MB/s",
        "uploading to b",
        "uploading 500.0 kB to c",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("known", [[], [KNOWN]], ids=["template", "link"])
def test_display_of_a_retry(known: list[Script], place: Place) -> None:
    busy = answer(503, headers={"Retry-After": "90"})
    with raw_server(*known, busy) as server:
        more = env(server, E2B_UPLOAD_RETRIES="2", **AT_ANY_MOMENT)
        with place.seen(*BUILD, env=more) as seen:
            seen.until(r"cannot answer now[\s\S]*! attempt 2 of 3 in 1 min")
            seen.process.send_signal(signal.SIGINT)
            ended = seen.end()
    assert ended.code == 130
    assert not [row for row in seen.screen.rows if row.startswith("!")]


def test_key_is_sent_to_the_api_only(server: RawServer, call: Call) -> None:
    call(*BUILD, env=env(server))
    *asked, put = server.requests
    assert [request.method for request in asked] == ["GET"] * 3
    assert all(("X-API-KEY", KEY) in request.headers for request in asked)
    assert KEY.encode() not in put.head
    assert ("X-Signed", "yes") in put.headers
    assert dict(put.headers)["Content-Length"] == str(len(put.body))


@pytest.mark.parametrize(
    "form",
    [KEY, KEY.upper(), "".join(f"%{ord(char):02x}" for char in KEY), KEY.replace("_", "%5F")],
    ids=["as it is", "upper case", "escaped", "partly escaped"],
)
def test_key_in_a_response(form: str, call: Call) -> None:
    said = f'{{"code": 401, "message": "odd key {form}", "error_code": "{form}"}}'
    with raw_server(answer(401, said.encode(), {"X-Request-Id": form})) as server:
        for more in ([], ["--json", "-v"]):
            ended = call(*BUILD, *more, env=env(server))
            assert ended.code == 6
            assert "odd key …" in ended.err
            assert form not in ended.err + ended.out.decode()


@pytest.mark.parametrize("words", [[KEY], [f"--{KEY}"], [f"--api-key={KEY}"], ["--domain", KEY]])
def test_key_in_the_wrong_place(words: list[str], call: Call) -> None:
    for more in ([], ["--json"]):
        ended = call(*BUILD, *words, *more)
        assert ended.code == 2
        assert secrets_in(ended) == []


def test_options_override_variables(server: RawServer, call: Call, place: Place) -> None:
    place.write("key", KEY.encode())
    wrong = {"E2B_API_KEY": "wrong", "E2B_API_URL": "http://h", "E2B_DOMAIN": "h"}
    options = ["--api-key-file", "key", "--api-url", server.url]
    assert call(*BUILD, *options, env=wrong).code == 0
    ended = call(*BUILD, "--domain", "none.invalid", env=env(server))
    assert ended.code == 5
    assert "api.none.invalid" in ended.err
    assert len(server.requests) == 4


def test_dockerfile(call: Call, place: Place) -> None:
    place.write("ctx/b", b"b")
    place.write("D", b"FROM x\nWORKDIR /w\nCOPY a b ./\nADD a /c\n")
    with raw_server(KNOWN, link(present=True)) as server:
        told = call(
            *("build", "ctx", "--template", "t", "--dockerfile", "D", "--json"), env=env(server)
        ).json
    sources = [each["copy"].partition(":")[0] for each in told["copies"]]
    assert sources == ["a", "b", "a"]


def test_json_of_hash(call: Call) -> None:
    ended = call("hash", "ctx", "--copy", "a:/a", "--json")
    assert ended.json == {"hashes": [{"copy": "a:/a", "files_hash": files_hash()}]}


@pytest.mark.parametrize("option", ["--tree", "--largest"])
def test_order_of_a_listing(option: str, place: Place, call: Call) -> None:
    for name in ("a/b/c", "a/b-d", "a-b/c"):
        place.write(f"ctx/s/{name}", name.encode())
    more = [option, "9"] if option == "--largest" else [option]
    ended = call("ls", "ctx", "--copy", "s/a*/**:/x", *more)
    shown = [line.split()[-1] for line in ended.out.decode().splitlines()]
    if option == "--tree":
        assert shown == ["ctx/", "s/", "a/", "b/", "c", "b-d", "a-b/", "c"]
    else:
        assert shown == ["s/", "s/a/", "s/a/b/", "s/a/b/c", *shown[4:]]
        assert {*shown[4:]} == {"s/a/b-d", "s/a-b/", "s/a-b/c"}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["hash ctx --copy .:/x", "ls ctx --copy .:/x", " ".join(BUILD)])
def test_missing_extra(command: str, place: Place) -> None:
    missing = "import sys\nsys.modules['wcmatch'] = sys.modules['e2b_dockerfile_utils'] = None"
    with raw_server(KNOWN) as server:
        ended = place.run(*command.split(), python=missing, env=env(server))
    assert ended.code == 2
    assert (
        ended.lines[-1]
        == "  They are its extra e2b: install e2b-upload[e2b], or from a clone '.[e2b]'."
    )


def test_listing_of_special_files(place: Place, call: Call) -> None:
    os.mkfifo(place.path / "ctx/fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(place.path / "ctx/socket"))
        listed = call("ls", "ctx", "--copy", ".:/x", "--json").json
    assert [(each["path"], each["type"]) for each in listed["entries"]] == [
        (".", "directory"),
        ("a", "file"),
        ("fifo", "special"),
    ]


def test_glob_in_a_link_loop(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real loop takes too long to build."""

    def circle(*_: object, **__: object) -> Iterator[str]:
        yield "a"
        raise RecursionError

    monkeypatch.setattr("wcmatch.glob.iglob", circle)
    ended = call("hash", "ctx", "--copy", "**/*/**:/d")
    assert ended.code == 2
    assert "matches without end: links lead in a circle" in ended.err
