"""The workflow files: checked by three linters; the release's tag check is run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from ruamel.yaml import YAML

import e2b_upload
from tests.packaging.image import ROOT

BIN: Final = Path(sys.executable).parent
WORKFLOWS: Final = ROOT / ".github/workflows"
VERSION: Final = e2b_upload.__version__


@pytest.mark.parametrize(
    "command",
    [
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
        ["actionlint", f"-shellcheck={BIN / 'shellcheck'}"],
        ["zizmor", "--offline", "--no-progress", "--config", ".github/zizmor.yml"],
    ],
    ids=lambda command: command[0],
)
def test_linters_find_nothing(command: list[str]) -> None:
    if not (BIN / command[0]).exists():
        pytest.skip(f"{command[0]} is not installed")
    ended = subprocess.run(
        [BIN / command[0], *command[1:], *WORKFLOWS.glob("*.yml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_parts_that_workflows_run_exist() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS.glob("*.yml"))
    parts = re.findall(r"(?m)^ +([\w-]+)\)", (ROOT / ".ci/run").read_text())
    targets = re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text())
    named = " ".join(re.findall(r"run: (?:sudo )?\.ci/run (.*)", text)).split()
    assert named
    assert {*named} <= {*parts, *targets}


@pytest.mark.parametrize(
    ("tag", "version", "told"),
    [
        (f"v{VERSION}", VERSION, ""),
        *(
            (tag, VERSION, f"::error::the tag is {tag}, and e2b_upload.__version__ is {VERSION}\n")
            for tag in (f"v{VERSION}.1", VERSION, f"v{VERSION}-rc1")
        ),
        (f"v{VERSION}", "0.0.1", f"::error::CHANGELOG.md says nothing under ## [{VERSION}]\n"),
    ],
)
def test_a_release_needs_its_tag_and_its_part_of_the_changelog(
    tag: str, version: str, told: str, tmp_path: Path
) -> None:
    """Run the first step of the release workflow as GitHub does."""
    (tmp_path / "e2b_upload").mkdir()
    for name in ("__init__.py", "__init__.pyi"):
        shutil.copy(ROOT / "e2b_upload" / name, tmp_path / "e2b_upload")
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## [Unreleased]\n\n- Later.\n\n## [{version}] - 2026-01-01\n\n"
        "### Added\n\n- This.\n\n## [0.0.9] - 2025-01-01\n\n- That.\n"
    )
    steps = YAML(typ="safe").load(WORKFLOWS / "release.yml")["jobs"]["build"]["steps"]
    (script,) = (step["run"] for step in steps if "TAG" in step.get("env", {}))
    ended = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{BIN}:{os.defpath}", "TAG": tag},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (bool(told), told, "")
    if not told:
        assert (tmp_path / "notes.md").read_text() == "\n### Added\n\n- This.\n\n"
