# mypy: disable-error-code="import-not-found"
"""Draw the figures of a run as SVG: `python -m tests.bench.plot RESULT.json OUTDIR`.

It needs Matplotlib (`make plots` installs it). The same figures give the same file: it contains no
date and no random names.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.bench.targets import TARGETS

OURS, THEIRS, LIMIT = "#0b6e4f", "#7b8794", "#c0392b"
TIMES = "\N{MULTIPLICATION SIGN}"
LIMIT_MIB = TARGETS["memory/files"].limit
LOOK: Any = {
    "svg.hashsalt": "e2b-upload",
    "svg.fonttype": "none",  # text stays text: small and searchable
    "font.family": "sans-serif",
    "font.size": 9,
    "figure.facecolor": "white",  # also on a dark page
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def bars(rows: Sequence[dict[str, Any]]) -> Any:
    """Draw the seconds that each tool takes to pack each context."""
    contexts = list(dict.fromkeys(row["context"] for row in rows))
    figure, panels = plt.subplots(
        1, len(contexts), figsize=(3.6 * len(contexts), 2.6), squeeze=False, layout="constrained"
    )
    for panel, context in zip(panels[0], contexts, strict=True):
        of = sorted(
            (row for row in rows if row["context"] == context), key=lambda row: -row["wall"]
        )
        walls = [row["wall"] for row in of]
        ours = ["e2b-upload" in row["way"] for row in of]
        drawn = panel.barh(
            [row["way"] for row in of], walls, color=[OURS if own else THEIRS for own in ours]
        )
        labels = [f"{row['wall']:.2f} s  {row['ratio']:.1f}{TIMES}" for row in of]
        panel.bar_label(drawn, labels, padding=3)
        panel.set_xscale("log")
        panel.set_xlim(min(walls) / 3, max(walls) * 20)  # room for the labels
        panel.set_title(context, loc="left", fontweight="bold")
    figure.supxlabel(
        f"seconds to pack, logarithmic; {TIMES} is the time of e2b-upload default", fontsize=8
    )
    return figure


def lines(points: Sequence[dict[str, Any]]) -> Any:
    """Draw wall time and peak memory against the number of files, and the bytes of one file."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 5), sharex="col", layout="constrained")
    for column, of in enumerate(("files", "bytes")):
        some = [point for point in points if point["of"] == of]
        sparse = [point["amount"] for point in some if point["sparse"]]
        amounts = [point["amount"] for point in some]
        time, memory = panels[0][column], panels[1][column]
        time.loglog(amounts, [p["wall"] for p in some], color=OURS, marker="o", markersize=3)
        memory.semilogx(
            amounts, [p["peak_mib"] for p in some], color=OURS, marker="o", markersize=3
        )
        memory.axhline(LIMIT_MIB, color=LIMIT, linewidth=0.8, linestyle="--")
        memory.annotate(f"limit {LIMIT_MIB:g} MiB", (amounts[0], LIMIT_MIB + 2), color=LIMIT)
        memory.set_ylim(0, LIMIT_MIB + 12)
        time.set_ylabel("seconds")
        time.yaxis.set_major_formatter("{x:g}")
        for panel in (time, memory):
            panel.minorticks_off()
        memory.set_ylabel("peak MiB")
        title = "empty files" if of == "files" else "bytes of one file"
        if sparse:
            title += f", sparse from {min(sparse) >> 30} GiB on"
        time.set_title(title, loc="left", fontweight="bold")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("result", type=Path, help="the file of tests.bench --json")
    parser.add_argument("folder", type=Path, help="for the pictures")
    options = parser.parse_args()
    result = json.loads(options.result.read_text(encoding="utf-8"))
    packed = [row for row in result["rows"] if row["section"] == "pack"]
    options.folder.mkdir(parents=True, exist_ok=True)
    mpl.use("svg")
    with mpl.rc_context(LOOK):
        for name, draw, of in (("pack", bars, packed), ("scale", lines, result["points"])):
            if of:
                draw(of).savefig(options.folder / f"bench-{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
