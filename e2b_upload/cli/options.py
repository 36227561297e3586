"""The options, each declared once: its names, its help, its environment variable, its default.

A command takes groups of options, and :func:`expanded` makes each field of a group a parameter that
Typer reads. What a group holds is turned into the library's option values by its methods.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, get_type_hints

import typer

from e2b_upload.cli.inputs import (
    StandardInput,
    as_utf8,
    ignore_file_source,
    read_headers,
    read_size,
    refuse_empty,
)
from e2b_upload.transfer.retry import CONNECT_TIMEOUT, RETRIES, STALL_TIMEOUT

if TYPE_CHECKING:
    from e2b_upload.archive.pack import PackSettings
    from e2b_upload.context.selection import Selection
    from e2b_upload.transfer.settings import UploadSettings

SHOWN = "Output"

Context: TypeAlias = Annotated[
    str, typer.Argument(metavar="CONTEXT", help="The directory to send.", show_default=False)
]
ArchiveFile: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="The archive to upload; - is standard input, which is spooled first.",
        show_default=False,
    ),
]
Paths: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Relative to CONTEXT. It need not exist; - reads paths from standard input, one per "
        "line.",
        show_default=False,
    ),
]


class Group:
    """Options that belong together. A subclass has one annotated attribute for each."""


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose groups of options are parameters of their own, for Typer to read."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Group]] = {}
    for parameter in inspect.signature(command).parameters.values():
        kind = parameter.annotation
        if not (isinstance(kind, type) and issubclass(kind, Group)):
            parameters.append(parameter)
            continue
        groups[parameter.name] = kind
        parameters += [
            inspect.Parameter(
                name, parameter.KEYWORD_ONLY, default=getattr(kind, name), annotation=hint
            )
            for name, hint in get_type_hints(kind, include_extras=True).items()
        ]

    @functools.wraps(command)
    def run(**values: object) -> None:
        built = {name: kind() for name, kind in groups.items()}
        for group in built.values():
            for field in get_type_hints(type(group)):
                setattr(group, field, values.pop(field))
        command(**values, **built)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _option(
    panel: str,
    spec: str,
    help: str,  # noqa: A002  (as Typer calls it)
    *,
    envvar: str | None = None,
    min: int | None = None,  # noqa: A002
    max: int | None = None,  # noqa: A002
) -> object:
    """Return an option. Its ``spec`` has all names, then the value's: ``-o --output FILE``."""
    words = spec.split()
    names = [word for word in words if word.startswith("-")]
    return typer.Option(
        *names,
        help=help,
        rich_help_panel=panel,
        metavar=" ".join(words[len(names) :]) or None,
        envvar=envvar,
        min=min,
        max=max,
    )


_source = partial(_option, "What to send")
_archive = partial(_option, "The archive")
_upload = partial(_option, "The upload")
_template = partial(_option, "An E2B template")
_listing = partial(_option, "The listing")
_shown = partial(_option, SHOWN)


class Filters(Group):
    """Which files of the context or of a COPY are sent."""

    exclude: Annotated[
        list[str] | None,
        _source(
            "-x --exclude PATTERN",
            "Add a pattern after those of the ignore file. May be repeated.",
        ),
    ] = None
    follow_symlinks: Annotated[
        bool,
        _source("--follow-symlinks", "Send what links point to. Default: the links themselves."),
    ] = False

    @property
    def patterns(self) -> list[str]:
        """The patterns of ``--exclude``."""
        return [as_utf8(pattern) for pattern in self.exclude or ()]


class Rules(Filters):
    """Which files of the context are sent."""

    ignore_file: Annotated[
        str | None,
        _source(
            "--ignore-file FILE",
            "Read FILE instead of CONTEXT/.dockerignore; - is standard input.",
            envvar="E2B_UPLOAD_IGNORE_FILE",
        ),
    ] = None
    no_ignore: Annotated[
        bool,
        _source("--no-ignore", "Do not read an ignore file."),
    ] = False

    def selection(self, ctx: typer.Context, stdin: StandardInput) -> "Selection":
        """Return which files are sent, as the library takes it.

        Raises:
            UsageError: options exclude each other, or are empty.
        """
        from e2b_upload.context.selection import Selection

        ignore_file = ignore_file_source(ctx, stdin, self.ignore_file, no_ignore=self.no_ignore)
        return Selection(
            ignore_file=ignore_file,
            no_ignore=self.no_ignore,
            exclude=self.patterns,
            follow_symlinks=self.follow_symlinks,
        )


