"""The Dockerfile, without Docker. ``make dist`` runs the commands of its first stage."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import e2b_upload
from tests.packaging.image import ROOT, instructions


def test_the_linter_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint is not installed")
    ended = subprocess.run([linter, "Dockerfile"], cwd=ROOT, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"")


def test_the_context_is_what_is_copied_and_enough_for_a_wheel() -> None:
    copied = [Path(name) for text in instructions("COPY", 0) for name in text.split()[:-1]]
    entries = e2b_upload.collect(ROOT, ignore_file=ROOT / "Dockerfile.dockerignore")
    sent = {Path(entry.path) for entry in entries if entry.type != "directory"}
    assert Path("e2b_upload/py.typed") in sent
    assert [path for path in sent if not any(path.is_relative_to(name) for name in copied)] == []
    assert [name for name in copied if not any(path.is_relative_to(name) for path in sent)] == []
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {"pyproject.toml", *wheel["packages"], *wheel["shared-data"]}
    assert [
        path for path in needed if not any(Path(path).is_relative_to(name) for name in copied)
    ] == []


def test_the_final_stage_has_no_tools_no_root_and_a_volume_for_the_spool() -> None:
    assert "pip" not in " ".join(instructions("RUN", 1))
    assert instructions("COPY", 1) == ["--from=builder /opt/e2b-upload /opt/e2b-upload"]
    (user,) = instructions("USER", 1)
    assert all(int(number) > 0 for number in user.split(":"))
    assert json.loads(instructions("ENTRYPOINT", 1)[0]) == ["e2b-upload"]
    (volume,) = instructions("VOLUME", 1)
    assert f"TMPDIR={volume}" in instructions("ENV", 1)[0].split()
    assert any(f"-m 1777 {volume}" in command for command in instructions("RUN", 1))
