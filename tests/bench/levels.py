"""The levels of compression: what each costs to pack, and what it saves on a link."""

from collections.abc import Iterator
from functools import partial

from tests.bench import timing
from tests.bench.bench import Bench
from tests.bench.pack import pack
from tests.bench.peers import ours_packing
from tests.bench.results import Item, row

LEVELS = ("fast", "default", "small", "none")


def measure(bench: Bench) -> Iterator[Item]:
    for name in ("many", "mixed"):
        context = bench.context(name)
        runs = timing.in_turn(
            *(partial(pack, ours_packing(level), context) for level in LEVELS),
            pairs=timing.FEWEST_PAIRS,
        )
        default = runs[LEVELS.index("default")]
        for level, done in zip(LEVELS, runs, strict=True):
            yield row("levels", name, level, done, default)
