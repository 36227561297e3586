"""The commands: each reads its options, has the library do it, and says what came of it."""

import os
import sys
from contextlib import AbstractContextManager
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from e2b_upload import __version__
from e2b_upload.cli.inputs import (
    StandardInput,
    as_utf8,
    name_variables,
    no_url,
    read_headers,
    read_ignore_file,
    read_output,
    read_size,
    read_url,
    refuse_empty,
)
from e2b_upload.cli.options import (
    SHOWN,
    AllowEmpty,
    ApiKeyFile,
    ApiUrl,
    ArchiveFile,
    AsJson,
    ColorChoice,
    Compression,
    ConnectTimeout,
    Context,
    Copies,
    Create,
    Dockerfile,
    Domain,
    DryRun,
    Exclude,
    FollowSymlinks,
    Force,
    Headers,
    IfAbsent,
    IgnoreChecksum,
    IgnoreFile,
    Largest,
    MaxSize,
    MaxTime,
    Mtime,
    NoIgnore,
    Output,
    Paths,
    ProgressStyle,
    Quiet,
    Retries,
    Secrets,
    SpoolDir,
    StallTimeout,
    Template,
    Threads,
    Tree,
    Url,
    UrlFile,
    Verbose,
    WarnSize,
)
from e2b_upload.cli.report import Report, use_color
from e2b_upload.cli.template import (
    read_api,
    read_copies_if_any,
    read_what_to_copy,
    refuse_beside,
)
from e2b_upload.errors import SourceError, SpoolError, UsageError
from e2b_upload.events import OnEvent, Step

PROGRAM = "e2b-upload"
STEPS: tuple[Step, ...] = ("collect", "pack", "put")
STEPS_OF_A_COPY: tuple[Step, ...] = ("hash", "pack", "put")


def _plain(param: Any) -> Any:  # noqa: ANN401  (Typer's own Parameter)
    """Say what is to be given by its name alone, without "str", "bool" and braces."""
    if param.param_type_name == "argument":
        param.display_type_rich = lambda ctx: ""  # noqa: ARG005
        usage = param.metavar + "..." * (param.nargs != 1)
        param.get_usage_pieces = lambda ctx: [usage]  # noqa: ARG005
    elif param.is_flag:
        param.metavar = ""
    return param


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        params = [_plain(param) for param in super().get_params(ctx)]
        params[-1].rich_help_panel = SHOWN  # --help, which Typer puts there
        return params

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except (UsageError, SourceError, SpoolError) as error:
            name_variables(ctx, error)
            raise


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
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
    """Pack a build context by .dockerignore, and PUT it to a presigned URL."""


