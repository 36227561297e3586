"""Run the command line as a process with its own environment, or on a terminal."""

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
from html import unescape
from pathlib import Path
from typing import IO, Any, Final, cast

import pyte
from rich.cells import cell_len

PATIENCE: Final = 60
"""Seconds to wait for a process to end."""

LINES: Final = 24
"""The height of the terminals."""

SPARSE_BYTES: Final = 64 << 30
"""A file of so many zeros takes almost no space, and packing it takes longer than any test."""

AT_ANY_MOMENT: Final = {"PYTHONWARNINGS": "error,ignore::ResourceWarning"}
"""Environment for tests that send a signal: urllib3 may not have stored its new socket yet."""

SIGNATURE: Final = "5f3a19c0e7b84d62aa90"
TOKEN: Final = "IQoJb3JpZ2lu/ZC+Vhc3Q"
PASSWORD: Final = "pa55word-for-nobody"
QUERY: Final = f"X-Amz-Security-Token=IQoJb3JpZ2lu%2FZC%2BVhc3Q&X-Amz-Signature={SIGNATURE}"
KEY: Final = "e2b_51c08ae2f7d94b36a1c5e0978b2d4f63"
SECRETS: Final = (SIGNATURE, TOKEN, TOKEN.replace("/", "%2F").replace("+", "%2B"), PASSWORD, KEY)

ACTIONS: Final = {"GITHUB_ACTIONS": "true"}
RUNNER_COMMAND: Final = re.compile(r"^\s*::|##\[")
"""What the runner of GitHub Actions takes for a command."""
SUMMARY_ROW: Final = re.compile(r"<tr><th align='left'>(.*?)</th><td>(.*?)</td></tr>")

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
"""Limit files to 2000 blocks, which are of 512 or of 1024 bytes, depending on the shell."""

CRASHES: Final = """
from e2b_upload import pipeline
from e2b_upload.e2b import build, listing
def crash(*args, **options):
    raise ZeroDivisionError("the unforeseen")
pipeline.run_build = pipeline.run_put = pipeline.run_collect = pipeline.run_explain = crash
build.run_build_template = listing.files_hash = crash"""

# Short sleeps, because a signal just before a sleep is not handled until the sleep ends.
CLEANS_UP_FOR_EVER: Final = """
import contextlib, sys, time
from e2b_upload import pipeline
from e2b_upload.cli import signals
signals.GRACE_SECONDS = 1000
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
pipeline.run_build = build"""

ENDLESS_LISTING: Final = """
import sys
from itertools import count
from e2b_upload import pipeline
from e2b_upload.context.collect import Entry
def collect(*args, **options):
    print("listing", file=sys.stderr, flush=True)
    for number in count():
        yield Entry(f"file-{number}", "file", 1, 0o644, None, None)
pipeline.run_collect = collect"""

# On Linux root drops the two capabilities that let it read everything. Another user might not have
# access to this interpreter.
_WITHOUT_PRIVILEGES: Final = """
import ctypes, os, sys
if os.getuid() == 0:
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
            raise OSError(ctypes.get_errno(), "prctl")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
C_LOCALE: Final = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Only ASCII can be printed."""

