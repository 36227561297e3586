"""What a person and a script are told of a success: stored, present, or worth a second look."""

import hashlib

import pytest

from tests.cli.conftest import Call
from tests.cli.harness import QUERY, SUCCESS_KEYS, Place
from tests.support.rawserver import answer, raw_server

ARCHIVE = b"any file will do"
PAGE = b"<!doctype html><title>Stored</title>"
OTHER = {"ETag": '"0123456789abcdef0123456789abcdef"'}


@pytest.fixture(autouse=True)
def _archive(place: Place) -> None:
    place.write("archive", ARCHIVE)


@pytest.mark.parametrize("command", ["build ctx", "put archive"])
def test_an_object_that_exists(command: str, call: Call) -> None:
    args = [*command.split(), "--if-absent", "--url"]
    with raw_server(answer(412)) as server:
        url = f"{server.url}/builds/key"
        told = call(*args, f"{url}?{QUERY}", "--json").json
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


def test_a_job_s_summary_names_it(place: Place, call: Call) -> None:
    with raw_server(answer(412)) as server:
        call(
            *("put", "archive", "--if-absent", "--url", f"{server.url}/k?{QUERY}"),
            env={"GITHUB_STEP_SUMMARY": str(place.path / "summary.md")},
        )
    assert "present" in (place.path / "summary.md").read_text()


@pytest.mark.parametrize("option", ["--if-absent", "--ignore-checksum"])
def test_neither_goes_with_a_template(option: str, call: Call) -> None:
    ended = call("build", "ctx", "--template", "t", "--copy", ".:/app", option)
    assert ended.code == 2
    assert f"{option} and --template exclude each other" in ended.err


def test_ignore_checksum(call: Call) -> None:
    with raw_server(answer(200, b"", OTHER)) as server:
        args = ("put", "archive", "--url", f"{server.url}/k?{QUERY}", "--retries", "0")
        refused = call(*args)
        told = call(*args, "--ignore-checksum", "--json").json
    assert refused.code == 5
    assert hashlib.md5(ARCHIVE, usedforsecurity=False).hexdigest() in refused.err
    assert "--ignore-checksum" in refused.err
    assert (told["status"], told["verified"]) == ("uploaded", None)


def test_a_page_of_an_unknown_server_is_warned_of(call: Call) -> None:
    with raw_server(answer(200, PAGE)) as server:
        args = ("put", "archive", "--url", f"{server.url}/upload?ticket=1")
        ended, quiet = call(*args, env={"GITHUB_ACTIONS": "true"}), call(*args, "-q")
    assert ended.code == 0
    host = f"127.0.0.1:{server.port}"
    assert f"warning: {host} answered 200 with an HTML page" in ended.err
    assert "::warning title=e2b-upload::" in ended.err
    assert (quiet.code, quiet.err) == (0, "")


def test_a_page_in_the_place_of_a_store_is_refused(call: Call) -> None:
    with raw_server(answer(200, PAGE)) as server:
        ended = call("put", "archive", "--url", f"{server.url}/k?{QUERY}", "--json")
    error = ended.told(6)
    assert "HTML page" in error["message"]
    assert error["http_status"] == 200
