"""The soak itself: it finds nothing where nothing is wrong, and whatever is put in its way."""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import requests

import e2b_upload
from e2b_upload import Receipt
from e2b_upload.transfer import put as putting
from e2b_upload.transfer.answer import Answer
from e2b_upload.transfer.connection import _Answer, _Sending
from e2b_upload.transfer.exchange import exchange
from tests.soak import soak as soaking
from tests.soak.__main__ import main
from tests.soak.builds import EACH_5XX, IF_NONE_MATCH, Expect, Plan, plan
from tests.soak.faults import FAULTS, Condition, Site, outcome
from tests.soak.soak import Options, Result, soak
from tests.soak.stores import DIALECTS, Dialect, MemoryStore, Reply
from tests.support.rawserver import Recorded, raw_server


def chosen(which: Callable[[Plan], bool], count: int) -> list[int]:
    """Return the first builds of seed 1 that go through the library and are of some kind."""
    plans = (plan(1, number, seaweed=False) for number in range(5000))
    wanted = (p.number for p in plans if p.client == "library" and which(p))
    return list(itertools.islice(wanted, count))


# Builds that come to an end soon, and well.
PEACEFUL = chosen(
    lambda p: p.names == ["none"] and p.context != "huge" and bool(DIALECTS[p.dialect].told), 4
)

Build = Callable[..., Receipt]


def found(numbers: Sequence[int] = PEACEFUL, **options: Any) -> list[str]:
    result = soak(Options(**{"numbers": numbers, "seaweed": False, "jobs": 2, **options}))
    assert len(result.came) == len(numbers) > 1
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
    plans = [plan(1, number) for number in range(500)]
    names = {name for p in plans for name in p.names}
    assert names > FAULTS.keys()
    assert {p.condition for p in plans} == {*get_args(Condition)}
    assert {p.expect for p in plans} == {*get_args(Expect)}
    assert {name for name in names if name.startswith("stopped")} == {
        *("stopped while spooling", "stopped while sending", "stopped while waiting")
    }


def test_each_5xx_that_is_retried_comes_up() -> None:
    """Played, so that it is the status that was sent."""
    statuses = set()
    site = Site(MemoryStore(), DIALECTS["token"])
    for number in range(0, 500, EACH_5XX):
        (name, where), *_ = plan(1, number).faults
        with raw_server(*FAULTS[name].make(site, where)) as server:
            statuses.add(requests.put(server.url, b"", timeout=9).status_code)
    assert statuses == {*range(500, 600)} - {501, 505}


@pytest.mark.parametrize(
    ("faults", "retries", "expected"),
    [
        ([], 1, (0, 1, 1)),
        (["5xx"], 1, (0, 2, 2)),
        (["5xx", "garbage"], 1, (5, 2, 2)),
        (["5xx", "403 ExpiredToken"], 3, (6, 2, 2)),
        (["307 once"], 1, (0, 1, 2)),
        (["307 to itself"], 1, (6, 1, 6)),
        (["BadDigest"], 1, (0, 2, 2)),
        (["BadDigest", "503", "wrong digest told"], 3, (5, 3, 3)),
    ],
)
def test_what_a_build_must_come_to(
    faults: list[str], retries: int, expected: tuple[int, int, int]
) -> None:
    assert outcome([FAULTS[name] for name in faults], retries)[:3] == expected


PRESENT = (0, True, False)
PROBABLY, PERHAPS, UNLIKELY = ((6, False, probably) for probably in (True, None, False))
FAILED = (5, False, False)


