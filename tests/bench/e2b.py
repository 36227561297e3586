"""A build by E2B's SDK: alone, and after this project has put the files where it looks for them.

Against the stand-in of E2B's API and a real S3 server on loopback. Each build is of a template that
was not there before, so that there is something to upload.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from tests.bench import timing
from tests.bench.peers import SDK, ours, sdk_build
from tests.bench.results import Figure, Note, row
from tests.support.e2b import standin
from tests.support.seaweed import seaweed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench
    from tests.bench.results import Item

BOTH = "e2b-upload, then the SDK"


def measure(bench: Bench) -> Iterator[Item]:
    """Time whole processes, from the start of the first to the end of the last."""
    if SDK.missing:
        yield Note(f"a build by the SDK is not measured, missing: {SDK.missing}")
        return
    context = str(bench.context("many"))
    names = (f"bench-{number}" for number in count())
    uploads: list[float] = []
    with seaweed() as s3, standin(s3) as api:
        own = {"E2B_API_KEY": api.key, "E2B_API_URL": api.url}

        def alone() -> timing.Run:
            before = len(api.puts)
            run = timing.run(sdk_build(context, next(names)), **own)
            assert len(api.puts) == before + 1
            return replace(run, archive=api.puts[-1].size)

        def both() -> timing.Run:
            name, before = next(names), len(api.puts)
            options = ("--template", name, "--create", "--copy", ".:/app", "--secrets", "off")
            first = timing.run(ours(context, *options), **own)
            second = timing.run(sdk_build(context, name), **own)
            assert len(api.puts) == before + 1  # ours: the SDK found it there
            uploads.append(first.wall)
            return replace(
                second,
                wall=first.wall + second.wall,
                cpu=first.cpu + second.cpu,
                peak_mib=max(first.peak_mib, second.peak_mib),
                archive=api.puts[-1].size,
            )

        runs, mine = timing.in_turn(alone, both, pairs=bench.size.pairs, slow=bench.size.slow)
    yield row("e2b", "many", f"{SDK.name} alone", runs, mine)
    yield row("e2b", "many", BOTH, mine, mine)
    yield Note(f"of {BOTH}: e2b-upload took {min(uploads):.2f} s at its best")
    yield Figure("e2b/many", timing.ratio(runs, mine))
