"""Measure this project against other tools, its own limits and its targets.

Run as `python -m tests.bench` (`make bench`). Whole processes are timed, in turn. The seconds are
those of one machine at one time. Compare the ratios, which come from consecutive pairs.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tests.bench import report
from tests.bench.bench import FULL, QUICK, Bench
from tests.bench.report import Facts, Figure, Item, Note, Point, Row
from tests.bench.sections import LONG, SECTIONS
from tests.bench.targets import TARGETS
from tests.support.environment import without_settings

T = TypeVar("T")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use small contexts: three minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument(
        "--check", action="store_true", help="fail if a figure misses its target by far"
    )
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="run this section; may be repeated"
    )
    parser.add_argument("--dir", default="/var/tmp", help="directory of the contexts (/var/tmp)")
    options = parser.parse_args()
    if options.json:
        options.json.touch()  # a wrong path fails now, not in an hour
    names = options.only or [name for name in SECTIONS if name not in LONG]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that it cleans up
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir) as scratch,
        without_settings(TMPDIR=scratch),  # all tools spool on the same disk
    ):
        facts = report.machine()
        bench = Bench(QUICK if options.quick else FULL, Path(scratch))
        found = []
        for name in names:
            items = list(measure(bench, name))
            if options.check and missed(items):
                print("measuring once more, because it may be noise", file=sys.stderr)
                items = min(items, list(measure(bench, name)), key=lambda them: len(missed(them)))
            found += items
    print_report(facts, found)
    if options.json:
        options.json.write_text(as_json(facts, found, quick=options.quick), encoding="utf-8")
    failed = missed(found) if options.check else []
    for figure in failed:
        target = TARGETS[figure.key]
        print(
            f"{target.words}: {figure.value:.2f}, but {target.bound} {target.limit:g} is wanted;"
            f" --check allows a factor of {target.slack:g}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def measure(bench: Bench, name: str) -> Iterator[Item]:
    """Yield what a section finds, and report progress."""
    print(f"measuring: {name}", file=sys.stderr)
    for item in SECTIONS[name](bench):
        if isinstance(item, Row):
            print(f"  {item.context}: {item.way}, {item.wall:.2f} s", file=sys.stderr)
        yield item


def print_report(facts: Facts, found: Sequence[Item]) -> None:
    rows = of(Row, found)
    for lines in (
        report.facts(facts),
        report.figures(of(Figure, found)),
        report.ways(rows),
        report.links([row for row in rows if row.section == "levels"]),
        report.scale(of(Point, found)),
        (note.text for note in of(Note, found)),
    ):
        if text := "\n".join(lines):
            print(text.strip("\n"), end="\n\n")


def of(kind: type[T], found: Iterable[Item]) -> list[T]:
    return [item for item in found if isinstance(item, kind)]


def missed(found: Sequence[Item]) -> list[Figure]:
    """Return the figures that miss their targets by more than noise explains."""
    return [figure for figure in of(Figure, found) if not TARGETS[figure.key].passes(figure.value)]


def as_json(facts: Facts, found: Sequence[Item], *, quick: bool) -> str:
    """Return everything, for tests.bench.plot and for comparisons."""
    kinds: dict[str, type[Item]] = {"rows": Row, "figures": Figure, "points": Point, "notes": Note}
    items = {name: [item._asdict() for item in of(kind, found)] for name, kind in kinds.items()}
    return json.dumps({"machine": facts, "quick": quick, **items}, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main())
