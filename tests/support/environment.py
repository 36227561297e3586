"""The environment of tests and programs that must reach nothing but loopback."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def without_settings(**more: str) -> Iterator[None]:
    """Remove proxies and our own settings from the environment, and add variables."""
    kept = {k: v for k, v in os.environ.items() if not re.search("(?i)_proxy$|^E2B_", k)}
    with mock.patch.dict(os.environ, kept | more, clear=True):
        yield
