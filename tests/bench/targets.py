"""What is aimed at, each with its limit."""

from dataclasses import dataclass
from typing import Literal

# By how much a check lets a figure miss. A ratio of times of a short run, on a machine that others
# use as well, was seen at half of its target twice in a row; a slip worth a failure is tenfold.
NOISE = 4.0
# Bytes and memory depend on no noise; a small context compresses a little differently.
BYTES = 1.1
EXACT = 1.0


@dataclass(frozen=True)
class Target:
    """A limit for one figure.

    Attributes:
        words: what the figure is.
        bound: whether it is to be at least or at most the limit.
        limit: of a ratio, or of mebibytes.
        slack: the factor by which a check lets the figure miss the limit.
    """

    words: str
    bound: Literal["≥", "≤"]
    limit: float
    slack: float = NOISE

    def met(self, value: float, slack: float = 1.0) -> bool:
        """Tell whether a figure keeps the limit, or misses it by no more than a factor."""
        if self.bound == "≥":
            return value >= self.limit / slack
        return value <= self.limit * slack

    def passes(self, value: float) -> bool:
        """Tell whether a figure is near enough to the limit for a check."""
        return self.met(value, self.slack)


TARGETS = {
    "pack/many/sdk": Target("many: E2B SDK ÷ ours", "≥", 30),
    "pack/many/pigz": Target("many: tar | pigz ÷ ours", "≥", 4),
    "pack/many/igzip": Target("many: tar | igzip -1 ÷ ours", "≥", 1.2),
    "pack/many/floor": Target("many: ours ÷ tar | cat", "≤", 1.6),
    "pack/mixed/sdk": Target("mixed: E2B SDK ÷ ours", "≥", 40),
    "pack/big/pigz": Target("big: tar | pigz ÷ ours", "≥", 6),
    "small/many/wall": Target("many: E2B SDK ÷ ours, small", "≥", 6),
    "small/many/bytes": Target("many: archive, small ÷ E2B SDK", "≤", 1.0, slack=BYTES),
    "small/mixed/wall": Target("mixed: E2B SDK ÷ ours, small", "≥", 6),
    "small/mixed/bytes": Target("mixed: archive, small ÷ E2B SDK", "≤", 1.0, slack=BYTES),
    "upload/many": Target("many, packed and PUT: E2B SDK ÷ ours", "≥", 25),
    "upload/http": Target("PUT over HTTP, throughput: ours ÷ curl", "≥", 1.2),
    "upload/https": Target("PUT over TLS, throughput: ours ÷ curl", "≥", 1.2),
    "memory/files": Target("peak MiB: empty files", "≤", 64, slack=EXACT),
    "memory/sparse": Target("peak MiB: one sparse file", "≤", 64, slack=EXACT),
    "memory/tiny": Target("peak MiB: one tiny file", "≤", 64, slack=EXACT),
    "collect/excluded": Target("a folder of excluded files: with ÷ without", "≤", 1.1),
    "collect/patterns": Target("200 patterns ÷ none, collecting alone", "≤", 1.5),
    "start/help": Target("--help ÷ a bare Typer program's", "≤", 1.25),
    "start/build-help": Target("build --help ÷ a bare Typer program's --help", "≤", 1.6),
    "e2b/many": Target("many, a build by the SDK: alone ÷ after e2b-upload", "≥", 2),
    "e2b/several": Target("6 COPYs, a far store: one after the other ÷ at once", "≥", 1.3),
    "start/build": Target("build of one small file ÷ import typer, requests", "≤", 1.5),
}
