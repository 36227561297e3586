"""A build by E2B's SDK: alone, and after this project has put the files where it looks for them.

Against the stand-in of E2B's API and a real S3 server on loopback. Each build is of a template that
was not there before, so that there is something to upload.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from tests.bench import contexts, timing
from tests.bench.peers import SDK, ours, sdk_build
from tests.bench.results import Figure, Note, row
from tests.support.e2b import standin
from tests.support.seaweed import seaweed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.bench import Bench
    from tests.bench.results import Item

BOTH = "e2b-upload, then the SDK"
ONE_AFTER_THE_OTHER = """
from e2b_upload import template
from e2b_upload.cli.edge import main
template._AT_ONCE = 1
main()"""
_PARTS, _FILES_A_PART = 6, 1000
# Of a store on another continent: seconds until an answer sets out, bytes a second.
FAR, SPEED = 0.1, 25e6


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
    yield from several(bench)


def several(bench: Bench) -> Iterator[Item]:
    """Time COPYs that go to a far store, several at once and one after the other."""
    with bench.made(_parts) as context:
        yield from _at_once(bench, str(context))


def _parts(folder: Path) -> None:
    for part in map(str, range(_PARTS)):
        contexts.many(folder / part, _FILES_A_PART)


def _at_once(bench: Bench, context: str) -> Iterator[Item]:
    options = ["--template", "t", "--force", "--secrets", "off"]
    for part in range(_PARTS):
        options += ["--copy", f"{part}:/{part}"]
    at_once = ours(context, *options)
    one = [*at_once[:1], "-c", ONE_AFTER_THE_OTHER, *at_once[3:]]
    with seaweed() as s3, standin(s3) as api:
        api.far, api.speed = FAR, SPEED
        api.add("t")
        own = {"E2B_API_KEY": api.key, "E2B_API_URL": api.url}

        def run(command: list[str]) -> timing.Run:
            before = len(api.puts)
            run = timing.run(command, **own)
            puts = api.puts[before:]
            assert len(puts) == _PARTS
            return replace(run, archive=sum(put.size for put in puts))

        runs, mine = timing.in_turn(
            partial(run, one), partial(run, at_once), pairs=bench.size.pairs, slow=bench.size.slow
        )
    yield row("e2b", "several", "one after the other", runs, mine)
    yield row("e2b", "several", "at once", mine, mine)
    yield Note(
        f"several: {_PARTS} COPYs of {_FILES_A_PART:,} files each; an answer takes {FAR:g} s, and "
        f"the store takes {SPEED / 1e6:g} MB/s of each connection"
    )
    yield Figure("e2b/several", timing.ratio(runs, mine))
