"""What a build costs as there is more to pack: files by their number, bytes of one file."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

from tests.bench import contexts, timing
from tests.bench.bench import GIB, Bench
from tests.bench.peers import ours
from tests.bench.results import Item, Point

SPARSE_FROM = 4 * GIB  # what is larger would be read from the disk, not from memory


def measure(bench: Bench) -> Iterator[Item]:
    for files in bench.size.files:
        yield _point(bench, "files", files, partial(contexts.empty, files=files))
    for size in bench.size.bytes:
        recipe = contexts.sparse if size >= SPARSE_FROM else contexts.big
        yield _point(bench, "bytes", size, partial(recipe, size=size), sparse=size >= SPARSE_FROM)


def _point(
    bench: Bench,
    of: Literal["files", "bytes"],
    amount: int,
    recipe: Callable[[Path], None],
    *,
    sparse: bool = False,
) -> Point:
    with bench.made(recipe) as context:
        command = ours(str(context), "--dry-run")
        [runs] = timing.in_turn(partial(timing.run, command), pairs=timing.FEWEST_PAIRS)
    wall, peak = median(run.wall for run in runs), max(run.peak_mib for run in runs)
    return Point(of, amount, sparse, wall, peak)
