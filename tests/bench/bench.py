"""How large everything is, and where it is made."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.bench import contexts
from tests.bench.peers import PEERS

GIB = 1 << 30
CONTEXTS = ("many", "mixed", "big")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is packed and sent, and how often.

    Attributes:
        many: files of the context of that name.
        mixed: bytes of it.
        big: bytes of it.
        put: bytes that are sent.
        empty: files whose packing must not take memory.
        sparse: bytes of the same.
        excluded: files in a folder that is left out.
        files: how many files the cost is measured of.
        bytes: how many bytes of one file; from 4 GiB on they are sparse.
        pairs: runs of each way.
        shorts: of what takes about a second.
        starts: of what takes a fraction of one.
        slow: seconds from which on a peer is run once.
        ways: which peer packs which context; in a small one starting is most of what some take.
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
    ways=frozenset(f"{context}/{peer.key}" for context in CONTEXTS for peer in PEERS),
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
    """A run of the benchmark: its size, and a folder that is removed after it."""

    size: Size
    scratch: Path

    def context(self, name: str) -> Path:
        """Return one of the contexts of real bytes, made when first asked for, and cached."""
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
        """Make a context for as long as the block lasts."""
        folder = self.scratch / "made"
        folder.mkdir()
        try:
            recipe(folder)
            yield folder
        finally:
            shutil.rmtree(folder)
