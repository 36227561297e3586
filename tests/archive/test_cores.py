"""As many cores as the system lets this process use, whatever says so."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from e2b_upload.archive import cores
from e2b_upload.archive.cores import usable_cores


class Machine:
    """A made-up one of 64 cores that this process may all use, but for what its files say."""

    def __init__(self, folder: str | Path, patch: pytest.MonkeyPatch) -> None:
        self.top = Path(folder, "cgroup")
        self._of_process = Path(folder, "self")
        patch.setattr(cores, "_GROUPS", str(self.top))
        patch.setattr(cores, "_GROUPS_OF_THIS_PROCESS", str(self._of_process))
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)

    def in_groups(self, content: str | bytes) -> None:
        self._of_process.write_bytes(content.encode() if isinstance(content, str) else content)

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file of a group's."""
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def limit(self, folder: str, quota: str, period: str = "100000") -> None:
        """Set a quota of version 1."""
        self.write(f"{folder}/cpu.cfs_quota_us", f"{quota}\n")
        self.write(f"{folder}/cpu.cfs_period_us", f"{period}\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


# Affinity


AFFINE: Final = """
import os
from e2b_upload.archive.cores import usable_cores
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
print(usable_cores())
"""


def test_a_process_that_is_limited_to_one_core_has_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFFINE], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == 1


def test_no_more_cores_are_usable_than_the_affinity_has(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2})
    assert usable_cores() == 2
    machine.in_groups("0::/\n")
    machine.write("cpu.max", "6400000 100000\n")
    assert usable_cores() == 2


def test_a_system_without_affinity_reports_its_count(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, usable in ((None, 1), (8, 8)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert usable_cores() == usable
    machine.in_groups("0::/a\n")
    machine.write("a/cpu.max", "200000 100000\n")
    assert usable_cores() == 2


# Quotas

QUOTAS: Final = [
    (100_000, 100_000, 1),
    (20_000, 100_000, 1),
    (200_000, 100_000, 2),
    (200_001, 100_000, 3),
    (75_000, 25_000, 3),
    (6_500_000, 100_000, 64),
    (0, 100_000, 1),
]


@pytest.mark.parametrize(("quota", "period", "usable"), QUOTAS)
def test_a_part_of_a_core_counts_as_one(
    machine: Machine, quota: int, period: int, usable: int
) -> None:
    machine.in_groups("0::/group\n")
    machine.write("group/cpu.max", f"{quota} {period}\n")
    assert usable_cores() == usable
    # Version 1 has its quota in two files.
    machine.in_groups("12:memory:/other\n4:cpu,cpuacct:/group\n0::/\n")
    machine.limit("cpu/group", str(quota), str(period))
    assert usable_cores() == usable


def test_version_1_is_found_whichever_way_its_controllers_are_listed(machine: Machine) -> None:
    """Some kernels list them in the other order than systemd names the directory, and links."""
    machine.in_groups("4:cpuacct,cpu:/group\n")
    machine.limit("cpu,cpuacct/group", "200000")
    for link in ("cpu", "cpuacct"):
        (machine.top / link).symlink_to("cpu,cpuacct")
    assert usable_cores() == 2


def test_no_quota_leaves_all_cores(machine: Machine) -> None:
    machine.in_groups("4:cpu:/group\n0::/group\n")
    machine.limit("cpu/group", "-1")
    machine.write("group/cpu.max", "max 100000\n")
    assert usable_cores() == 64


@pytest.mark.parametrize("smallest", ["", "a/", "a/b/", "a/b/c/"])
def test_of_nested_groups_the_smallest_quota_counts(machine: Machine, smallest: str) -> None:
    for folder in ("", "a/", "a/b/", "a/b/c/"):
        quota = 3 if folder == smallest else 5
        machine.write(f"{folder}cpu.max", f"{quota}00000 100000\n")
        machine.limit(f"cpu/{folder}", f"{quota}00000")
    for line in ("0::", "1:cpu:"):
        machine.in_groups(f"{line}/a/b\n")
        assert usable_cores() == (5 if smallest == "a/b/c/" else 3)


def test_groups_without_a_quota_do_not_hide_those_they_are_in(machine: Machine) -> None:
    machine.in_groups("0::/a/b\n")
    machine.write("a/cpu.max", "200000 100000\n")
    machine.write("a/b/cpu.max", "max 100000\n")
    assert usable_cores() == 2


def test_of_both_versions_the_smaller_counts(machine: Machine) -> None:
    machine.in_groups("4:cpu:/one\n0::/two\n")
    for one, two in ((2, 3), (3, 2)):
        machine.limit("cpu/one", f"{one}00000")
        machine.write("two/cpu.max", f"{two}00000 100000\n")
        assert usable_cores() == 2


def test_a_container_that_sees_only_its_own_top_knows_its_quota(machine: Machine) -> None:
    machine.write("cpu.max", "200000 100000\n")
    for line in ("0::/system.slice/docker-1234.scope", "0::/../../other", "0::/"):
        machine.in_groups(f"{line}\n")
        assert usable_cores() == 2
    machine.write("cpu.max", "max 100000\n")
    machine.in_groups("5:memory:/docker/1234\n4:cpu,cpuacct:/docker/1234\n")
    machine.limit("cpu", "300000")
    assert usable_cores() == 3


def test_other_controllers_do_not_count(machine: Machine) -> None:
    machine.limit("cpu/group", "100000")
    for controllers in ("cpuset", "memory", "name=cpu"):
        machine.in_groups(f"4:{controllers}:/group\n")
        machine.limit(f"{controllers}/group", "100000")
        assert usable_cores() == 64


def test_a_group_may_have_any_name(machine: Machine) -> None:
    machine.in_groups("0::/a:b c/€\n")
    machine.write("a:b c/€/cpu.max", "200000 100000\n")
    assert usable_cores() == 2


# Invalid files

GARBAGE: Final = [
    *(b"", b"\n", b"200000", b"max", b"0 0", b"1 -1", b"x y", b"1.5 1", b"1 2 3"),
    *(b"\xff\xfe 1", "² 1".encode(), b"\0", b"-1 100000", bytes(100_000)),
    b"9" * 4_000 + b" 1",  # more than a float holds
    b"9" * 5_000 + b" 1",  # more digits than int() takes
]


def test_an_invalid_quota_does_not_count(machine: Machine) -> None:
    machine.in_groups("4:cpu:/group\n0::/group\n")
    for content in GARBAGE:
        machine.write("group/cpu.max", content)
        machine.write("cpu/group/cpu.cfs_quota_us", content)
        machine.write("cpu/group/cpu.cfs_period_us", b"")
        assert usable_cores() == 64, content[:20]


def test_missing_files_are_no_quota(machine: Machine) -> None:
    assert usable_cores() == 64
    machine.in_groups("4:cpu:/group\n0::/group\n")
    assert usable_cores() == 64
    machine.write("cpu/group/cpu.cfs_quota_us", b"100000\n")
    assert usable_cores() == 64
    (machine.top / "group/cpu.max").mkdir(parents=True)
    assert usable_cores() == 64


def test_invalid_groups_are_skipped(machine: Machine) -> None:
    for content in (b"0", b"0::", b":::", b"\xff", b"0::/\xff\n", b"\0", b"0::/a\0b", b"1:cpu"):
        machine.in_groups(content)
        assert usable_cores() == 64, content
