"""The command line as its users meet it: a process with an environment of its own."""

import codecs
import errno
import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import pyte
from rich.cells import cell_len

PATIENCE: Final = 60
"""Seconds until a process that should have ended is given up."""

LINES: Final = 24
"""How high the terminals are."""

SPARSE_BYTES: Final = 64 << 30
"""Packing so many zeros takes longer than anybody waits, and next to no space."""

AT_ANY_MOMENT: Final = {"PYTHONWARNINGS": "error,ignore::ResourceWarning"}
"""For who is sent a signal: it may come when urllib3 has made a socket and nobody owns it yet."""

SIGNATURE: Final = "5f3a19c0e7b84d62aa90"
TOKEN: Final = "IQoJb3JpZ2lu/ZC+Vhc3Q"
PASSWORD: Final = "pa55word-for-nobody"
QUERY: Final = f"X-Amz-Security-Token=IQoJb3JpZ2lu%2FZC%2BVhc3Q&X-Amz-Signature={SIGNATURE}"
KEY: Final = "e2b_51c08ae2f7d94b36a1c5e0978b2d4f63"
SECRETS: Final = (SIGNATURE, TOKEN, TOKEN.replace("/", "%2F").replace("+", "%2B"), PASSWORD, KEY)

SUCCESS_KEYS: Final = [
    *("status", "url", "http_status", "attempts", "verified", "archive", "seconds")
]
ARCHIVE_KEYS: Final = [
    *("bytes", "sha256", "md5", "files", "directories", "symlinks", "hardlinks", "content_bytes")
]
TEMPLATE_KEYS: Final = ["status", "template_id", "copies"]
COPY_KEYS: Final = [*("copy", "files_hash", "status", "archive", "url", "attempts", "verified")]
LISTING_KEYS: Final = [
    *("entries", "files", "directories", "symlinks", "hardlinks", "content_bytes")
]
ENTRY_KEYS: Final = ["path", "type", "size", "mode", "target"]
SECONDS_KEYS: Final = ["collect", "pack", "put"]
ERROR_KEYS: Final = [*("kind", "message", "hint", "exit_code", "http_status", "code", "request_id")]
KIND: Final = {
    1: "internal",
    2: "usage",
    3: "source",
    4: "spool",
    5: "unavailable",
    6: "refused",
    129: "interrupted",
    130: "interrupted",
    131: "interrupted",
    143: "interrupted",
}

LIMITED: Final = 'ulimit -f 2000; exec "$0" "$@"'
"""No file may be larger than 2000 blocks: of 512 or of 1024 bytes, as the shell likes."""

CRASHES: Final = """
from e2b_upload import pipeline, template
def crash(*args, **options):
    raise ZeroDivisionError("the unforeseen")
pipeline.build = pipeline.put = pipeline.collect = pipeline.explain = crash
template.build_template = template.files_hash = crash"""

# It sleeps in short pieces: a signal that comes just before a long one is not heeded until its end.
CLEANS_UP_FOR_EVER: Final = """
import contextlib, sys, time
from e2b_upload import pipeline
from e2b_upload.cli import edge
edge.GRACE_SECONDS = 1000
def build(*args, **options):
    try:
        print("packing", file=sys.stderr, flush=True)
        while True:
            time.sleep(0.01)
    finally:
        print("cleaning up", file=sys.stderr, flush=True)
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(0.01)
pipeline.build = build"""

# On Linux root goes without the two capabilities that let it read everything: unlike another user
# it still reaches this interpreter, wherever that is installed.
_WITHOUT_PRIVILEGES: Final = """
import ctypes, os, sys
if os.getuid() == 0:
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
            raise OSError(ctypes.get_errno(), "prctl")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Ended:
    """What a process came to."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on standard output, on one line."""
        assert self.out.count(b"\n") == 1
        assert self.out.endswith(b"\n")
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    def told(self, code: int) -> dict[str, Any]:
        """Return what the one object of a failure says: the same as standard error."""
        assert self.code == code, self.err
        assert list(self.json) == ["status", "error"]
        assert self.json["status"] == "failed"
        error = self.json["error"]
        assert list(error) == ERROR_KEYS
        assert (error["kind"], error["exit_code"]) == (KIND[code], code)
        assert error["message"] in self.err
        assert error["hint"] in self.err
        assert error["http_status"] is None or type(error["http_status"]) is int
        return cast("dict[str, Any]", error)

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


