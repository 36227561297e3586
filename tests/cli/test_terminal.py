"""Terminals: the cursor, colors, and hostile names. See test_display.py for the display."""

import os
import re
import signal
import threading
from collections.abc import Callable
from signal import SIGINT, SIGQUIT, SIGTERM
from subprocess import Popen

import pytest

from tests.cli.cases import STORED, redirect, xml
from tests.cli.conftest import Call
from tests.cli.harness import (
    AT_ANY_MOMENT,
    C_LOCALE,
    CLEANS_UP_FOR_EVER,
    CRASHES,
    PATIENCE,
    QUERY,
    Place,
    plain,
    terminal,
    until,
    words,
)
from tests.support.rawserver import Connection, Script, answer, raw_server, response, stall_sending

SLOW = pytest.mark.slow
BUILD = ["build", "ctx", "--dry-run"]
WRONG = ["build", "nowhere", "--dry-run"]
HIDE, SHOW, COLOR = "\x1b[?25l", "\x1b[?25h", re.compile(r"\x1b\[[0-9;]*m")


def send(signum: signal.Signals) -> Callable[[Popen[bytes]], object]:
    return lambda process: process.send_signal(signum)


# The cursor is shown again.


def assert_cursor_is_shown(seen: str) -> None:
    assert HIDE in seen
    assert seen.rindex(SHOW) > seen.rindex(HIDE)


@pytest.mark.parametrize(
    ("script", "code"), [(STORED, 0), pytest.param(answer(403), 6, marks=SLOW)], ids=["0", "6"]
)
def test_cursor_at_the_end(script: Script, code: int, place: Place) -> None:
    with raw_server(script) as server:
        ended = place.on_terminal("build", "ctx", "--url", f"{server.url}/k?{QUERY}")
    assert ended.code == code
    assert_cursor_is_shown(ended.err)


@SLOW
@pytest.mark.parametrize(("step", "signum"), [("packing", SIGINT), ("uploading", SIGQUIT)])
def test_cursor_after_a_signal(step: str, signum: signal.Signals, place: Place) -> None:
    if step == "packing":
        place.sparse("ctx/zeros")
    with raw_server(stall_sending()) as server:
        command = ("build", "ctx", "--url", f"{server.url}/k?{QUERY}")
        ended = place.on_terminal(*command, env=AT_ANY_MOMENT, on={step: send(signum)})
    assert ended.code == 128 + signum
    assert_cursor_is_shown(ended.err)
    assert plain(ended.err).endswith(f"error: stopped by {signum.name}\r\n")


@SLOW
def test_cursor_after_a_second_signal(place: Place) -> None:
    on = {"count ": send(SIGINT), "cleaning up": send(SIGTERM)}
    ended = place.on_terminal(*BUILD, python=CLEANS_UP_FOR_EVER, on=on)
    assert ended.code == 128 + SIGTERM
    assert_cursor_is_shown(ended.err)


@SLOW
def test_cursor_after_a_bug(place: Place) -> None:
    draws_first = CRASHES.replace("raise", "import time; time.sleep(0.5); raise")
    ended = place.on_terminal(*BUILD, python=draws_first)
    assert ended.code == 1
    assert_cursor_is_shown(ended.err)


@SLOW
@pytest.mark.parametrize("style", ["bar", "plain"])
def test_terminal_that_is_closed(style: str, place: Place) -> None:
    has_gone = threading.Event()

    def script(connection: Connection) -> None:
        connection.read_head()
        while not has_gone.is_set():
            connection.wait(0.01)
        connection.read_body()
        connection.send(response(200))

    place.write("ctx/b", os.urandom(8 << 20))
    with raw_server(script) as server, terminal() as (screen, stream):
        command = ("build", "ctx", "--progress", style, "--url", f"{server.url}/k?{QUERY}")
        with place.started(*command, stderr=stream, env={"TERM": "xterm"}) as process:
            stream.close()
            seen = b""
            while b"uploading" not in seen:
                seen += screen.read(1 << 16)
            until(lambda: server.requests)
            screen.close()
            has_gone.set()
            assert process.wait(PATIENCE) == 0
    (request,) = server.requests
    assert request.body_bytes > 8 << 20