class Listed(Rules):
    """Which files are listed."""

    secrets: Annotated[
        Literal["warn", "deny", "off"],
        _source(
            "--secrets WHAT",
            "Files that look like credentials: warn about them, deny (exit 3), or off.",
            envvar="E2B_UPLOAD_SECRETS",
        ),
    ] = "warn"

    def selection(self, ctx: typer.Context, stdin: StandardInput) -> "Selection":
        """Extend :meth:`Rules.selection`."""
        return replace(super().selection(ctx, stdin), secrets=self.secrets)


class Source(Listed):
    """Which files are packed."""

    allow_empty: Annotated[
        bool,
        _source("--allow-empty", "Accept a context without entries. Default: refuse it (exit 3)."),
    ] = False
    warn_size: Annotated[
        str,
        _source(
            "--warn-size SIZE",
            "Name the largest items if there is more content than this; 0 never does.",
            envvar="E2B_UPLOAD_WARN_SIZE",
        ),
    ] = "100MB"

    def selection(self, ctx: typer.Context, stdin: StandardInput) -> "Selection":
        """Extend :meth:`Listed.selection`."""
        return replace(super().selection(ctx, stdin), allow_empty=self.allow_empty)

    @property
    def warn_bytes(self) -> int | None:
        """Bytes of content above which to warn; None for never."""
        return read_size("warn_size", self.warn_size) or None


class Spool(Group):
    """Where the archive is spooled."""

    spool_dir: Annotated[
        str | None,
        _archive(
            "--spool-dir DIR",
            "Directory for the temporary archive. Default: TMPDIR, or one on a disk.",
            envvar="E2B_UPLOAD_SPOOL_DIR",
        ),
    ] = None

    def directory(self) -> str | None:
        """Return where to spool.

        Raises:
            UsageError: it is empty.
        """
        refuse_empty("--spool-dir", self.spool_dir)
        return self.spool_dir


class Archive(Spool):
    """How the archive is written, and where it is kept."""

    compression: Annotated[
        Literal["fast", "default", "small", "none"],
        _archive(
            "--compression LEVEL",
            "fast, default, small, or none for a plain tar.",
            envvar="E2B_UPLOAD_COMPRESSION",
        ),
    ] = "default"
    threads: Annotated[
        int | None,
        _archive(
            "--threads N",
            "Compression threads. Default: chosen by the number of usable cores.",
            envvar="E2B_UPLOAD_THREADS",
            min=1,
            max=64,
        ),
    ] = None
    mtime: Annotated[
        int | None,
        _archive(
            "--mtime EPOCH",
            "Latest modification time in the archive, in seconds since 1970.",
            envvar="SOURCE_DATE_EPOCH",
            min=0,
        ),
    ] = None
    output: Annotated[
        str | None,
        _archive("-o --output FILE", "Keep the archive as FILE; - is standard output."),
    ] = None

    def settings(self) -> "PackSettings":
        """Return how to pack, as the library takes it."""
        from e2b_upload.archive.pack import PackSettings

        return PackSettings(
            compression=self.compression,
            threads=self.threads,
            mtime=self.mtime,
            spool_dir=self.directory(),
        )


