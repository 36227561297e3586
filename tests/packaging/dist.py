"""The release, built and installed in the ways that users install it.

``make dist`` runs this file. It is not part of the test suite because it needs the package index
that pip and uv are configured with. Everything is installed into temporary directories.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Final, TypeAlias

import pytest

import e2b_upload
from tests.packaging.image import ROOT, instructions
from tests.support.rawserver import answer, raw_server

BIN: Final = Path(sys.executable).parent
VERSION: Final = e2b_upload.__version__
WHEEL: Final = f"e2b_upload-{VERSION}-py3-none-any.whl"
SDIST: Final = f"e2b_upload-{VERSION}.tar.gz"
A_DAY: Final = 24 * 3600

pytestmark = pytest.mark.timeout(300)  # the index can be slow


def run(
    *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT, code: int = 0
) -> str:
    """Run a program and return its output."""
    ended = subprocess.run(
        command, cwd=cwd, env=os.environ | (env or {}), capture_output=True, text=True, check=False
    )
    assert ended.returncode == code, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the repository without generated files."""
    return copied(tmp_path_factory.mktemp("source"))


def copied(folder: Path) -> Path:
    for entry in e2b_upload.collect(ROOT):
        if entry.type == "file":
            (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / entry.path).write_bytes((ROOT / entry.path).read_bytes())
    return folder


@pytest.fixture(scope="session")
def built(source: Path) -> Path:
    """Build the sdist, and from it the wheel, and return their directory."""
    run(BIN / "python", "-m", "build", "--installer", "uv", source, env={"SOURCE_DATE_EPOCH": "1"})
    return source / "dist"


def test_the_same_source_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = copied(tmp_path / "elsewhere")
    for path in again.rglob("*"):
        path.chmod(path.stat().st_mode & ~0o077)
        os.utime(path, (A_DAY, A_DAY))
    environment = {"SOURCE_DATE_EPOCH": "1", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "1"}
    run(BIN / "python", "-m", "build", "--installer", "uv", again, env=environment)
    for name in (WHEEL, SDIST):
        assert (built / name).read_bytes() == (again / "dist" / name).read_bytes()


def test_the_sdist_has_every_file(source: Path, built: Path) -> None:
    with tarfile.open(built / SDIST) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = (path.relative_to(source) for path in source.rglob("*") if path.is_file())
    assert names - {"PKG-INFO"} == {str(path) for path in files if path.parts[0] != "dist"}


def test_the_wheel_has_the_package_and_its_data(source: Path, built: Path) -> None:
    project = tomllib.loads((source / "pyproject.toml").read_text())
    data = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    about = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    stem = f"e2b_upload-{VERSION}"
    with zipfile.ZipFile(built / WHEEL) as archive:
        assert {*archive.namelist()} == {
            *(str(path.relative_to(source)) for path in source.glob("e2b_upload/**/*.*")),
            *(f"{stem}.data/data/{name}" for name in data.values()),
            *(f"{stem}.dist-info/{name}" for name in about),
        }
        assert "e2b_upload/py.typed" in archive.namelist()


def test_the_metadata(built: Path) -> None:
    run(BIN / "twine", "check", "--strict", *built.iterdir())
    with zipfile.ZipFile(built / WHEEL) as archive:
        told = message_from_bytes(archive.read(f"e2b_upload-{VERSION}.dist-info/METADATA"))
    assert (told["Name"], told["Version"]) == ("e2b-upload", VERSION)
    assert (told["License-Expression"], told["License-File"]) == ("Apache-2.0", "LICENSE")
    assert told["Requires-Python"] == ">=3.11"
    assert told["Description-Content-Type"] == "text/markdown"


@dataclass(frozen=True)
class Program:
    """An installed command and its installation prefix, if it has one."""

    path: Path
    prefix: Path | None = None

    def __call__(self, *args: str | Path, cwd: Path, url: str = "", code: int = 0) -> str:
        env = {"HOME": str(cwd), "PATH": f"{BIN}:{os.defpath}", "PYTHONPATH": ""}
        return run(self.path, *args, cwd=cwd, code=code, env={**env, "E2B_UPLOAD_URL": url})


Install: TypeAlias = Callable[[Path, Path], Program]


