"""The live display, on an emulated terminal."""

import io
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pyte
import pytest
from rich.live_render import LiveRender

from e2b_upload import events
from e2b_upload.cli import progress
from e2b_upload.cli.display import Display
from e2b_upload.cli.report import Report
from e2b_upload.events import Finished, LeftOut, Progress, Retrying, Started
from tests.cli.harness import LINES, QUERY, Place, Screen, Seen, until
from tests.support.rawserver import Connection, raw_server, response

STEPS: tuple[events.Step, ...] = ("collect", "pack", "put")
MB = 1_000_000
COUNT = Started(step="collect")
PACKED = (
    COUNT,
    Finished(step="collect", done=168 * MB, entries=2, seconds=0.04),
    Started(step="pack", total=168 * MB),
    Finished(step="pack", done=168 * MB, entries=2, seconds=1.4, result=16_800_000),
)
UPLOAD = (*PACKED, Started(step="put", total=16_800_000), Progress(step="put", done=8_400_000))
SENT = Progress(step="put", done=16_800_000)
RETRY = Retrying(attempt=2, attempts=3, seconds=87, reason="h failed the upload: 503 [bold]Slow")
FIFO = LeftOut(path="p", what="FIFO")
WARNING = "warning: left out p: a FIFO is not data"
UPLOADING = r"uploading .*[1-9]\d%"


class Terminal(io.StringIO):
    """Standard error on an emulated terminal, and a display there."""

    display: Display
    encoding = "utf-8"

    def __init__(self, columns: int, screen: Any = Screen, encoding: str = "utf-8") -> None:
        super().__init__()
        self.columns, self.encoding = columns, encoding
        self.screen = screen(columns or 80, LINES)
        self._stream = pyte.Stream(self.screen)

    def write(self, text: str) -> int:
        text = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        self._stream.feed(text.replace("\n", "\r\n"))
        return super().write(text)

    def after(self, *happened: events.Event) -> list[str]:
        """Return the rows after some events, without the blank one above the steps."""
        self.display.draw()
        for event in happened:
            self.display(event)
            time.sleep(0.002)  # the speed needs two points in time
        self.display.draw()
        return self.rows()

    def rows(self) -> list[str]:
        assert self.screen.wrapped == []
        return [row for row in self.screen.rows if row]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a terminal."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("e2b_upload.cli.display._in_foreground", lambda: True)

    def make(columns: int = 80, steps: Any = STEPS, *, color: bool = True, **kind: Any) -> Terminal:
        terminal, size = Terminal(columns, **kind), os.terminal_size
        monkeypatch.setattr(os, "get_terminal_size", lambda _: size((terminal.columns, LINES)))
        monkeypatch.setattr(sys, "stderr", terminal)
        terminal.display = Display(Report(color=color), steps)
        return terminal

    return make


@pytest.mark.parametrize("columns", [40, 59, 60, 80, 100, 200])
def test_each_step_is_a_line(columns: int, make: Any) -> None:
    terminal = make(columns)
    counting, *to_do = terminal.after(COUNT, Progress(step="collect", done=1, entries=1))
    assert re.fullmatch(r"[⠀-⣿] counting +1 byte +1 entry", counting)
    assert to_do == ["  pack", "  upload"]
    (counted, packed, uploading), wide = terminal.after(*UPLOAD), columns >= 60
    assert re.fullmatch(r"✓ counted +168\.0 MB +2 entries" + " +40 ms" * wide, counted)
    assert re.fullmatch(r"✓ packed +16\.8 MB +2 entries" + r" +1\.4 s" * wide, packed)
    assert counted.index("2 entries") == packed.index("2 entries")
    share, left = r"8\.4/16\.8 MB " * wide, " left" * wide
    assert re.search(
        rf"^[⠀-⣿] uploading ━+[╸╺]?━+  50% {share}[\d.]+ .B/s 00:0\d{left}$", uploading
    )
    assert len(uploading) == min(columns - 1, 100)
    assert re.search(r"uploading (━+ )?100% waiting for the server$", terminal.after(SENT)[-1])
    terminal.display.stop()
    assert terminal.rows() == []
    assert not terminal.screen.cursor.hidden


def test_the_largest_figures_fit(make: Any) -> None:
    size, count = 999_900_000_000, 1_000_000
    for columns in range(40, 101, 4):
        packed = Finished(step="pack", done=size, entries=count, seconds=36_000)
        upload = Started(step="put", total=size), Progress(step="put", done=1_000)
        rows = make(columns).after(packed, *upload)
        assert max(map(len, rows)) < columns
        assert "1,000,000 entries" in "".join(rows)
        assert "…" not in "".join(rows)


def test_the_speed_falls_while_nothing_moves(make: Any) -> None:
    terminal = make()
    fast = re.findall(r"[\d.]+ .B/s", terminal.after(*UPLOAD)[-1])
    time.sleep(0.1)
    assert re.findall(r"[\d.]+ .B/s", terminal.after()[-1]) not in (fast, [])