# Where no bar is drawn.


def test_no_bar_without_a_terminal(call: Call) -> None:
    for env in ({}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}):
        ended = call(*BUILD, env=env)
        assert ended.code == 0
        assert plain(ended.lines[0]) == "packing ctx"
        assert HIDE not in ended.err
        assert "\r" not in ended.err


@SLOW
def test_no_bar_on_a_dumb_terminal(place: Place) -> None:
    ended = place.on_terminal(*BUILD, env={"TERM": "dumb"})
    assert ended.lines[0] == "packing ctx"
    assert "\x1b" not in ended.err


@SLOW
def test_archive_is_not_written_to_a_terminal(place: Place) -> None:
    ended = place.on_terminal(*BUILD, "-o", "-", sh='exec "$0" "$@" >&2')
    assert ended.code == 2
    assert "the archive would be written to the terminal" in ended.err


@pytest.mark.parametrize("columns", ["9" * 20, "²", "-1", "x", "", "0"])
def test_invalid_columns(columns: str, call: Call) -> None:
    env = {"COLUMNS": columns, "LINES": columns}
    assert call("ls", "--help", env=env).code == 0
    assert call(*BUILD, "--progress", "bar", env=env).code == 0


# Colors.


COLORS_ON_A_TERMINAL = [
    ({}, "", True),
    ({"NO_COLOR": ""}, "", True),
    ({"NO_COLOR": "1"}, "", False),
    ({"TERM": "dumb"}, "", False),
    ({}, "--color never", False),
    ({"FORCE_COLOR": "1"}, "--color never", False),
    ({"NO_COLOR": "1"}, "--color always", True),
]
COLORS_ELSEWHERE = [
    ({}, "", False),
    ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "", False),
    ({"FORCE_COLOR": ""}, "", False),
    ({"FORCE_COLOR": "1"}, "", True),
    ({"FORCE_COLOR": "1"}, "--color never", False),
    ({}, "--color always", True),
    ({"NO_COLOR": "1"}, "--color always", True),
]


@SLOW
@pytest.mark.parametrize(("env", "options", "colored"), COLORS_ON_A_TERMINAL)
def test_colors_on_a_terminal(
    env: dict[str, str], options: str, *, colored: bool, place: Place
) -> None:
    ended = place.on_terminal(*WRONG, *options.split(), env=env)
    assert bool(COLOR.search(ended.err)) == colored


@pytest.mark.parametrize("command", [BUILD, WRONG], ids=" ".join)
@pytest.mark.parametrize(("env", "options", "colored"), COLORS_ELSEWHERE)
def test_colors_elsewhere(
    command: list[str], env: dict[str, str], options: str, *, colored: bool, call: Call
) -> None:
    ended = call(*command, *options.split(), env=env)
    assert bool(COLOR.search(ended.err)) == colored


# Names and responses with escape sequences or Rich markup are escaped.

HOSTILE = {
    b"\x1b[2J": r"\x1b[2J",
    b"\x1b]0;owned\x07": r"\x1b]0;owned\x07",
    b"[bold]x": "[bold]x",
    b"[/]": "[/]",
    b"a\nb\rc": r"a\nb\rc",
    b"caf\xe9": r"caf\xe9",
    "\x9b2J".encode(): r"\x9b2J",
    "\u202etxt".encode(): r"\u202etxt",
    "für".encode(): "für",
}
"""Names, and how they are shown."""


