from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.recipes.workplace import (
    OBJECT,
    RECIPES,
    SYSTEM_PATH,
    Workplace,
    build_wheel,
    install_python,
    link_dependencies,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.seaweed import Seaweed


@pytest.fixture(scope="session")
def bucket(s3: Seaweed) -> Seaweed:
    """Give the bucket that the recipes name."""
    store = replace(s3, bucket="my-bucket")
    assert store.is_ready()
    return store


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    build_wheel(folder)
    return folder


@pytest.fixture(scope="session")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dependencies")
    link_dependencies(folder)
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Workplace]:
    """Give a place to work at without e2b-upload, and see to it that nothing is left behind."""
    place = Workplace.furnish(tmp_path)
    yield place
    assert place.left_behind() == []


@pytest.fixture
def place(bare: Workplace, bucket: Seaweed) -> Workplace:
    """Give a place with e2b-upload, where all recipes are, and a URL in the file `url`."""
    for path in (*RECIPES.glob("*.sh"), *RECIPES.glob("presign/*")):
        shutil.copy(path, bare.path)
    bare.write("url", bucket.presign_put(OBJECT) + "\n")
    own = {"PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}"}
    return replace(bare, env=bare.env | own)


@pytest.fixture
def job(bare: Workplace, bucket: Seaweed, wheels: Path, dependencies: Path) -> Workplace:
    """Give a job of a CI system its checkout, and a Python without e2b-upload."""
    shutil.copy(RECIPES / "presign/presign_s3.py", bare.path)
    python = bare.path.parent / "python"
    offline = install_python(python, dependencies, wheels)
    own = {"PATH": f"{python}/bin:{SYSTEM_PATH}", "CI": "true"}
    return replace(bare, env=bare.env | offline | own | bucket.environment())
