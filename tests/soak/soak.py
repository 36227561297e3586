"""Many builds at once in one process, and the table of what came of them."""

import faulthandler
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from tests.soak.builds import (
    RAISED,
    Builds,
    Came,
    Plan,
    Where,
    make_contexts,
    plan,
    without_settings,
)
from tests.soak.leaks import MIB, Held, held, held_at_rest
from tests.soak.stores import MemoryStore, SeaweedStore, Store
from tests.support.seaweed import seaweed

MOST_GROWTH: Final = 32 * MIB
"""By which the last quarter of the batches may hold more than the first. Each wavers by as much."""

_BATCH: Final = 25
_HANGS: Final = 240
_CODES: Final = (*(3, 4, 5, 6, 129, 130, 143), RAISED)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to run.

    Attributes:
        numbers: of the builds; their plans follow from them and the seed.
        seed: any number.
        jobs: how many builds at once.
        seaweed: whether some go to a real S3 server.
        store: makes the store for the others.
    """

    numbers: Sequence[int]
    seed: int = 1
    jobs: int = 8
    seaweed: bool = True
    store: Callable[[], Store] = MemoryStore


@dataclass
class Result:
    """What came of all of it."""

    seed: int
    came: list[tuple[Plan, Came]] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        wrong = [
            f"build {plan.number} ({', '.join(plan.names)}): {words}\n"
            f"    repeat: make soak ARGS='--seed {self.seed} --only {plan.number}'\n    {plan}"
            for plan, came in self.came
            for words in came.wrong
        ]
        return wrong + self.leaks

    def table(self) -> Iterator[str]:
        """Yield a line for each fault: a build stands in those of all that it met."""
        heads = ["builds", "succeeded", "present", *map(str, _CODES[:-1])]
        heads += ["raised", "other", "requests"]
        yield f"{'fault':30}" + "".join(f"{head:>10}" for head in heads)
        rows: dict[str, list[Came]] = {}
        for planned, came in self.came:
            for name in [*planned.names, "all"]:
                rows.setdefault(name, []).append(came)
        for name in sorted(rows, key=lambda name: (name == "all", name)):
            codes = Counter(came.code for came in rows[name])
            other = codes.total() - codes[0] - sum(codes[code] for code in _CODES)
            requests = sum(came.connections for came in rows[name])
            present = sum(came.present for came in rows[name])
            numbers = [len(rows[name]), codes[0], present, *(codes[code] for code in _CODES)]
            yield f"{name:30}" + "".join(f"{n or '':>10}" for n in [*numbers, other, requests])


def soak(options: Options) -> Result:
    """Run builds in batches; after each, all that they held must be free."""
    result = Result(options.seed)
    plans = [plan(options.seed, n, seaweed=options.seaweed) for n in options.numbers]
    with ExitStack() as stack:
        stack.enter_context(without_settings())
        stores = _stores(options, plans, stack)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        make_contexts(folder)
        builds = Builds(folder, stores, options.seed)
        _warm_up(builds, plans)
        before = held()
        for start in range(0, len(plans), _BATCH):
            batch = plans[start : start + _BATCH]
            _run(builds, batch, options.jobs, result)
            now = held_at_rest(before)
            _look_at(now, before, batch, result)
            before = now
    if (more := growth(result.memory)) > MOST_GROWTH:
        result.leaks.append(f"{more / MIB:.0f} MiB more in use at the end than at the beginning")
    return result


def _stores(options: Options, plans: Sequence[Plan], stack: ExitStack) -> dict[Where, Store]:
    stores: dict[Where, Store] = {"memory": options.store()}
    if any(planned.store == "seaweed" for planned in plans):
        stores["seaweed"] = SeaweedStore(stack.enter_context(seaweed()))
    return stores


def _warm_up(builds: Builds, plans: Sequence[Plan]) -> None:
    """Let everything be imported, and what is made once be made."""
    for planned in {p.store: p for p in plans}.values():
        peaceful = replace(
            planned,
            number=-1,
            client="async",
            faults=(),
            trouble="none",
            context="small",
            expect="100",
        )
        builds.run(peaceful)


def _run(builds: Builds, batch: Sequence[Plan], jobs: int, result: Result) -> None:
    with ThreadPoolExecutor(jobs, thread_name_prefix="soak") as pool:
        running = {pool.submit(partial(builds.run, planned)): planned for planned in batch}
        ended, hang = wait(running, _HANGS)
        if hang:  # no thread can be ended from outside
            faulthandler.dump_traceback()
            for future in hang:
                print(f"seed {result.seed}: {running[future]} hangs", file=sys.stderr)
            os._exit(1)
        came = ((running[future], future.result()) for future in ended)
        result.came += sorted(came, key=lambda pair: pair[0].number)


def _look_at(now: Held, before: Held, batch: Sequence[Plan], result: Result) -> None:
    which = f"builds {batch[0].number} to {batch[-1].number} of seed {result.seed} left"
    result.leaks += [f"{which} {words}" for words in now.more_than(before)]
    result.memory.append(now.memory)


def growth(memory: Sequence[int]) -> int:
    """Return by how much the least of the last quarter is more than the most of the first."""
    quarter = len(memory) // 4
    return min(memory[-quarter:]) - max(memory[:quarter]) if quarter else 0
