"""What goes to a terminal, and what does not: colours, names, and the cursor, however it ends."""

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
    CLEANS_UP_FOR_EVER,
    CRASHES,
    PATIENCE,
    QUERY,
    Place,
    plain,
    terminal,
    until,
)
from tests.support.rawserver import Connection, Script, answer, raw_server, response, stall_sending

BUILD = ["build", "ctx", "--dry-run"]
WRONG = ["build", "nowhere", "--dry-run"]
HIDE, SHOW, COLOR = "\x1b[?25l", "\x1b[?25h", re.compile(r"\x1b\[[0-9;]*m")


def send(signum: signal.Signals) -> Callable[[Popen[bytes]], object]:
    return lambda process: process.send_signal(signum)


# However it ends, the cursor is there again.


def assert_cursor_is_shown(seen: str) -> None:
    assert HIDE in seen
    assert seen.rindex(SHOW) > seen.rindex(HIDE)


@pytest.mark.parametrize(
    ("script", "code"), [(STORED, 0), (answer(403), 6), (answer(503), 5)], ids=["0", "6", "5"]
)
def test_the_cursor_is_shown_again(script: Script, code: int, place: Place) -> None:
    with raw_server(script) as server:
        ended = place.on_terminal("build", "ctx", "--url", f"{server.url}/k?{QUERY}")
    assert ended.code == code
    assert_cursor_is_shown(ended.err)


@pytest.mark.parametrize(
    ("step", "signum"),
    [("packing", SIGINT), ("packing", SIGTERM), ("uploading", SIGINT), ("uploading", SIGQUIT)],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_cursor_is_shown_again_after_a_signal(
    step: str, signum: signal.Signals, place: Place
) -> None:
    if step == "packing":
        place.sparse("ctx/zeros")
    with raw_server(stall_sending()) as server:
        command = ("build", "ctx", "--url", f"{server.url}/k?{QUERY}")
        ended = place.on_terminal(*command, env=AT_ANY_MOMENT, on={step: send(signum)})
    assert ended.code == 128 + signum
    assert_cursor_is_shown(ended.err)
    assert plain(ended.err).endswith(f"error: stopped by {signum.name}\r\n")


def test_the_cursor_is_shown_again_after_a_second_signal(place: Place) -> None:
    on = {"count ": send(SIGINT), "cleaning up": send(SIGTERM)}
    ended = place.on_terminal(*BUILD, python=CLEANS_UP_FOR_EVER, on=on)
    assert ended.code == 128 + SIGTERM
    assert_cursor_is_shown(ended.err)


def test_the_cursor_is_shown_again_after_a_bug(place: Place) -> None:
    a_picture_first = CRASHES.replace("raise", "import time; time.sleep(0.5); raise")
    ended = place.on_terminal(*BUILD, python=a_picture_first)
    assert ended.code == 1
    assert_cursor_is_shown(ended.err)


@pytest.mark.parametrize("style", ["bar", "plain"])
def test_a_terminal_that_goes_away_takes_nothing_with_it(style: str, place: Place) -> None:
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


# Where there is no bar.


@pytest.mark.parametrize(
    "env", [{}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}], ids=["plain", "FORCE_COLOR"]
)
def test_there_is_no_bar_where_there_is_no_terminal(env: dict[str, str], place: Place) -> None:
    ended = place.run(*BUILD, env=env)
    assert ended.code == 0
    assert ended.lines[0] == "packing ctx"
    assert HIDE not in ended.err
    assert "\r" not in ended.err


def test_a_dumb_terminal_is_given_plain_lines(place: Place) -> None:
    ended = place.on_terminal(*BUILD, env={"TERM": "dumb"})
    assert ended.lines[0] == "packing ctx"
    assert "\x1b" not in ended.err


def test_the_archive_is_not_written_to_a_terminal(place: Place) -> None:
    ended = place.on_terminal(*BUILD, "-o", "-", sh='exec "$0" "$@" >&2')
    assert ended.code == 2
    assert "the archive would be written to the terminal" in ended.err


@pytest.mark.parametrize("columns", ["9" * 20, "²", "-1", "x", "", "0"])
def test_columns_that_are_none(columns: str, place: Place) -> None:
    env = {"COLUMNS": columns, "LINES": columns}
    assert place.run("ls", "--help", env=env).code == 0
    assert place.on_terminal(*BUILD, env=env).code == 0


# Colours.


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


@pytest.mark.parametrize("command", [BUILD, WRONG], ids=" ".join)
@pytest.mark.parametrize("colored", COLORS_ON_A_TERMINAL, ids=str)
def test_colors_on_a_terminal(
    command: list[str], colored: tuple[dict[str, str], str, bool], place: Place
) -> None:
    env, options, expected = colored
    ended = place.on_terminal(*command, *options.split(), env=env)
    assert bool(COLOR.search(ended.err)) == expected


