"""Pack the same contexts by e2b-upload and by its peers, in turn, as whole processes.

Run as `python -m tests.bench` (`make bench`). Figures of one machine at one time: read the ratios,
which come from pairs that ran one after the other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import contexts
from tests.bench.peers import PEERS, Peer, ours

SLOW_SECONDS = 20.0  # a command that takes longer is run once: noise is small against it
PAIRS = 5


@dataclass(frozen=True)
class Run:
    """One finished process: seconds, mebibytes, bytes."""

    wall: float
    cpu: float
    peak_mib: float
    archive: int


@dataclass(frozen=True)
class Row:
    """A way to pack, measured; `ratio` is its wall time over ours, the median of the pairs."""

    context: str
    name: str
    wall: float
    cpu: float
    peak_mib: float
    archive: int
    ratio: float


def run(peer: Peer, context: str, scratch: str) -> Run:
    """Run once, with the kernel's own account of the process and its children."""
    archive = os.path.join(scratch, "archive")
    start = time.perf_counter()
    process = subprocess.Popen(peer.command(context, archive), stdout=subprocess.PIPE)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode != 0:
        sys.exit(f"{peer.name} failed on {context}")
    size = json.loads(printed)["archive"]["bytes"] if printed else os.stat(archive).st_size
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall, cpu, usage.ru_maxrss / 1024, size)


def compare(context: str, folder: str, peer: Peer, scratch: str) -> list[tuple[Run, Run]]:
    """Run a peer and ours in turn."""
    mine = ours("default")
    pairs = []
    for _ in range(PAIRS):
        pairs.append((run(peer, folder, scratch), run(mine, folder, scratch)))
        if pairs[0][0].wall > SLOW_SECONDS:
            break
    print(f"  {context}: {peer.name}, {len(pairs)} pairs", file=sys.stderr)
    return pairs


def row(context: str, name: str, runs: Iterable[Run], ratio: float) -> Row:
    """Return the medians of some runs."""
    runs = list(runs)

    def median(of: Callable[[Run], float]) -> float:
        return statistics.median(of(run) for run in runs)

    return Row(
        context,
        name,
        median(lambda r: r.wall),
        median(lambda r: r.cpu),
        max(r.peak_mib for r in runs),
        runs[-1].archive,
        ratio,
    )


def measure(context: str, folder: str, scratch: str) -> list[Row]:
    """Return a row for each peer that is installed, and ours over all its pairs."""
    rows, mine = [], []
    for peer in PEERS:
        if peer.missing:
            print(f"  {peer.name} is not installed: {peer.missing}", file=sys.stderr)
            continue
        pairs = compare(context, folder, peer, scratch)
        ratio = statistics.median(theirs.wall / own.wall for theirs, own in pairs)
        rows.append(row(context, peer.name, (theirs for theirs, _ in pairs), ratio))
        mine += [own for _, own in pairs]
    return [row(context, ours("default").name, mine, 1.0), *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--dir", default="/var/tmp", help="where the contexts are made (/var/tmp)")
    options = parser.parse_args()
    part = 10 if options.quick else 1
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir) as scratch:
        recipes: dict[str, Callable[[Path], None]] = {
            "many": lambda folder: contexts.many(folder, 86_000 // part),
            "mixed": lambda folder: contexts.mixed(folder, 1_600_000_000 // part),
            "big": lambda folder: contexts.big(folder, 3 * 1024**3 // part),
        }
        for name, make in recipes.items():
            folder = Path(scratch, name)
            folder.mkdir()
            make(folder)
            contexts.read_all(folder)
            rows += measure(name, str(folder), scratch)
            subprocess.run(["rm", "-rf", folder], check=True)
    print(f"{'context':8}{'':18}{'wall s':>8}{'CPU s':>8}{'MiB':>6}{'archive MB':>12}{'÷ ours':>8}")
    for r in rows:
        print(
            f"{r.context:8}{r.name:18}{r.wall:8.2f}{r.cpu:8.2f}{r.peak_mib:6.0f}"
            f"{r.archive / 1e6:12.1f}{r.ratio:8.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
