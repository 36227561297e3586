"""Options: declared once, the same in the library and on the command line, and typed."""

import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import typer

import e2b_upload
from e2b_upload.cli.app import app

ROOT = Path(__file__).parent.parent
ONLY_LIBRARY = {"archive", "on_event", "count_first", "api_key"}
ONLY_COMMAND = {"url_file", "quiet", "verbose", "color", "as_json", "progress", "largest", "tree"}
FUNCTIONS = {name for name in dir(e2b_upload) if inspect.isfunction(getattr(e2b_upload, name))}
TEMPLATE = {"template", "copies", "force", "create", "api_key_file", "api_url", "domain"}


@pytest.mark.parametrize(
    ("function", "command", "more"),
    [
        ("build", "build", TEMPLATE | {"dockerfile"}),
        ("pack", "pack", set()),
        ("put", "put", {"file"}),
        ("collect", "ls", {"copies", "dockerfile"}),
        ("explain", "explain", {"copies", "dockerfile"}),
    ],
)
def test_a_function_and_its_command_take_the_same_options(
    function: str, command: str, more: set[str]
) -> None:
    takes = inspect.signature(getattr(e2b_upload, function)).parameters
    group = typer.main.get_command(app)
    params = {param.name: param for param in group.commands[command].params}  # type: ignore[attr-defined]
    assert set(takes) - ONLY_LIBRARY == set(params) - ONLY_COMMAND - more
    for name in set(takes) & set(params):
        default, default_here = takes[name].default, params[name].default
        if name not in {"warn_size", "max_size"}:  # with a unit on the command line
            assert (default or None) == (default_here or None) or default is inspect.Parameter.empty


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_documents_each_of_its_parameters(name: str) -> None:
    function = getattr(e2b_upload, name)
    parameters = inspect.signature(function).parameters
    assert set(typing.get_type_hints(function)) == {*parameters, "return"}
    documented = inspect.getdoc(function) or ""
    for parameter in parameters:
        assert f"    {parameter}: " in documented


CALLER = """
import e2b_upload

e2b_upload.build("ctx", "https://h/k", retries=1)
e2b_upload.build("ctx", "https://h/k", retrys=1)
e2b_upload.pack("ctx", "out", mtime=[1])
e2b_upload.biuld
async def build() -> None:
    await e2b_upload.build_async("ctx", "https://h/k", folow_symlinks=True)
"""
COMMAND = """
from e2b_upload.archive.pack import PackSettings
from e2b_upload.cli.options import Archive

def settings(archive: Archive) -> PackSettings:
    return PackSettings(compression=archive.compresion, mtime=archive.mtime)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "checker",
    [["mypy", "--strict", "--no-incremental"], ["basedpyright", "--level", "error"]],
    ids=["mypy", "pyright"],
)
def test_a_misspelt_option_is_an_error_to(checker: list[str], tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(CALLER)
    (tmp_path / "command.py").write_text(COMMAND)
    checked = subprocess.run(
        [sys.executable, "-m", *checker, "caller.py", "command.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    told = checked.stdout
    for line in (5, 6, 7, 9):
        assert f"caller.py:{line}:" in told, told + checked.stderr
    assert "caller.py:4:" not in told
    assert "command.py:6:" in told