@pytest.fixture
def hostile(place: Place) -> None:
    """Fill the context with FIFOs of these names, each of which causes a warning."""
    for name in HOSTILE:
        path = os.path.join(os.fsencode(place.path), b"ctx", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkfifo(path)


def assert_harmless(seen: str) -> None:
    assert "Traceback" not in seen
    assert [line for line in seen.splitlines() if not line.isprintable()] == []


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("style", ["none", "plain"])
def test_hostile_names_in_warnings(style: str, call: Call) -> None:
    ended = call(*BUILD, "--progress", style)
    assert_harmless(ended.err)
    warnings = {f"warning: left out {shown}: a FIFO is not data" for shown in HOSTILE.values()}
    assert warnings <= {*ended.lines}


@SLOW
@pytest.mark.usefixtures("hostile")
def test_hostile_names_beside_the_bar(place: Place) -> None:
    ended = place.on_terminal(*BUILD, columns=200)
    assert ended.code == 0
    assert_harmless(plain(ended.err).replace("\r", ""))
    for shown in HOSTILE.values():
        assert f"left out {shown}: a FIFO" in plain(ended.err)
    assert not re.search(r"\x1b\[2J|\x1b\]|\x07", ended.err)


NAMED = [
    "build {it} --dry-run",
    *(f"build ctx --dry-run {more}" for more in ("--ignore-file {it}", "--spool-dir {it}")),
    *(f"build ctx --dry-run {more}" for more in ("-o {it}/kept", "-x {it}[", "-H {it}")),
    "build ctx --url-file {it}",
]
OF_THE_PARSER = ["{it}", "build ctx {it}", "build ctx --{it}", "build ctx --mtime {it}"]


@pytest.mark.parametrize("command", [*NAMED, *OF_THE_PARSER])
def test_hostile_names_in_errors(command: str, call: Call) -> None:
    for name, shown in HOSTILE.items():
        ended = call(*words(command, it=os.fsdecode(name)))
        assert ended.code in {2, 4}
        assert_harmless(ended.err)
        assert shown in ended.err or command in OF_THE_PARSER


@SLOW
def test_hostile_name_of_an_unreadable_file(place: Place) -> None:
    path = os.path.join(os.fsencode(place.path), b"ctx", b"\x1b[2J[bold]\n\xff")
    os.close(os.open(path, os.O_CREAT, 0))
    ended = place.run(*BUILD, privileged=False)
    assert ended.code == 3
    assert_harmless(ended.err)
    assert r"ctx/\x1b[2J[bold]\n\xff cannot be opened" in ended.err


def test_hostile_response(call: Call) -> None:
    body = xml("\x1b[2J[bold]", "a\x1b]0;b\x07[/]\nc")
    for script in (answer(403, body), redirect(301, "https://h/\x1b[2J[bold]")):
        with raw_server(script) as server:
            ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}")
        assert ended.code == 6
        assert_harmless(ended.err)
        assert r"\x1b[2J[bold]" in ended.err


# ASCII terminals.


@SLOW
@pytest.mark.parametrize(
    ("command", "code"),
    [
        *(("--help", 0), ("build --help", 0), ("build ctx --dry-run --json", 0)),
        *(("build ctx --dry-run --progress bar", 0), ("build für --dry-run --json", 2)),
        ("build ctx --für", 2),
    ],
)
@pytest.mark.usefixtures("hostile")
def test_ascii(command: str, code: int, place: Place) -> None:
    ended = place.run(*command.split(), env=C_LOCALE)
    assert ended.code == code
    assert "Traceback" not in ended.err
    assert ended.err.isascii()
    assert ended.out.isascii()


@SLOW
@pytest.mark.usefixtures("hostile")
def test_ascii_bar(place: Place) -> None:
    place.sparse("ctx/zeros")
    env = {**AT_ANY_MOMENT, "PYTHONIOENCODING": "ascii"}
    ended = place.on_terminal(*BUILD, env=env, on={r"packing .*%": send(SIGINT)})
    assert ended.code == 130
    assert ended.err.isascii()
