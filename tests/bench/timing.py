"""Whole processes, timed from outside, in turn, and compared pair by pair."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TypeAlias

LAUNCHER = Path(__file__).with_name("launcher.py")
FEWEST_PAIRS = 3


@dataclass(frozen=True)
class Run:
    """One finished process.

    Attributes:
        wall: seconds.
        cpu: seconds, user and system, of the process and its children.
        peak_mib: of the largest of them.
        printed: its standard output.
        archive: bytes of the archive that it made.
    """

    wall: float
    cpu: float
    peak_mib: float
    printed: bytes = b""
    archive: int = 0


Task: TypeAlias = Callable[[], Run]


def run(command: Sequence[str], **environment: str) -> Run:
    """Run a command to its end, with these variables beside the ones that there are."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCHER), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
        process_group=0,  # so that the command can be ended with its launcher
    ) as launcher:
        try:
            out, _ = launcher.communicate()
        except BaseException:
            os.killpg(launcher.pid, signal.SIGKILL)
            raise
    if launcher.returncode:
        raise subprocess.CalledProcessError(launcher.returncode, command)
    printed, _, line = out.removesuffix(b"\n").rpartition(b"\n")
    told = json.loads(line)
    if told["code"]:
        raise subprocess.CalledProcessError(told["code"], command)
    return Run(told["wall"], told["cpu"], told["peak_mib"], printed)


def in_turn(*tasks: Task, pairs: int, slow: float = math.inf) -> list[list[Run]]:
    """Run tasks in turn, A B A B, and return the runs of each.

    Where the first takes more than `slow` seconds it is run once, beside three runs of the others:
    noise is small against it.
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
    alike = (islice(cycle(runs), pairs) for runs in (over, under))
    return [a.wall / b.wall for a, b in zip(*alike, strict=True)]


def ratio(over: Sequence[Run], under: Sequence[Run]) -> float:
    """Return the median of the pairs' ratios."""
    return statistics.median(ratios(over, under))
