"""What a section of the benchmark yields."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tests.bench.timing import Run, ratios


@dataclass(frozen=True)
class Row:
    """One way to do something, measured.

    Attributes:
        section: where it was measured.
        context: what it was measured with.
        way: who did it.
        wall: seconds, the median.
        cpu: seconds, the median; None where it belongs to more than is timed.
        peak_mib: the largest.
        archive: bytes; 0 where there is none.
        ratio: of wall time to that of the row beside it, the median of the pairs.
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


@dataclass(frozen=True)
class Figure:
    """A value that has a target of the same key."""

    key: str
    value: float


@dataclass(frozen=True)
class Point:
    """What one build takes, of so many files or bytes."""

    of: Literal["files", "bytes"]
    amount: int
    sparse: bool
    wall: float
    peak_mib: float


@dataclass(frozen=True)
class Note:
    """What has to be said of the figures: what is missing or left out, what a context holds."""

    text: str


Item: TypeAlias = Row | Figure | Point | Note


def row(
    section: str,
    context: str,
    way: str,
    runs: Sequence[Run],
    beside: Sequence[Run],
    *,
    cpu: bool = True,
) -> Row:
    """Return the medians of some runs, and of their ratios to the runs beside them."""
    pairs = ratios(runs, beside)
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
