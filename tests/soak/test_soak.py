"""The soak finds nothing when all is well, and finds what is wrong."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest

import e2b_upload
from e2b_upload import Receipt
from e2b_upload.transfer import attempts
from e2b_upload.transfer.exchange import exchange
from tests.soak.faults import FAULTS, PASSING_5XX, Condition
from tests.soak.plans import Expect, plan
from tests.soak.soak import Options, growth, soak
from tests.soak.stores import DIALECTS, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.soak.plans import Plan
    from tests.soak.stores import Dialect, Reply
    from tests.support.rawserver import Recorded

Build = Callable[..., Receipt]

pytestmark = pytest.mark.slow


def chosen(which: Callable[[Plan], bool], count: int = 2) -> list[int]:
    """Return the first builds of seed 1 that use the library and match."""
    plans = (plan(1, number, seaweed=False) for number in range(5000))
    wanted = (p.number for p in plans if p.client == "library" and which(p))
    return list(itertools.islice(wanted, count))


PEACEFUL = chosen(
    lambda p: p.names == ["none"] and p.context != "huge" and bool(DIALECTS[p.dialect].told), 4
)


def found(numbers: Sequence[int] = PEACEFUL, store: type[MemoryStore] = MemoryStore) -> list[str]:
    done = soak(Options(numbers=numbers, seaweed=False, jobs=2, store=store))
    assert len(done.results) == len(numbers) > 1
    return done.violations


def test_plans_contain_everything_and_repeat() -> None:
    plans = [plan(1, number) for number in range(500)]
    assert plans == [plan(1, number) for number in range(500)]
    assert plans != [plan(2, number) for number in range(500)]
    names = {name for p in plans for name in p.names}
    assert names > FAULTS.keys()
    assert {f"stopped while {each}" for each in ("spooling", "sending", "waiting")} < names
    assert {p.condition for p in plans} == {*get_args(Condition)}
    assert {p.expect for p in plans} == {*get_args(Expect)}
    first = [p.faults[0] for p in plans if p.faults]
    statuses = {int(where * len(PASSING_5XX)) for name, where in first if name == "5xx"}
    assert len(statuses) == len(PASSING_5XX)


class LyingStore(MemoryStore):
    """Stores other bytes and reports success."""

    def put(self, request: Recorded, dialect: Dialect) -> Reply:
        reply = super().put(request, dialect)
        self.keep(request.target.partition("?")[0][1:], request.body[:-1] + b"x")
        return reply


class ForgetfulStore(MemoryStore):
    def keep(self, key: str, body: bytes) -> None:
        del key, body


@pytest.mark.parametrize("store", [LyingStore, ForgetfulStore])
def test_a_lying_store_is_found(store: type[MemoryStore]) -> None:
    violations = found(store=store)
    assert sum("success, but" in each for each in violations) == len(PEACEFUL)
    assert f"--seed 1 --only {PEACEFUL[0]}'" in violations[0]


def raising(error: Callable[[str], Exception]) -> Callable[[Build], Build]:
    def change(build: Build) -> Build:
        def failing(context: Any, url: str, **options: Any) -> Receipt:
            build(context, url, **options)
            raise error(url)

        return failing

    return change


def littering(build: Build) -> Build:
    def changed(*args: Any, spool_dir: Any, **options: Any) -> Receipt:
        (spool_dir / "left").touch()
        return build(*args, spool_dir=spool_dir, **options)

    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (raising(lambda _: ValueError("unexpected")), "unexpected"),
        (raising(lambda _: e2b_upload.RefusedError("by mistake")), "not one of [0]"),
        (raising(e2b_upload.UnavailableError), "secret of the URL is shown"),
        (
            raising(lambda _: e2b_upload.UnavailableError("it", hint="is missing")),
            "an object is stored, and",
        ),
        (littering, "left ['left'] behind"),
    ],
    ids=["error", "exit code", "secret", "denial", "litter"],
)
def test_a_wrong_result_is_found(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Build], Build], words: str
) -> None:
    monkeypatch.setattr(e2b_upload, "build", change(e2b_upload.build), raising=False)
    assert sum(words in violation for violation in found()) == len(PEACEFUL)


@pytest.mark.parametrize("what", ["/dev/null", "forgotten"])
def test_a_leak_is_found(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    opened: list[int] = []
    over = threading.Event()
    build = e2b_upload.build

    def leaking(*args: Any, **options: Any) -> Receipt:
        if what == "forgotten":
            threading.Thread(target=over.wait, name=what).start()
        else:
            opened.append(os.open(what, os.O_RDONLY))
        return build(*args, **options)

    monkeypatch.setattr(e2b_upload, "build", leaking, raising=False)
    monkeypatch.setattr("tests.soak.soak._PATIENCE", 1)
    try:
        violations = found()
    finally:
        over.set()
        for descriptor in opened:
            os.close(descriptor)
    assert [each.count(what) for each in violations] == [len(PEACEFUL)]


def test_growth_is_more_than_variation() -> None:
    assert growth([1, 100]) == 0
    assert growth([9, 2, 5, 6, 7, 8, 3, 9]) == -6
    assert growth([1, 2, 3, 4, 5, 6, 7, 8]) == 5


def test_an_early_success_that_is_believed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = chosen(
        lambda p: p.names == ["200 early, reads on"] and p.expect == "100" and len(p.faults) == 1
    )
    assert found(numbers) == []
    monkeypatch.setattr(attempts, "exchange", lambda *a, **o: replace(exchange(*a, **o), unsent=0))
    violations = found(numbers)
    assert sum("success, but None is stored" in each for each in violations) == len(numbers)
