"""Ignoring: what is excluded costs nothing, and many patterns cost little more than none."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench import contexts, timing
from tests.bench.bench import Bench
from tests.bench.peers import ours
from tests.bench.results import Figure, Item, Note, row

KEPT = 1000  # files beside the excluded ones

_COLLECTS = """
import sys
import e2b_upload
print(sum(1 for _ in e2b_upload.collect(sys.argv[1], ignore_file=sys.argv[2])))
"""

# As ignore files have them; the contexts of the benchmark hold next to nothing of it, so that the
# same files are collected with them as without.
PATTERNS = Path(__file__).with_name("patterns.dockerignore")


def measure(bench: Bench) -> Iterator[Item]:
    yield from _excluded(bench)
    yield from _patterns(bench)


def _excluded(bench: Bench) -> Iterator[Item]:
    """Time builds of the same files, with and without a large folder that is left out."""
    left_out = bench.size.excluded

    def recipe(folder: Path) -> None:
        for name in ("with", "without"):
            context = folder / name
            context.mkdir()
            contexts.many(context, KEPT)
            (context / ".dockerignore").write_text("0000\n")
        contexts.empty(folder / "with", left_out, a_folder=left_out)

    with bench.made(recipe) as folder:

        def build(name: str) -> timing.Run:
            return timing.run(ours(str(folder / name), "--dry-run"))

        heavy, light = timing.in_turn(
            lambda: build("with"), lambda: build("without"), pairs=bench.size.shorts
        )
    context = f"{KEPT:,} files"
    yield row("collect", context, f"and {left_out:,} excluded", heavy, light)
    yield row("collect", context, "alone", light, light)
    yield Figure("collect/excluded", timing.ratio(heavy, light))


def _patterns(bench: Bench) -> Iterator[Item]:
    """Time the collecting of the same files, with many patterns and with none."""
    context = bench.context("many")

    def collect(ignore_file: Path) -> timing.Run:
        return timing.run([sys.executable, "-c", _COLLECTS, str(context), str(ignore_file)])

    heavy, light = timing.in_turn(
        lambda: collect(PATTERNS), lambda: collect(Path(os.devnull)), pairs=bench.size.pairs
    )
    patterns = len(PATTERNS.read_text(encoding="utf-8").splitlines())
    found, there = int(heavy[-1].printed), int(light[-1].printed)
    yield row("collect", "many, collecting alone", f"{patterns} patterns", heavy, light)
    yield row("collect", "many, collecting alone", "no pattern", light, light)
    yield Figure("collect/patterns", timing.ratio(heavy, light))
    yield Note(f"the {patterns} patterns exclude {there - found:,} of {there:,} entries")