@pytest.mark.parametrize(
    ("condition", "faults", "expected"),
    [
        ("none", ["stored, answer lost"], (0, False, False)),
        ("if_absent", ["5xx"], (0, False, False)),
        ("if_absent", ["another upload is faster"], PRESENT),
        ("if_absent", ["stored, answer lost"], PRESENT),
        ("if_absent", ["stored, answer lost", "half an answer"], PRESENT),
        ("if_absent", ["stored, answer lost", "damaged in the store"], PRESENT),
        ("if_absent", ["damaged on the way"], (0, False, False)),
        ("if_absent", ["half an answer", "damaged on the way"], PRESENT),
        ("if_absent", ["damaged in the store"], FAILED),
        ("if_absent", ["200 early, part stored", "503"], FAILED),
        ("if_absent", ["200 early, reads on"], (0, False, False)),
        ("if_absent", ["stored, answer lost", "403 ExpiredToken"], UNLIKELY),
        ("header", ["stored, answer lost"], PROBABLY),
        ("header", ["another upload is faster"], UNLIKELY),
        ("header", ["reset in the body", "another upload is faster"], PERHAPS),
        ("header", ["damaged in the store"], FAILED),
        ("none", ["5xx", "412"], PROBABLY),
        ("none", ["412"], UNLIKELY),
    ],
)
def test_what_a_condition_leads_to(
    condition: Condition, faults: list[str], expected: tuple[int, bool, bool | None]
) -> None:
    expects = outcome([FAULTS[name] for name in faults], 3, condition)
    assert (expects.code, expects.present, expects.probably) == expected


def test_the_store_keeps_what_is_there_if_it_is_asked_to() -> None:
    store = MemoryStore()

    def put(dialect: str, condition: str) -> int:
        headers = {"Content-Length": "1", **DIALECTS[dialect].headers, **IF_NONE_MATCH}
        lines = [f"PUT /{dialect} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
        head = "\r\n".join(lines).replace("*", condition).encode() + b"\r\n\r\n"
        request = Recorded(head=head, body=b"x", body_bytes=1, body_sha256="")
        return store.put(request, b"x", DIALECTS[dialect]).status

    assert [put(name, "*") for name in ("s3", "azure", "gcs", "token")] == [200] * 4
    assert [put(name, "*") for name in ("s3", "azure", "gcs", "token")] == [412, 409, 200, 412]
    assert put("s3", '"etag"') == 200


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


@pytest.mark.parametrize("looks", ["never", "and believes it"])
def test_an_early_success_that_is_believed_is_noticed(
    looks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = chosen(
        lambda p: p.names == ["200 early, reads on"] and p.expect == "100" and len(p.faults) == 1, 2
    )
    assert found(numbers) == []
    if looks == "never":
        read = _Sending._read_early
        monkeypatch.setattr(_Sending, "_read_early", lambda self: min(read(self), 100))
        monkeypatch.setattr(_Answer, "unsent", 0)
    else:

        def believing(*args: Any, **options: Any) -> Answer:
            return replace(exchange(*args, **options), unsent=0)

        monkeypatch.setattr(putting, "exchange", believing)
    violations = found(numbers)
    assert sum("success, but None is stored" in words for words in violations) == len(numbers)


def test_damaged_bytes_that_are_called_present_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = chosen(
        lambda p: (
            p.condition == "if_absent"
            and p.context != "huge"
            and [name for name, _ in p.faults]
            in (["damaged in the store"], ["truncated in the store"])
            and p.trouble == "none"
        ),
        2,
    )
    assert found(numbers) == []
    forgetful = property(lambda _: None, lambda *_: None)
    monkeypatch.setattr(putting.Putting, "_damaged", forgetful, raising=False)
    violations = found(numbers)
    assert sum("it came to 0, not to one of [5]" in words for words in violations) == len(numbers)
    assert sum("success, but" in words for words in violations) == len(numbers)


@pytest.mark.parametrize("words", ["it was not stored", "the object is missing"])
def test_a_failure_that_denies_what_is_stored_is_noticed(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(build: Build) -> Build:
        def failing(*args: Any, **options: Any) -> Receipt:
            build(*args, **options)
            raise e2b_upload.UnavailableError("it broke", hint=words)

        return failing

    violations = broken(monkeypatch, change)
    assert sum("an object is stored, and" in each for each in violations) == len(PEACEFUL)


def test_a_hint_that_leaves_out_what_is_probable_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = chosen(
        lambda p: p.trouble == "none" and p.outcome.probably is True and p.context != "huge", 2
    )
    assert found(numbers) == []
    monkeypatch.setattr(putting, "CONFLICT", 0)
    monkeypatch.setattr(putting, "PRECONDITION_FAILED", 0)
    assert sum("'probably this archive'" in words for words in found(numbers)) == len(numbers)


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
