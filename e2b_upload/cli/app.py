"""The commands: each reads its options, calls the library, and reports the result."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer
from typer.core import TyperCommand, TyperGroup

from e2b_upload import __version__
from e2b_upload.cli.inputs import (
    StandardInput,
    as_utf8,
    given_as,
    no_url,
    read_output,
    read_url,
)
from e2b_upload.cli.options import (
    SHOWN,
    Archive,
    ArchiveFile,
    BuildUpload,
    Context,
    Copied,
    Filters,
    Listed,
    Listing,
    Paths,
    Rules,
    Shown,
    ShownProgress,
    Source,
    Spool,
    Template,
    Upload,
    expanded,
)
from e2b_upload.cli.report import Report, use_color
from e2b_upload.cli.template import (
    read_copies_if_any,
    read_options,
    read_what_to_copy,
    refuse_beside,
)
from e2b_upload.errors import UsageError
from e2b_upload.events import Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from typer._click.core import Context as ClickContext
    from typer._click.core import Parameter

    from e2b_upload.events import OnEvent

PROGRAM = "e2b-upload"
STEPS: tuple[Step, ...] = ("collect", "pack", "put")
STEPS_OF_A_COPY: tuple[Step, ...] = ("hash", "pack", "put")
Style: TypeAlias = Literal["bar", "plain", "none"]


def _plain(param: "Parameter") -> "Parameter":
    """Show a parameter in the help without "<str>", "<bool>" and braces."""
    if param.param_type_name == "argument":
        usage = f"{param.metavar}{'...' * (param.nargs != 1)}"
        param.display_type_rich = lambda ctx: ""  # type: ignore[attr-defined]  # noqa: ARG005
        param.get_usage_pieces = lambda ctx: [usage]  # type: ignore[method-assign]  # noqa: ARG005
    elif getattr(param, "is_flag", False):
        param.metavar = ""
    return param


class _Command(TyperCommand):
    def get_params(self, ctx: "ClickContext") -> "list[Parameter]":
        params = [_plain(param) for param in super().get_params(ctx)]
        params[-1].rich_help_panel = SHOWN  # type: ignore[attr-defined]  # --help
        return params


class _Group(TyperGroup):
    def get_params(self, ctx: "ClickContext") -> "list[Parameter]":
        return [_plain(param) for param in super().get_params(ctx)]


HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    cls=_Group,
    name=PROGRAM,
    context_settings=HELP,
    pretty_exceptions_enable=False,  # its frames would show the URL
    rich_markup_mode="rich",
)


def _examples(*commands: str) -> str:
    return "\n".join(["[bold]Examples[/bold]", *(f"$ {PROGRAM} {line}" for line in commands)])


def _version(value: bool) -> None:  # noqa: FBT001  (Typer's callback)
    if value:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(
    epilog=_examples(
        'build ./ctx --url "$PRESIGNED_PUT_URL"',
        "ls ./ctx --largest 10",
        "explain ./ctx node_modules/left-pad",
    )
)
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Pack a build context by .dockerignore and upload it to a presigned URL."""


def _command(name: str, help: str, *examples: str) -> "Callable[[Callable[..., None]], None]":  # noqa: A002
    """Add a command with its help and examples."""

    def add(function: "Callable[..., None]") -> None:
        decorate = app.command(
            name, cls=_Command, context_settings=HELP, help=help, epilog=_examples(*examples)
        )
        decorate(expanded(function))

    return add


@_command(
    "build",
    "Pack CONTEXT and upload it to a presigned URL, or to E2B for a template.\n\n"
    "CONTEXT/.dockerignore selects the files as in Docker; for a template, as in the E2B SDK. The "
    "archive is spooled to an unnamed temporary file and sent with one exact Content-Length.",
    'build ./ctx --url "$PRESIGNED_PUT_URL"',
    "build ./ctx --url-file url.txt --json | jq -r .archive.sha256",
    "build ./ctx --dry-run -o ctx.tar.gz",
    "build ./ctx --template my-template --copy .:/app",
)
def build(
    ctx: typer.Context,
    context: Context,
    upload: BuildUpload,
    template: Template,
    source: Source,
    archive: Archive,
    shown: ShownProgress,
) -> None:
    """Pack and upload."""
    report = _report(ctx, shown)
    refuse_beside(ctx, template.template)
    if template.template is not None:
        _build_template(ctx, context, upload, template, source, archive, shown)
        return
    stdin = StandardInput()
    selection = source.selection(ctx, stdin)
    output = read_output(archive.output, as_json=shown.as_json)
    url = _read_url(ctx, report, stdin, upload)
    if url is None and not upload.dry_run:
        raise no_url("--dry-run", "--template for an E2B template")
    settings, put_settings, warn_size = archive.settings(), upload.settings(), source.warn_bytes
    from e2b_upload.pipeline import run_build

    style = _style(shown)
    with _watch(report, style, STEPS[:2] if upload.dry_run else STEPS) as on_event:
        receipt = run_build(
            context,
            url,
            selection,
            settings,
            put_settings,
            output=output,
            warn_size=warn_size,
            count_first=style == "bar" and not shown.quiet,
            dry_run=upload.dry_run,
            on_event=on_event,
        )
    report.done(receipt)


