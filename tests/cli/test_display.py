"""What a person sees while it works, on the screen of a terminal."""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from rich.cells import cell_len

from e2b_upload.cli.progress import watch
from e2b_upload.cli.report import Report
from e2b_upload.events import Finished, Heavy, LooksSecret, Weight
from tests.cli.cases import STORED, xml
from tests.cli.conftest import Call
from tests.cli.harness import AT_ANY_MOMENT, LINES, PATIENCE, QUERY, Ended, Place, Screen, Seen
from tests.support.rawserver import Connection, raw_server, response, silent

COLUMNS = [40, 80, 200]
ARCHIVE_BYTES = 16 << 20
HELD_AFTER = 6 << 20
UPLOADING = r"uploading .*[1-9]\d%"
SGR = re.compile(r"\x1b\[[0-9;]*m")
ONE_ROW = r"[^\n]*"


@dataclass(frozen=True)
class Held:
    """An upload that stands still, well before its end, until it is let go."""

    url: str
    go: threading.Event
    begun: threading.Event


@pytest.fixture
def held(place: Place) -> Iterator[Held]:
    place.write("ctx/b", os.urandom(ARCHIVE_BYTES))
    go, begun = threading.Event(), threading.Event()

    def script(connection: Connection) -> None:
        head = connection.read_head()
        begun.set()
        size = int(head.lower().partition(b"content-length:")[2].split()[0])
        connection.read_body(HELD_AFTER)
        while not go.is_set():
            connection.wait(0.01)
        connection.read_body(size - HELD_AFTER)
        connection.send(response(200))

    with raw_server(script) as server:
        try:
            yield Held(f"{server.url}/bucket/key?{QUERY}", go, begun)
        finally:
            go.set()


def busy(words: str = "breathe", wait: int = 90) -> bytes:
    """Say `words` and ask to wait so many seconds."""
    body = xml("SlowDown", words)
    return response(503, body, {"Retry-After": str(wait)})