@pytest.mark.parametrize("command", [BUILD, WRONG], ids=" ".join)
@pytest.mark.parametrize("colored", COLORS_ELSEWHERE, ids=str)
def test_colors_elsewhere(
    command: list[str], colored: tuple[dict[str, str], str, bool], call: Call
) -> None:
    env, options, expected = colored
    ended = call(*command, *options.split(), env=env)
    assert bool(COLOR.search(ended.err)) == expected


# Names and words that would do something to a terminal, or to Rich, are shown as what they are.

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
"""What is shown of a name."""


@pytest.fixture
def hostile(place: Place) -> None:
    """Fill the context with what cannot be archived, under such names."""
    for name in HOSTILE:
        path = os.path.join(os.fsencode(place.path), b"ctx", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkfifo(path)


def assert_harmless(seen: str) -> None:
    assert "Traceback" not in seen
    assert [line for line in seen.splitlines() if not line.isprintable()] == []


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("style", ["none", "plain"])
def test_names_in_warnings(style: str, call: Call) -> None:
    ended = call(*BUILD, "--progress", style)
    assert_harmless(ended.err)
    warnings = {f"warning: left out {shown}: a FIFO is not data" for shown in HOSTILE.values()}
    assert warnings <= {*ended.lines}


@pytest.mark.usefixtures("hostile")
def test_names_in_warnings_beside_the_bar(place: Place) -> None:
    ended = place.on_terminal(*BUILD, columns=200)
    assert ended.code == 0
    assert_harmless(plain(ended.err).replace("\r", ""))
    for shown in HOSTILE.values():
        assert f"left out {shown}: a FIFO" in plain(ended.err)
    assert not re.search(r"\x1b\[2J|\x1b\]|\x07", ended.err)


@pytest.mark.parametrize(
    "args",
    [
        ["build", "{it}", "--dry-run"],
        [*BUILD, "--ignore-file", "{it}"],
        [*BUILD, "--spool-dir", "{it}"],
        [*BUILD, "-o", "{it}/kept"],
        [*BUILD, "-x", "{it}["],
        [*BUILD, "-H", "{it}"],
        ["build", "ctx", "--url-file", "{it}"],
    ],
    ids=" ".join,
)
def test_names_in_errors(args: list[str], call: Call) -> None:
    for name, shown in HOSTILE.items():
        ended = call(*(arg.replace("{it}", os.fsdecode(name)) for arg in args))
        assert ended.code in {2, 4}
        assert_harmless(ended.err)
        assert shown in ended.err


@pytest.mark.parametrize(
    "args",
    [
        ["{it}"],
        ["build", "ctx", "{it}"],
        ["build", "ctx", "--{it}"],
        ["build", "ctx", "--compression", "{it}"],
        ["build", "ctx", "--mtime", "{it}"],
    ],
    ids=" ".join,
)
def test_names_in_errors_of_the_parser(args: list[str], call: Call) -> None:
    for name in HOSTILE:
        ended = call(*(arg.replace("{it}", os.fsdecode(name)) for arg in args))
        assert ended.code == 2
        assert_harmless(ended.err)


def test_the_name_of_an_unreadable_file(place: Place) -> None:
    path = os.path.join(os.fsencode(place.path), b"ctx", b"\x1b[2J[bold]\n\xff")
    os.close(os.open(path, os.O_CREAT, 0))
    ended = place.run(*BUILD, privileged=False)
    assert ended.code == 3
    assert_harmless(ended.err)
    assert r"ctx/\x1b[2J[bold]\n\xff cannot be opened" in ended.err


def test_words_of_a_server(call: Call) -> None:
    words = xml("\x1b[2J[bold]", "a\x1b]0;b\x07[/]\nc")
    for script in (answer(403, words), redirect(301, "https://h/\x1b[2J[bold]")):
        with raw_server(script) as server:
            ended = call("build", "ctx", "--url", f"{server.url}/k?{QUERY}")
        assert ended.code == 6
        assert_harmless(ended.err)
        assert r"\x1b[2J[bold]" in ended.err


# Where only ASCII can be shown.


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["PYTHONIOENCODING", "LC_ALL"],
)
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--help"], 0),
        (["build", "--help"], 0),
        (BUILD, 0),
        ([*BUILD, "--json"], 0),
        ([*BUILD, "--progress", "bar"], 0),
        (["build", "für", "--dry-run", "--json"], 2),
        (["build", "ctx", "--für"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
@pytest.mark.usefixtures("hostile")
def test_ascii(env: dict[str, str], args: list[str], code: int, place: Place) -> None:
    ended = place.run(*args, env=env)
    assert ended.code == code
    assert "Traceback" not in ended.err
    assert ended.err.isascii()
    assert ended.out.isascii()


@pytest.mark.usefixtures("hostile")
def test_a_bar_in_ascii(place: Place) -> None:
    place.sparse("ctx/zeros")
    env = {**AT_ANY_MOMENT, "PYTHONIOENCODING": "ascii"}
    ended = place.on_terminal(*BUILD, env=env, on={r"packing .*%": send(SIGINT)})
    assert ended.code == 130
    assert ended.err.isascii()