@app.command(
    cls=_Command,
    context_settings=HELP,
    help="Pack CONTEXT and PUT it to a presigned URL, or to E2B for a template.\n\n"
    "The files are chosen by CONTEXT/.dockerignore as Docker chooses them, for a template as E2B's "
    "SDK does. The archive waits in a file without a name, which nothing leaves behind, and goes "
    "out with one exact Content-Length.",
    epilog=_examples(
        'build ./ctx --url "$PRESIGNED_PUT_URL"',
        "build ./ctx --url-file url.txt --json | jq -r .archive.sha256",
        "build ./ctx --dry-run -o ctx.tar.gz",
        "build ./ctx --template my-template --copy .:/app",
    ),
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
    max_size: MaxSize = None,
    if_absent: IfAbsent = False,
    ignore_checksum: IgnoreChecksum = False,
    dry_run: DryRun = False,
    template: Template = None,
    copy: Copies = None,
    dockerfile: Dockerfile = None,
    force: Force = False,
    create: Create = False,
    api_key_file: ApiKeyFile = None,
    api_url: ApiUrl = None,
    domain: Domain = None,
    ignore_file: IgnoreFile = None,
    no_ignore: NoIgnore = False,
    exclude: Exclude = None,
    follow_symlinks: FollowSymlinks = False,
    allow_empty: AllowEmpty = False,
    secrets: Secrets = "warn",
    warn_size: WarnSize = "100MB",
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
    """Collect, pack and put."""
    report = _report(ctx, quiet=quiet, verbose=verbose, color=color, as_json=as_json)
    refuse_beside(ctx, template)
    stdin = StandardInput()
    refuse_empty("--spool-dir", spool_dir)
    options: dict[str, Any] = {
        "exclude": map(as_utf8, exclude or ()),
        "follow_symlinks": follow_symlinks,
        "secrets": secrets,
        "compression": compression,
        "threads": threads,
        "mtime": mtime,
        "spool_dir": spool_dir,
        **_given(
            headers=read_headers(header or []),
            retries=retries,
            connect_timeout=connect_timeout,
            stall_timeout=stall_timeout,
            max_time=max_time,
            max_size=read_size("--max-size", max_size),
        ),
        "dry_run": dry_run,
    }
    style = _style(progress)
    if template is not None:
        copies = read_what_to_copy(copy, dockerfile)
        api = read_api(ctx, stdin, api_key_file, api_url, domain)
        report.hide_key(api["api_key"])
        from e2b_upload.template import build_template

        steps = STEPS_OF_A_COPY[:2] if dry_run else STEPS_OF_A_COPY
        with _watch(report, style, steps) as on_event:
            options |= {"force": force, "create": create, "on_event": on_event}
            built = build_template(context, template, copies, **api, **options)
        report.done_template(built)
        return
    source = read_ignore_file(ctx, stdin, ignore_file, no_ignore=no_ignore)
    kept = read_output(output, as_json=as_json)
    target = read_url(ctx, stdin, url, url_file)
    report.hide(target or "")
    if target is None and not dry_run:
        raise no_url("--dry-run", "--template for one of E2B's")
    limit = read_size("--warn-size", warn_size)
    from e2b_upload import pipeline

    with _watch(report, style, STEPS[:2] if dry_run else STEPS) as on_event:
        receipt = pipeline.build(
            context,
            target,
            **source,
            **options,
            allow_empty=allow_empty,
            warn_size=limit or None,
            output=kept,
            if_absent=if_absent,
            ignore_checksum=ignore_checksum,
            count_first=style == "bar" and not quiet,
            on_event=on_event,
        )
    report.done(receipt)


@app.command(
    cls=_Command,
    context_settings=HELP,
    help="Pack CONTEXT into a file.\n\n"
    "The same files give the same bytes. A FILE that is there is replaced only by a whole archive.",
    epilog=_examples("pack ./ctx -o ctx.tar.gz", "pack ./ctx -o - | tar -tz"),
)
def pack(
    ctx: typer.Context,
    context: Context,
    output: Output = None,
    ignore_file: IgnoreFile = None,
    no_ignore: NoIgnore = False,
    exclude: Exclude = None,
    follow_symlinks: FollowSymlinks = False,
    allow_empty: AllowEmpty = False,
    secrets: Secrets = "warn",
    warn_size: WarnSize = "100MB",
    compression: Compression = "default",
    threads: Threads = None,
    mtime: Mtime = None,
    spool_dir: SpoolDir = None,
    progress: ProgressStyle = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: ColorChoice = "auto",
    as_json: AsJson = False,
) -> None:
    """Collect and pack."""
    report = _report(ctx, quiet=quiet, verbose=verbose, color=color, as_json=as_json)
    if output is None:
        raise UsageError("there is no file to pack into", hint="Pass -o FILE, or -o - to pipe it.")
    source = read_ignore_file(ctx, StandardInput(), ignore_file, no_ignore=no_ignore)
    kept = read_output(output, as_json=as_json)
    refuse_empty("--spool-dir", spool_dir)
    limit = read_size("--warn-size", warn_size)
    from e2b_upload import pipeline

    style = _style(progress)
    with _watch(report, style, STEPS[:2]) as on_event:
        # Not pipeline.pack, which returns the archive alone: the receipt tells the times, too.
        receipt = pipeline.build(
            context,
            None,
            **source,
            exclude=map(as_utf8, exclude or ()),
            follow_symlinks=follow_symlinks,
            secrets=secrets,
            allow_empty=allow_empty,
            warn_size=limit or None,
            compression=compression,
            threads=threads,
            mtime=mtime,
            spool_dir=spool_dir,
            output=kept,
            dry_run=True,
            count_first=style == "bar" and not quiet,
            on_event=on_event,
        )
    report.done(receipt, "packed")


@app.command(
    cls=_Command,
    context_settings=HELP,
    help="PUT an archive that exists to a presigned URL.\n\n"
    "The way to go on with a fresh URL, without packing again.",
    epilog=_examples(
        'put ctx.tar.gz --url "$PRESIGNED_PUT_URL"',
        "pack ./ctx -o - | e2b-upload put - --url-file url.txt",
    ),
)
def put(
    ctx: typer.Context,
    file: ArchiveFile,
    url: Url = None,
    url_file: UrlFile = None,
    header: Headers = None,
    retries: Retries = None,
    connect_timeout: ConnectTimeout = None,
    stall_timeout: StallTimeout = None,
    max_time: MaxTime = None,
    max_size: MaxSize = None,
    if_absent: IfAbsent = False,
    ignore_checksum: IgnoreChecksum = False,
    spool_dir: SpoolDir = None,
    progress: ProgressStyle = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: ColorChoice = "auto",
    as_json: AsJson = False,
) -> None:
    """Put."""
    report = _report(ctx, quiet=quiet, verbose=verbose, color=color, as_json=as_json)
    stdin = StandardInput()
    archive = stdin.take("FILE") if file == "-" else file
    target = read_url(ctx, stdin, url, url_file)
    report.hide(target or "")
    if target is None:
        raise no_url()
    upload = _given(
        headers=read_headers(header or []),
        retries=retries,
        connect_timeout=connect_timeout,
        stall_timeout=stall_timeout,
        max_time=max_time,
        max_size=read_size("--max-size", max_size),
        if_absent=if_absent,
        ignore_checksum=ignore_checksum,
    )
    refuse_empty("--spool-dir", spool_dir)
    from e2b_upload import pipeline

    with _watch(report, _style(progress), STEPS[2:]) as on_event:
        receipt = pipeline.put(archive, target, **upload, spool_dir=spool_dir, on_event=on_event)
    report.done(receipt)


@app.command(
    cls=_Command,
    context_settings=HELP,
    help="List what would be sent of CONTEXT, with sizes.",
    epilog=_examples("ls ./ctx", "ls ./ctx --largest 10", "ls ./ctx --json | jq .content_bytes"),
)
def ls(
    ctx: typer.Context,
    context: Context,
    largest: Largest = None,
    tree: Tree = False,
    copy: Copies = None,
    dockerfile: Dockerfile = None,
    ignore_file: IgnoreFile = None,
    no_ignore: NoIgnore = False,
    exclude: Exclude = None,
    follow_symlinks: FollowSymlinks = False,
    secrets: Secrets = "warn",
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: ColorChoice = "auto",
    as_json: AsJson = False,
) -> None:
    """Collect, and show it."""
    report = _report(ctx, quiet=quiet, verbose=verbose, color=color, as_json=as_json)
    if tree and (as_json or largest is not None):
        other = "--json" if as_json else "--largest"
        raise UsageError(f"--tree and {other} exclude each other", hint="Choose one.")
    options: dict[str, Any] = {
        "exclude": map(as_utf8, exclude or ()),
        "follow_symlinks": follow_symlinks,
        "secrets": secrets,
    }
    copies = read_copies_if_any(ctx, copy, dockerfile)
    if copies:
        from e2b_upload.template import collect_copies

        collect: Any = partial(collect_copies, context, copies, **options)
    else:
        source = read_ignore_file(ctx, StandardInput(), ignore_file, no_ignore=no_ignore)
        from e2b_upload import pipeline

        collect = partial(pipeline.collect, context, **source, **options)
    from e2b_upload.cli.listing import list_entries

    with _watch(report, "none") as on_event:
        entries = collect(on_event=on_event)
        list_entries(entries, report, context, largest=largest, tree=tree, walked=not copies)


@app.command(
    cls=_Command,
    context_settings=HELP,
    help="Say of each PATH whether it is part of CONTEXT, and which pattern decided.\n\n"
    "A line a path, with a tab between columns: kept or excluded; file, line and pattern; the "
    "path; and only where more is to be said, that, in brackets. What cannot be printed is "
    "escaped.",
    epilog=_examples("explain ./ctx src/app.py", "explain ./ctx - < paths.txt"),
)
def explain(
    ctx: typer.Context,
    context: Context,
    paths: Paths,
    copy: Copies = None,
    dockerfile: Dockerfile = None,
    ignore_file: IgnoreFile = None,
    no_ignore: NoIgnore = False,
    exclude: Exclude = None,
    follow_symlinks: FollowSymlinks = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: ColorChoice = "auto",
    as_json: AsJson = False,
) -> None:
    """Ask the rules."""
    report = _report(ctx, quiet=quiet, verbose=verbose, color=color, as_json=as_json)
    stdin = StandardInput()
    copies = read_copies_if_any(ctx, copy, dockerfile)
    if copies:
        from e2b_upload.template import explain_copies

        decide: Any = partial(explain_copies, context, copies)
    else:
        source = read_ignore_file(ctx, stdin, ignore_file, no_ignore=no_ignore)
        from e2b_upload import pipeline

        decide = partial(pipeline.explain, context, **source)
    named = [
        each for path in paths for each in (stdin.lines("PATH") if path == "-" else [as_utf8(path)])
    ]
    decisions = decide(named, exclude=map(as_utf8, exclude or ()), follow_symlinks=follow_symlinks)
    from e2b_upload.cli.listing import show_decisions

    show_decisions(decisions, report)


@app.command(
    "hash",
    cls=_Command,
    context_settings=HELP,
    help="Print the files hash that E2B's SDK computes for a COPY.\n\n"
    "A line for each --copy, or each COPY and ADD of a --dockerfile: 64 hexadecimal digits.",
    epilog=_examples("hash ./ctx --copy .:/app", "hash ./ctx --copy src:/app --json"),
)
def hash_(
    ctx: typer.Context,
    context: Context,
    copy: Copies = None,
    dockerfile: Dockerfile = None,
    exclude: Exclude = None,
    follow_symlinks: FollowSymlinks = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: ColorChoice = "auto",
    as_json: AsJson = False,
) -> None:
    """Hash what is copied."""
    report = _report(ctx, quiet=quiet, verbose=verbose, color=color, as_json=as_json)
    copies = read_what_to_copy(copy, dockerfile, "there is nothing to hash")
    from e2b_upload.template import files_hash

    patterns = [*map(as_utf8, exclude or ())]
    hashes = [
        files_hash(context, each, exclude=patterns, follow_symlinks=follow_symlinks)
        for each in copies
    ]
    report.hashes(copies, hashes)


def _report(
    ctx: typer.Context, *, quiet: bool, verbose: bool, color: ColorChoice, as_json: bool
) -> Report:
    report: Report = ctx.obj
    report.as_json, report.quiet, report.verbose = as_json, quiet, verbose
    report.color = use_color(color, sys.stderr)
    if quiet and verbose:
        raise UsageError("-q and -v exclude each other", hint="Choose one.")
    return report


def _given(**options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the options that were given: for the others the library has its own defaults."""
    return {name: value for name, value in options.items() if value is not None}


def _style(progress: ProgressStyle) -> Any:  # noqa: ANN401
    if progress == "auto":
        return "bar" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "plain"
    return progress


def _watch(
    report: Report,
    style: Any,  # noqa: ANN401
    steps: tuple[Step, ...] = (),
) -> AbstractContextManager[OnEvent]:
    from e2b_upload.cli.progress import watch

    return watch(report, style, steps)