class Upload(Group):
    """Where to upload to, and how."""

    url: Annotated[
        str | None,
        _upload(
            "--url URL",
            "The presigned PUT URL; - reads it from standard input.",
            envvar="E2B_UPLOAD_URL",
        ),
    ] = None
    url_file: Annotated[
        str | None,
        _upload("--url-file FILE", "Read the URL from a file."),
    ] = None
    headers: Annotated[
        list[str] | None,
        _upload("-H --header 'NAME: VALUE'", "Send this header with the PUT. May be repeated."),
    ] = None
    retries: Annotated[
        int,
        _upload(
            "--retries N",
            "Retries after a transient failure.",
            envvar="E2B_UPLOAD_RETRIES",
            min=0,
            max=1000,
        ),
    ] = RETRIES
    connect_timeout: Annotated[
        float,
        _upload(
            "--connect-timeout SECONDS",
            "Seconds to wait for a connection.",
            envvar="E2B_UPLOAD_CONNECT_TIMEOUT",
        ),
    ] = CONNECT_TIMEOUT
    stall_timeout: Annotated[
        float,
        _upload(
            "--stall-timeout SECONDS",
            "Seconds without a byte sent or received before an attempt is given up.",
            envvar="E2B_UPLOAD_STALL_TIMEOUT",
        ),
    ] = STALL_TIMEOUT
    max_time: Annotated[
        float | None,
        _upload(
            "--max-time SECONDS",
            "Seconds for the whole upload, with all retries and waits. Default: no limit.",
            envvar="E2B_UPLOAD_MAX_TIME",
        ),
    ] = None
    max_size: Annotated[
        str | None,
        _upload(
            "--max-size SIZE",
            "Refuse a larger archive: 500MB, 2GiB. Default: the limit of the store, if the URL "
            "shows which store it is.",
            envvar="E2B_UPLOAD_MAX_SIZE",
        ),
    ] = None
    if_absent: Annotated[
        bool,
        _upload(
            "--if-absent",
            'Upload only if the object does not exist; otherwise exit with 0 and status "present".',
        ),
    ] = False
    ignore_checksum: Annotated[
        bool,
        _upload(
            "--ignore-checksum",
            "Do not compare the store's digests with the archive's, for stores whose ETags "
            "look like an MD5 and are not.",
        ),
    ] = False

    def settings(self) -> "UploadSettings":
        """Return how to upload, as the library takes it.

        Raises:
            UsageError: a header, number or size that is not valid.
        """
        from e2b_upload.transfer.retry import Patience
        from e2b_upload.transfer.settings import UploadSettings

        return UploadSettings(
            headers=read_headers(self.headers or []),
            patience=Patience(
                retries=self.retries,
                connect_timeout=self.connect_timeout,
                stall_timeout=self.stall_timeout,
                max_time=self.max_time,
            ),
            max_size=None if self.max_size is None else read_size("max_size", self.max_size),
            if_absent=self.if_absent,
            ignore_checksum=self.ignore_checksum,
        )


class BuildUpload(Upload):
    """What ``build`` takes in addition."""

    dry_run: Annotated[
        bool,
        _upload("--dry-run", "Do everything except for the PUT."),
    ] = False


class Copied(Group):
    """What a template copies."""

    copies: Annotated[
        list[str] | None,
        _template(
            "--copy SRC:DEST",
            "A COPY of the template, split at the last colon. May be repeated.",
        ),
    ] = None
    dockerfile: Annotated[
        str | None,
        _template("--dockerfile FILE", "Use each COPY and ADD of this Dockerfile instead."),
    ] = None


class Template(Copied):
    """Which template to upload for."""

    template: Annotated[
        str | None,
        _template(
            "--template NAME_OR_ID",
            "Upload the files of this E2B template to where the E2B SDK looks for them. "
            "E2B_API_KEY holds the key.",
        ),
    ] = None
    force: Annotated[
        bool,
        _template("--force", "Upload even if E2B already has the files."),
    ] = False
    create: Annotated[
        bool,
        _template("--create", "Create the template if it does not exist."),
    ] = False
    api_key_file: Annotated[
        str | None,
        _template(
            "--api-key-file FILE",
            "Read the API key from FILE instead of E2B_API_KEY; - is standard input.",
        ),
    ] = None
    api_url: Annotated[
        str | None,
        _template(
            "--api-url URL",
            "Address of the E2B API. Default: https://api.DOMAIN.",
            envvar="E2B_API_URL",
        ),
    ] = None
    domain: Annotated[
        str | None,
        _template(
            "--domain DOMAIN",
            "Domain of the E2B API. Default: e2b.app.",
            envvar="E2B_DOMAIN",
        ),
    ] = None


class Listing(Group):
    """How entries are listed."""

    largest: Annotated[
        int | None,
        _listing("--largest N", "Only the N largest items.", min=1),
    ] = None
    tree: Annotated[
        bool,
        _listing("--tree", "As a tree, with the size of each directory."),
    ] = False


class Shown(Group):
    """What is printed."""

    quiet: Annotated[
        bool,
        _shown("-q --quiet", "Print errors only."),
    ] = False
    verbose: Annotated[
        bool,
        _shown("-v --verbose", "Print more: digests, times, the store's response."),
    ] = False
    color: Annotated[
        Literal["auto", "always", "never"],
        _shown("--color WHEN", "auto, always or never; auto respects NO_COLOR and FORCE_COLOR."),
    ] = "auto"
    as_json: Annotated[
        bool,
        _shown("--json", "Print one JSON object to standard output, on success and on failure."),
    ] = False


class ShownProgress(Shown):
    """What is printed by a command that takes time."""

    progress: Annotated[
        Literal["auto", "bar", "plain", "none"],
        _shown(
            "--progress STYLE",
            "bar, plain (lines) or none; auto is a bar on a terminal.",
            envvar="E2B_UPLOAD_PROGRESS",
        ),
    ] = "auto"
