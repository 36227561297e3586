"""3,977 generated contexts with what BuildKit's walk keeps of each.

One JSON object a line: `ignorefile` (its text), `tree` (paths; a trailing `/` is an empty
directory), `kept` (sorted paths, directories included; null where the reference refuses the file),
`error`. The reference is BuildKit's client (tonistiigi/fsutil over moby/patternmatcher v0.6.1).
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2b_upload.context.dockerignore import Rules

CORPUS = Path(__file__).parent / "data" / "dockerignore_trees.jsonl.gz"
CASES = 3977


@dataclass(frozen=True)
class Case:
    ignore_file: str
    tree: tuple[str, ...]
    kept: tuple[str, ...] | None

    def make(self, folder: Path) -> None:
        for path in self.tree:
            if path.endswith("/"):
                (folder / path).mkdir(parents=True, exist_ok=True)
            else:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(b"")
        (folder / ".dockerignore").write_bytes(self.ignore_file.encode("utf-8"))


def cases() -> Iterator[Case]:
    with gzip.open(CORPUS) as lines:
        for line in lines:
            case = json.loads(line)
            kept = None if case["kept"] is None else tuple(case["kept"])
            yield Case(case["ignorefile"], tuple(case["tree"]), kept)


def excluded(rules: Rules, path: str) -> bool:
    """Decide a path as the walk does: its parents first, each passing on what matched it."""
    parts = path.split("/")
    matched: frozenset[int] = frozenset()
    decided = -1
    for depth in range(1, len(parts) + 1):
        decided, matched = rules.decide("/".join(parts[:depth]), matched)
    return rules.excludes(decided)
