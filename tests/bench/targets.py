"""The figures of the benchmark and their targets."""

from typing import Literal, NamedTuple

# `--check` fails only beyond this factor. On a machine that others use, a ratio of the times of
# short runs was seen at half of its target twice in a row; a real mistake costs a factor of ten.
NOISE = 4.0
# Sizes and memory have no noise; a small context compresses a little differently.
BYTES = 1.1
EXACT = 1.0


class Target(NamedTuple):
    """A figure and its limit.

    Attributes:
        words: what the figure is.
        bound: whether the limit is the least or the most; empty for a figure without a target.
        limit: of a ratio, or of mebibytes.
        slack: the factor by which `--check` lets the figure miss the limit.
    """

    words: str
    bound: Literal["≥", "≤", ""] = ""
    limit: float = 0
    slack: float = NOISE

    def met(self, value: float, slack: float = 1.0) -> bool:
        """Return True if a figure keeps the limit, or misses it by at most this factor."""
        if self.bound == "≤":
            return value <= self.limit * slack
        return value >= self.limit / slack

    def passes(self, value: float) -> bool:
        return self.met(value, self.slack)


# A target compares the same work. tar | igzip and tar | cat compute no digests, so these figures
# have none; neither have those that depend only on the processor, as TLS does.
TARGETS = {
    "pack/many/sdk": Target("many: E2B SDK ÷ ours", "≥", 20),
    "pack/many/pigz": Target("many: tar | pigz ÷ ours", "≥", 3),
    "pack/many/igzip-digests": Target("many: tar | igzip -1, SHA-256, MD5 ÷ ours", "≥", 1),
    "pack/many/igzip": Target("many: tar | igzip -1 ÷ ours (it has no digests)"),
    "pack/many/floor": Target("many: tar | cat ÷ ours (it only copies)"),
    "pack/mixed/sdk": Target("mixed: E2B SDK ÷ ours", "≥", 25),
    "pack/big/pigz": Target("big: tar | pigz ÷ ours", "≥", 4),
    "small/many/wall": Target("many: E2B SDK ÷ ours, small", "≥", 5),
    "small/many/bytes": Target("many: archive, small ÷ E2B SDK", "≤", 1.01, slack=BYTES),
    "small/mixed/wall": Target("mixed: E2B SDK ÷ ours, small", "≥", 4),
    "small/mixed/bytes": Target("mixed: archive, small ÷ E2B SDK", "≤", 1.01, slack=BYTES),
    "upload/many": Target("many, packed and PUT: E2B SDK ÷ ours", "≥", 20),
    "upload/http": Target("PUT over HTTP, throughput: ours ÷ curl"),
    "upload/https": Target("PUT over TLS, throughput: ours ÷ curl"),
    "memory/files": Target("peak MiB: empty files", "≤", 64, slack=EXACT),
    "memory/sparse": Target("peak MiB: one sparse file", "≤", 64, slack=EXACT),
    "memory/tiny": Target("peak MiB: one tiny file", "≤", 64, slack=EXACT),
    "collect/excluded": Target("a folder of excluded files: with ÷ without", "≤", 1.1),
    "collect/patterns": Target("200 patterns ÷ none, collecting alone", "≤", 1.5),
    "start/help": Target("--help ÷ a bare Typer program's", "≤", 1.25),
    "start/build-help": Target("build --help ÷ a bare Typer program's --help", "≤", 1.6),
    "start/build": Target("build of one small file ÷ import typer, requests", "≤", 1.6),
    "e2b/many": Target("many, a build by the SDK: alone ÷ after e2b-upload", "≥", 2),
}
