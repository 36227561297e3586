"""The one edge, where every error becomes a message and an exit code."""

import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from itertools import pairwise
from types import FrameType
from typing import Any, NoReturn

from typer.exceptions import TyperException
from typer.main import get_command

from e2b_upload.cli.app import PROGRAM, app
from e2b_upload.cli.inputs import given_as
from e2b_upload.cli.report import SIGNALS, Color, Report, use_color
from e2b_upload.cli.streams import STDERR, Forgiving, take_over
from e2b_upload.cli.template import KEY_VARIABLE
from e2b_upload.errors import Interrupted, SpoolError, UploadError, UsageError, printable

GRACE_SECONDS = 0.6
_SIZE = re.compile("[0-9]{1,4}")  # of a window, in characters
SHOW_CURSOR = b"\x1b[?25h"
COMPLETE = "_E2B_UPLOAD_COMPLETE"  # set by the shell functions that Typer installs


def main() -> NoReturn:
    """Run the command line on this process's arguments and streams, and exit."""
    # The end is told by then, or just being told to somebody who does not read.
    code = run(sys.argv[1:], take_over(), afterwards=lambda number, _: _end(128 + number))
    # The interpreter takes its handlers away before it ends, and a signal would change the code.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    sys.exit(code)


def run(
    args: list[str],
    output: Forgiving | None = None,
    *,
    afterwards: Callable[[int, FrameType | None], object] | None = None,
) -> int:
    """Run the command line, and return the exit code.

    Every failure ends here: an expected one as a message with what to do next, ^C and its relatives
    as 128 + the signal's number, anything else as a report of a bug.

    Args:
        args: without the program's name.
        output: standard output's file, to see whether it took what was asked for.
        afterwards: how signals are handled then; by default as before.
    """
    # Until the options are read: a wrong one is reported, too.
    report = Report(as_json="--json" in args, color=use_color(_color_choice(args), sys.stderr))
    variables = (os.environ.get(name, "") for name in ("E2B_UPLOAD_URL", "E2B_API_URL"))
    for word in (*args, *variables):
        report.hide(word)
    report.hide_key(os.environ.get(KEY_VARIABLE))
    for name in ("COLUMNS", "LINES"):  # Rich would read any digits, of any script and number
        if not _SIZE.fullmatch(os.environ.get(name, "")):
            os.environ.pop(name, None)
    with _signals(report, afterwards):
        try:
            return _reported(args, report, output)
        except Interrupted as error:  # while something else was being told
            return report.failed(error)


def _color_choice(args: list[str]) -> Color:
    choices = [word.partition("=")[2] for word in args if word.startswith("--color=")]
    choices += [value for option, value in pairwise(args) if option == "--color"]
    return "never" if "never" in choices else "always" if "always" in choices else "auto"


def _reported(args: list[str], report: Report, output: Forgiving | None) -> int:
    try:
        code = _dispatch(args, report)
        sys.stdout.flush()
        if output is not None and output.failure is not None:
            _lost(output.failure)
    except (UploadError, Interrupted) as error:
        return report.failed(error)
    except MemoryError:
        hint = "Allow more (ulimit -v, the container's limit), or fewer --threads."
        return report.failed(SpoolError("there is no memory left", hint=hint))
    except Exception as error:  # noqa: BLE001  (the edge)
        return report.crashed(error)
    return code


def _dispatch(args: list[str], report: Report) -> int:
    completing = COMPLETE in os.environ
    if not args and not completing:  # a mistake: the help was not asked for
        with redirect_stdout(sys.stderr):
            app(["--help"], prog_name=PROGRAM, standalone_mode=False)
        return UsageError.exit_code
    command: Any = get_command(app)
    name = PROGRAM
    # The group has no options that go before a command; to look for them Typer would import
    # pydantic, which takes a third of the time of `build --help`.
    if not completing and args[0] in command.commands:
        command, name, args = command.commands[args[0]], f"{PROGRAM} {args[0]}", args[1:]
    try:
        return command.main(args, prog_name=name, standalone_mode=False, obj=report) or 0
    except TyperException as error:
        if (param := getattr(error, "param", None)) is not None and param.envvar:
            error.param_hint = f"'{given_as(error.ctx, param)}'"  # type: ignore[attr-defined]
        hint = f"See {name} --help."
        message = error.format_message().replace("Value error, ", "")  # pydantic's beginning
        raise UsageError(printable(message), hint=hint) from None


def _lost(failure: OSError) -> None:
    """Complain about words that were asked for and could not be written."""
    if not isinstance(failure, BrokenPipeError):  # else nobody wants them any more
        raise SpoolError(
            f"standard output cannot be written: {failure.strerror}",
            hint="What was done is done: only its report is lost.",
        )


@contextmanager
def _signals(
    report: Report, afterwards: Callable[[int, FrameType | None], object] | None
) -> Iterator[None]:
    """Turn the first signal into an exception: all is closed on the way out."""
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        del frame
        if not stopping:  # else it is the last resort's
            stopping = True
            raise Interrupted(signum)

    # One that is ignored stays so: nohup, and the shell's & in scripts.
    before = {
        number: signal.signal(number, stop)
        for number in SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        with _last_resort(report):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if afterwards is None else afterwards)


@contextmanager
def _last_resort(report: Report) -> Iterator[None]:
    """End the process a moment after a signal, where the exception does not, or at a second one.

    Python runs a handler between two steps of the main thread. A name that is being looked up is
    one step, an exception between taking a lock and holding it (CPython #74174) leaves
    everybody waiting; a signal just before a call that waits is not seen until it returns; nobody
    may read what is said. The interpreter's own handler in C writes to a pipe all the same.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # as signal.set_wakeup_fd asks for

    def asked(patience: float | None = None) -> int | None:
        """Return the next signal that asks to stop, 0 at the end, None where none comes."""
        while select.select([reading], [], [], patience)[0]:
            if (number := os.read(reading, 1)[0]) in {0, *SIGNALS}:
                return number
        return None

    def watch() -> None:
        if not (first := asked()):
            return
        second = asked(GRACE_SECONDS)
        if second is None:
            # It may be for somebody to read its words that it waits.
            telling = threading.Thread(target=report.failed, args=[Interrupted(first)], daemon=True)
            with suppress(RuntimeError):  # the system has no thread for it
                telling.start()
                telling.join(GRACE_SECONDS / 2)
            _end(128 + first)
        if second:
            report.last_word(Interrupted(second), patience=GRACE_SECONDS / 2)
            _end(128 + second)

    watching = threading.Thread(target=watch, name="last resort", daemon=True)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    with suppress(RuntimeError):  # the system has no thread for it
        watching.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writing, b"\0")
        if watching.ident is not None:
            watching.join()
        os.close(writing)
        os.close(reading)


def _end(code: int) -> NoReturn:
    """End at once: the spool has no name, so nothing is left."""
    try:
        if os.isatty(STDERR):
            os.write(STDERR, SHOW_CURSOR)  # a bar hides it
    finally:
        os._exit(code)
