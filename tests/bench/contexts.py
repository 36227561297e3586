"""The contexts that are packed: many small files, a mixed tree, one big file. All of real bytes.

They are made of the packages that are installed beside this interpreter, copied as often as it
takes, and of random bytes.
"""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from itertools import count
from pathlib import Path

MIB = 1024 * 1024
SMALL = 100_000  # bytes: the files of "many"


def installed() -> Iterator[tuple[Path, Path]]:
    """Yield the installed files, each with its path below site-packages."""
    root = Path(sysconfig.get_path("purelib"))
    for folder, _, names in os.walk(root):
        for name in names:
            file = Path(folder, name)
            if file.is_file() and not file.is_symlink():
                yield file, file.relative_to(root)


def many(folder: Path, files: int) -> None:
    """Make so many small files, in as many folders as their packages have."""
    made = 0
    small = [(file, below) for file, below in installed() if file.stat().st_size <= SMALL]
    for copy in count():
        for file, below in small:
            if made == files:
                return
            target = folder / f"copy{copy}" / below
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            made += 1


def mixed(folder: Path, size: int) -> None:
    """Make a tree of so many bytes: sources, binaries, compressed files, hard links."""
    made = 0
    for copy in count():
        for number, (file, below) in enumerate(installed()):
            if made >= size:
                return
            target = folder / f"copy{copy}" / below
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            made += file.stat().st_size
            if number % 50 == 0:
                os.link(target, target.with_name(target.name + ".link"))
        with open(folder / f"compressed{copy}.bin", "wb") as file_of_noise:
            made += file_of_noise.write(os.urandom(16 * MIB))


def big(folder: Path, size: int) -> None:
    """Make one file of so many bytes, random and text in turn, a mebibyte each."""
    text = (Path(__file__).read_bytes() * 1024)[:MIB]
    with open(folder / "big.bin", "wb") as file:
        file.writelines(os.urandom(MIB) if piece % 2 else text for piece in range(size // MIB))


def read_all(folder: Path) -> None:
    """Read every file once, so that all are measured with a warm cache."""
    buffer = bytearray(MIB)
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
