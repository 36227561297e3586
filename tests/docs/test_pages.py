"""The pages describe the command line as it is, and a note on what is not there is an error."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.docs.links import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

CONF = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "docs" / "_extensions")!r})
extensions = ["command_line", "myst_parser"]
myst_enable_extensions = ["deflist"]
"""
PAGE = """
# Page

[A link](#option-url) and [another one](#command-build).

```{{commands}}
```

## Options

```{{options}}
`{option}`
: More than the code has room for.
```

```{{environment}}
```

## Codes

```{{exit-codes}}
`{code}`
: More than the class has room for.
```
"""


def built(folder: Path, **notes: str) -> tuple[str, str]:
    """Return a page as Sphinx makes it, and what it complains about."""
    (folder / "conf.py").write_text(CONF)
    (folder / "index.md").write_text(PAGE.format(**notes))
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-b", "text", ".", "out"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return (folder / "out" / "index.txt").read_text(), made.stderr


def test_an_option_is_described_once_with_all_there_is_to_know(tmp_path: Path) -> None:
    page, complaints = built(tmp_path, option="--mtime", code="5")
    assert complaints == ""
    assert page.count('\n"--mtime" "EPOCH"\n') == 1
    _, _, described = page.partition('\n"--mtime" "EPOCH"\n')
    described, _, _ = described.partition('\n"--')
    assert "No time in the archive is later" in described
    assert "More than the code has room for." in described
    assert 'Environment: "SOURCE_DATE_EPOCH"' in described
    assert 'Commands: "build", "pack".' in " ".join(described.split())


def test_a_note_on_nothing_is_a_warning(tmp_path: Path) -> None:
    _, complaints = built(tmp_path, option="--nothing", code="7")
    assert "there is no --nothing to write a note on" in complaints
    assert "there is no 7 to write a note on" in complaints
