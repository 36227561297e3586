"""Run many builds at once in one process, look for leaks, and print a table of the results."""

import ctypes
import faulthandler
import gc
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from tests.soak.builds import Builds, Result, open_files
from tests.soak.plans import RAISED, Plan, make_contexts, plan
from tests.soak.stores import MemoryStore, SeaweedStore, Store
from tests.support.environment import without_settings
from tests.support.seaweed import seaweed

MIB: Final = 1 << 20
MOST_GROWTH: Final = 32 * MIB
"""The growth of memory from the first quarter of the batches to the last. Each varies as much."""

_BATCH: Final = 25
_HANGS: Final = 240
# A thread that looks up a name may outlive the PUT that wanted it.
_PATIENCE: Final = 20
_CODES: Final = (*(3, 4, 5, 6, 129, 130, 143), RAISED)


class Held(NamedTuple):
    """What a process holds; memory in bytes."""

    descriptors: dict[int, str]
    threads: frozenset[str]
    memory: int

    def differences(self, before: "Held") -> Iterator[str]:
        new = self.descriptors.items() - before.descriptors.items()
        gone = before.descriptors.items() - self.descriptors.items()
        if new or gone:
            yield f"descriptors: {sorted(new)} more, {sorted(gone)} fewer"
        if threads := self.threads - before.threads:
            yield f"threads: {sorted(threads)}"


def held(before: Held | None = None) -> Held:
    """Inspect this process, if need be once it holds no more than before."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # return free memory, so that the rest is in use
        with open("/proc/self/statm", encoding="ascii") as file:
            memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        threads = {f"{thread.name} ({thread.ident})" for thread in threading.enumerate()}
        now = Held(open_files("self"), frozenset(threads), memory)
        if before is None or not any(now.differences(before)) or time.monotonic() > deadline:
            return now
        time.sleep(0.1)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to run.

    Attributes:
        numbers: of the builds, which decide their plans together with the seed.
        seed: any number.
        jobs: how many builds at once.
        seaweed: True if some builds use a real S3 server.
        store: makes the store for the others.
    """

    numbers: Sequence[int]
    seed: int = 1
    jobs: int = 8
    seaweed: bool = True
    store: Callable[[], Store] = MemoryStore


@dataclass
class Soak:
    """The results of all builds."""

    seed: int
    results: list[tuple[Plan, Result]] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        wrong = [
            f"build {plan.number} ({', '.join(plan.names)}): {words}\n"
            f"    repeat: make soak ARGS='--seed {self.seed} --only {plan.number}'\n    {plan}"
            for plan, result in self.results
            for words in result.wrong
        ]
        return wrong + self.leaks

    def table(self) -> Iterator[str]:
        """Yield a line for each fault; a build counts for all faults that it met."""
        heads = ["builds", "succeeded", "present", *map(str, _CODES[:-1])]
        heads += ["raised", "other", "requests"]
        yield f"{'fault':30}" + "".join(f"{head:>10}" for head in heads)
        rows: dict[str, list[Result]] = {}
        for planned, result in self.results:
            for name in [*planned.names, "all"]:
                rows.setdefault(name, []).append(result)
        for name in sorted(rows, key=lambda name: (name == "all", name)):
            codes = Counter(result.code for result in rows[name])
            other = codes.total() - codes[0] - sum(codes[code] for code in _CODES)
            requests = sum(result.connections for result in rows[name])
            present = sum(result.present for result in rows[name])
            numbers = [len(rows[name]), codes[0], present, *(codes[code] for code in _CODES)]
            yield f"{name:30}" + "".join(f"{n or '':>10}" for n in [*numbers, other, requests])


def soak(options: Options) -> Soak:
    """Run builds in batches; after each batch, everything that it held must be free."""
    done = Soak(options.seed)
    plans = [plan(options.seed, n, seaweed=options.seaweed) for n in options.numbers]
    with ExitStack() as stack:
        stack.enter_context(without_settings())
        stores: dict[str, Store] = {"memory": options.store()}
        if any(planned.store == "seaweed" for planned in plans):
            stores["seaweed"] = SeaweedStore(stack.enter_context(seaweed()))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        make_contexts(folder)
        builds = Builds(folder, stores, options.seed)
        _warm_up(builds, plans)
        before = held()
        for start in range(0, len(plans), _BATCH):
            batch = plans[start : start + _BATCH]
            _run(builds, batch, options.jobs, done)
            now = held(before)
            which = f"builds {batch[0].number} to {batch[-1].number} of seed {done.seed} left"
            done.leaks += [f"{which} {words}" for words in now.differences(before)]
            done.memory.append(now.memory)
            before = now
    if (more := growth(done.memory)) > MOST_GROWTH:
        done.leaks.append(f"{more / MIB:.0f} MiB more in use at the end than at the beginning")
    return done


def _warm_up(builds: Builds, plans: Sequence[Plan]) -> None:
    """Import everything, and create what is created once."""
    for planned in {p.store: p for p in plans}.values():
        peaceful = replace(planned, number=-1, client="async", faults=(), trouble="none")
        builds.run(replace(peaceful, context="small", expect="100"))


def _run(builds: Builds, batch: Sequence[Plan], jobs: int, done: Soak) -> None:
    with ThreadPoolExecutor(jobs, thread_name_prefix="soak") as pool:
        running = {pool.submit(partial(builds.run, planned)): planned for planned in batch}
        ended, hang = wait(running, _HANGS)
        if hang:  # a thread cannot be ended from outside
            faulthandler.dump_traceback()
            for future in hang:
                print(f"seed {done.seed}: {running[future]} hangs", file=sys.stderr)
            os._exit(1)
        results = ((running[future], future.result()) for future in ended)
        done.results += sorted(results, key=lambda pair: pair[0].number)


def growth(memory: Sequence[int]) -> int:
    """Return how much more the least of the last quarter is than the most of the first."""
    quarter = len(memory) // 4
    return min(memory[-quarter:]) - max(memory[:quarter]) if quarter else 0
