"""What is aimed at, each with its limit."""

from dataclasses import dataclass
from typing import Literal

LENIENCE = 2.0  # a slip of this factor fails a check; a noisy machine does not


@dataclass(frozen=True)
class Target:
    """A limit for one figure.

    Attributes:
        words: what the figure is.
        bound: whether it is to be at least or at most the limit.
        limit: of a ratio, or of mebibytes.
        exact: whether a check allows nothing beyond the limit: memory does not depend on noise.
    """

    words: str
    bound: Literal["≥", "≤"]
    limit: float
    exact: bool = False

    def met(self, value: float, lenience: float = 1.0) -> bool:
        """Tell whether a figure keeps the limit, or misses it by no more than a factor."""
        allowed = 1.0 if self.exact else lenience
        if self.bound == "≥":
            return value >= self.limit / allowed
        return value <= self.limit * allowed


TARGETS = {
    "pack/many/sdk": Target("many: E2B SDK ÷ ours", "≥", 30),
    "pack/many/pigz": Target("many: tar | pigz ÷ ours", "≥", 4),
    "pack/many/igzip": Target("many: tar | igzip -1 ÷ ours", "≥", 1.2),
    "pack/many/floor": Target("many: ours ÷ tar | cat", "≤", 1.6),
    "pack/mixed/sdk": Target("mixed: E2B SDK ÷ ours", "≥", 40),
    "pack/big/pigz": Target("big: tar | pigz ÷ ours", "≥", 6),
    "small/many/wall": Target("many: E2B SDK ÷ ours, small", "≥", 6),
    "small/many/bytes": Target("many: archive, small ÷ E2B SDK", "≤", 1.0),
    "small/mixed/wall": Target("mixed: E2B SDK ÷ ours, small", "≥", 6),
    "small/mixed/bytes": Target("mixed: archive, small ÷ E2B SDK", "≤", 1.0),
    "upload/many": Target("many, packed and PUT: E2B SDK ÷ ours", "≥", 25),
    "upload/http": Target("PUT over HTTP, throughput: ours ÷ curl", "≥", 1.2),
    "upload/https": Target("PUT over TLS, throughput: ours ÷ curl", "≥", 1.2),
    "memory/files": Target("peak MiB: empty files", "≤", 64, exact=True),
    "memory/sparse": Target("peak MiB: one sparse file", "≤", 64, exact=True),
    "memory/tiny": Target("peak MiB: one tiny file", "≤", 64, exact=True),
    "collect/excluded": Target("a folder of excluded files: with ÷ without", "≤", 1.1),
    "collect/patterns": Target("200 patterns ÷ none, collecting alone", "≤", 1.5),
    "start/help": Target("--help ÷ a bare Typer program's", "≤", 1.25),
    "start/build-help": Target("build --help ÷ a bare Typer program's --help", "≤", 1.6),
    "e2b/many": Target("many, a build by the SDK: alone ÷ after e2b-upload", "≥", 2),
    "start/build": Target("build of one small file ÷ import typer, requests", "≤", 1.5),
}
