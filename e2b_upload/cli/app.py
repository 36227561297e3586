"""The commands, and the one edge where every error becomes a message and an exit code."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from e2b_upload import __version__
from e2b_upload.cli.options import (
    AsJson,
    ColorChoice,
    Compression,
    Context,
    DryRun,
    Exclude,
    FollowSymlinks,
    Headers,
    IgnoreFile,
    Mtime,
    NoIgnore,
    Output,
    ProgressStyle,
    Quiet,
    SpoolDir,
    Url,
    UrlFile,
    Verbose,
)
from e2b_upload.cli.report import Report, use_color
from e2b_upload.errors import Interrupted, UploadError, UsageError, printable

PROGRAM = "e2b-upload"
_MAX_URL_BYTES = 64 * 1024

app = typer.Typer(
    name=PROGRAM,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # its frames would show the URL
    rich_markup_mode="rich",
)


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line, and exit."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:
    """Run the command line, and return the exit code.

    Every failure ends here: an expected one as a message with what to do next, ^C and its relatives
    as 128 + the signal's number, anything else as a report of a bug.
    """
    # Until the options are read: a wrong one is reported, too.
    report = Report(as_json="--json" in args, color=use_color("auto", sys.stderr))
    try:
        with _signals():
            try:
                return app(args, prog_name=PROGRAM, standalone_mode=False, obj=report) or 0
            except TyperException as error:
                if not (message := error.format_message()):
                    return UsageError.exit_code  # no command: the help was shown instead
                raise UsageError(printable(message), hint=f"See {PROGRAM} build --help.") from None
    except (UploadError, Interrupted) as error:
        return report.failed(error)
    except Exception as error:  # noqa: BLE001  (the edge)
        return report.crashed(error)


@contextmanager
def _signals() -> Iterator[None]:
    """Turn signals into exceptions: all is closed on the way out. A second one ends at once."""
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        del frame
        if stopping:
            os._exit(128 + signum)  # the spool has no name: nothing is left
        stopping = True
        raise Interrupted(signum)

    wanted = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    # One that is ignored stays so: nohup, and the shell's & in scripts.
    before = {
        number: signal.signal(number, stop)
        for number in dict.fromkeys(wanted)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


@app.command()
def build(
    ctx: typer.Context,
    context: Context,
    url: Url = None,
    url_file: UrlFile = None,
    header: Headers = None,
    dry_run: DryRun = False,
    ignore_file: IgnoreFile = None,
    no_ignore: NoIgnore = False,
    exclude: Exclude = None,
    follow_symlinks: FollowSymlinks = False,
    compression: Compression = "default",
    mtime: Mtime = None,
    spool_dir: SpoolDir = None,
    output: Output = None,
    progress: ProgressStyle = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: ColorChoice = "auto",
    as_json: AsJson = False,
) -> None:
    """Pack CONTEXT and PUT it to a presigned URL.

    The files are chosen by CONTEXT/.dockerignore as Docker chooses them. The archive waits in a
    file without a name, which nothing leaves behind, and goes out with one exact Content-Length.

        e2b-upload build ./ctx --url "$PRESIGNED_PUT_URL"
    """
    report: Report = ctx.obj
    report.as_json, report.quiet, report.verbose = as_json, quiet, verbose
    report.color = use_color(color, sys.stderr)
    if quiet and verbose:
        raise UsageError("-q and -v exclude each other", hint="Choose one.")
    if no_ignore and ignore_file is not None and _given(ctx, "ignore_file"):
        raise UsageError("--no-ignore and --ignore-file exclude each other", hint="Choose one.")
    if output == "-" and as_json:
        raise UsageError(
            "-o - and --json exclude each other: both write to standard output",
            hint="Keep the archive in a file: -o FILE.",
        )
    target = _read_url(url if _given(ctx, "url") or not url_file else None, url_file)
    report.url = target
    if target is None and not dry_run:
        raise UsageError(
            "there is no URL to put to",
            hint="Pass --url URL, --url - or --url-file FILE, set E2B_UPLOAD_URL, or --dry-run.",
        )
    if output == "-" and sys.stdout.isatty():
        raise UsageError(
            "the archive would be written to the terminal", hint="Redirect it, or name a file."
        )
    from e2b_upload import pipeline
    from e2b_upload.cli.progress import watch

    style = progress
    if style == "auto":
        style = "bar" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "plain"
    with watch(report, style) as on_event:
        receipt = pipeline.build(
            context,
            target,
            ignore_file=None if no_ignore else ignore_file,
            no_ignore=no_ignore,
            exclude=exclude or (),
            follow_symlinks=follow_symlinks,
            compression=compression,
            mtime=mtime,
            spool_dir=spool_dir,
            output=sys.stdout.buffer if output == "-" else output,
            headers=_read_headers(header or []),
            dry_run=dry_run,
            count_first=style == "bar" and not quiet,
            on_event=on_event,
        )
    report.done(receipt, "dry-run" if dry_run else "uploaded")


def _given(ctx: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line, not only in the environment."""
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _read_url(url: str | None, url_file: str | None) -> str | None:
    if url is not None and url_file is not None:
        raise UsageError("--url and --url-file exclude each other", hint="Choose one.")
    if url_file is None and url != "-":
        return url
    try:
        if url_file in {None, "-"}:
            text = sys.stdin.buffer.read(_MAX_URL_BYTES + 1)
        else:
            with open(str(url_file), "rb") as file:
                text = file.read(_MAX_URL_BYTES + 1)
    except OSError as error:
        where = "standard input" if url_file in {None, "-"} else printable(str(url_file))
        raise UsageError(
            f"the URL cannot be read from {where}: {error.strerror}",
            hint="Name a file that holds the URL and nothing else.",
        ) from error
    if len(text) > _MAX_URL_BYTES:
        raise UsageError(
            f"the URL is longer than {_MAX_URL_BYTES} bytes", hint="Is it the right file?"
        )
    return text.decode("utf-8", "replace")


def _read_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise UsageError(
                f"the header {printable(name)!r} has no value", hint="Write -H 'Name: value'."
            )
        if name.lower() in map(str.lower, headers):
            raise UsageError(f"the header {printable(name)} is given twice", hint="Give it once.")
        headers[name] = value
    return headers
