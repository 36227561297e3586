"""`make fuzz`, as far as it goes without atheris."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz.targets import TARGETS


def test_a_file_is_played_to_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[bytes] = []
    monkeypatch.setitem(TARGETS, "url", played.append)
    (tmp_path / "file").write_bytes(b"\xff")
    monkeypatch.setattr("sys.argv", ["fuzz", "url", str(tmp_path / "file")])
    assert fuzz.main() == 0
    assert played == [b"\xff"]


@pytest.mark.parametrize("code", [0, 77])
def test_what_a_target_finds_is_told(
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = "KeyError\nstat::number_of_executed_units: 5\n"
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> SimpleNamespace:
        del options
        commands.append(command)
        return SimpleNamespace(returncode=code, stdout=said)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["fuzz", "--seconds", "3"])
    assert fuzz.main() == bool(code)
    assert [command[4] for command in commands] == [*TARGETS]
    assert all("-max_total_time=3" in command for command in commands)
    out = capsys.readouterr().out
    assert out.startswith("ignore_file: 3 s, 5 inputs\n")
    assert ("KeyError" in out) == ("tree: FAILED" in out) == bool(code)
