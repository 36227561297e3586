"""The commands, and the one edge where every error becomes a message and an exit code."""

import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from e2b_upload import __version__
from e2b_upload.cli.options import (
    AsJson,
    ColorChoice,
    Compression,
    ConnectTimeout,
    Context,
    DryRun,
    Exclude,
    FollowSymlinks,
    Headers,
    IgnoreFile,
    MaxTime,
    Mtime,
    NoIgnore,
    Output,
    ProgressStyle,
    Quiet,
    Retries,
    SpoolDir,
    StallTimeout,
    Threads,
    Url,
    UrlFile,
    Verbose,
)
from e2b_upload.cli.report import SIGNALS, Report, use_color
from e2b_upload.cli.streams import STDERR, STDOUT, Forgiving, take_over
from e2b_upload.errors import Interrupted, SpoolError, UploadError, UsageError, printable

PROGRAM = "e2b-upload"
GRACE_SECONDS = 0.6
SHOW_CURSOR = b"\x1b[?25h"
_MAX_NAME = 11  # characters of what may be a header's name: longer words are shown to nobody
_MAX_URL_BYTES = 64 * 1024

HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name=PROGRAM,
    context_settings=HELP,
    pretty_exceptions_enable=False,  # its frames would show the URL
    rich_markup_mode="rich",
)


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
    report = Report(as_json="--json" in args, color=use_color("auto", sys.stderr))
    for word in (*args, os.environ.get("E2B_UPLOAD_URL", "")):
        report.hide(word)
    with _signals(report, afterwards):
        try:
            return _reported(args, report, output)
        except Interrupted as error:  # while something else was being told
            return report.failed(error)


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
    if not args:  # a mistake: the help was not asked for
        with redirect_stdout(sys.stderr):
            app(["--help"], prog_name=PROGRAM, standalone_mode=False)
        return UsageError.exit_code
    command: Any = typer.main.get_command(app)
    name = PROGRAM
    # The group has no options that go before a command; to look for them Typer would import
    # pydantic, which takes a third of the time of `build --help`.
    if args[0] in command.commands:
        command, name, args = command.commands[args[0]], f"{PROGRAM} {args[0]}", args[1:]
    try:
        return command.main(args, prog_name=name, standalone_mode=False, obj=report) or 0
    except TyperException as error:
        hint = f"See {PROGRAM} build --help."
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
    """Turn signals into exceptions: all is closed on the way out. A second one ends at once."""
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        del frame
        if stopping:
            report.last_word(Interrupted(signum))
            _end(128 + signum)
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
    """End the process a moment after a signal, where the exception does not.

    Python runs a handler between two steps of the main thread. A name that is being looked up is
    one step, an exception between taking a lock and holding it (CPython #74174) leaves
    everybody waiting; a signal just before a call that waits is not seen until it returns; nobody
    may read what is said. The interpreter's own handler in C writes to a pipe all the same.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # as signal.set_wakeup_fd asks for

    def watch() -> None:
        if not (first := os.read(reading, 1)[0]):
            return
        if not select.select([reading], [], [], GRACE_SECONDS)[0]:
            # It may be for somebody to read its words that it waits.
            telling = threading.Thread(target=report.failed, args=[Interrupted(first)], daemon=True)
            with suppress(RuntimeError):  # the system has no thread for it
                telling.start()
                telling.join(GRACE_SECONDS / 2)
            _end(128 + first)
        if second := os.read(reading, 1)[0]:
            report.last_word(Interrupted(second))
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


def _version(value: bool) -> None:  # noqa: FBT001  (Typer's callback)
    if value:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Pack a build context by .dockerignore, and PUT it to a presigned URL."""