@contextmanager
def waiting(place: Place, answer_with: bytes, **options: object) -> Iterator[tuple[Seen, str]]:
    """Watch an upload that waits for another attempt; give the address, too."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.send(answer_with)

    with raw_server(script, STORED) as server:
        command = ("build", "ctx", "--retries", "2", "--url", f"{server.url}/k?{QUERY}")
        with place.seen(*command, **options) as seen:  # type: ignore[arg-type]
            seen.until(r"attempt 2|in \d")
            yield seen, f"127.0.0.1:{server.port}"


def assert_nothing_is_left(seen: Seen, ended: Ended) -> None:
    """Only what was told stands on the screen: no row of the display, no blank one above."""
    assert not seen.screen.cursor.hidden
    assert [row for row in seen.screen.rows if re.search("counted|packed|uploading", row)] == []
    assert "" not in seen.screen.rows
    assert seen.screen.cursor.x == 0
    assert ended.out == b""


# The steps.


@pytest.mark.parametrize("columns", COLUMNS)
def test_three_steps_in_one_display(columns: int, place: Place, held: Held) -> None:
    with place.seen("build", "ctx", "--url", held.url, columns=columns) as seen:
        rows = seen.until(UPLOADING)
        assert seen.screen.cursor.hidden
        assert seen.screen.wrapped == []
        held.go.set()
        ended = seen.end()
    assert max(cell_len(row) for row in rows) < columns
    above, counted, packed, uploading, figures = rows
    assert above == ""
    took = r" +(\d+ ms|[\d.]+ s)" if columns > 40 else ""
    assert re.fullmatch(rf" *✓ counted +16\.8 MB +2 entries{took}", counted)
    assert re.fullmatch(rf" *✓ packed +16\.8 MB +2 entries{took}", packed)
    assert re.fullmatch(r" *[⠀-⣿] uploading +━+[╸╺]?━+ +\d+%", uploading)
    assert re.fullmatch(r" *\d+\.\d/16\.8 MB +[\d.]+ [kM]B/s +\d:\d\d left", figures)
    assert counted.index("16.8 MB") == packed.index("16.8 MB")
    assert counted.index("2 entries") == packed.index("2 entries")
    assert ended.code == 0
    assert_nothing_is_left(seen, ended)
    line = "".join("".join(seen.screen.rows).split())  # a terminal breaks it anywhere
    told = f"uploaded: 16.8 MB from 2 files of 16.8 MB to {held.url.partition('?')[0]} in "
    assert line.startswith(told.replace(" ", ""))
    if columns == 200:
        assert len(seen.screen.rows) == 1


@pytest.mark.parametrize("columns", COLUMNS)
def test_packing(columns: int, place: Place) -> None:
    place.sparse("ctx/zeros")
    place.write("ctx/b/c", b"c")
    command = ("build", "ctx", "--dry-run")
    with place.seen(*command, columns=columns, env=AT_ANY_MOMENT) as seen:
        rows = seen.until(r"packing .*%\n.*left")
        assert seen.screen.wrapped == []
        seen.process.send_signal(signal.SIGINT)
        ended = seen.end()
    above, counted, packing, figures = rows  # and nothing of an upload that is not to come
    assert above == ""
    assert re.match(r" *✓ counted +68\.7 GB +4 entries", counted)
    assert re.search(r"[⠀-⣿] packing +[━╸╺]+ +\d+%$", packing)
    assert re.search(r" \d+\.\d\d/68\.72 GB +[\d.]+ [MG]B/s +\d+:\d\d left", figures)
    assert bool(re.search(r"left +\d entr(y|ies)$", figures)) == (columns > 40)
    assert ended.code == 130
    assert_nothing_is_left(seen, ended)
    assert seen.screen.rows[-1] == "error: stopped by SIGINT"


COUNTS_FOR_EVER = """
import time
from e2b_upload import pipeline
pipeline._ENTRIES_AN_EVENT = 1
walk = pipeline.walk
def slowly(*args, **options):
    for entry in walk(*args, **options):
        yield entry
    while True:
        time.sleep(0.01)
