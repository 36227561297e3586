"""Time whole processes from outside, in turn, and compare them in pairs."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

LAUNCHER = Path(__file__).with_name("launcher.py")
FEWEST_PAIRS = 3


class Run(NamedTuple):
    """One finished process.

    Attributes:
        wall: seconds.
        cpu: seconds, user and system, of the process and its children.
        peak_mib: of the largest of them.
        output: its standard output.
        archive: the size in bytes of the archive that it made.
    """

    wall: float
    cpu: float
    peak_mib: float
    output: bytes = b""
    archive: int = 0


Task: TypeAlias = Callable[[], Run]


def run(command: Sequence[str], **environment: str) -> Run:
    """Run a command to its end, with additional environment variables."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCHER), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
        process_group=0,  # so that the command can be ended together with its launcher
    ) as launcher:
        try:
            out, _ = launcher.communicate()
        except BaseException:
            os.killpg(launcher.pid, signal.SIGKILL)
            raise
    if launcher.returncode:
        raise subprocess.CalledProcessError(launcher.returncode, command)
    output, _, line = out.removesuffix(b"\n").rpartition(b"\n")
    result = json.loads(line)
    if result["code"]:
        raise subprocess.CalledProcessError(result["code"], command)
    return Run(result["wall"], result["cpu"], result["peak_mib"], output)


def in_turn(*tasks: Task, pairs: int, slow: float = math.inf) -> list[list[Run]]:
    """Run tasks in turn, A B A B, and return the runs of each.

    If the first takes more than `slow` seconds, it is run once, beside three runs of the others.
    """
    runs: list[list[Run]] = [[] for _ in tasks]
    for number in range(pairs):
        once = number > 0 and runs[0][0].wall > slow
        if once and number == FEWEST_PAIRS:
            break
        for task, done in list(zip(tasks, runs, strict=True))[once:]:
            done.append(task())
    return runs


def ratios(over: Sequence[Run], under: Sequence[Run]) -> list[float]:
    """Return the ratio of wall times of each pair; a single run is paired with all others."""
    pairs = max(len(over), len(under))
    repeated = (islice(cycle(runs), pairs) for runs in (over, under))
    return [a.wall / b.wall for a, b in zip(*repeated, strict=True)]


def ratio(over: Sequence[Run], under: Sequence[Run]) -> float:
    """Return the median of the ratios of the pairs."""
    return statistics.median(ratios(over, under))
