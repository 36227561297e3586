# mypy: disable-error-code="import-not-found"
"""Draw the figures of a run as SVG: `python -m tests.bench.plot RESULT.json OUTDIR`.

Matplotlib is needed here and nowhere else: `pip install matplotlib`. The same figures give the same
file: no date in it, and no random names.
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
    "svg.fonttype": "none",  # text stays text: small, and can be searched
    "font.family": "sans-serif",
    "font.size": 9,
    "figure.facecolor": "white",  # on a dark page, too
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def bars(rows: Sequence[dict[str, Any]]) -> Any:
    """Draw what each way takes to pack each context, beside each other."""
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
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for panel, of in zip(panels, ("files", "bytes"), strict=True):
        some = [point for point in points if point["of"] == of]
        sparse = [point["amount"] for point in some if point["sparse"]]
        amounts = [point["amount"] for point in some]
        for key, name, color in (("wall", "seconds", OURS), ("peak_mib", "peak MiB", THEIRS)):
            values = [point[key] for point in some]
            panel.loglog(amounts, values, color=color, marker="o", markersize=3)
            panel.annotate(
                f"{values[-1]:.3g} {name}",
                (amounts[-1], values[-1]),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=color,
            )
        panel.axhline(LIMIT_MIB, color=LIMIT, linewidth=0.8, linestyle="--")
        panel.annotate(f"limit {LIMIT_MIB:g} MiB", (amounts[0], LIMIT_MIB * 1.1), color=LIMIT)
        title = "empty files" if of == "files" else "bytes of one file"
        if sparse:
            title += f", sparse from {min(sparse) >> 30} GiB on"
        panel.set_title(title, loc="left", fontweight="bold")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("result", type=Path, help="what tests.bench --json wrote")
    parser.add_argument("folder", type=Path, help="where the pictures go")
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
