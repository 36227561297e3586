"""Fixtures of the tests of the archive."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2b_upload.archive.spool import Spool


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    return path


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path) as spool:
        yield spool


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Check that no thread and no descriptor is left."""
    threads, descriptors = set(threading.enumerate()), os.listdir("/dev/fd")
    yield
    assert set(threading.enumerate()) == threads
    assert os.listdir("/dev/fd") == descriptors
