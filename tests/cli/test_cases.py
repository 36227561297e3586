"""Each row of cases.py: exit code, messages, JSON, GitHub annotation, job summary, and secrets."""

from pathlib import Path

import pytest

from tests.cli.cases import DONE, FAILED, UNAVAILABLE, USAGE, Case
from tests.cli.conftest import Call, RunCase
from tests.cli.harness import (
    ACTIONS,
    ARCHIVE_KEYS,
    SECONDS_KEYS,
    SECRETS,
    SUCCESS_KEYS,
    Place,
    annotations,
    secrets_in,
    summary_rows,
)


@pytest.fixture
def summary(place: Place) -> Path:
    return place.path / "summary.md"


@pytest.mark.parametrize("case", DONE, ids=str)
def test_success(case: Case, run_case: RunCase, summary: Path) -> None:
    env = {**ACTIONS, "GITHUB_STEP_SUMMARY": str(summary)}
    if case.asked:
        ended = run_case(case, env=env)
        assert (ended.code, ended.out.decode()) == (0, case.asked)
        if "--tree" in case.command:
            return
    ended = run_case(case, "--json", "-v", "--color", "always", env=env)
    assert ended.code == 0, ended.err
    assert "error" not in ended.err
    assert annotations(ended) == []
    assert secrets_in(ended) == []
    told = ended.json
    assert list(told) == case.keys
    if case.verb in {"ls", "explain", "hash"}:
        assert not summary.exists()  # standard output already has the result
        return
    rows = summary_rows(summary, told["status"])
    if "copies" in told:
        last = told["copies"][-1]
        assert rows["COPY"].startswith(f"{last['copy']}\n{last['status']}")
        assert f"\nfiles hash {last['files_hash']}" in rows["COPY"]
        assert summary.read_text().count(">COPY</th>") == len(told["copies"])
        return
    assert rows["SHA-256"] == told["archive"]["sha256"]
    assert rows.get("to") == told["url"]
    assert f"({told['archive']['bytes']:,} bytes)" in rows["size"]
    assert case.keys == SUCCESS_KEYS
    assert list(told["archive"]) == ARCHIVE_KEYS
    assert list(told["seconds"]) == SECONDS_KEYS
    unsent = "dry-run" if "--dry-run" in case.command else "packed" if case.verb == "pack" else None
    assert told["status"] == (unsent or "uploaded")
    assert (told["http_status"], told["attempts"]) == ((None, 0) if unsent else (200, 1))
    assert (told["url"] is None) == bool(unsent)
    assert "?" not in str(told["url"])


@pytest.mark.parametrize("case", FAILED, ids=str)
def test_failure(case: Case, run_case: RunCase, summary: Path) -> None:
    as_json = [] if "--json" in case.command else ["--json"]
    env = {**ACTIONS, "GITHUB_STEP_SUMMARY": str(summary)}
    ended = run_case(case, *as_json, env=env)
    error = ended.told(case.code)
    *_, message, hint = [line for line in ended.lines if not line.startswith("::")]
    assert message.startswith("error: ")
    assert case.message in message
    assert hint.startswith("  ")
    assert case.hint in hint
    (annotation,) = [text for level, text in annotations(ended) if level == "error"]
    assert annotation == f"{message.removeprefix('error: ')}\n{hint.removeprefix('  ')}"
    rows = summary_rows(summary, "failed")
    assert rows["what happened"].split() == error["message"].split()
    assert rows.get("what to do", "") == error["hint"]
    assert rows["exit code"].startswith(f"{case.code} (")
    assert secrets_in(ended) == []
    assert [secret for secret in SECRETS if secret in summary.read_text()] == []
    if "request id R3QU35T" in case.message:
        response = (error["http_status"], error["code"], error["request_id"])
        assert response == (403, "AccessDenied", "R3QU35T")


@pytest.mark.parametrize("case", [*DONE[:1], *UNAVAILABLE[:1], *USAGE[4:6]], ids=str)
def test_without_json(case: Case, run_case: RunCase) -> None:
    """Standard output is empty, and there is no annotation outside GitHub Actions."""
    ended = run_case(case, env={"GITHUB_ACTIONS": "false"})
    assert (ended.code, ended.out) == (case.code, b"")
    assert ("error: " in ended.err) == bool(case.code)
    assert annotations(ended) == []
    assert secrets_in(ended) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", [*DONE[:1], *UNAVAILABLE[:1], *USAGE[4:6]], ids=str)
@pytest.mark.parametrize("columns", [40, 200])
def test_secrets_on_a_terminal(case: Case, columns: int, run_case: RunCase, place: Place) -> None:
    ended = run_case(case, "-v", runner=place.on_terminal, columns=columns)
    assert ended.code == case.code
    assert secrets_in(ended) == []


@pytest.mark.parametrize(
    "command",
    [
        *("--json", "build --json", "build --json ctx --frobnicate", "frobnicate --json"),
        *("build ctx --json --url", "pack --json ctx --url http://h/k", "put archive --json"),
        *("ls --json ctx --tree", "explain --json ctx"),
    ],
)
def test_json_anywhere_on_the_command_line(command: str, call: Call) -> None:
    call(*command.split()).told(2)
