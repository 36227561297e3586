"""The benchmark's own arithmetic and processes: nothing here depends on how fast a machine is."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.bench import pack, tables, timing
from tests.bench.__main__ import missed, tell
from tests.bench.bench import QUICK, Bench
from tests.bench.peers import FLOOR, Peer
from tests.bench.results import Figure, Note, Row, row
from tests.bench.sink import Sink, sink
from tests.bench.targets import BYTES, EXACT, Target

TINY: Final = replace(
    QUICK,
    many=20,
    mixed=1 << 20,
    big=1 << 20,
    pairs=1,
    ways=frozenset({"many/absent", "many/floor"}),
)
ABSENT: Final = Peer(
    "absent", "tar | absent", ("tar", "no-such-program", "module:nowhere"), lambda *_: []
)


def runs(*walls: float, archive: int = 0) -> list[timing.Run]:
    return [timing.Run(wall, cpu=wall, peak_mib=1, archive=archive) for wall in walls]


def task(name: str, wall: float, log: list[str]) -> timing.Task:
    def run() -> timing.Run:
        log.append(name)
        return timing.Run(wall, cpu=0, peak_mib=0)

    return run


def test_a_ratio_is_the_median_of_the_pairs_and_not_of_all() -> None:
    assert timing.ratios(runs(2, 8, 9), runs(1, 2, 9)) == [2, 4, 1]
    assert timing.ratio(runs(2, 8, 9), runs(1, 2, 9)) == 2


def test_a_single_run_is_paired_with_all_of_the_others() -> None:
    assert timing.ratios(runs(12), runs(1, 2, 3)) == [12, 6, 4]
    assert timing.ratios(runs(1, 2, 3), runs(2)) == [0.5, 1, 1.5]


def test_commands_run_in_turn() -> None:
    log: list[str] = []
    timing.in_turn(task("a", 1, log), task("b", 1, log), pairs=2, slow=20)
    assert log == ["a", "b", "a", "b"]


def test_a_slow_one_runs_once_beside_three_runs_of_the_others() -> None:
    log: list[str] = []
    slow, fast = timing.in_turn(task("a", 21, log), task("b", 1, log), pairs=5, slow=20)
    assert log == ["a", "b", "b", "b"]
    assert (len(slow), len(fast)) == (1, 3)


def test_a_row_holds_medians_and_all_that_they_come_from() -> None:
    made = row("pack", "many", "tar", runs(3, 1, 2, archive=7), runs(1, 1, 1))
    assert (made.wall, made.cpu, made.ratio, made.archive) == (2, 2, 2, 7)
    assert made.walls == made.ratios == (3, 1, 2)


@pytest.mark.parametrize(
    ("target", "meets", "passes", "fails"),
    [
        (Target("", "≥", 30), 30, 7.5, 7.4),
        (Target("", "≤", 1.6), 1.6, 6.4, 6.5),
        (Target("", "≤", 1, slack=BYTES), 1, 1.1, 1.2),
        (Target("", "≤", 64, slack=EXACT), 64, 64, 64.1),
    ],
)
def test_a_check_allows_what_noise_explains(
    target: Target, meets: float, passes: float, fails: float
) -> None:
    assert target.met(meets)
    assert target.passes(passes)
    assert not target.met(fails)
    assert not target.passes(fails)


def test_a_check_names_what_it_fails_for(capsys: pytest.CaptureFixture[str]) -> None:
    good, noisy = Figure("pack/many/sdk", 31), Figure("pack/mixed/sdk", 18.7)
    bad = Figure("memory/tiny", 65)
    assert missed([good, Note("a word"), noisy, bad]) == [bad]
    assert not tell([])
    assert tell([bad])
    assert capsys.readouterr().err == (
        "peak MiB: one tiny file: 65.00, ≤ 64 wanted, misses it by more than a factor of 1\n"
    )
    told = [line.split()[-1] for line in tables.figures([good, noisy, bad])]
    assert told == ["target", "met", "MISSED", "MISSED"]


def test_the_best_level_of_a_link_is_the_one_that_is_there_first() -> None:
    fast = row("levels", "many", "fast", runs(1, archive=100_000_000), runs(1))
    small = row("levels", "many", "small", runs(2, archive=90_000_000), runs(1))
    printed = [line.split() for line in tables.links([fast, small])]
    assert printed[2:] == [
        ["fast", "17.00", "2.60*", "1.16*"],
        ["small", "16.40*", "3.44", "2.14"],
    ]


def test_a_peer_that_is_missing_is_named_and_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "PEERS", (ABSENT, FLOOR))
    found = list(pack.measure(Bench(TINY, tmp_path)))
    assert Note("tar | absent is not measured, missing: no-such-program, module:nowhere") in found
    assert Note("big: left out at this size: tar | absent, tar | cat") in found
    ways = [item.way for item in found if isinstance(item, Row)]
    assert ways == ["tar | cat", "e2b-upload default"]
    assert [item.key for item in found if isinstance(item, Figure)] == ["pack/many/floor"]


def test_the_launcher_counts_what_a_commands_children_use() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', end='')"
    run = timing.run(["sh", "-c", '"$0" -c "$1" | cat', sys.executable, burn])
    assert run.printed == b"done"
    assert run.wall >= 0.1
    assert run.cpu >= 0.2
    assert 1 < run.peak_mib < 64


def test_a_command_that_fails_is_told_with_its_exit_code() -> None:
    with pytest.raises(subprocess.CalledProcessError) as told:
        timing.run(["sh", "-c", "exit 3"])
    assert told.value.returncode == 3


def test_the_launcher_adds_little_to_a_commands_peak() -> None:
    ballast = bytes(range(256)) * (1 << 19)  # 128 MiB that a child of this process would start from
    assert timing.run(["true"]).peak_mib < 32
    del ballast


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path))
    with sink() as running:
        yield running
    assert not list(tmp_path.iterdir())


def put(server: Sink, head: str, *pieces: bytes, expects: bytes = b"") -> bytes:
    """Send a request as it is written here; return the answer."""
    port = int(server.url.split(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"PUT /archive HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
        with connection.makefile("rb") as answers:
            assert answers.read(len(expects)) == expects
            for piece in pieces:
                connection.sendall(piece)
            return answers.read()


OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"


def test_the_sink_takes_a_body_of_a_given_length_whole(server: Sink) -> None:
    piece = bytes(1 << 20)
    for pieces in (0, 1, 48):
        size = pieces * len(piece)
        answer = put(server, f"Content-Length: {size}", *[piece] * pieces)
        assert answer.startswith(OK)
        assert server.took().bytes == size


def test_the_sink_lets_who_asks_go_on(server: Sink) -> None:
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    head = "content-length: 5\r\nexpect: 100-continue"
    assert put(server, head, b"he", b"llo", expects=go_on).startswith(OK)
    assert server.took().bytes == 5


def test_the_sink_takes_chunks_whole(server: Sink) -> None:
    piece = bytes(100_000)
    chunk = b"186a0;a=b\r\n" + piece + b"\r\n"
    body = (chunk * 3, b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n")
    assert put(server, "Transfer-Encoding: chunked", *body).startswith(OK)
    assert server.took().bytes == 300_005