def _build_template(
    ctx: typer.Context,
    context: str,
    upload: BuildUpload,
    template: Template,
    source: Source,
    archive: Archive,
    shown: ShownProgress,
) -> None:
    report: Report = ctx.obj
    copies = read_what_to_copy(template.copies, template.dockerfile)
    options = read_options(ctx, StandardInput(), template, dry_run=upload.dry_run)
    report.hide_key(options.api_key)
    from e2b_upload.context.selection import Selection
    from e2b_upload.e2b.build import run_build_template

    selection = Selection(
        exclude=source.patterns, follow_symlinks=source.follow_symlinks, secrets=source.secrets
    )
    steps = STEPS_OF_A_COPY[:2] if upload.dry_run else STEPS_OF_A_COPY
    with _watch(report, _style(shown), steps) as on_event:
        built = run_build_template(
            context,
            copies,
            options=options,
            selection=selection,
            settings=archive.settings(),
            upload=upload.settings(),
            on_event=on_event,
        )
    report.done_template(built)


@_command(
    "pack",
    "Pack CONTEXT into a file.\n\n"
    "The same files give the same bytes. An existing FILE is replaced only by a complete archive.",
    "pack ./ctx -o ctx.tar.gz",
    "pack ./ctx -o - | tar -tz",
)
def pack(
    ctx: typer.Context, context: Context, source: Source, archive: Archive, shown: ShownProgress
) -> None:
    """Pack."""
    report = _report(ctx, shown)
    if archive.output is None:
        raise UsageError("there is no file to pack into", hint="Pass -o FILE, or -o - to pipe it.")
    selection = source.selection(ctx, StandardInput())
    output = read_output(archive.output, as_json=shown.as_json)
    settings, warn_size = archive.settings(), source.warn_bytes
    from e2b_upload.pipeline import run_build

    style = _style(shown)
    with _watch(report, style, STEPS[:2]) as on_event:
        receipt = run_build(
            context,
            None,
            selection,
            settings,
            output=output,
            warn_size=warn_size,
            count_first=style == "bar" and not shown.quiet,
            dry_run=True,
            on_event=on_event,
        )
    report.done(receipt, "packed")


@_command(
    "put",
    "Upload an existing archive to a presigned URL.\n\n"
    "Use it to continue with a fresh URL, without packing again.",
    'put ctx.tar.gz --url "$PRESIGNED_PUT_URL"',
    "pack ./ctx -o - | e2b-upload put - --url-file url.txt",
)
def put(
    ctx: typer.Context, file: ArchiveFile, upload: Upload, spool: Spool, shown: ShownProgress
) -> None:
    """Upload."""
    report = _report(ctx, shown)
    stdin = StandardInput()
    archive = stdin.take("FILE") if file == "-" else file
    url = _read_url(ctx, report, stdin, upload)
    if url is None:
        raise no_url()
    settings, spool_dir = upload.settings(), spool.directory()
    from e2b_upload.pipeline import run_put

    with _watch(report, _style(shown), STEPS[2:]) as on_event:
        receipt = run_put(archive, url, settings, spool_dir=spool_dir, on_event=on_event)
    report.done(receipt)


