"""The sizes of the benchmark, and its contexts."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.bench import contexts
from tests.bench.commands import PACKERS

GIB = 1 << 30
CONTEXTS = ("many", "mixed", "big")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is packed and sent, and how often.

    Attributes:
        many: files of the context of that name.
        mixed: bytes of that context.
        big: bytes of that context.
        put: bytes that are sent.
        empty: files whose packing must not take memory.
        sparse: bytes of a file whose packing must not take memory.
        excluded: files in an excluded directory.
        files: the numbers of files whose cost is measured.
        bytes: the sizes of one file whose cost is measured.
        pairs: runs of each way.
        shorts: runs of what takes about a second.
        starts: runs of what takes less.
        slow: seconds from which on another tool is run only once.
        ways: which tool packs which context. In a small context, some mostly start.
    """

    many: int
    mixed: int
    big: int
    put: int
    empty: int
    sparse: int
    excluded: int
    files: tuple[int, ...]
    bytes: tuple[int, ...]
    pairs: int
    shorts: int
    starts: int
    slow: float
    ways: frozenset[str]


FULL = Size(
    many=86_000,
    mixed=1_600_000_000,
    big=3 * GIB,
    put=GIB,
    empty=1_000_000,
    sparse=20 * GIB,
    excluded=200_000,
    files=tuple(10**power for power in range(7)),
    bytes=(*(1 << power for power in range(10, 32, 3)), 20 * GIB),
    pairs=5,
    shorts=9,
    starts=21,
    slow=20.0,
    ways=frozenset(f"{context}/{packer.key}" for context in CONTEXTS for packer in PACKERS),
)
QUICK = replace(
    FULL,
    many=14_000,
    mixed=120_000_000,
    big=GIB // 4,
    put=GIB // 4,
    empty=100_000,
    sparse=GIB,
    excluded=20_000,
    files=FULL.files[:5],
    bytes=FULL.bytes[:6],
    pairs=3,
    shorts=5,
    starts=15,
    slow=2.0,
    ways=frozenset({"many/sdk", "mixed/sdk", "big/pigz"}),
)


@dataclass(frozen=True)
class Bench:
    """A run of the benchmark: its size, and a directory that is removed afterwards."""

    size: Size
    scratch: Path

    def context(self, name: str) -> Path:
        """Return a context of real bytes, created at the first call, in the page cache."""
        recipes: dict[str, Callable[[Path], None]] = {
            "many": partial(contexts.many, files=self.size.many),
            "mixed": partial(contexts.mixed, size=self.size.mixed),
            "big": partial(contexts.big, size=self.size.big),
        }
        folder = self.scratch / name
        if not folder.exists():
            folder.mkdir()
            recipes[name](folder)
        contexts.read_all(folder)
        return folder

    @contextmanager
    def made(self, recipe: Callable[[Path], object]) -> Iterator[Path]:
        """Create a context while the block runs."""
        folder = self.scratch / "made"
        folder.mkdir()
        try:
            recipe(folder)
            yield folder
        finally:
            shutil.rmtree(folder)