def test_a_retry_shows_its_reason_and_counts_down(make: Any, monkeypatch: Any) -> None:
    for columns in (40, 80):
        terminal = make(columns)
        *reason, _, _, put, wait = terminal.after(*UPLOAD, RETRY)
        words = "h failed the upload: 503 [bold]Slow; retrying in 1 min 27 s (attempt 2 of 3)"
        assert " ".join(reason) == f"warning: {words}"  # wrapped at words
        assert wait == "! attempt 2 of 3 in 1 min 27 s"
        assert "B/s" not in put
        with monkeypatch.context() as later:
            now = time.monotonic() + 80.5
            later.setattr(time, "monotonic", lambda now=now: now)
            assert terminal.after()[-1] == "! attempt 2 of 3 in 7 s"
        put = terminal.after(Progress(step="put", done=10 * MB))[-2]  # by another COPY
        assert re.search(r"60% .*B/s 00:0\d", put)
        assert "  0%" in terminal.after(Started(step="put", total=16_800_000))[-1]
    assert make(80, ("put",)).after(UPLOAD[-2], SENT, RETRY)[-2].endswith("100% 16.8/16.8 MB")
    # E2B's API asks to wait before anything is uploaded.
    assert make().after(RETRY)[-1] == "! attempt 2 of 3 in 1 min 27 s"


def test_several_copies_are_in_different_steps(make: Any) -> None:
    steps: tuple[events.Step, ...] = ("hash", "pack", "put")
    terminal = make(80, steps)
    rows = terminal.after(*(Started(step=step, total=100, done=10) for step in steps))
    assert [row.split()[1] for row in rows] == ["hashing", "packing", "uploading"]
    more = Started(step="put", total=200), Progress(step="put", done=60)
    assert " 30%" in terminal.after(*more)[-1]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp437"])
def test_names_are_data(encoding: str, make: Any) -> None:
    name = "\x1b[2J\x07[bold]\n[/]\u202e 上传"
    rows = make(200, encoding=encoding).after(LeftOut(path=name, what="FIFO"))
    shown = "上传" if encoding == "utf-8" else r"\u4e0a\u4f20"
    assert rows[0] == rf"warning: left out \x1b[2J\x07[bold]\n[/]\u202e {shown}: a FIFO is not data"
    if encoding != "utf-8":
        terminal = make(40, encoding=encoding)
        screen = "\n".join(terminal.after(*UPLOAD))
        assert re.search(r"\+ packed .*\n[-|/\\] uploading [- ]+ 50%", screen)
        assert terminal.getvalue().isascii()


def test_colors(make: Any) -> None:
    terminal = make()
    percent, row = terminal.after(*UPLOAD)[-1].index("50%"), terminal.screen.buffer[3]
    assert row[percent].fg == "default"
    bar = [row[x].fg for x in range(80) if row[x].data == "━"]
    assert (bar, {*bar}) == (sorted(bar, reverse=True), {"cyan", "brightblack"})
    terminal = make(color=False)
    terminal.after(*UPLOAD, RETRY)
    assert not re.search(r"\x1b\[[0-9;]*m", terminal.getvalue())


