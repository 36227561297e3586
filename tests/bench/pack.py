"""Packing, against the peers: the same contexts, in turn."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.bench import timing
from tests.bench.bench import CONTEXTS, Bench
from tests.bench.peers import FLOOR, PEERS, SDK, Peer, ours_packing
from tests.bench.results import Figure, Item, Note, row
from tests.bench.targets import TARGETS

OURS, SMALL = ours_packing("default"), ours_packing("small")


def pack(peer: Peer, context: Path) -> timing.Run:
    """Pack once, and note the size of the archive, which is removed if it has a name."""
    archive = context.with_name("archive")
    run = timing.run(peer.command(str(context), str(archive)))
    if run.printed:
        return replace(run, archive=json.loads(run.printed)["archive"]["bytes"])
    size = archive.stat().st_size
    os.unlink(archive)  # not by the next one, in its time
    return replace(run, archive=size)


def measure(bench: Bench) -> Iterator[Item]:
    for peer in PEERS:
        if peer.missing:
            yield Note(f"{peer.name} is not measured, missing: {peer.missing}")
    for name in CONTEXTS:
        left_out = [peer.name for peer in PEERS if f"{name}/{peer.key}" not in bench.size.ways]
        if left_out:
            yield Note(f"{name}: left out at this size: {', '.join(left_out)}")
        yield from _compare(bench, name)


def _compare(bench: Bench, name: str) -> Iterator[Item]:
    context = bench.context(name)
    own: list[timing.Run] = []
    for peer in PEERS:
        if peer.missing or f"{name}/{peer.key}" not in bench.size.ways:
            continue
        small = peer is SDK and f"small/{name}/wall" in TARGETS
        theirs, mine, *smaller = timing.in_turn(
            *(partial(pack, each, context) for each in (peer, OURS, *([SMALL] if small else []))),
            pairs=bench.size.pairs,
            slow=bench.size.slow,
        )
        own += mine
        yield row("pack", name, peer.name, theirs, mine)
        key = f"pack/{name}/{peer.key}"
        if key in TARGETS:
            pair = (mine, theirs) if peer is FLOOR else (theirs, mine)
            yield Figure(key, timing.ratio(*pair))
        for smallest in smaller:
            yield row("pack", name, SMALL.name, smallest, mine)
            yield Figure(f"small/{name}/wall", timing.ratio(theirs, smallest))
            yield Figure(f"small/{name}/bytes", smallest[-1].archive / theirs[-1].archive)
    if own:
        yield row("pack", name, OURS.name, own, own)
        held = json.loads(own[-1].printed)["archive"]
        yield Note(
            f"{name}: {held['files']:,} files of {held['content_bytes'] / 1e6:,.0f} MB in"
            f" {held['directories']:,} folders, {held['hardlinks']:,} hard links"
        )