@dataclass(frozen=True)
class Place:
    """A working folder with a context in it: all paths in a test are relative to it."""

    path: Path

    @classmethod
    def furnish(cls, path: Path) -> "Place":
        place = cls(path)
        for folder in ("ctx", "tmp", "spool", "home"):
            (path / folder).mkdir()
        place.write("ctx/a", b"a\n")
        return place

    def write(self, name: str, content: bytes) -> Path:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(content)
        return self.path / name

    def sparse(self, name: str) -> None:
        with self.write(name, b"").open("r+b") as file:
            file.truncate(SPARSE_BYTES)

    def left_behind(self) -> list[str]:
        """What a process has not cleaned up."""
        return [*os.listdir(self.path / "tmp"), *os.listdir(self.path / "spool")]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {
            "E2B_UPLOAD_RETRIES": "0",  # what is tried again has tests of its own
            "HOME": str(self.path / "home"),
            "LANG": "C.UTF-8",
            "PATH": os.defpath,
            "PYTHONWARNINGS": "error",
            "TMPDIR": str(self.path / "tmp"),
        }
        # so that coverage sees the process
        measured = {name: value for name, value in os.environ.items() if "COVERAGE" in name}
        return own | measured | dict(more or {})

    def run(
        self,
        *args: str,
        sh: str = "",
        python: str = "",
        privileged: bool = True,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        **streams: IO[bytes] | int,
    ) -> Ended:
        """Run the command line to its end.

        `sh` is a shell's script that runs it: `"$0" "$@"`. `python` is run before it, in the same
        process. Unprivileged, it cannot read what permissions forbid, even to root.
        """
        with self.started(
            *args, sh=sh, python=python, privileged=privileged, env=env, **streams
        ) as process:
            out, err = process.communicate(stdin, PATIENCE)
        return Ended(process.returncode, out or b"", (err or b"").decode())

    @contextmanager
    def started(
        self,
        *args: str,
        sh: str = "",
        python: str = "",
        privileged: bool = True,
        env: Mapping[str, str] | None = None,
        **streams: IO[bytes] | int,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start the command line; it does not outlive the block."""
        command = [sys.executable, "-m", "e2b_upload", *args]
        if python:
            main = "\nfrom e2b_upload.cli.edge import main\nmain()"
            command[1:3] = ["-c", python + main]
        if not privileged:
            command[:1] = [sys.executable, "-ISc", _WITHOUT_PRIVILEGES]
        if sh:
            command = ["sh", "-c", sh, *command]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(
            command, bufsize=0, cwd=self.path, env=self.environment(env), **(pipes | streams)
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def on_terminal(
        self,
        *args: str,
        columns: int = 80,
        sh: str = "",
        python: str = "",
        env: Mapping[str, str] | None = None,
        on: Mapping[str, Callable[[subprocess.Popen[bytes]], object]] | None = None,
    ) -> Ended:
        """Run the command line to its end with a terminal for standard input and error.

        `on` says what to do, once, when an expression matches what is to be seen there.
        """
        with self.seen(*args, columns=columns, sh=sh, python=python, env=env) as seen:
            awaited = dict(on or {})
            while seen.read():
                for expression in [*awaited]:
                    if re.search(expression, plain(seen.text)):
                        awaited.pop(expression)(seen.process)
            assert not awaited, f"never seen: {[*awaited]}"
            return seen.end()

    @contextmanager
    def seen(
        self,
        *args: str,
        columns: int = 80,
        sh: str = "",
        python: str = "",
        env: Mapping[str, str] | None = None,
    ) -> Iterator["Seen"]:
        """Start the command line with a terminal for standard input and error, and watch that."""
        with (
            terminal(columns) as (screen, stream),
            tempfile.TemporaryFile() as out,
            self.started(
                *args,
                sh=sh,
                python=python,
                env={"TERM": "xterm-256color", **(env or {})},
                stdin=stream,
                stdout=out,
                stderr=stream,
            ) as process,
        ):
            stream.close()
            yield Seen(process, screen, out, Screen(columns or 80, LINES))


class Screen(pyte.Screen):
    """What a person sees on a terminal.

    Attributes:
        wrapped: what was too long for a line.
    """

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__(columns, lines)
        self.wrapped: list[str] = []

    def draw(self, data: str) -> None:
        if self.cursor.x + cell_len(data) > self.columns:
            self.wrapped.append(data)
        super().draw(data)

    @property
    def rows(self) -> list[str]:
        """What stands on the screen, without the blanks to the right and below."""
        return "\n".join(line.rstrip() for line in self.display).rstrip().split("\n")


class Seen:
    """A process on a terminal.

    Attributes:
        process: the process.
        screen: what is to be seen now.
        text: all that was written there, escape sequences and all.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], tty: IO[bytes], out: IO[bytes], screen: Screen
    ) -> None:
        self.process = process
        self.screen = screen
        self.text = ""
        self._tty = tty
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stream = pyte.Stream(screen)

    def watch_on(self, screen: Screen) -> None:
        """Watch it on another kind of screen, from now on."""
        self.screen = screen
        self._stream = pyte.Stream(screen)

    def read(self) -> bool:
        """Take what is written next; tell whether there was any."""
        # A process that neither ends nor says anything is a failure, not a wait.
        if not select.select([self._tty], [], [], PATIENCE)[0]:
            return False
        piece = _read(self._tty)
        text = self._decoder.decode(piece)
        self.text += text
        self._stream.feed(text)
        return bool(piece)

    def until(self, expression: str) -> list[str]:
        """Read until the screen shows it; return the screen's rows."""
        while not re.search(expression, "\n".join(self.screen.rows)):
            assert self.read(), f"{expression!r} was never seen: {self.screen.rows}"
        return self.screen.rows

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._tty.fileno(), keys.encode())

    def resize(self, columns: int) -> None:
        """Make the window as wide, between two frames."""
        while select.select([self._tty], [], [], 0.03)[0]:
            self.read()
        self.screen.resize(columns=columns)
        _set_size(self._tty, columns)
        self.process.send_signal(signal.SIGWINCH)  # it is no terminal of its session's

    def end(self) -> Ended:
        """Read on to the end."""
        while self.read():
            pass
        self.process.wait(PATIENCE)
        self._out.seek(0)
        return Ended(self.process.returncode, self._out.read(), self.text)


@contextmanager
def terminal(columns: int = 80) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Give a pseudo-terminal: what is seen on it, and the stream for a process."""
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", 0) as screen, os.fdopen(slave, "r+b", 0) as stream:
        _set_size(stream, columns)
        yield screen, stream


def _set_size(tty: IO[bytes], columns: int) -> None:
    fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("4H", LINES, columns, 0, 0))


def _read(screen: IO[bytes]) -> bytes:
    try:
        return screen.read(1 << 16)
    except OSError as error:
        if error.errno == errno.EIO:  # Linux: nobody has the terminal open any more
            return b""
        raise


def plain(text: str) -> str:
    """Return what a terminal shows of a text: no colours, no cursor movements."""
    return _ESCAPE_SEQUENCE.sub("", text)


def wait_for(stream: IO[bytes] | None, words: str) -> str:
    """Read lines until one holds the words; return them all."""
    assert stream is not None
    lines = ""
    while words not in lines:
        line = stream.readline().decode()
        assert line, f"{words!r} never came: {lines!r}"
        lines += line
    return lines


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def words(line: str, **values: str) -> list[str]:
    """Return a command line's arguments, `{name}` replaced by values of any kind."""
    return [word.format(**values) for word in shlex.split(line)]
