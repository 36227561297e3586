"""The peak memory of a build, which must not grow with what is packed."""

from collections.abc import Iterator
from functools import partial

from tests.bench import contexts, timing
from tests.bench.bench import Bench
from tests.bench.peers import ours
from tests.bench.results import Figure, Item, row


def measure(bench: Bench) -> Iterator[Item]:
    files, size = bench.size.empty, bench.size.sparse
    for key, words, recipe in (
        ("files", f"{files:,} empty files", partial(contexts.empty, files=files)),
        ("sparse", f"one sparse file of {size >> 30} GiB", partial(contexts.sparse, size=size)),
        ("tiny", "one tiny file", partial(contexts.big, size=2)),
    ):
        with bench.made(recipe) as context:
            run = timing.run(ours(str(context), "--dry-run"))
        yield row("memory", words, "e2b-upload", [run], [run])
        yield Figure(f"memory/{key}", run.peak_mib)
