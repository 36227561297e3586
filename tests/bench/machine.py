"""What the figures were taken on, and with which versions."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from tests.bench import timing

MIB = 1 << 20
Facts: TypeAlias = dict[str, str | int | float]

PACKAGES = ("e2b-upload", "isal", "zlib-ng", "requests", "typer", "e2b")
PROGRAMS = ("tar", "gzip", "pigz", "igzip", "curl")


def facts() -> Facts:
    """Return what there is to know about the machine, and the floor of all peaks."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        "system": platform.platform(),
        "python": platform.python_version(),
        "floor_mib": timing.run(["true"]).peak_mib,
        **{name: _package(name) for name in PACKAGES},
        **{name: _program(name) for name in PROGRAMS},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _program(name: str) -> str:
    """Return the first line that a program says of its version."""
    try:
        # pigz says it on standard error
        told = subprocess.run(
            [name, "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
            text=True,
        ).stdout
    except FileNotFoundError:
        return "missing"
    return told.splitlines()[0]
