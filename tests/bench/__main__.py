"""Measure this project against its peers, its own limits and its targets.

Run as `python -m tests.bench` (`make bench`). Whole processes are timed, in turn. Figures of one
machine at one time: read the ratios, which come from pairs that ran one after the other.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from tests.bench import (
    collect,
    e2b,
    levels,
    machine,
    memory,
    pack,
    scale,
    start,
    tables,
    upload,
)
from tests.bench.bench import FULL, QUICK, Bench
from tests.bench.results import Figure, Item, Note, Point, Row
from tests.bench.targets import TARGETS

T = TypeVar("T")

SECTIONS: dict[str, Callable[[Bench], Iterator[Item]]] = {
    "pack": pack.measure,
    "upload": upload.measure,
    "memory": memory.measure,
    "collect": collect.measure,
    "start": start.measure,
    "e2b": e2b.measure,
    "scale": scale.measure,
    "levels": levels.measure,
}
LONG = {"scale", "levels"}  # only where they are asked for


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="within three minutes: small contexts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument(
        "--check", action="store_true", help="fail where a figure is far from its target"
    )
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="this section; may be repeated"
    )
    parser.add_argument("--dir", default="/var/tmp", help="where contexts are made (/var/tmp)")
    options = parser.parse_args()
    if options.json:
        options.json.touch()  # a wrong path is told now, not in an hour
    names = options.only or [name for name in SECTIONS if name not in LONG]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leave nothing behind
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir) as scratch:
        alike(scratch)
        facts = machine.facts()
        bench = Bench(QUICK if options.quick else FULL, Path(scratch))
        found = []
        for name in names:
            items = list(measure(bench, name))
            if options.check and missed(items):
                print("measuring once more, as it may be noise", file=sys.stderr)
                items = min(items, list(measure(bench, name)), key=lambda them: len(missed(them)))
            found += items
    report(facts, found)
    if options.json:
        options.json.write_text(as_json(facts, found, quick=options.quick), encoding="utf-8")
    return 1 if options.check and tell(missed(found)) else 0


def alike(scratch: str) -> None:
    """Give every child the same disk to spool on, and the same way to loopback: no proxy."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("E2B_"):
            del os.environ[name]
    os.environ["TMPDIR"] = scratch


def measure(bench: Bench, name: str) -> Iterator[Item]:
    """Yield what a section finds, and show on the way that something happens."""
    print(f"measuring: {name}", file=sys.stderr)
    for item in SECTIONS[name](bench):
        if isinstance(item, Row):
            print(f"  {item.context}: {item.way}, {item.wall:.2f} s", file=sys.stderr)
        yield item


def report(facts: machine.Facts, found: Sequence[Item]) -> None:
    """Print all of it: targets first."""
    rows = of(Row, found)
    for lines in (
        tables.machine(facts),
        tables.figures(of(Figure, found)),
        tables.ways(rows),
        tables.links([row for row in rows if row.section == "levels"]),
        tables.scale(of(Point, found)),
        (note.text for note in of(Note, found)),
    ):
        if text := "\n".join(lines):
            print(text.strip("\n"), end="\n\n")


def of(kind: type[T], found: Iterable[Item]) -> list[T]:
    """Return the items of one kind."""
    return [item for item in found if isinstance(item, kind)]


def missed(found: Sequence[Item]) -> list[Figure]:
    """Return the figures that miss their targets by more than noise explains."""
    return [figure for figure in of(Figure, found) if not TARGETS[figure.key].passes(figure.value)]


def tell(figures: Sequence[Figure]) -> bool:
    """Name figures that missed; say whether there were any."""
    for figure in figures:
        target = TARGETS[figure.key]
        print(
            f"{target.words}: {figure.value:.2f}, {target.bound} {target.limit:g} wanted,"
            f" misses it by more than a factor of {target.slack:g}",
            file=sys.stderr,
        )
    return bool(figures)


def as_json(facts: machine.Facts, found: Sequence[Item], *, quick: bool) -> str:
    """Return everything, for tests.bench.plot and for whoever compares."""
    kinds: dict[str, type[Item]] = {"rows": Row, "figures": Figure, "points": Point, "notes": Note}
    items = {name: [asdict(item) for item in of(kind, found)] for name, kind in kinds.items()}
    return json.dumps({"machine": facts, "quick": quick, **items}, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main())