def test_terminals_of_odd_sizes(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # the size of the window counts
    monkeypatch.setenv("LINES", "2")
    assert list(map(len, make(60).after(*UPLOAD)))[2:] == [59]
    assert len(make(0).after(*UPLOAD)[-1]) == 79  # its size is unknown
    for columns in (1, 2, 5, 13, 20, 39):
        terminal = make(columns)
        with suppress(AssertionError):  # so narrow that something wraps
            terminal.after(*UPLOAD)
        terminal.display.stop()
        assert not terminal.screen.cursor.hidden


class Reflowing(Screen):
    """A terminal that wraps long rows when it becomes narrower, as most do; Screen cuts them."""

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        rows: list[dict[int, Any]] = []
        y, x, width = 0, 0, columns or self.columns
        for line in [self.buffer[y] for y in range(self.cursor.y + 1)]:
            used = max((x + 1 for x, char in line.items() if char.data != " "), default=0)
            y, x = divmod(min(self.cursor.x, used), width)
            y += len(rows)
            rows += [
                {x - at: line[x] for x in range(at, min(at + width, used))}
                for at in range(0, max(used, 1), width)
            ]
        super().resize(lines, columns)
        self.buffer.clear()
        for number, row in enumerate(rows):
            self.buffer[number].update(row)
        self.cursor.y, self.cursor.x = y, x


@pytest.mark.parametrize(("kind", "narrow"), [(Screen, 40), (Reflowing, 50)])
def test_a_window_that_is_resized(kind: type[Screen], narrow: int, make: Any) -> None:
    terminal = make(79, screen=kind)
    terminal.after(*UPLOAD, FIFO)
    for columns in (60, narrow, 79, 200, 120):
        terminal.columns = columns
        terminal.screen.resize(columns=columns)
        warning, *rows = terminal.after()
        assert warning == WARNING
        assert [row.split()[1] for row in rows] == ["counted", "packed", "uploading"]
        assert len(rows[-1]) == min(columns - 1, 100)
    terminal.display.stop()
    assert terminal.rows() == [WARNING]


def test_frames_come_ten_times_a_second(make: Any) -> None:
    terminal, begun = make(), time.monotonic()
    with progress.watch(Report(), "bar", STEPS) as on_event:
        on_event(COUNT)
    assert terminal.getvalue() == "" or time.monotonic() >= begun + 0.1  # the first frame
    begun = time.monotonic()
    with progress.watch(Report(), "bar", STEPS) as on_event:
        on_event(COUNT)
        while (took := time.monotonic() - begun) < 0.45 or "counting" not in terminal.getvalue():
            on_event(Progress(step="collect", done=1))
    assert terminal.getvalue().count("counting") <= 10 * took + 1  # one to remove it


def test_a_notice_and_a_frame_do_not_overlap(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    render = LiveRender.__rich_console__

    def slowly(*args: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            time.sleep(0.25)  # the other thread would draw a frame with one more line
        return render(*args)

    terminal = make()
    with progress.watch(Report(), "bar", STEPS) as on_event:
        for event in UPLOAD:
            on_event(event)
        until(lambda: "uploading" in terminal.getvalue())
        monkeypatch.setattr(LiveRender, "__rich_console__", slowly)
        on_event(RETRY)
        until(lambda: "! attempt" in terminal.getvalue())
        words = [row.split()[1] for row in terminal.rows()]
        assert terminal.screen.rows.count("") == 1
    assert words == ["h", "3)", "counted", "packed", "uploading", "attempt"]


def hides_cursor(on: Terminal | Seen) -> bool:
    return on.screen.cursor.hidden is True


@pytest.fixture
def held(place: Place) -> Iterator[tuple[str, threading.Event]]:
    """Yield the URL of an upload that stops well before its end, until the event is set."""
    place.write("ctx/b", os.urandom(16 << 20))
    go = threading.Event()

    def script(connection: Connection) -> None:
        head = connection.read_head()
        size = int(head.lower().partition(b"content-length:")[2].split()[0])
        connection.read_body(6 << 20)
        while not go.is_set():
            connection.wait(0.01)
        connection.read_body(size - (6 << 20))
        connection.send(response(200))

    with raw_server(script) as server:
        yield f"{server.url}/bucket/key?{QUERY}", go
        go.set()


def test_an_upload_leaves_only_its_result(place: Place, held: tuple[str, threading.Event]) -> None:
    url, go = held
    with place.seen("build", "ctx", "--url", url, columns=120) as seen:
        seen.until(rf"✓ counted .*\n✓ packed .*\n.* {UPLOADING} .*/16\.8 MB")
        assert hides_cursor(seen)
        go.set()
        ended = seen.end()
    assert (ended.code, ended.out, hides_cursor(seen)) == (0, b"", False)
    assert (len(seen.screen.rows), seen.screen.wrapped) == (1, [])
    assert seen.screen.rows[0].startswith("uploaded: 16.8 MB from 2 files of 16.8 MB to http://")


@pytest.mark.slow
def test_a_shell_has_its_terminal_back(place: Place, held: tuple[str, threading.Event]) -> None:
    (url, go), prompt, ctrl_z = held, "your turn>", "\x1a"
    command = f"{sys.executable} -m e2b_upload"
    env = {"PS1": prompt, "HISTFILE": "", "INPUTRC": "/dev/null", "UPLOAD": command}
    shell = "exec setsid -cw bash --noprofile --norc -i"
    with place.seen(sh=shell, env={**env, "E2B_UPLOAD_URL": url}) as seen:
        seen.until(rf"^{prompt}$")
        seen.type("$UPLOAD build ctx\n")
        seen.until(UPLOADING)
        seen.type(ctrl_z)
        rows = seen.until(rf"Stopped.*\n{prompt}$")
        assert not hides_cursor(seen)
        assert not re.search("uploading|^\\^Z$", "\n".join(rows), re.MULTILINE)
        seen.type("echo a line of mine >&2\n")
        seen.until(rf"\na line of mine\n{prompt}$")
        seen.type("fg\n")
        assert "a line of mine" in seen.until(UPLOADING)
        assert hides_cursor(seen)
        seen.type(ctrl_z)
        seen.until(rf"Stopped(.|\n)*Stopped.*\n{prompt}$")
        frames = seen.text.count("uploading")
        seen.type("bg\n")
        seen.until(rf"bg\n(.*\n)?{prompt}$")
        go.set()
        rows = seen.until(r"uploaded: ")
        assert seen.text.count("uploading") == frames  # nothing is drawn in the background
        assert not hides_cursor(seen)
        assert "a line of mine" in rows
        seen.type("exit\n")
        seen.end()
