"""The real Docker command line, where it is installed, sends what we collect."""

import itertools
import os
from pathlib import Path, PurePosixPath

import pytest

import e2b_upload
from tests.context.corpus import CASES, cases
from tests.support.docker_cli import docker_available, docker_entries

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not docker_available(), reason="docker is not installed"),
]

# Where the classic builder differs from BuildKit, the reference: it sends these two whatever the
# ignore file says, and no entry for the excluded parents of what is kept.
ALWAYS_SENT = {"Dockerfile", ".dockerignore"}
EVERY = 20


def ours(context: Path) -> dict[str, tuple[str, int, int, str | None]] | None:
    try:
        found = {
            e.path: (str(e.type), e.mode, e.size, e.target) for e in e2b_upload.collect(context)
        }
    except e2b_upload.UsageError:
        return None
    return {path: entry for path, entry in found.items() if path not in ALWAYS_SENT}


def dockers(context: Path) -> dict[str, tuple[str, int, int, str | None]] | None:
    try:
        found = docker_entries(context)
    except RuntimeError:
        return None
    return {
        path: (entry.type, entry.mode, entry.size, entry.target)
        for path, entry in found.items()
        if path not in ALWAYS_SENT
    }


def test_a_share_of_the_reference_cases(tmp_path: Path) -> None:
    differing = []
    for number, case in enumerate(itertools.islice(cases(), 0, CASES, EVERY)):
        folder = tmp_path / str(number)
        folder.mkdir()
        case.make(folder)
        found, sent = ours(folder), dockers(folder)
        if found is not None and sent is not None:
            parents = {str(parent) for path in sent for parent in PurePosixPath(path).parents}
            found = {path: e for path, e in found.items() if path in sent or path not in parents}
        if found != sent:
            differing.append(case)
    assert differing == []


def test_types_modes_sizes_and_targets(tmp_path: Path) -> None:
    for path in ("Dockerfile", "d/e/f", "d/gone.pyc", "tool", "new\nline", "ü", "\udcff"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(os.fsencode(path) * 100)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty").chmod(0o1777)
    (tmp_path / "tool").chmod(0o6755)
    (tmp_path / "d").chmod(0o2750)
    os.link(tmp_path / "d/e/f", tmp_path / "hard")
    for name, target in {"dangling": "no", "absolute": "/", "loop": "loop", "up": "../.."}.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / ".dockerignore").write_text("**/*.pyc\n")
    found = ours(tmp_path)
    assert found == dockers(tmp_path)
    assert found is not None
    assert len(found) == 13
