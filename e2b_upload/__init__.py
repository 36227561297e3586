"""Pack a build context by ``.dockerignore`` and upload it to a presigned URL.

The public names are listed in ``__init__.pyi``, which is what type checkers read. Each is imported
on first use, so that ``import e2b_upload`` costs nothing.
"""

import re
from importlib import import_module

__version__ = "0.1.0"

with open(f"{__file__.rpartition('.')[0]}.pyi", encoding="utf-8") as _stub:
    _HOME = {name: home for home, name in re.findall(r"from (\S+) import (\w+)", _stub.read())}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604  (strings)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