def by_pipx(package: Path, folder: Path) -> Program:
    places = {"PIPX_HOME": "home", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "share/man"}
    environment = {name: str(folder / place) for name, place in places.items()}
    command = ("install", "--backend", "pip", "--python", sys.executable, package)
    run(BIN / "pipx", *command, env=environment)
    assert (folder / "share/man/man1/e2b-upload.1").is_file()
    return Program(folder / "bin/e2b-upload", folder / "home/venvs/e2b-upload")


def by_uv(package: Path, folder: Path) -> Program:
    environment = {"UV_TOOL_DIR": str(folder), "UV_TOOL_BIN_DIR": str(folder / "bin")}
    run(BIN / "uv", "tool", "install", "--python", sys.executable, package, env=environment)
    return Program(folder / "bin/e2b-upload", folder / "e2b-upload")


def with_the_lowest_versions(package: Path, folder: Path) -> Program:
    """Install the lowest versions that pyproject.toml allows."""
    run(BIN / "uv", "venv", "--python", sys.executable, folder)
    lowest = ("--resolution", "lowest-direct", "--python", folder, f"{package}[socks]")
    run(BIN / "uv", "pip", "install", *lowest)
    return Program(folder / "bin/e2b-upload", folder)


def by_the_dockerfile(package: Path, folder: Path) -> Program:
    """Run the commands of the Dockerfile's first stage in a directory, with pip's cache."""
    source = package.parents[1]
    path = {"PATH": f"{BIN}:{os.defpath}"}
    for command in instructions("RUN", 0):
        here = re.sub("/(?=wheels|opt)", f"{folder}/", command.replace("--no-cache-dir", ""))
        run("sh", "-c", here, cwd=source, env=path)
    return Program(folder / "opt/e2b-upload/bin/e2b-upload", folder / "opt/e2b-upload")


def as_one_file(package: Path, folder: Path) -> Program:
    """Return the zipapp that ``make dist`` has built."""
    del package, folder
    return Program(ROOT / "build/e2b-upload.pyz")


@pytest.mark.parametrize(
    ("install", "package"),
    [
        pytest.param(by_pipx, WHEEL, id="pipx"),
        pytest.param(by_uv, WHEEL, id="uv"),
        pytest.param(with_the_lowest_versions, WHEEL, id="lowest versions"),
        pytest.param(by_the_dockerfile, WHEEL, id="the Dockerfile"),
        pytest.param(as_one_file, "", id="one file"),
    ],
)
def test_installed(install: Install, package: str, built: Path, tmp_path: Path) -> None:
    program = install(built / package, tmp_path / "installed")
    assert program("--version", cwd=tmp_path) == f"e2b-upload {VERSION}\n"
    if program.prefix is not None:
        as_module = Program(program.prefix / "bin/python")
        assert program("--version", cwd=tmp_path) == as_module(
            "-m", "e2b_upload", "--version", cwd=tmp_path
        )
        assert (program.prefix / "share/man/man1/e2b-upload.1").is_file()
    check_builds(program, tmp_path)


def check_builds(program: Program, folder: Path) -> None:
    """Check that the program works with the installed versions of its dependencies."""
    (folder / "ctx").mkdir()
    (folder / "ctx/kept").write_bytes(os.urandom(1 << 20) + bytes(1 << 20))
    (folder / "ctx/left.log").touch()
    # The path must be sent as it was signed.
    key = "//bucket//key?X-Amz-Signature=secret"
    build = ("build", "ctx", "-x", "**/*.log", "--json")
    for level in ("fast", "default", "small", "none"):
        with raw_server(answer(200)) as server:
            url = server.url + key
            told = json.loads(program(*build, "--compression", level, cwd=folder, url=url))
        assert told["archive"]["files"] == 1
        assert [sent.body_sha256 for sent in server.requests] == [told["archive"]["sha256"]]
        assert [sent.target for sent in server.requests] == [key]
    with raw_server(answer(403, b"<Error><Code>AccessDenied</Code></Error>")) as server:
        told = json.loads(program(*build, cwd=folder, url=server.url + key, code=6))
    assert told["error"]["code"] == "AccessDenied"


def test_the_zipapp_unpacks_into_one_directory(tmp_path: Path) -> None:
    program = as_one_file(tmp_path, tmp_path)
    program("--version", cwd=tmp_path)
    assert [path.relative_to(tmp_path) for path in tmp_path.glob(".*/*")] == [
        Path(".cache/e2b-upload")
    ]
