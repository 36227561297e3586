"""The soak itself: it finds nothing where nothing is wrong, and whatever is put in its way."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import e2b_upload
from e2b_upload import Receipt
from tests.soak import soak as soaking
from tests.soak.__main__ import main
from tests.soak.builds import Plan, plan
from tests.soak.faults import FAULTS, outcome
from tests.soak.soak import Options, Result, soak
from tests.soak.stores import DIALECTS, Dialect, MemoryStore, Reply
from tests.support.rawserver import Recorded

# Builds of seed 1 through the library that come to an end soon, and well.
PEACEFUL = [
    number
    for number in range(500)
    if (p := plan(1, number, seaweed=False)).client == "library"
    and p.names == ["none"]
    and DIALECTS[p.dialect].verified
][:4]

Build = Callable[..., Receipt]


def found(**options: Any) -> list[str]:
    result = soak(Options(**{"numbers": PEACEFUL, "seaweed": False, "jobs": 2, **options}))
    assert len(result.came) == len(PEACEFUL)
    return result.violations


def broken(monkeypatch: pytest.MonkeyPatch, change: Callable[[Build], Build]) -> list[str]:
    """Return what is found when `build` is another."""
    monkeypatch.setattr(e2b_upload, "build", change(e2b_upload.build), raising=False)
    return found()


def test_there_are_peaceful_builds() -> None:
    assert len(PEACEFUL) == 4
    assert found() == []


def test_a_plan_follows_from_seed_and_number() -> None:
    plans = [plan(1, number) for number in range(50)]
    assert plans == [plan(1, number) for number in range(50)]
    assert plans != [plan(2, number) for number in range(50)]


def test_every_fault_and_trouble_comes_up() -> None:
    names = {name for number in range(500) for name in plan(1, number).names}
    assert names > FAULTS.keys()
    assert {name for name in names if name.startswith("stopped")} == {
        *("stopped while spooling", "stopped while sending", "stopped while waiting")
    }


@pytest.mark.parametrize(
    ("faults", "retries", "expected"),
    [
        ([], 1, (0, 1, 1)),
        (["500"], 1, (0, 2, 2)),
        (["500", "garbage"], 1, (5, 2, 2)),
        (["500", "403 ExpiredToken"], 3, (6, 2, 2)),
        (["307 once"], 1, (0, 1, 2)),
        (["307 to itself"], 1, (6, 1, 6)),
        (["BadDigest"], 1, (0, 2, 2)),
        (["BadDigest", "503", "wrong digest told"], 3, (5, 3, 3)),
    ],
)
def test_what_a_build_must_come_to(
    faults: list[str], retries: int, expected: tuple[int, int, int]
) -> None:
    assert outcome([FAULTS[name] for name in faults], retries) == expected


class LyingStore(MemoryStore):
    """Takes one byte for another, and says that all is well."""

    def put(self, request: Recorded, body: bytes, dialect: Dialect) -> Reply:
        reply = super().put(request, body, dialect)
        self.keep(request.target.partition("?")[0], body[:-1] + b"x")
        return reply


class ForgetfulStore(MemoryStore):
    def keep(self, key: str, body: bytes) -> None:
        del key, body


@pytest.mark.parametrize("store", [LyingStore, ForgetfulStore])
def test_a_lying_store_is_noticed(store: type[MemoryStore]) -> None:
    violations = found(store=store)
    assert len(violations) == len(PEACEFUL)
    assert all("success, but" in violation for violation in violations)
    assert f"--seed 1 --only {PEACEFUL[0]}'" in violations[0]


def test_a_descriptor_that_stays_open_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def change(build: Build) -> Build:
        def leaking(*args: Any, **options: Any) -> Receipt:
            opened.append(os.open("/dev/null", os.O_RDONLY))
            return build(*args, **options)

        return leaking

    monkeypatch.setattr("tests.soak.leaks._PATIENCE", 1)
    try:
        (violation,) = broken(monkeypatch, change)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert f"builds {PEACEFUL[0]} to {PEACEFUL[-1]} of seed 1 left descriptors" in violation
    assert violation.count("/dev/null") == len(PEACEFUL)


def test_a_thread_that_goes_on_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def change(build: Build) -> Build:
        def leaking(*args: Any, **options: Any) -> Receipt:
            threading.Thread(target=over.wait, name="forgotten").start()
            return build(*args, **options)

        return leaking

    monkeypatch.setattr("tests.soak.leaks._PATIENCE", 0)
    try:
        violations = broken(monkeypatch, change)
    finally:
        over.set()
    assert any("forgotten" in violation for violation in violations)


def test_memory_that_stays_in_use_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []

    def change(build: Build) -> Build:
        def leaking(*args: Any, **options: Any) -> Receipt:
            kept.append(os.urandom(48 << 20))
            return build(*args, **options)

        return leaking

    monkeypatch.setattr(soaking, "_BATCH", 1)
    assert any("MiB more in use" in violation for violation in broken(monkeypatch, change))


@pytest.mark.parametrize(
    ("memory", "grown"),
    [
        ([], 0),
        ([1, 100], 0),
        ([7, 5, 6, 9], 2),
        ([9, 2, 5, 6, 7, 8, 3, 9], -6),
        ([1, 2, 3, 4, 5, 6, 7, 8], 5),
    ],
)
def test_growth_is_what_no_wavering_explains(memory: list[int], grown: int) -> None:
    assert soaking.growth(memory) == grown


def test_what_stays_in_the_spool_folder_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(build: Build) -> Build:
        def littering(*args: Any, spool_dir: Path, **options: Any) -> Receipt:
            (spool_dir / "left").touch()
            return build(*args, spool_dir=spool_dir, **options)

        return littering

    violations = broken(monkeypatch, change)
    assert len(violations) == len(PEACEFUL)
    assert all("left ['left'] behind" in violation for violation in violations)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("the unforeseen"), "the unforeseen"),
        (e2b_upload.RefusedError("by mistake"), "not to one of [0]"),
    ],
)
def test_an_end_that_should_not_be_is_noticed(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def change(build: Build) -> Build:
        def failing(*args: Any, **options: Any) -> Receipt:
            build(*args, **options)
            raise error

        return failing

    violations = broken(monkeypatch, change)
    assert len(violations) == len(PEACEFUL)
    assert all(words in violation for violation in violations)


def test_a_secret_that_shows_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(build: Build) -> Build:
        def telling(context: Path, url: str, **options: Any) -> Receipt:
            build(context, url, **options)
            raise e2b_upload.UnavailableError(f"no way to {url}")

        return telling

    violations = broken(monkeypatch, change)
    assert sum("secret shows" in violation for violation in violations) == len(PEACEFUL)


def test_a_store_that_fails_is_no_end_of_the_soak() -> None:
    class FailingStore(MemoryStore):
        def sha256(self, key: str) -> str | None:
            raise ZeroDivisionError(key)

    violations = found(store=FailingStore)
    assert len(violations) == len(PEACEFUL)
    assert all("ZeroDivisionError" in violation for violation in violations)


@pytest.mark.parametrize("leaks", [[], ["something stayed"]])
def test_it_prints_a_table_and_its_exit_status_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], leaks: list[str]
) -> None:
    asked: list[Options] = []

    def fake(options: Options) -> Result:
        asked.append(options)
        return Result(options.seed, soak(Options(numbers=PEACEFUL, seaweed=False)).came, leaks)

    monkeypatch.setattr("tests.soak.__main__.soak", fake)
    monkeypatch.setattr("sys.argv", ["soak", "--seed", "7", "--only", "3"])
    assert main() == len(leaks)
    assert (asked[0].seed, list(asked[0].numbers)) == (7, [3])
    out, err = capsys.readouterr()
    heads, *rows = out.splitlines()[:3]
    assert heads.split()[:3] == ["fault", "builds", "succeeded"]
    assert [row.split() for row in rows] == [[name, "4", "4", "4"] for name in ("none", "all")]
    assert err == "".join(f"VIOLATION: {leak}\n" for leak in leaks)


def test_a_build_by_its_number_is_the_same_alone() -> None:
    numbers = range(6)
    together = soak(Options(numbers=numbers, seed=3, seaweed=False))
    assert together.violations == []

    def ends(result: Result) -> list[tuple[Plan, int, int]]:
        return [(planned, came.code, came.connections) for planned, came in result.came]

    alone = [soak(Options(numbers=[number], seed=3, seaweed=False)) for number in numbers]
    assert [end for result in alone for end in ends(result)] == ends(together)
