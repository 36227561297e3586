"""As many cores as the system lets this process use, whatever says so."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e2b_upload.archive import cores
from e2b_upload.archive.cores import usable_cores

EXAMPLES: Final = settings(deadline=None)


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
import os, sys
from e2b_upload.archive.cores import usable_cores
count = int(sys.argv[1])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
print(usable_cores())
"""


@pytest.mark.parametrize("more", [0, 1])
def test_a_process_that_is_held_to_some_cores_has_no_more(more: int) -> None:
    count = 1 if not more else len(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", AFFINE, str(count)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == min(count, usable_cores())


@pytest.mark.parametrize("count", [1, 2, 63])
def test_no_more_cores_are_usable_than_the_affinity_has(
    machine: Machine, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1, count + 1)))
    assert usable_cores() == count
    machine.in_groups("0::/\n")
    machine.write("cpu.max", "6400000 100000\n")
    assert usable_cores() == count


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("count", "usable"), [(None, 1), (1, 1), (8, 8)])
def test_a_system_without_affinity_says_how_many_it_has(
    count: int | None, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cores() == usable


def test_a_quota_counts_also_without_affinity(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    machine.in_groups("0::/a\n")
    machine.write("a/cpu.max", "200000 100000\n")
    assert usable_cores() == 2


# Quotas

QUOTAS: Final = [
    (100_000, 100_000, 1),
    (150_000, 100_000, 2),
    (20_000, 100_000, 1),
    (1_000, 1_000_000, 1),
    (200_000, 100_000, 2),
    (200_001, 100_000, 3),
    (75_000, 25_000, 3),
    (6_400_000, 100_000, 64),
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


@pytest.mark.parametrize(("quota", "period", "usable"), QUOTAS)
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
def test_version_1_has_its_quota_in_two_files(
    machine: Machine, controllers: str, quota: int, period: int, usable: int
) -> None:
    machine.in_groups(f"12:memory:/other\n4:{controllers}:/group\n0::/\n")
    machine.limit("cpu/group", str(quota), str(period))
    assert usable_cores() == usable


def test_version_1_is_found_whichever_way_its_controllers_are_listed(machine: Machine) -> None:
    """Some kernels list them the other way round than systemd names the folder: it links it."""
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


@pytest.mark.parametrize("group", ["/", "/a", "/a/b", "/a/b/c"])
@pytest.mark.parametrize("smallest", ["", "a/", "a/b/", "a/b/c/"])
def test_of_nested_groups_the_smallest_quota_counts(
    machine: Machine, group: str, smallest: str
) -> None:
    for folder in ("", "a/", "a/b/", "a/b/c/"):
        quota = 3 if folder == smallest else 5
        machine.write(f"{folder}cpu.max", f"{quota}00000 100000\n")
        machine.limit(f"cpu/{folder}", f"{quota}00000")
    is_in_it = f"{group}/".startswith(f"/{smallest}")
    for line in (f"0::{group}\n", f"1:cpu:{group}\n"):
        machine.in_groups(line)
        assert usable_cores() == (3 if is_in_it else 5)


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


@pytest.mark.parametrize("line", ["0::/system.slice/docker-1234.scope", "0::/../../other", "0::/"])
def test_a_container_that_sees_only_its_own_top_knows_its_quota(
    machine: Machine, line: str
) -> None:
    machine.in_groups(f"{line}\n")
    machine.write("cpu.max", "200000 100000\n")
    assert usable_cores() == 2


def test_a_container_of_version_1_that_sees_only_its_own_top_knows_its_quota(
    machine: Machine,
) -> None:
    machine.in_groups("5:memory:/docker/1234\n4:cpu,cpuacct:/docker/1234\n")
    machine.limit("cpu", "200000")
    assert usable_cores() == 2


@pytest.mark.parametrize("controllers", ["cpuset", "cpuacct", "memory", "name=systemd", "name=cpu"])
def test_what_other_controllers_say_does_not_count(machine: Machine, controllers: str) -> None:
    machine.in_groups(f"4:{controllers}:/group\n")
    machine.limit(f"{controllers}/group", "100000")
    machine.limit("cpu/group", "100000")
    assert usable_cores() == 64


def test_a_group_may_have_any_name(machine: Machine) -> None:
    machine.in_groups("0::/a:b c/€\n")
    machine.write("a:b c/€/cpu.max", "200000 100000\n")
    assert usable_cores() == 2


# What is not as it should be

GARBAGE: Final = [
    *(b"", b"\n", b"1", b"200000", b"max", b"1 0", b"0 0", b"1 -1", b"x y", b"1.5 1", b"1 2 3"),
    *(b"\xff\xfe 1", "² 1".encode(), b"\0", b"-1 100000", b"1e3 10", bytes(100_000)),
    b"9" * 4_000 + b" 1",  # more than a float holds
    b"9" * 5_000 + b" 1",  # more digits than int() takes
]


@pytest.mark.parametrize("content", GARBAGE, ids=lambda content: repr(content[:20]))
def test_what_is_no_quota_does_not_count(machine: Machine, content: bytes) -> None:
    machine.in_groups("4:cpu:/group\n0::/group\n")
    machine.write("group/cpu.max", content)
    machine.write("cpu/group/cpu.cfs_quota_us", content)
    machine.write("cpu/group/cpu.cfs_period_us", b"")
    assert usable_cores() == 64


def test_missing_files_are_no_quota(machine: Machine) -> None:
    assert usable_cores() == 64
    machine.in_groups("4:cpu:/group\n0::/group\n")
    assert usable_cores() == 64
    machine.write("cpu/group/cpu.cfs_quota_us", b"100000\n")
    assert usable_cores() == 64
    (machine.top / "group/cpu.max").mkdir(parents=True)
    assert usable_cores() == 64


@pytest.mark.parametrize(
    "content", [b"0", b"0:", b"0::", b":::", b"\xff", b"0::/\xff\n", b"\0", b"0::/a\0b", b"1:cpu"]
)
def test_groups_that_are_none_are_passed_over(machine: Machine, content: bytes) -> None:
    machine.in_groups(content)
    assert usable_cores() == 64


numbers = st.integers(-1, 10**7).map(str) | st.just("max") | st.integers(0).map(str)
quotas = (
    st.binary(max_size=50)
    | st.lists(numbers, max_size=3).map(" ".join).map(str.encode)
    | st.sampled_from(GARBAGE)
)
lines = st.builds(
    ":".join,
    st.tuples(
        st.sampled_from(["0", "4", ""]),
        st.sampled_from(["", "cpu", "cpu,cpuacct", "memory"]),
        st.sampled_from(["", "/", "/a", "/a/b", "//", "/..", "b"]) | st.text(max_size=10),
    ),
)
groups = st.binary(max_size=100) | st.lists(lines).map("\n".join).map(
    lambda text: text.encode("utf-8", "replace")
)


@given(groups=groups, top=quotas, below=quotas, quota=quotas, period=quotas)
@example(groups=b"0::/a\0b", top=b"", below=b"", quota=b"", period=b"")
@EXAMPLES
def test_whatever_these_files_hold_there_is_a_core_at_least(
    groups: bytes, top: bytes, below: bytes, quota: bytes, period: bytes
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        machine = Machine(folder, patch)
        machine.in_groups(groups)
        machine.write("cpu.max", top)
        machine.write("a/cpu.max", below)
        machine.write("cpu/a/cpu.cfs_quota_us", quota)
        machine.write("cpu/a/cpu.cfs_period_us", period)
        assert 1 <= usable_cores() <= 64


# The kernel's own groups


OF_64: Final = """
import os, sys
from e2b_upload.archive import cores
os.sched_getaffinity = lambda _: range(64)
before = cores.usable_cores()
if sys.argv[1]:
    group = os.open(os.path.join(sys.argv[1], "cgroup.procs"), os.O_WRONLY)
    os.write(group, b"%d" % os.getpid())
print(before, cores.usable_cores())
"""


def in_a_child(group: Path | None) -> tuple[int, int] | None:
    """Return how many of 64 a process may use before it enters a group, and then."""
    done = subprocess.run(
        [sys.executable, "-c", OF_64, group or ""], capture_output=True, text=True, check=False
    )
    if done.returncode:
        assert "PermissionError" in done.stderr, done.stderr
        return None
    before, after = map(int, done.stdout.split())
    return before, after


def own_groups() -> Iterator[tuple[Path, dict[str, bytes]]]:
    """Yield where a group can be made that this process could enter, and how to limit it."""
    version_1 = {"cpu.cfs_period_us": b"100000", "cpu.cfs_quota_us": b"150000"}
    version_2 = {"cpu.max": b"150000 100000"}
    for line in Path("/proc/self/cgroup").read_text("utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        if "cpu" in controllers.split(","):
            yield Path(f"/sys/fs/cgroup/{controllers}{group}"), version_1
        elif not controllers:
            yield Path(f"/sys/fs/cgroup{group}"), version_2
            yield Path("/sys/fs/cgroup"), version_2


@contextmanager
def a_group_of_one_core_and_a_half() -> Iterator[Path | None]:
    """Make one, where this user may."""
    for parent, limits in own_groups():
        group = parent / f"e2b-upload-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            try:
                for name, value in limits.items():
                    # Not made where it is missing: that would be a folder like any other.
                    descriptor = os.open(group / name, os.O_WRONLY)
                    try:
                        os.write(descriptor, value)
                    finally:
                        os.close(descriptor)
            except OSError:
                group.rmdir()
                raise
            try:
                yield group
            finally:
                group.rmdir()
            return
    yield None


@pytest.mark.real
def test_a_quota_that_the_kernel_itself_keeps_counts_where_one_can_be_set() -> None:
    """Elsewhere a process sees what another sees, and no test says more."""
    outside = in_a_child(None)
    assert outside is not None
    usable, _ = outside
    with a_group_of_one_core_and_a_half() as group:
        inside = in_a_child(group)
    if group is None or inside is None:
        assert outside == (usable, usable)
    else:
        assert inside == (usable, min(usable, 2))
