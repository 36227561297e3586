"""The workflows: read as GitHub reads them, and the release's own shell run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

import e2b_upload
from tests.packaging.image import ROOT

BIN: Final = Path(sys.executable).parent
WORKFLOWS: Final = sorted((ROOT / ".github/workflows").glob("*.yml"))
VERSION: Final = e2b_upload.__version__


def read(name: str) -> dict[str, Any]:
    workflow: dict[str, Any] = YAML(typ="safe").load(ROOT / ".github/workflows" / name)
    return workflow


@pytest.mark.parametrize(
    "command",
    [
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
        ["actionlint", f"-shellcheck={BIN / 'shellcheck'}"],
        ["zizmor", "--offline", "--no-progress", "--config", ".github/zizmor.yml"],
    ],
    ids=lambda command: command[0],
)
def test_nothing_is_wrong_with_a_workflow(command: list[str]) -> None:
    if not (BIN / command[0]).exists():
        pytest.skip(f"{command[0]} is not installed")
    ended = subprocess.run(
        [BIN / command[0], *command[1:], *WORKFLOWS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_job_may_do_what_it_is_there_for_and_no_more() -> None:
    assert {
        (path.name, name): job["permissions"]
        for path in WORKFLOWS
        for name, job in read(path.name)["jobs"].items()
    } == {
        ("ci.yml", "lint"): {"contents": "read"},
        ("ci.yml", "test"): {"contents": "read"},
        ("ci.yml", "dist"): {"contents": "read"},
        ("ci.yml", "image"): {"contents": "read"},
        ("release.yml", "build"): {"contents": "read"},
        ("release.yml", "attest"): {"attestations": "write", "id-token": "write"},
        ("release.yml", "publish"): {"id-token": "write"},
        ("release.yml", "announce"): {"contents": "write"},
    }
    assert [read(path.name)["permissions"] for path in WORKFLOWS] == [{}, {}]


def test_only_what_was_tried_and_attested_is_published() -> None:
    jobs = read("release.yml")["jobs"]
    assert [jobs[name]["needs"] for name in ("attest", "publish", "announce")] == [
        *("build", "attest", "publish")
    ]
    assert jobs["publish"]["environment"]["name"] == "pypi"


def test_what_ci_runs_is_there() -> None:
    steps = [step for job in read("ci.yml")["jobs"].values() for step in job["steps"]]
    runs = [step["run"] for step in steps if ".ci/run" in step.get("run", "")]
    parts = re.findall(r"(?m)^    (\w+)\)", (ROOT / ".ci/run").read_text())
    targets = re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text())
    assert runs
    for run in runs:
        assert {*run.partition(".ci/run ")[2].split()} <= {*parts, *targets}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give what the release's first steps look at."""
    (tmp_path / "e2b_upload").mkdir()
    shutil.copy(ROOT / "e2b_upload/__init__.py", tmp_path / "e2b_upload")
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## [Unreleased]\n\n- Later.\n\n## [{VERSION}] - 2026-01-01\n\n"
        "### Added\n\n- This.\n\n## [0.0.9] - 2025-01-01\n\n- That.\n"
    )
    return tmp_path


def checked(checkout: Path, tag: str) -> subprocess.CompletedProcess[str]:
    """Run the step that compares the tag with the version, as GitHub runs it."""
    steps = read("release.yml")["jobs"]["build"]["steps"]
    (script,) = (step["run"] for step in steps if step.get("env", {}).keys() == {"TAG"})
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=checkout,
        env={"PATH": f"{BIN}:{os.defpath}", "TAG": tag},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_tag_that_is_the_version_is_released_with_its_part_of_the_changelog(
    checkout: Path,
) -> None:
    ended = checked(checkout, f"v{VERSION}")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert (checkout / "notes.md").read_text() == "\n### Added\n\n- This.\n\n"


@pytest.mark.parametrize("tag", [f"v{VERSION}.1", VERSION, "v", f"v{VERSION}-rc1"])
def test_another_tag_is_not_released(tag: str, checkout: Path) -> None:
    ended = checked(checkout, tag)
    assert ended.returncode == 1
    assert ended.stdout == f"::error::the tag is {tag}, and e2b_upload.__version__ is {VERSION}\n"


def test_a_version_that_the_changelog_does_not_know_is_not_released(checkout: Path) -> None:
    changelog = checkout / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace(f"## [{VERSION}]", "## [0.0.1]"))
    ended = checked(checkout, f"v{VERSION}")
    assert ended.returncode == 1
    assert ended.stdout == f"::error::CHANGELOG.md says nothing under ## [{VERSION}]\n"
