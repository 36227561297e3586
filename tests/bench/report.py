"""What the benchmark measures, where, and how it is printed."""

import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distributions
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from tests.bench.processes import Run, ratios, run
from tests.bench.targets import TARGETS

Facts: TypeAlias = dict[str, str | int | float]

PACKAGES = ("e2b-upload", "isal", "zlib-ng", "requests", "typer", "e2b")
PROGRAMS = ("tar", "gzip", "pigz", "igzip", "curl")
LINKS = {"50 Mbit/s": 50e6, "500 Mbit/s": 500e6, "5 Gbit/s": 5e9}


class Row(NamedTuple):
    """One way to do something.

    Attributes:
        section: of the benchmark.
        context: what was packed or sent.
        way: the tool.
        wall: seconds, the median.
        cpu: seconds, the median; None if more was done than is timed.
        peak_mib: the largest.
        archive: in bytes; 0 if there is none.
        ratio: of the wall time to that of the compared runs, the median of the pairs.
        walls: all of them.
        ratios: all of them.
    """

    section: str
    context: str
    way: str
    wall: float
    cpu: float | None
    peak_mib: float
    archive: int
    ratio: float
    walls: tuple[float, ...]
    ratios: tuple[float, ...]


class Figure(NamedTuple):
    """A value of `TARGETS`."""

    key: str
    value: float


class Point(NamedTuple):
    """The cost of one build of this many files or bytes."""

    of: Literal["files", "bytes"]
    amount: int
    sparse: bool
    wall: float
    peak_mib: float


class Note(NamedTuple):
    """What else to know: what is missing or left out, what a context contains."""

    text: str


Item: TypeAlias = Row | Figure | Point | Note


def row(
    section: str,
    context: str,
    way: str,
    runs: Sequence[Run],
    compared: Sequence[Run],
    *,
    cpu: bool = True,
) -> Row:
    """Return the medians of some runs, and of their ratios to the compared runs."""
    pairs = ratios(runs, compared)
    return Row(
        section,
        context,
        way,
        wall=statistics.median(run.wall for run in runs),
        cpu=statistics.median(run.cpu for run in runs) if cpu else None,
        peak_mib=max(run.peak_mib for run in runs),
        archive=runs[-1].archive,
        ratio=statistics.median(pairs),
        walls=tuple(run.wall for run in runs),
        ratios=tuple(pairs),
    )


def machine() -> Facts:
    """Return the machine, the versions, and the floor of all peaks."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    version = 'command -v "$name" >/dev/null && "$name" --version 2>&1 | head -n 1 || echo missing'
    versions = f'for name in "$@"; do {version}; done'
    programs = subprocess.check_output(["sh", "-c", versions, "sh", *PROGRAMS], text=True)
    installed = {each.name: each.version for each in distributions()}
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": next(models, platform.machine()),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "system": platform.platform(),
        "python": platform.python_version(),
        "floor_mib": run(["true"]).peak_mib,
        **{name: installed.get(name, "missing") for name in PACKAGES},
        **dict(zip(PROGRAMS, programs.splitlines(), strict=True)),
    }


def figures(found: Sequence[Figure]) -> Iterator[str]:
    """Yield each figure beside its target."""
    if not found:
        return
    yield f"{'figure':52}{'value':>8}{'target':>10}"
    for figure in found:
        target = TARGETS[figure.key]
        verdict = "met" if target.met(figure.value) else "MISSED"
        limit = f"{target.bound} {target.limit:g}" if target.bound else "-"
        line = f"{target.words:52}{figure.value:8.2f}{limit:>10}  {verdict}"
        yield line if target.bound else line.removesuffix(verdict).rstrip()


def ways(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table for each context."""
    for (section, context), of in groupby(rows, attrgetter("section", "context")):
        title = f"{section}: {context}"
        yield ""
        yield f"{title:36}{'wall s':>8}{'CPU s':>8}{'MiB':>6}{'MB':>10}{'ratio':>8}"
        for each in of:
            cpu = "" if each.cpu is None else f"{each.cpu:.2f}"
            archive = f"{each.archive / 1e6:.1f}" if each.archive else ""
            yield (
                f"{each.way:36}{each.wall:8.2f}{cpu:>8}{each.peak_mib:6.0f}{archive:>10}"
                f"{each.ratio:8.2f}"
            )


def links(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the seconds to pack and send with each level; * is the best for a link."""
    for context, of in groupby(rows, attrgetter("context")):
        levels = list(of)
        seconds = {
            name: [level.wall + level.archive * 8 / bits for level in levels]
            for name, bits in LINKS.items()
        }
        yield ""
        yield f"{context + ', packed and sent, s':36}" + "".join(f"{name:>12}" for name in LINKS)
        for number, level in enumerate(levels):
            cells = (
                f"{each[number]:.2f}{'*' if each[number] == min(each) else ' '}"
                for each in seconds.values()
            )
            yield f"{level.way:36}" + "".join(f"{cell:>12}" for cell in cells)


def scale(points: Sequence[Point]) -> Iterator[str]:
    """Yield what a build costs with more files or bytes."""
    for of, group in groupby(points, attrgetter("of")):
        name, unit = ("1,000 files", 1000) if of == "files" else ("GiB", 1 << 30)
        yield ""
        yield f"{of:>36}{'wall s':>10}{f's / {name}':>16}{'MiB':>6}"
        for point in group:
            amount = f"{point.amount:,}{' (sparse)' if point.sparse else ''}"
            each = point.wall * unit / point.amount
            yield f"{amount:>36}{point.wall:10.2f}{each:16.3f}{point.peak_mib:6.0f}"


def facts(found: Mapping[str, object]) -> Iterator[str]:
    yield from (f"{name:12}{value}" for name, value in found.items())
    yield "Each peak is that of the largest process, and at least floor_mib."
