"""The Dockerfile, as far as it can be tried without a daemon and an image to begin with.

``make dist`` runs the commands of its first stage.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

import e2b_upload
from tests.packaging.image import ROOT, instructions

IGNORE_FILE: Final = ROOT / "Dockerfile.dockerignore"


def said(word: str, stage: int) -> list[str]:
    return [each.text for each in instructions() if (each.word, each.stage) == (word, stage)]


def copied() -> list[str]:
    """Return what the first stage copies."""
    return [name.rstrip("/") for text in said("COPY", 0) for name in text.split()[:-1]]


def is_copied(path: str) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in copied())


def test_it_reads_as_docker_and_its_users_expect() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint is not installed")
    ended = subprocess.run([linter, "Dockerfile"], cwd=ROOT, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"")


def test_what_is_sent_is_what_is_copied() -> None:
    entries = e2b_upload.collect(ROOT, ignore_file=IGNORE_FILE)
    sent = {entry.path for entry in entries if entry.type != "directory"}
    assert [path for path in sent if not is_copied(path)] == []
    assert [
        name for name in copied() if not any(f"{path}/".startswith(f"{name}/") for path in sent)
    ] == []
    assert "e2b_upload/py.typed" in sent


def test_what_is_copied_is_enough_to_build_a_wheel() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *wheel["packages"],
        *wheel["shared-data"],
    }
    assert [path for path in sorted(needed) if not is_copied(path)] == []


def test_the_image_that_is_kept_has_no_tools_and_no_root() -> None:
    last = 1
    assert "pip" not in " ".join(said("RUN", last))
    assert said("COPY", last) == ["--from=builder /opt/e2b-upload /opt/e2b-upload"]
    (user,) = said("USER", last)
    assert all(int(number) > 0 for number in user.split(":"))
    assert json.loads(said("ENTRYPOINT", last)[0]) == ["e2b-upload"]


def test_the_archive_waits_on_a_volume() -> None:
    (volume,) = said("VOLUME", 1)
    assert f"TMPDIR={volume}" in said("ENV", 1)[0].split()
    assert any(f"-m 1777 {volume}" in command for command in said("RUN", 1))
