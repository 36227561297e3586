"""Where a recipe runs: a directory, and an environment with little else in it."""

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
"""The key of the object in every recipe."""

KEPT: Final = [".dockerignore", "main.py", "src", "src/a b.txt", "src/big.bin"]
"""The files of the context that are uploaded."""

_OWN = ("e2b_upload", "_editable_impl_e2b_upload")
_PATIENCE = 100  # seconds; creating an environment takes 20 on a busy machine


@dataclass(frozen=True)
class Ran:
    """The result of a process, or of several in a row."""

    code: int
    out: str
    err: str = ""

    @property
    def log(self) -> str:
        """All output."""
        return self.out + self.err


@dataclass(frozen=True)
class Workplace:
    """A working directory with a context, and the environment of a process in it."""

    path: Path
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def furnish(cls, path: Path) -> Workplace:
        """Create the directories and the context, which has an ignored file."""
        place = cls(
            path / "work",
            {
                "HOME": str(path / "home"),
                "LANG": "C.UTF-8",
                "PATH": SYSTEM_PATH,
                "PYTHONDONTWRITEBYTECODE": "1",  # not beside the recipes
                "TMPDIR": str(path / "tmp"),
            },
        )
        for name in ("work", "home", "tmp"):
            (path / name).mkdir()
        place.write("ctx/.dockerignore", "*.log\n")
        place.write("ctx/main.py", "print()\n")
        place.write("ctx/noise.log", "x\n")
        place.write("ctx/src/a b.txt", "a\n")
        # No other test has the same archive.
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
    """Return the names of the entries of an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def build_wheel(folder: Path) -> None:
    """Build the wheel of this repository, without a network."""
    command = [sys.executable, *("-m", "hatchling", "build", "-t", "wheel", "-d"), str(folder)]
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)


def link_dependencies(folder: Path) -> None:
    """Link everything that is installed in this environment, except for e2b-upload."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(_OWN):
            (folder / path.name).symlink_to(path)


def install_python(folder: Path, dependencies: Path, wheels: Path) -> dict[str, str]:
    """Create a Python with pip, and return the variables that let pip work without a network.

    Recipes install the wheel of e2b-upload; pip finds everything else on PYTHONPATH.
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
        "PIP_NO_BUILD_ISOLATION": "0",  # means yes
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_INDEX": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PYTHONPATH": str(dependencies),
    }
