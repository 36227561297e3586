"""The contexts of the benchmark.

Those of real bytes consist of the standard library and the installed packages, copied as often as
necessary, and of random bytes. Others show one thing only, such as a million empty files.
"""

import os
import re
import shutil
import sysconfig
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path

MIB = 1024 * 1024
SMALL = 100_000  # bytes: the files of "many"
_LEFT_OUT = re.compile(
    r"__pycache__"  # as in any .dockerignore
    r"|site-packages"  # a root itself
    r"|config-.*"  # Python's static library, if there is one: as large as all of its sources
)


def installed() -> Iterator[tuple[Path, Path]]:
    """Yield the installed files, always in the same order, each with its path in the context."""
    for root in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")):
        for folder, below, names in os.walk(root):
            below[:] = sorted(name for name in below if not _LEFT_OUT.fullmatch(name))
            for name in sorted(names):
                file = Path(folder, name)
                if file.is_file() and not file.is_symlink():
                    yield file, Path(Path(root).name) / file.relative_to(root)


def _copied(folder: Path, files: Iterable[tuple[Path, Path]]) -> Iterator[Path]:
    """Copy the files repeatedly, each time into a new directory; yield each copy."""
    files = list(files)
    for copy in count():
        for file, below in files:
            target = folder / f"copy{copy}" / below
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            yield target


def many(folder: Path, files: int) -> None:
    """Create this many small files, in the directories of their packages."""
    small = (pair for pair in installed() if pair[0].stat().st_size <= SMALL)
    for _ in islice(_copied(folder, small), files):
        pass


def mixed(folder: Path, size: int) -> None:
    """Create a tree of this size: sources, binaries, compressed files, hard links."""
    made = 0
    for number, target in enumerate(_copied(folder, installed())):
        if made >= size:
            return
        made += target.stat().st_size
        if number % 50 == 0:
            os.link(target, target.with_name(target.name + ".link"))
        if number % 2000 == 0:
            made += noise(folder / f"compressed{number}.bin", 4 * MIB)


def noise(file: Path, size: int) -> int:
    """Write a file of random bytes; the size is a whole number of mebibytes."""
    with open(file, "wb") as out:
        out.writelines(os.urandom(MIB) for _ in range(size // MIB))
    return size


def big(folder: Path, size: int) -> None:
    """Create one file of text and noise in turn; the size is a power of two or in mebibytes."""
    piece = min(MIB, size // 2)
    text = b"".join(_sources(piece))[:piece]
    with open(folder / "big.bin", "wb") as file:
        file.writelines(
            os.urandom(piece) if number % 2 else text for number in range(size // piece)
        )


def _sources(size: int) -> Iterator[bytes]:
    """Yield sources of the standard library until they have this size."""
    for file, _ in installed():
        if size <= 0:
            return
        if file.suffix == ".py":
            yield (source := file.read_bytes())
            size -= len(source)


def empty(folder: Path, files: int, a_folder: int = 1000) -> None:
    """Create this many empty files in numbered directories."""
    for number in range(files):
        parent = folder / f"{number // a_folder:04}"
        if number % a_folder == 0:
            parent.mkdir()
        os.close(os.open(f"{parent}/{number:07}", os.O_CREAT | os.O_WRONLY))


def sparse(folder: Path, size: int) -> None:
    """Create one file of this size that is all hole."""
    with open(folder / "sparse.bin", "wb") as file:
        file.truncate(size)


def read_all(folder: Path) -> None:
    """Read every file once, so that the cache is warm for all tools."""
    buffer = bytearray(MIB)
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
