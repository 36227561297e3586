"""Completion by Typer: the installed function completes in a real shell."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("e2b-upload")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pu"], ["put"]),
        (["build", "--connect"], ["--connect-timeout"]),
        (["pack", "--compression", "f"], ["fast"]),
    ],
)
def test_bash_completes(words: list[str], offered: list[str]) -> None:
    line = shlex.join(["e2b-upload", *words])
    script = f"""
        PATH={shlex.quote(str(COMMAND.parent))}:$PATH
        eval "$(e2b-upload --show-completion)"
        COMP_WORDS=({line}) COMP_CWORD={len(words)}
        _e2b_upload_completion e2b-upload
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered
    assert done.stderr == ""
