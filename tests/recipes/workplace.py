"""Where a recipe is run: a folder to work in, and a machine on which little else is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import sysconfig
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY: Final = Path(__file__).parents[2]
RECIPES: Final = REPOSITORY / "docs/recipes"
PROGRAMS: Final = Path(sys.executable).parent
SYSTEM_PATH: Final = os.defpath.removeprefix(":")
OBJECT: Final = "ctx.tar.gz"
"""The key that every recipe puts to."""

KEPT: Final = [".dockerignore", "main.py", "src", "src/a b.txt", "src/big.bin"]
"""What is sent of the context."""

_OWN = ("e2b_upload", "_editable_impl_e2b_upload")
_PATIENCE = 100  # seconds; making an environment takes 20 where others are busy


@dataclass(frozen=True)
class Ran:
    """What a process came to, or several in a row."""

    code: int
    out: str
    err: str = ""

    @property
    def log(self) -> str:
        """All that was said."""
        return self.out + self.err


@dataclass(frozen=True)
class Workplace:
    """A working folder with a context, an empty HOME, and the environment of a process there."""

    path: Path
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def furnish(cls, path: Path) -> Workplace:
        """Make the folders, and the context: what is to be kept, and a file that is ignored."""
        place = cls(
            path / "work",
            {
                "HOME": str(path / "home"),
                "LANG": "C.UTF-8",
                "PATH": SYSTEM_PATH,
                "PYTHONDONTWRITEBYTECODE": "1",  # not beside the recipes, either
                "TMPDIR": str(path / "tmp"),
            },
        )
        for name in ("work", "home", "tmp"):
            (path / name).mkdir()
        place.write("ctx/.dockerignore", "*.log\n")
        place.write("ctx/main.py", "print()\n")
        place.write("ctx/noise.log", "x\n")
        place.write("ctx/src/a b.txt", "a\n")
        # No other test's archive is the same.
        (place.path / "ctx/src/big.bin").write_bytes(os.urandom(100_000))
        return place

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(
        self, *command: str | Path, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Ran:
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.env | dict(env or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def left_behind(self) -> list[str]:
        return os.listdir(self.env["TMPDIR"])


def names(archive: bytes) -> list[str]:
    """Return the names of what an archive holds."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def build_wheel(folder: Path) -> None:
    """Build this repository's wheel, asking nobody for anything."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        folder,
    ]
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)


def link_dependencies(folder: Path) -> None:
    """Give another environment all that is installed in this one, but for e2b-upload itself."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(_OWN):
            (folder / path.name).symlink_to(path)


def install_python(folder: Path, dependencies: Path, wheels: Path) -> dict[str, str]:
    """Make a Python with pip as a machine has it, and return what lets pip work without a network.

    What a recipe installs is e2b-upload's wheel; all else pip finds installed on PYTHONPATH.
    """
    command: list[str | Path] = [sys.executable, "-m", "venv", "--without-pip", folder]
    subprocess.run(command, capture_output=True, check=True)
    pip = folder / "bin/pip"
    pip.write_text(
        f"#!{folder}/bin/python\nimport sys\nfrom pip._internal.cli.main import main\n"
        "sys.exit(main())\n"
    )
    pip.chmod(0o755)
    return {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_BUILD_ISOLATION": "0",  # which is how pip spells yes
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_INDEX": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PYTHONPATH": str(dependencies),
    }
