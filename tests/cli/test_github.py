"""What GitHub Actions is told: annotations in the log, and a summary of the job."""

from __future__ import annotations

import json
import os
import re
import stat
from html import unescape
from typing import TYPE_CHECKING

import pytest

from tests.cli.cases import DONE, FAILED
from tests.cli.harness import QUERY, SECRETS
from tests.support.rawserver import answer, raw_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.cases import Case
    from tests.cli.conftest import Call, RunCase
    from tests.cli.harness import Ended, Place

ACTIONS = {"GITHUB_ACTIONS": "true"}
MIB = 1 << 20
HOSTILE = ["::error::owned", " ::set-env name=A::b", "a ##[error]owned", "::add-mask::a", "a\n::b"]
# What its runner takes for a command.
COMMAND = re.compile(r"^\s*::|##\[")
ROW = re.compile(r"<tr><th align='left'>(.*?)</th><td>(.*?)</td></tr>")


def noted(ended: Ended) -> list[tuple[str, str]]:
    """Return the level and the text of each, as GitHub decodes it."""
    found = re.findall(r"(?m)^::(\w+) title=e2b-upload::(.*)$", ended.err)
    decoded = [(level, re.sub("%(25|0D|0A)", _character, text)) for level, text in found]
    assert len(decoded) == len([line for line in ended.lines if COMMAND.search(line)])
    return decoded


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))


def rows(summary: str) -> dict[str, str]:
    """Return the table of a summary, as text."""
    return {
        name: unescape(re.sub("<[^>]*>", "", value.replace("<br>", "\n")))
        for name, value in ROW.findall(summary)
    }


@pytest.fixture
def summary(place: Place) -> Path:
    return place.path / "summary.md"


# Annotations.


@pytest.mark.parametrize("case", FAILED, ids=str)
def test_an_error_is_an_annotation_as_well(case: Case, run_case: RunCase) -> None:
    ended = run_case(case, env=ACTIONS)
    assert ended.code == case.code
    (level, text), *more = [told for told in noted(ended) if told[0] == "error"]
    assert more == []
    message, _, hint = text.partition("\n")
    assert f"error: {message}" in ended.lines
    assert f"  {hint}" in ended.lines
    assert level == "error"
    assert [secret for secret in SECRETS if secret in ended.err] == []


@pytest.mark.parametrize("env", [{}, {"GITHUB_ACTIONS": "false"}, {"GITHUB_ACTIONS": ""}], ids=str)
def test_elsewhere_there_is_none(env: dict[str, str], call: Call) -> None:
    ended = call("build", "nowhere", "--dry-run", env=env)
    assert noted(ended) == []


@pytest.mark.parametrize("case", DONE, ids=str)
def test_success_needs_none(case: Case, run_case: RunCase) -> None:
    assert noted(run_case(case, env=ACTIONS)) == []


def test_what_is_warned_of_is_one_as_well(place: Place, call: Call) -> None:
    place.write("ctx/.env", b"TOKEN=x\n")
    place.write("ctx/100%", bytes(2000))
    command = ("build", "ctx", "--dry-run", "--warn-size", "1kB")
    (_, secret), (_, heavy) = told = noted(call(*command, env=ACTIONS))
    assert {level for level, _ in told} == {"warning"}
    assert secret.startswith(".env looks like a credential")
    assert secret.endswith("--secrets off is quiet.")
    assert heavy.startswith("the context holds 2.0 kB")
    assert "\n  2.0 kB  100%\n" in heavy
    assert noted(call(*command, "-q", env=ACTIONS)) == []