@app.command(
    context_settings=HELP,
    help="Pack CONTEXT and PUT it to a presigned URL.\n\n"
    "The files are chosen by CONTEXT/.dockerignore as Docker chooses them. The archive waits in "
    "a file without a name, which nothing leaves behind, and goes out with one exact "
    'Content-Length.\n\n    e2b-upload build ./ctx --url "$PRESIGNED_PUT_URL"',
)
def build(
    ctx: typer.Context,
    context: Context,
    url: Url = None,
    url_file: UrlFile = None,
    header: Headers = None,
    retries: Retries = None,
    connect_timeout: ConnectTimeout = None,
    stall_timeout: StallTimeout = None,
    max_time: MaxTime = None,
    dry_run: DryRun = False,
    ignore_file: IgnoreFile = None,
    no_ignore: NoIgnore = False,
    exclude: Exclude = None,
    follow_symlinks: FollowSymlinks = False,
    compression: Compression = "default",
    threads: Threads = None,
    mtime: Mtime = None,
    spool_dir: SpoolDir = None,
    output: Output = None,
    progress: ProgressStyle = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: ColorChoice = "auto",
    as_json: AsJson = False,
) -> None:
    """Read the options, and have the pipeline do it."""
    report: Report = ctx.obj
    report.as_json, report.quiet, report.verbose = as_json, quiet, verbose
    report.color = use_color(color, sys.stderr)
    if quiet and verbose:
        raise UsageError("-q and -v exclude each other", hint="Choose one.")
    if no_ignore and ignore_file is not None and _given(ctx, "ignore_file"):
        raise UsageError("--no-ignore and --ignore-file exclude each other", hint="Choose one.")
    if output is not None and _is_standard_output(output):
        output = "-"  # not a file to replace: others may write there, too
    if output == "-" and as_json:
        raise UsageError(
            "-o - and --json exclude each other: both write to standard output",
            hint="Keep the archive in a file: -o FILE.",
        )
    target = _read_url(url if _given(ctx, "url") or url_file is None else None, url_file)
    report.hide(target or "")
    if target is None and not dry_run:
        raise UsageError(
            "there is no URL to put to",
            hint="Pass --url URL, --url - or --url-file FILE, set E2B_UPLOAD_URL, or --dry-run.",
        )
    for name, value in {
        "-o": output,
        "--spool-dir": spool_dir,
        "--ignore-file": ignore_file,
    }.items():
        if value == "":
            raise UsageError(
                f"{name} is empty", hint="Was the variable set? Leave it out, or name a file."
            )
    if output == "-" and sys.stdout.isatty():
        raise UsageError(
            "the archive would be written to the terminal", hint="Redirect it, or name a file."
        )
    from e2b_upload import pipeline
    from e2b_upload.cli.progress import STEPS, watch
    from e2b_upload.transfer.retry import CONNECT_TIMEOUT, RETRIES, STALL_TIMEOUT

    style = progress
    if style == "auto":
        style = "bar" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "plain"
    with watch(report, style, STEPS[:2] if dry_run else STEPS) as on_event:
        receipt = pipeline.build(
            context,
            target,
            ignore_file=None if no_ignore else ignore_file,
            no_ignore=no_ignore,
            exclude=exclude or (),
            follow_symlinks=follow_symlinks,
            compression=compression,
            threads=threads,
            mtime=mtime,
            spool_dir=spool_dir,
            output=open(STDOUT, "wb", closefd=False) if output == "-" else output,  # noqa: SIM115
            headers=_read_headers(header or []),
            retries=RETRIES if retries is None else retries,
            connect_timeout=CONNECT_TIMEOUT if connect_timeout is None else connect_timeout,
            stall_timeout=STALL_TIMEOUT if stall_timeout is None else stall_timeout,
            max_time=max_time,
            dry_run=dry_run,
            count_first=style == "bar" and not quiet,
            on_event=on_event,
        )
    report.done(receipt, "dry-run" if dry_run else "uploaded")


def _given(ctx: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line, not only in the environment."""
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _is_standard_output(output: str) -> bool:
    if output == "-":
        return True
    try:
        same = os.path.samestat(os.stat(output), os.fstat(STDOUT))
        return same and not os.path.samefile(output, os.devnull)
    except OSError:
        return False


def _read_url(url: str | None, url_file: str | None) -> str | None:
    if url is not None and url_file is not None:
        raise UsageError("--url and --url-file exclude each other", hint="Choose one.")
    if url_file is None and url != "-":
        return url
    where = "standard input" if url_file in {None, "-"} else printable(str(url_file))
    try:
        if url_file in {None, "-"}:
            # A person ends a line, not the file.
            with suppress(OSError, ValueError):
                os.set_blocking(sys.stdin.fileno(), True)  # a parent may have left it otherwise
            read = sys.stdin.buffer.readline if sys.stdin.isatty() else sys.stdin.buffer.read
            text = read(_MAX_URL_BYTES + 1)
        else:
            with open(str(url_file), "rb") as file:
                text = file.read(_MAX_URL_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"the URL cannot be read from {where}: {error.strerror}",
            hint="Name a file that holds the URL and nothing else.",
        ) from error
    if len(text) > _MAX_URL_BYTES:
        raise UsageError(
            f"the URL is longer than {_MAX_URL_BYTES} bytes", hint="Is it the right file?"
        )
    return text.decode("utf-8-sig", "replace")


def _read_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:  # no more of it is shown: it may be a token
            name = re.split("[ =]", line, maxsplit=1)[0]
            is_token = name == line and len(name) > _MAX_NAME  # and no name at all
            shown = "a header" if is_token else f"the header '{printable(name)}'"
            raise UsageError(f"{shown} has no value", hint="Write -H 'Name: value'.")
        if name.lower() in map(str.lower, headers):
            raise UsageError(f"the header {printable(name)} is given twice", hint="Give it once.")
        headers[name] = value
    return headers