pipeline.walk = slowly"""


@pytest.mark.parametrize("columns", COLUMNS)
def test_counting(columns: int, place: Place) -> None:
    place.write("ctx/b", bytes(1_234_567))
    command = ("build", "ctx", "--url", f"http://127.0.0.1:9/k?{QUERY}")
    with place.seen(*command, columns=columns, python=COUNTS_FOR_EVER, env=AT_ANY_MOMENT) as seen:
        above, counting, *to_come = seen.until(r"counting +1\.2 MB  .*\n +pack\n +upload")
        seen.process.send_signal(signal.SIGTERM)
        ended = seen.end()
    assert above == ""
    assert re.fullmatch(r" *[⠀-⣿] counting +1\.2 MB +2 entries", counting)
    assert [row.strip() for row in to_come] == ["pack", "upload"]
    assert ended.code == 143
    assert_nothing_is_left(seen, ended)


def test_when_all_is_sent_the_answer_is_waited_for(place: Place) -> None:
    go = threading.Event()

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        while not go.is_set():
            connection.wait(0.01)
        connection.send(response(200))

    with (
        raw_server(script) as server,
        place.seen("build", "ctx", "--url", f"{server.url}/k") as seen,
    ):
        seen.until(r"uploading +━+ +100%\n.* waiting for the answer$")
        go.set()
        assert seen.end().code == 0


# An attempt that failed.


@pytest.mark.parametrize("columns", COLUMNS)
def test_a_retry_that_waits(columns: int, place: Place) -> None:
    with waiting(place, busy(), columns=columns, env=AT_ANY_MOMENT) as (seen, host):
        rows = seen.until(r"attempt 2 of 3 in 1:[0-2]\d\n")
        assert seen.screen.wrapped == []
        seen.until(r"in 1:2[0-8]\n")  # it ticks
        seen.process.send_signal(signal.SIGINT)
        ended = seen.end()
    above, _, packed, uploading, *reason = rows
    assert above == ""
    assert "✓ packed" in packed
    assert re.fullmatch(r" *! uploading +attempt 2 of 3 in 1:\d\d", uploading)
    told = f"{host} failed the upload: 503 SlowDown: breathe (request id R3QU35T)"
    assert told.startswith(" ".join(map(str.strip, reason)))
    assert max(map(cell_len, rows)) < columns
    assert ended.code == 130
    assert_nothing_is_left(seen, ended)
    assert "breathe(requestidR3QU35T)(attempt1of3)" in "".join("".join(seen.screen.rows).split())


def test_an_attempt_that_goes_on_is_numbered(place: Place, held: Held) -> None:
    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.send(busy(wait=1))

    def stands_still(connection: Connection) -> None:
        connection.read_head()
        connection.read_body(HELD_AFTER)
        while not held.go.is_set():
            connection.wait(0.01)
        connection.read_body()
        connection.send(response(200))

    with (
        raw_server(script, stands_still) as server,
        place.seen(
            *("build", "ctx", "--retries", "1", "--url", f"{server.url}/k?{QUERY}"), columns=200
        ) as seen,
    ):
        seen.until(r"! uploading +attempt 2 of 2 in 1 s\n")
        rows = seen.until(rf"{UPLOADING}\n.*left   attempt 2 of 2$")
        assert rows[0].endswith("breathe (request id R3QU35T) (attempt 1 of 2)")
        seen.process.kill()


HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold]\r\n[/]\u202e 上传上传上传上传 " + "very long " * 30


@pytest.mark.parametrize(
    ("columns", "encoding"),
    [(20, "ascii"), (20, "utf-8"), (40, "cp437"), (80, "utf-8"), (200, "ascii"), (200, "utf-8")],
)
def test_words_of_a_server_stay_in_their_rows(columns: int, encoding: str, place: Place) -> None:
    env = {**AT_ANY_MOMENT, "PYTHONIOENCODING": encoding}
    with waiting(place, busy(HOSTILE), columns=columns, env=env) as (seen, _):
        rows = seen.until(r"uploading .*in 1:[0-2]\d\n")
        assert seen.screen.wrapped == []
        assert re.search(r"\x1b\[2J|\x1b\]|\x07", seen.text) is None
        seen.process.send_signal(signal.SIGINT)
        ended = seen.end()
    assert len(rows) <= 6
    assert max(map(cell_len, rows)) < columns
    if columns == 200:
        reason = " ".join(map(str.strip, rows[4:]))
        assert r"503 SlowDown: \x1b[2J\x1b]0;owned\x07[bold] [/]\u202e " in reason
    if encoding != "utf-8":
        assert seen.text.isascii()
    assert_nothing_is_left(seen, ended)


# Terminals of all kinds.


@pytest.mark.parametrize("columns", [1, 5, 13, 20])
def test_a_terminal_that_is_too_narrow(columns: int, place: Place, held: Held) -> None:
    with place.seen("build", "ctx", "--url", held.url, columns=columns) as seen:
        rows = seen.until(r"" if columns < 20 else r"uploading  \d\d%\n +\d+\.\d/16\.8 MB")
        assert seen.screen.wrapped == []
        assert max(map(cell_len, rows)) < columns
        held.go.set()
        assert seen.end().code == 0
        assert not seen.screen.cursor.hidden


def test_a_terminal_that_does_not_tell_its_size(place: Place, held: Held) -> None:
    with place.seen("build", "ctx", "--url", held.url, columns=0) as seen:
        seen.until(UPLOADING)
        assert seen.screen.wrapped == []
        held.go.set()
        assert seen.end().code == 0


def test_what_the_environment_says_of_the_width_is_not_believed(place: Place, held: Held) -> None:
    env = {"COLUMNS": "200", "LINES": "2"}
    with place.seen("build", "ctx", "--url", held.url, env=env) as seen:
        assert len(seen.until(UPLOADING)) == 5
        assert seen.screen.wrapped == []
        held.go.set()
        assert seen.end().code == 0


class Reflowing(Screen):
    """A terminal that breaks long rows when it becomes narrower, as most do; Screen cuts them."""

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        old = [self.buffer[y] for y in range(self.cursor.y + 1)]
        width = columns or self.columns
        rows: list[dict[int, Any]] = []
        y = 0
        for number, line in enumerate(old):
            used = max((x + 1 for x, char in line.items() if char.data != " "), default=0)
            pieces = [
                {x - at: line[x] for x in range(at, min(at + width, used))}
                for at in range(0, max(used, 1), width)
            ]
            if number == self.cursor.y:
                y = len(rows) + min(self.cursor.x, used) // width
                self.cursor.x = min(self.cursor.x, used) % width
            rows += pieces
        super().resize(lines, columns)
        for line in self.buffer.values():
            line.clear()
        for number, row in enumerate(rows):
            self.buffer[number].update(row)
        self.cursor.y = y


# One that reflows keeps more than the empty row where it breaks more than the bar.
@pytest.mark.parametrize(("kind", "narrow"), [(Screen, 40), (Reflowing, 50)])
def test_a_window_that_is_resized(
    kind: type[Screen], narrow: int, place: Place, held: Held
) -> None:
    os.mkfifo(place.path / "ctx/p")
    with place.seen("build", "ctx", "--url", held.url, columns=79) as seen:
        seen.watch_on(kind(79, LINES))
        seen.until(UPLOADING)
        for columns in (60, narrow, 79, 200, 120):
            seen.resize(columns)
            # Drawn anew: as wide as there is room for, and no wider.
            length = min(columns - 1, 100)
            seen.until(r"uploading .*\d%\n")
            while (row := uploading(seen)) is None or len(row) != length:
                assert seen.read()
            assert seen.screen.wrapped == []
            told = [row for row in seen.screen.rows if row]
            assert told[0] == "warning: left out p: a FIFO is not data"
            assert [re.sub(r"[\W\d].*", "", row.lstrip(" ✓⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")) for row in told[1:4]] == [
                *("counted", "packed", "uploading")
            ]
            assert len(told) == 5
        held.go.set()
        ended = seen.end()
    assert ended.code == 0
    assert not seen.screen.cursor.hidden
    assert next(row for row in seen.screen.rows if row).startswith("warning: left out p")
    assert "counted" not in "\n".join(seen.screen.rows)


# What is told first takes longer to be drawn than the first frame is away.
DRAWS_SLOWLY = """
import time
from rich.live_render import LiveRender
draw = LiveRender.__rich_console__
def draw_slowly(*args):
    time.sleep(0.5)
    yield from draw(*args)