_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Ended:
    """The result of a process."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object on standard output, on one line."""
        assert self.out.count(b"\n") == 1
        assert self.out.endswith(b"\n")
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    def told(self, code: int) -> dict[str, Any]:
        """Check the JSON object of a failure against standard error, and return its `error`."""
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
    """The current directory of a test, with the context `ctx` in it."""

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
        """Return the temporary files that were not removed."""
        return [*os.listdir(self.path / "tmp"), *os.listdir(self.path / "spool")]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {
            "E2B_UPLOAD_RETRIES": "0",  # retries have their own tests
            "HOME": str(self.path / "home"),
            "LANG": "C.UTF-8",
            "PATH": os.defpath,
            "PYTHONWARNINGS": "error",
            "TMPDIR": str(self.path / "tmp"),
        }
        # Measure the coverage of the process, too.
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

        `sh` is a shell script that runs it as `"$0" "$@"`. `python` is code to run first in the
        same process. Without `privileged`, file permissions apply even to root.
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
        """Start the command line, and kill it at the end of the block."""
        command = [sys.executable, "-m", "e2b_upload", *args]
        if python:
            main = "\nfrom e2b_upload.cli.main import main\nmain()"
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

        `on` maps regular expressions to functions; each is called once, when the terminal matches.
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
        """Start the command line with a terminal for standard input and error."""
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
    """The screen of a terminal.

    Attributes:
        wrapped: text that did not fit on a line.
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
        """The text of the screen, without trailing spaces and lines."""
        return "\n".join(line.rstrip() for line in self.display).rstrip().split("\n")


class Seen:
    """A process on a terminal.

    Attributes:
        process: the process.
        screen: the current screen.
        text: the whole output, including escape sequences.
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
        """Continue on another kind of screen."""
        self.screen = screen
        self._stream = pyte.Stream(screen)

    def read(self) -> bool:
        """Read the next output; return False at the end."""
        if not select.select([self._tty], [], [], PATIENCE)[0]:
            return False
        piece = _read(self._tty)
        text = self._decoder.decode(piece)
        self.text += text
        self._stream.feed(text)
        return bool(piece)

    def until(self, expression: str) -> list[str]:
        """Read until the screen matches; return its rows."""
        while not re.search(expression, "\n".join(self.screen.rows)):
            assert self.read(), f"{expression!r} was never seen: {self.screen.rows}"
        return self.screen.rows

    def type(self, keys: str) -> None:
        """Send input."""
        os.write(self._tty.fileno(), keys.encode())

    def resize(self, columns: int) -> None:
        """Change the width of the window, between two frames."""
        while select.select([self._tty], [], [], 0.03)[0]:
            self.read()
        self.screen.resize(columns=columns)
        _set_size(self._tty, columns)
        self.process.send_signal(signal.SIGWINCH)  # not its controlling terminal

    def end(self) -> Ended:
        """Read to the end."""
        while self.read():
            pass
        self.process.wait(PATIENCE)
        self._out.seek(0)
        return Ended(self.process.returncode, self._out.read(), self.text)


def secrets_in(ended: Ended) -> list[str]:
    """Return the secrets that the output contains, even if a narrow terminal wraps them."""
    text = ended.err + ended.out.decode("utf-8", "replace")
    unwrapped = "".join(text.split())
    return [secret for secret in SECRETS if secret in text or secret in unwrapped]


def annotations(ended: Ended) -> list[tuple[str, str]]:
    """Return the level and the text of each annotation, as GitHub decodes them."""
    found = re.findall(r"(?m)^::(\w+) title=e2b-upload::(.*)$", ended.err)
    assert len(found) == len([line for line in ended.lines if RUNNER_COMMAND.search(line)])
    return [
        (level, re.sub("%(25|0D|0A)", lambda code: chr(int(code[1], 16)), text))
        for level, text in found
    ]


def summary_rows(summary: Path, status: str) -> dict[str, str]:
    """Return the table of a job summary, as text."""
    text = summary.read_text()
    assert text.startswith(f"\n\n### e2b-upload: {status}\n\n<table>\n")
    assert text.endswith("</table>\n")
    return {
        name: unescape(re.sub("<[^>]*>", "", value.replace("<br>", "\n")))
        for name, value in SUMMARY_ROW.findall(text)
    }


@contextmanager
def terminal(columns: int = 80) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Give both ends of a pseudo-terminal: for the test, and for the process."""
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
        if error.errno == errno.EIO:  # Linux: the other end is closed
            return b""
        raise


def plain(text: str) -> str:
    """Remove escape sequences."""
    return _ESCAPE_SEQUENCE.sub("", text)


def wait_for(stream: IO[bytes] | None, words: str) -> str:
    """Read lines until one contains the words; return them all."""
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
    """Split a command line into arguments, and replace each `{name}`."""
    return [word.format(**values) for word in shlex.split(line)]