@_command(
    "ls",
    "List the files that would be sent, with sizes.",
    "ls ./ctx",
    "ls ./ctx --largest 10",
    "ls ./ctx --json | jq .content_bytes",
)
def ls(
    ctx: typer.Context,
    context: Context,
    listing: Listing,
    copied: Copied,
    source: Listed,
    shown: Shown,
) -> None:
    """List."""
    report = _report(ctx, shown)
    if listing.tree and (shown.as_json or listing.largest is not None):
        other = "--json" if shown.as_json else "--largest"
        raise UsageError(f"--tree and {other} exclude each other", hint="Choose one.")
    from e2b_upload.cli.listing import list_entries

    copies = read_copies_if_any(ctx, copied)
    selection = None if copies else source.selection(ctx, StandardInput())
    with _watch(report, "none") as on_event:
        if selection is None:
            from e2b_upload.e2b.listing import collect_copies

            entries = collect_copies(
                context,
                copies,
                exclude=source.patterns,
                follow_symlinks=source.follow_symlinks,
                secrets=source.secrets,
                on_event=on_event,
            )
        else:
            from e2b_upload.pipeline import run_collect

            entries = run_collect(context, selection, on_event)
        list_entries(
            entries,
            report,
            context,
            largest=listing.largest,
            tree=listing.tree,
            walked=not copies,
        )


@_command(
    "explain",
    "Show whether each PATH is included in CONTEXT, and which pattern decides.\n\n"
    "One line per path, with tabs between the columns: kept or excluded; file, line and pattern; "
    "the path; and a note in brackets if there is more to say. Unprintable characters are escaped.",
    "explain ./ctx src/app.py",
    "explain ./ctx - < paths.txt",
)
def explain(
    ctx: typer.Context,
    context: Context,
    paths: Paths,
    copied: Copied,
    source: Rules,
    shown: Shown,
) -> None:
    """Explain."""
    report = _report(ctx, shown)
    stdin = StandardInput()
    copies = read_copies_if_any(ctx, copied)
    selection = None if copies else source.selection(ctx, stdin)
    named = [
        each for path in paths for each in (stdin.lines("PATH") if path == "-" else [as_utf8(path)])
    ]
    if selection is None:
        from e2b_upload.e2b.listing import explain_copies

        decisions = explain_copies(
            context,
            copies,
            named,
            exclude=source.patterns,
            follow_symlinks=source.follow_symlinks,
        )
    else:
        from e2b_upload.pipeline import run_explain

        decisions = run_explain(context, named, selection)
    from e2b_upload.cli.listing import show_decisions

    show_decisions(decisions, report)


@_command(
    "hash",
    "Print the files hash that the E2B SDK computes for a COPY.\n\n"
    "One line of 64 hexadecimal digits for each --copy, or for each COPY and ADD of --dockerfile.",
    "hash ./ctx --copy .:/app",
    "hash ./ctx --copy src:/app --json",
)
def hash_(
    ctx: typer.Context, context: Context, copied: Copied, filters: Filters, shown: Shown
) -> None:
    """Hash."""
    report = _report(ctx, shown)
    copies = read_what_to_copy(copied.copies, copied.dockerfile, "there is nothing to hash")
    from e2b_upload.e2b.listing import files_hash

    hashes = [
        files_hash(context, copy, exclude=filters.patterns, follow_symlinks=filters.follow_symlinks)
        for copy in copies
    ]
    report.hashes(copies, hashes)


def _report(ctx: typer.Context, shown: Shown) -> Report:
    report: Report = ctx.obj
    report.as_json, report.quiet, report.verbose = shown.as_json, shown.quiet, shown.verbose
    report.color = use_color(shown.color, sys.stderr)
    report.options = {"compression": "--compression"}  # which the hints of put name, too
    report.options |= {param.name or "": given_as(ctx, param) for param in ctx.command.params}
    if shown.quiet and shown.verbose:
        raise UsageError("-q and -v exclude each other", hint="Choose one.")
    return report


def _read_url(
    ctx: typer.Context, report: Report, stdin: StandardInput, upload: Upload
) -> str | None:
    url = read_url(ctx, stdin, upload.url, upload.url_file)
    if upload.url_file is not None or upload.url == "-":  # the variable does not hold it
        report.options["url"] = "--url"
    report.hide(url or "")
    return url


def _style(shown: ShownProgress) -> Style:
    if shown.progress == "auto":
        return "bar" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "plain"
    return shown.progress


def _watch(
    report: Report, style: Style, steps: tuple[Step, ...] = ()
) -> "AbstractContextManager[OnEvent]":
    from e2b_upload.cli.progress import watch

    return watch(report, style, steps)