LiveRender.__rich_console__ = draw_slowly"""


# A shell that controls jobs.

A_SHELL = "exec setsid -cw bash --noprofile --norc -i"
PROMPT = "your turn>"
CTRL_Z = "\x1a"


@contextmanager
def shell(place: Place, url: str) -> Iterator[Seen]:
    """Watch a shell that a person types into; `"$UPLOAD"` is this project there."""
    env = {
        "PS1": PROMPT,
        "HISTFILE": "",
        "UPLOAD": f"{sys.executable} -m e2b_upload",
        "E2B_UPLOAD_URL": url,
        "INPUTRC": "/dev/null",
    }
    with place.seen(sh=A_SHELL, env=env) as seen:
        seen.until(rf"^{PROMPT}$")
        yield seen
        seen.type("exit\n")
        seen.end()


def cursor(seen: Seen) -> str:
    return "hidden" if seen.screen.cursor.hidden else "shown"


def test_a_shell_has_its_terminal_back(place: Place, held: Held) -> None:
    with shell(place, held.url) as seen:
        seen.type("$UPLOAD build ctx\n")
        seen.until(UPLOADING)
        assert cursor(seen) == "hidden"
        seen.type(CTRL_Z)
        rows = seen.until(rf"Stopped.*\n{PROMPT}$")
        assert cursor(seen) == "shown"
        assert [row for row in rows if "uploading" in row or row == "^Z"] == []
        seen.type("echo a line of mine >&2\n")
        seen.until(rf"\na line of mine\n{PROMPT}$")
        seen.type("fg\n")
        rows = seen.until(UPLOADING)
        assert cursor(seen) == "hidden"
        assert "a line of mine" in rows
        held.go.set()
        rows = seen.until(rf"uploaded: (.|\n)*\n{PROMPT}$")
        assert cursor(seen) == "shown"
        assert "a line of mine" in rows
        assert [row for row in rows if "uploading" in row] == []


def test_nothing_is_drawn_in_the_background(place: Place, held: Held) -> None:
    place.write("ctx/.env", b"A=1")
    with shell(place, held.url) as seen:
        seen.type("$UPLOAD build ctx &\n")
        seen.until("warning: .env looks like a credential")  # what must not be missed
        assert held.begun.wait(PATIENCE)
        seen.type("echo a line of mine >&2\n")
        seen.until(rf"\na line of mine\n{PROMPT}$")
        assert "counted" not in seen.text
        assert cursor(seen) == "shown"
        seen.type("fg\n")
        assert "a line of mine" in seen.until(UPLOADING)
        seen.type(CTRL_Z)
        seen.until(rf"Stopped.*\n{PROMPT}$")
        before = seen.text.count("uploading")
        seen.type("bg\n")
        seen.until(rf"bg\n{PROMPT}$")
        held.go.set()
        seen.until("uploaded: ")
        assert seen.text.count("uploading") == before
        assert cursor(seen) == "shown"


def test_what_is_told_and_a_frame_do_not_come_between_each_other(place: Place) -> None:
    os.mkfifo(place.path / "ctx/p")
    with (
        raw_server(silent()) as server,
        place.seen("build", "ctx", "--url", f"{server.url}/k", python=DRAWS_SLOWLY) as seen,
    ):
        rows = seen.until(r"waiting for the answer")
        assert len([row for row in rows if "count" in row]) == 1


def uploading(seen: Seen) -> str | None:
    """Return the row with the bar, if it is there once."""
    rows = [row for row in seen.screen.rows if "uploading" in row]
    return rows[0] if len(rows) == 1 else None


@pytest.mark.parametrize(
    ("env", "options"),
    [
        ({"NO_COLOR": "1"}, []),
        ({}, ["--color", "never"]),
        ({"FORCE_COLOR": "1"}, ["--color=never"]),
    ],
    ids=["NO_COLOR", "--color never", "FORCE_COLOR"],
)
def test_without_colors(env: dict[str, str], options: list[str], place: Place, held: Held) -> None:
    with place.seen("build", "ctx", "--url", held.url, *options, env=env) as seen:
        seen.until(rf"✓ packed{ONE_ROW}\n{ONE_ROW}uploading +━+╸? +\d\d%")
        held.go.set()
        ended = seen.end()
    assert SGR.findall(seen.text) == []
    assert_nothing_is_left(seen, ended)


def test_with_colors(place: Place, held: Held) -> None:
    with place.seen("build", "ctx", "--url", held.url) as seen:
        rows = seen.until(UPLOADING)
        y = next(number for number, row in enumerate(rows) if "uploading" in row)
        row = seen.screen.buffer[y]
        colors = [row[x].fg for x in range(80) if row[x].data == "━"]
        held.go.set()
        seen.end()
    assert colors == sorted(colors, reverse=True)  # what is done, and what is not
    assert len({*colors}) == 2


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "cp437"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "cp1252", "cp437", "LC_ALL"],
)
def test_where_only_ascii_can_be_shown(env: dict[str, str], place: Place, held: Held) -> None:
    columns = 40
    with place.seen("build", "ctx", "--url", held.url, columns=columns, env=env) as seen:
        rows = seen.until(rf"\+ packed{ONE_ROW}\n *[-|/\\] uploading +-+ ?-* +\d\d%\n.*left")
        held.go.set()
        ended = seen.end()
    assert max(map(len, rows)) < columns
    assert seen.text.isascii()
    assert_nothing_is_left(seen, ended)


def test_a_bar_cannot_be_drawn_on_a_dumb_terminal(place: Place) -> None:
    for term in ("dumb", "unknown"):
        command = ("build", "ctx", "--dry-run", "--progress", "bar")
        ended = place.on_terminal(*command, env={"TERM": term, "NO_COLOR": "1"})
        assert ended.lines[0] == "counting"
        assert ended.lines[-2].startswith("packed 1 entry, 2 B into ")
        assert "\x1b" not in ended.err


# What else is told.


def told(*events: LooksSecret | Heavy | Finished) -> None:
    with watch(Report(), "none") as on_event:
        for event in events:
            on_event(event)


PACKED = Finished(step="pack", done=1, entries=34, seconds=1.0, result=1)


@pytest.mark.parametrize("number", [1, 10, 11, 5000])
def test_files_that_look_like_credentials(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = [LooksSecret(path=f"a\n{n}/.env", why="a .env file") for n in range(number)]
    told(*secrets, PACKED)
    *named, hint = capsys.readouterr().err.splitlines()
    more = named.pop() if number > 10 else ""
    assert named == [
        rf"warning: a\n{n}/.env looks like a credential: a .env file"
        for n in range(min(number, 10))
    ]
    assert "--secrets off" in hint
    if more:
        files = "1 more file that looks" if number == 11 else "4,990 more files that look"
        assert more == f"warning: and {files} like credentials".replace("looks", "look")


def test_a_context_that_is_heavy(capsys: pytest.CaptureFixture[str]) -> None:
    largest = (
        Weight(path="node_modules", bytes=900_000_000, is_directory=True, pattern="node_modules"),
        Weight(path="资料", bytes=1_000_000, is_directory=True, pattern="资料"),
        Weight(path="a\x1b[2J", bytes=999, is_directory=False, pattern="a??2J"),
    )
    told(PACKED, Heavy(content_bytes=1_200_000_000, limit=100_000_000, largest=largest))
    assert capsys.readouterr().err.splitlines() == [
        (
            "warning: the context holds 1.2 GB in 34 entries, more than 100.0 MB; the heaviest, "
            "each as the line in .dockerignore that drops it:"
        ),
        "  900.0 MB  node_modules/",
        "    1.0 MB  资料/",
        r"     999 B  a??2J  (a\x1b[2J)",
        "  If all of it is needed, allow more with --warn-size SIZE; 0 never warns.",
    ]


def test_plain_lines_count_one_entry_and_many(place: Place, call: Call) -> None:
    assert "packed 1 entry, 2 B" in call("build", "ctx", "--dry-run").err
    for number in range(1233):
        place.write(f"ctx/b{number}", b"")
    assert "packed 1,234 entries, 2 B" in call("build", "ctx", "--dry-run").err


ONE_AT_A_TIME = """
from e2b_upload.archive import pack
pack._ENTRIES_AN_EVENT = 1
from e2b_upload.cli import progress
progress._PLAIN_SECONDS = 0"""


def test_plain_lines_on_the_way_count_one_entry(place: Place) -> None:
    ended = place.run("build", "ctx", "--dry-run", python=ONE_AT_A_TIME)
    assert ended.code == 0
    assert re.fullmatch(r"  1 entry, 2 B, [\d.]+ (B|kB)/s", ended.lines[1]), ended.err
