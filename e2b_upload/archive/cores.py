"""How many cores this process may use: by its affinity, and by the quotas of its control groups.

A container that may use one and a half cores of sixty-four sees all of them: threads for each would
only wait for each other.
"""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUPS_OF_THIS_PROCESS = "/proc/self/cgroup"
_GROUPS = "/sys/fs/cgroup"
_QUOTA = re.compile(r"\s*([0-9]{1,18})\s+([1-9][0-9]{0,17})\s*")  # both in microseconds


def usable_cores() -> int:
    """Return the number of cores, at least 1; part of one counts as one.

    Sources: sched_setaffinity(2); Linux's Documentation/admin-guide/cgroup-v2.rst (``cpu.max``) and
    Documentation/scheduler/sched-bwc.rst (``cpu.cfs_quota_us``, version 1).
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """Yield the quotas, in cores, of all groups that this process is in, as far as it can see."""
    for line in _read(_GROUPS_OF_THIS_PROCESS).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        top, files = _GROUPS, ["cpu.max"]
        if controllers:
            if "cpu" not in controllers.split(","):
                continue
            # Mounted together with others, it is a link to where it is.
            top, files = f"{_GROUPS}/cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        for folder in _with_parents(top, group):
            # "max", or -1 in version 1: no quota.
            if found := _QUOTA.fullmatch(" ".join(_read(f"{folder}/{file}") for file in files)):
                yield int(found[1]) / int(found[2])


def _with_parents(top: str, group: str) -> Iterator[str]:
    """Yield the folders of a group and of those it is in; a container may see the top only."""
    parts = [part for part in group.split("/") if part]
    for depth in range(len(parts), -1, -1):
        yield "/".join([top, *parts[:depth]])


def _read(path: str) -> str:
    """Return the beginning of a file of the kernel's, or nothing where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(64 * 1024).decode("utf-8", "replace")
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return ""
