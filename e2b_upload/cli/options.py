"""The options, each once: what it is called, what it means, and its environment variable."""

from typing import Annotated, Literal, TypeAlias

import typer

SOURCE, ARCHIVE, UPLOAD, SHOWN = "What to send", "The archive", "The upload", "What is shown"

Context: TypeAlias = Annotated[
    str, typer.Argument(metavar="CONTEXT", help="The folder to send.", show_default=False)
]
Url: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="E2B_UPLOAD_URL",
        help="The presigned PUT URL; - reads it from standard input.",
        rich_help_panel=UPLOAD,
    ),
]
UrlFile: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Read the URL from a file.", rich_help_panel=UPLOAD),
]
Headers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "-H",
        "--header",
        metavar="'NAME: VALUE'",
        help="Send this header with the PUT. May be repeated.",
        rich_help_panel=UPLOAD,
    ),
]
# The library's own defaults stand, and are told in words: they have one place.
Retries: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        envvar="E2B_UPLOAD_RETRIES",
        min=0,
        max=1000,
        help="Further attempts where one may help. Default: 4.",
        rich_help_panel=UPLOAD,
    ),
]
ConnectTimeout: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        envvar="E2B_UPLOAD_CONNECT_TIMEOUT",
        help="Wait so long for a connection. Default: 10.",
        rich_help_panel=UPLOAD,
    ),
]
StallTimeout: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        envvar="E2B_UPLOAD_STALL_TIMEOUT",
        help="Give an attempt up when no byte moves for so long, waiting for the answer included. "
        "Default: 60.",
        rich_help_panel=UPLOAD,
    ),
]
MaxTime: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        envvar="E2B_UPLOAD_MAX_TIME",
        help="The upload, with all attempts and waits, takes no longer. Default: any time.",
        rich_help_panel=UPLOAD,
    ),
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Do all but the PUT.", rich_help_panel=UPLOAD)
]
IgnoreFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        envvar="E2B_UPLOAD_IGNORE_FILE",
        help="Read this instead of CONTEXT/.dockerignore.",
        rich_help_panel=SOURCE,
    ),
]
NoIgnore: TypeAlias = Annotated[
    bool, typer.Option("--no-ignore", help="Read no ignore file.", rich_help_panel=SOURCE)
]
Exclude: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "-x",
        "--exclude",
        metavar="PATTERN",
        help="Exclude this, after the ignore file's patterns. May be repeated.",
        rich_help_panel=SOURCE,
    ),
]
FollowSymlinks: TypeAlias = Annotated[
    bool,
    typer.Option("--follow-symlinks", help="Send what links point to.", rich_help_panel=SOURCE),
]
Compression: TypeAlias = Annotated[
    Literal["fast", "default", "small", "none"],
    typer.Option(
        envvar="E2B_UPLOAD_COMPRESSION",
        help="How hard to compress; none is a plain tar.",
        rich_help_panel=ARCHIVE,
    ),
]
Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        envvar="E2B_UPLOAD_THREADS",
        min=1,
        max=64,
        help="How many threads compress. Default: what the usable cores are worth.",
        rich_help_panel=ARCHIVE,
    ),
]
Mtime: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="EPOCH",
        envvar="SOURCE_DATE_EPOCH",
        min=0,
        help="No time in the archive is later than this, in seconds since 1970.",
        rich_help_panel=ARCHIVE,
    ),
]
SpoolDir: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        envvar="E2B_UPLOAD_SPOOL_DIR",
        help="Where the archive waits. Default: TMPDIR, else a folder on a disk.",
        rich_help_panel=ARCHIVE,
    ),
]
Output: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Also keep the archive here; - is standard output.",
        rich_help_panel=ARCHIVE,
    ),
]
ProgressStyle: TypeAlias = Annotated[
    Literal["auto", "bar", "plain", "none"],
    typer.Option(
        envvar="E2B_UPLOAD_PROGRESS",
        help="A bar, plain lines or nothing; auto is a bar on a terminal.",
        rich_help_panel=SHOWN,
    ),
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("-q", "--quiet", help="Errors only.", rich_help_panel=SHOWN)
]
Verbose: TypeAlias = Annotated[
    bool, typer.Option("-v", "--verbose", help="More lines.", rich_help_panel=SHOWN)
]
ColorChoice: TypeAlias = Annotated[
    Literal["auto", "always", "never"],
    typer.Option(
        help="Colour messages; auto heeds NO_COLOR and FORCE_COLOR.", rich_help_panel=SHOWN
    ),
]
AsJson: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON object on standard output, on success and on failure.",
        rich_help_panel=SHOWN,
    ),
]
