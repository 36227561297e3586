"""Other programs that read archives."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.archive.reading import LAST_SECOND
from tests.support.trees import SECOND, Seen, Snapshot

_TARFILE: Final = """\
import sys, tarfile
flags, archive = sys.argv[1:]
with tarfile.open(archive) as tar:
    if "x" in flags:
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)  # since 3.11.4
        tar.extractall()
    else:
        for member in tar:
            print(f"{member.size} " * ("v" in flags) + member.name + "/" * member.isdir())
"""


class Unpacker(NamedTuple):
    """A program, and what it gives back: which times of what, and setuid to who is not root."""

    command: tuple[str, ...]
    gives_times_to: frozenset[str] = frozenset({"file", "directory", "symlink"})
    first_second: int = -(2**62)
    last_second: int = 2**62
    always_sets_id: bool = True

    def unpack(self, archive: Path, folder: Path) -> None:
        self._run("xp", archive, folder)

    def list(self, archive: Path, *, verbose: bool = False) -> bytes:
        return self._run("tv" if verbose else "t", archive, archive.parent)

    def gives_back(self, tree: Snapshot) -> Snapshot:
        """Take away what it does not give back; parts of a second none does."""
        modes = 0o7777 if self.always_sets_id or os.geteuid() == 0 else 0o1777
        return {
            path: seen._replace(mode=seen.mode & modes, mtime_ns=self._time(seen))
            for path, seen in tree.items()
        }

    def _time(self, seen: Seen) -> int:
        second = min(max(seen.mtime_ns // SECOND, self.first_second), self.last_second)
        return second * SECOND if seen.type in self.gives_times_to else 0

    def _run(self, flags: str, archive: Path, folder: Path) -> bytes:
        # bsdtar complains of names that are not ASCII where the locale knows no others.
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        gzip = "z" if archive.suffix == ".gz" else ""
        done = subprocess.run(
            [*self.command, f"-{flags}{gzip}f", archive],
            cwd=folder,
            env=environment,
            capture_output=True,
            check=False,
            umask=0,
        )
        assert done.returncode == 0, os.fsdecode(done.stderr)
        return done.stdout


TARFILE: Final = Unpacker((sys.executable, "-c", _TARFILE), frozenset({"file", "directory"}))
_UNPACKERS: Final = {
    "GNU tar": Unpacker(("tar",)),
    "bsdtar": Unpacker(("bsdtar",), always_sets_id=False),
    # It knows the pax records of paths and link targets, and no others.
    "busybox": Unpacker(
        ("busybox", "tar"), frozenset({"file"}), 0, LAST_SECOND, always_sets_id=False
    ),
    "tarfile": TARFILE,
}

every_unpacker = pytest.mark.parametrize(
    "unpacker",
    [
        pytest.param(
            unpacker,
            id=name,
            marks=[]
            if unpacker is TARFILE
            else [
                pytest.mark.real,
                pytest.mark.skipif(
                    shutil.which(unpacker.command[0]) is None, reason=f"there is no {name}"
                ),
            ],
        )
        for name, unpacker in _UNPACKERS.items()
    ],
)