# Nothing else is taken for a command.


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_no_command(name: str, place: Place, call: Call) -> None:
    folder = f"ctx/{name}".replace("\n", "\n/")
    place.write(f"{folder}/.env", b"TOKEN=x\n")
    os.mkfifo(place.path / "ctx" / f"{name}.fifo")
    for command in (
        ("build", "ctx", "--dry-run", "-v", "--warn-size", "1"),
        ("build", "ctx", "--dry-run", "--secrets", "deny", "--json"),
        ("build", name, "--dry-run"),
        ("build", "ctx", "--dry-run", "-x", f"[{name}"),
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
        noted(ended)  # there are no others
        for line in ended.out.decode().splitlines():
            assert not COMMAND.search(line), command
        if "--json" in command and ended.code == 0:
            elsewhere = call(*command)
            assert json.loads(ended.out) == json.loads(elsewhere.out)


def test_words_of_a_store_are_no_command(place: Place) -> None:
    body = b"<Error><Code>::error::owned</Code><Message>a&#10;::warning::b ##[c]</Message></Error>"
    with raw_server(answer(403, body)) as server:
        ended = place.run("build", "ctx", "--url", f"{server.url}/k?{QUERY}", env=ACTIONS)
    assert ended.code == 6
    assert [level for level, _ in noted(ended)] == ["error"]


# The summary.


@pytest.mark.parametrize("case", [*DONE, *FAILED], ids=str)
def test_the_summary_tells_what_the_object_tells(
    case: Case, run_case: RunCase, summary: Path
) -> None:
    if not case.takes("--json"):
        return
    ended = run_case(case, "--json", env={"GITHUB_STEP_SUMMARY": str(summary)})
    if case.code == 0 and case.verb in {"ls", "explain", "hash"}:
        assert not summary.exists()  # what was asked for is the summary
        return
    told = ended.json
    text = summary.read_text()
    assert text.startswith(f"\n\n### e2b-upload: {told['status']}\n\n<table>\n")
    assert text.endswith("</table>\n")
    found = rows(text)
    if case.code:
        error = told["error"]
        assert found["what happened"].split() == error["message"].split()
        assert found.get("what to do", "") == error["hint"]
        assert f"(exit code {case.code})" in found["kind"]
    elif "copies" in told:
        assert found["template"] == told["template_id"]
        last = told["copies"][-1]
        assert found["COPY"].startswith(f"{last['copy']}\n{last['status']}")
        assert f"\nfiles hash {last['files_hash']}" in found["COPY"]
        assert text.count("<tr><th align='left'>COPY</th>") == len(told["copies"])
    else:
        assert found["SHA-256"] == told["archive"]["sha256"]
        assert found.get("to") == told["url"]
        assert f"({told['archive']['bytes']:,} bytes)" in found["size"]
    assert [secret for secret in SECRETS if secret in text] == []


def test_it_is_added_to_what_others_wrote(call: Call, summary: Path) -> None:
    summary.write_text("before")
    for _ in range(2):
        call("build", "ctx", "--dry-run", env={"GITHUB_STEP_SUMMARY": str(summary)})
    text = summary.read_text()
    assert text.startswith("before\n\n### e2b-upload: dry-run\n\n")
    assert text.count("### e2b-upload") == 2


def test_nothing_in_it_is_markup(call: Call, summary: Path) -> None:
    name = "</code><img src=x> `a` [b](http://h) @c \n\n# d & \x1b[2J"
    call("build", name, "--dry-run", env={"GITHUB_STEP_SUMMARY": str(summary)})
    (row,) = [row for row in ROW.findall(summary.read_text()) if row[0] == "what happened"]
    assert re.sub("</?code>|<br>", "", row[1]).count("<") == 0
    assert "\x1b" not in row[1]
    assert row[1].count("&lt;img src=x&gt;") == 1


def test_the_file_is_made_as_others_are(call: Call, summary: Path) -> None:
    call("build", "ctx", "--dry-run", env={"GITHUB_STEP_SUMMARY": str(summary)})
    assert stat.S_IMODE(summary.stat().st_mode) == 0o644


def _folder(path: Path) -> None:
    path.mkdir()


def _unread(path: Path) -> None:
    os.mkfifo(path)


def _full(path: Path) -> None:
    path.write_bytes(b"x" * (MIB - 10))


@pytest.mark.parametrize("make", [_folder, _unread, _full])
def test_a_summary_that_cannot_be_written_changes_nothing(
    make: object, call: Call, summary: Path
) -> None:
    assert callable(make)
    make(summary)
    before = summary.stat().st_size
    ended = call("build", "ctx", "--dry-run", env={"GITHUB_STEP_SUMMARY": str(summary)})
    assert ended.code == 0
    assert "dry-run: " in ended.lines[-1]
    assert summary.stat().st_size == before


@pytest.mark.parametrize("path", ["", "/dev/full", "nowhere/summary.md"])
def test_nor_does_one_that_is_nowhere(path: str, call: Call) -> None:
    ended = call("build", "ctx", "--dry-run", env={"GITHUB_STEP_SUMMARY": path})
    assert ended.code == 0
    assert "dry-run: " in ended.lines[-1]
