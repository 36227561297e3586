"""Starting: what the command line takes before it does anything, against its libraries alone."""

import sys
from collections.abc import Iterator
from functools import partial

from tests.bench import contexts, timing
from tests.bench.bench import Bench
from tests.bench.peers import ours
from tests.bench.results import Figure, Item, row

# Two commands, so that there is a help of the program, as ours has.
_BARE = """
import typer
app = typer.Typer()
@app.command()
def build(context: str) -> None:
    "Build."
@app.command()
def show(context: str) -> None:
    "Show."
app()
"""


def measure(bench: Bench) -> Iterator[Item]:
    python, program = [sys.executable, "-c"], [sys.executable, "-m", "e2b_upload"]
    bare = ("a bare Typer program, --help", [*python, _BARE, "--help"])
    imports = ("import typer, requests", [*python, "import typer, requests"])
    with bench.made(partial(contexts.big, size=4096)) as context:
        for key, words, own, (name, beside) in (
            ("help", "--help", [*program, "--help"], bare),
            ("build-help", "build --help", [*program, "build", "--help"], bare),
            ("build", "build of 4 KiB", ours(str(context), "--dry-run"), imports),
        ):
            mine, theirs = timing.in_turn(
                partial(timing.run, own), partial(timing.run, beside), pairs=bench.size.starts
            )
            yield row("start", words, "e2b-upload", mine, theirs)
            yield row("start", words, name, theirs, theirs)
            yield Figure(f"start/{key}", timing.ratio(mine, theirs))
