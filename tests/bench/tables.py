"""The figures as they are printed."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from tests.bench.results import Figure, Point, Row
from tests.bench.targets import TARGETS

MBIT = 1e6
LINKS = {"50 Mbit/s": 50 * MBIT, "500 Mbit/s": 500 * MBIT, "5 Gbit/s": 5000 * MBIT}


def machine(facts: Mapping[str, object]) -> Iterator[str]:
    """Yield what it was measured on."""
    yield from (f"{name:12}{value}" for name, value in facts.items())
    yield "A peak is that of the largest process, and never below floor_mib: its starter's counts."


def figures(found: Sequence[Figure]) -> Iterator[str]:
    """Yield each figure beside its target."""
    if not found:
        return
    yield f"{'figure':52}{'value':>8}{'target':>10}"
    for figure in found:
        target = TARGETS[figure.key]
        verdict = "met" if target.met(figure.value) else "MISSED"
        limit = f"{target.bound} {target.limit:g}"
        yield f"{target.words:52}{figure.value:8.2f}{limit:>10}  {verdict}"


def ways(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table for each context."""
    for (section, context), of in groupby(rows, attrgetter("section", "context")):
        title = f"{section}: {context}"
        yield ""
        yield f"{title:36}{'wall s':>8}{'CPU s':>8}{'MiB':>6}{'MB':>10}{'ratio':>8}"
        for row in of:
            cpu = "" if row.cpu is None else f"{row.cpu:.2f}"
            archive = f"{row.archive / 1e6:.1f}" if row.archive else ""
            yield (
                f"{row.way:36}{row.wall:8.2f}{cpu:>8}{row.peak_mib:6.0f}{archive:>10}"
                f"{row.ratio:8.2f}"
            )


def links(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what packing and sending would take with each level; * is the best of a link."""
    for context, of in groupby(rows, attrgetter("context")):
        levels = list(of)
        takes = {
            name: [row.wall + row.archive * 8 / bits for row in levels]
            for name, bits in LINKS.items()
        }
        yield ""
        yield f"{context + ', packed and sent, s':36}" + "".join(f"{name:>12}" for name in LINKS)
        for number, row in enumerate(levels):
            cells = (
                f"{seconds[number]:.2f}{'*' if seconds[number] == min(seconds) else ' '}"
                for seconds in takes.values()
            )
            yield f"{row.way:36}" + "".join(f"{cell:>12}" for cell in cells)


def scale(points: Sequence[Point]) -> Iterator[str]:
    """Yield what a build takes as there is more of it."""
    for of, group in groupby(points, attrgetter("of")):
        name, unit = ("1,000 files", 1000) if of == "files" else ("GiB", 1 << 30)
        yield ""
        yield f"{of:>36}{'wall s':>10}{f's / {name}':>16}{'MiB':>6}"
        for point in group:
            amount = f"{point.amount:,}{' (sparse)' if point.sparse else ''}"
            each = point.wall * unit / point.amount
            yield f"{amount:>36}{point.wall:10.2f}{each:16.3f}{point.peak_mib:6.0f}"
