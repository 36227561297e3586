"""The entry point: every error becomes a message and an exit code here."""

import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import pairwise
from types import FrameType
from typing import NoReturn

from typer.exceptions import TyperException
from typer.main import get_command

from e2b_upload.cli.app import PROGRAM, app
from e2b_upload.cli.inputs import given_as
from e2b_upload.cli.report import SIGNALS, Color, Report, use_color
from e2b_upload.cli.signals import end_at_once, handled_signals
from e2b_upload.cli.streams import Forgiving, take_over
from e2b_upload.cli.template import KEY_VARIABLE
from e2b_upload.errors import Interrupted, SpoolError, UploadError, UsageError, printable

_SIZE = re.compile("[0-9]{1,4}")  # of a window, in characters
COMPLETE = "_E2B_UPLOAD_COMPLETE"  # set by the shell functions that Typer installs


def main() -> NoReturn:
    """Run the command line on this process's arguments and streams, and exit."""
    # The end is told by then, or just being told to somebody who does not read.
    code = run(sys.argv[1:], take_over(), afterwards=lambda number, _: end_at_once(128 + number))
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
    with handled_signals(report, afterwards):
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
    group = get_command(app)
    commands = getattr(group, "commands", {})
    command, name = group, PROGRAM
    # The group has no options that go before a command; to look for them Typer would import
    # pydantic, which takes a third of the time of `build --help`.
    if not completing and args[0] in commands:
        command, name, args = commands[args[0]], f"{PROGRAM} {args[0]}", args[1:]
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
