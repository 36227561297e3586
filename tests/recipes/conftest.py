from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.recipes.workplace import (
    OBJECT,
    PROGRAMS,
    RECIPES,
    SYSTEM_PATH,
    Workplace,
    build_wheel,
    install_python,
    link_dependencies,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.seaweed import Seaweed


@pytest.fixture(scope="session")
def bucket(s3: Seaweed) -> Seaweed:
    """Return the bucket that the recipes name."""
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
    """Return a workplace without e2b-upload, and check that no temporary file remains."""
    for program in ("bash", "curl", "git", "jq"):
        if not shutil.which(program):
            pytest.skip(f"there is no {program}")
    place = Workplace.furnish(tmp_path)
    yield place
    assert place.left_behind() == []


@pytest.fixture
def place(bare: Workplace, bucket: Seaweed) -> Workplace:
    """Return a workplace with e2b-upload, all recipes, and a URL in the file `url`."""
    for path in (*RECIPES.glob("*.sh"), *RECIPES.glob("presign/*")):
        shutil.copy(path, bare.path)
    bare.write("url", bucket.presign_put(OBJECT) + "\n")
    own = {"PATH": f"{PROGRAMS}:{SYSTEM_PATH}"}
    return replace(bare, env=bare.env | own)


@pytest.fixture
def job(bare: Workplace, bucket: Seaweed, wheels: Path, dependencies: Path) -> Workplace:
    """Return the checkout of a CI job, with a Python without e2b-upload."""
    shutil.copy(RECIPES / "presign/presign_s3.py", bare.path)
    python = bare.path.parent / "python"
    offline = install_python(python, dependencies, wheels)
    own = {"PATH": f"{python}/bin:{SYSTEM_PATH}", "CI": "true"}
    return replace(bare, env=bare.env | offline | own | bucket.environment())


@pytest.fixture(scope="session")
def google_account() -> dict[str, str]:
    """Return the content of a file with the key of a service account."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": "nobodys",
        "private_key": pem.decode(),
        "client_email": "ci@nobodys.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
