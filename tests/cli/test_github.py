"""GitHub Actions: annotations in the log, and the job summary. See test_cases.py, too."""

import json
import os
import re
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.cli.harness import ACTIONS, QUERY, RUNNER_COMMAND, SUMMARY_ROW, Place, annotations
from tests.support.rawserver import answer, raw_server

BUILD = ("build", "ctx", "--dry-run")
HOSTILE = ["::error::owned", " ::set-env name=A::b", "a ##[error]owned", "a\n::b"]
"""File names that look like commands for the runner."""


@pytest.fixture
def summary(place: Place) -> Path:
    return place.path / "summary.md"


def test_warnings(place: Place, call: Call) -> None:
    place.write("ctx/.env", b"TOKEN=x\n")
    place.write("ctx/100%", bytes(2000))
    command = (*BUILD, "--warn-size", "1kB")
    (_, secret), (_, heavy) = told = annotations(call(*command, env=ACTIONS))
    assert {level for level, _ in told} == {"warning"}
    assert secret.startswith(".env looks like a credential")
    assert secret.endswith("--secrets off is quiet.")
    assert heavy.startswith("the context holds 2.0 kB")
    assert "\n  2.0 kB  100%\n" in heavy
    assert annotations(call(*command, "-q", env=ACTIONS)) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_names(name: str, place: Place, call: Call) -> None:
    folder = f"ctx/{name}".replace("\n", "\n/")
    place.write(f"{folder}/.env", b"TOKEN=x\n")
    os.mkfifo(place.path / "ctx" / f"{name}.fifo")
    for command in (
        (*BUILD, "-v", "--warn-size", "1"),
        (*BUILD, "--secrets", "deny", "--json"),
        ("build", name, "--dry-run"),
        (*BUILD, "-x", f"[{name}"),
        ("ls", "ctx"),
        ("ls", "ctx", "--tree"),
        ("ls", "ctx", "--largest", "9"),
        ("ls", "ctx", "--json"),
        ("ls", "ctx", "--copy", ".:/a"),
        ("hash", "ctx", "--copy", f"{name}:/a"),
        ("explain", "ctx", name, "--copy", ".:/a"),
        ("explain", "ctx", name),
        ("explain", "ctx", name, "--json"),
    ):
        ended = call(*command, env=ACTIONS)
        annotations(ended)  # fails if there is any other command
        for line in ended.out.decode().splitlines():
            assert not RUNNER_COMMAND.search(line), command
        if "--json" in command and ended.code == 0:
            assert json.loads(ended.out) == json.loads(call(*command).out)


def test_hostile_response(call: Call) -> None:
    body = b"<Error><Code>::error::owned</Code><Message>a&#10;::warning::b ##[c]</Message></Error>"
    with raw_server(answer(403, body)) as server:
        ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}", env=ACTIONS)
    assert ended.code == 6
    assert [level for level, _ in annotations(ended)] == ["error"]


def test_summary_is_appended(call: Call, summary: Path) -> None:
    for before in (None, "before"):
        summary.unlink(missing_ok=True)
        if before:
            summary.write_text(before)
        for _ in range(2):
            call(*BUILD, env={"GITHUB_STEP_SUMMARY": str(summary)})
        text = summary.read_text()
        assert text.startswith(f"{before or ''}\n\n### e2b-upload: dry-run\n\n")
        assert text.count("### e2b-upload") == 2
        assert stat.S_IMODE(summary.stat().st_mode) == 0o644


def test_summary_escapes_markup(call: Call, summary: Path) -> None:
    name = "</code><img src=x> `a` [b](http://h) @c \n\n# d & \x1b[2J"
    call("build", name, "--dry-run", env={"GITHUB_STEP_SUMMARY": str(summary)})
    (row,) = [row for row in SUMMARY_ROW.findall(summary.read_text()) if row[0] == "what happened"]
    assert re.sub("</?code>|<br>", "", row[1]).count("<") == 0
    assert "\x1b" not in row[1]
    assert row[1].count("&lt;img src=x&gt;") == 1


@pytest.mark.parametrize(
    "kind", ["directory", "FIFO", "full", "", "/dev/full", "nowhere/summary.md"]
)
def test_summary_that_cannot_be_written(kind: str, call: Call, summary: Path) -> None:
    path, size = str(summary), None
    if kind == "directory":
        summary.mkdir()
    elif kind == "FIFO":
        os.mkfifo(summary)
    elif kind == "full":
        summary.write_bytes(b"x" * (size := (1 << 20) - 10))
    else:
        path = kind
    ended = call(*BUILD, env={"GITHUB_STEP_SUMMARY": path})
    assert ended.code == 0
    assert "dry-run: " in ended.lines[-1]
    assert size is None or summary.stat().st_size == size
