"""The options, each once: what it is called, what it means, and its environment variable.

Where the library has a default, it stands there alone: here it is told in words.
"""

from typing import Annotated, Any, Literal, TypeAlias

import typer

SOURCE, ARCHIVE, UPLOAD, SHOWN = "What to send", "The archive", "The upload", "What is shown"
LISTING, TEMPLATE = "The listing", "A template of E2B's"


def _option(panel: str, *names: str, help: str, **more: Any) -> Any:  # noqa: A002, ANN401
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


Context: TypeAlias = Annotated[
    str, typer.Argument(metavar="CONTEXT", help="The folder to send.", show_default=False)
]
ArchiveFile: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="The archive to send; - is standard input, which is spooled first.",
        show_default=False,
    ),
]
Paths: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Taken from CONTEXT, and need not be there; - reads paths from standard input, one a "
        "line.",
        show_default=False,
    ),
]

IgnoreFile: TypeAlias = Annotated[
    str | None,
    _option(
        SOURCE,
        "--ignore-file",
        metavar="FILE",
        envvar="E2B_UPLOAD_IGNORE_FILE",
        help="Read this instead of CONTEXT/.dockerignore; - is standard input.",
    ),
]
NoIgnore: TypeAlias = Annotated[bool, _option(SOURCE, "--no-ignore", help="Read no ignore file.")]
Exclude: TypeAlias = Annotated[
    list[str] | None,
    _option(
        SOURCE,
        "-x",
        "--exclude",
        metavar="PATTERN",
        help="Exclude this, after the ignore file's patterns. May be repeated.",
    ),
]
FollowSymlinks: TypeAlias = Annotated[
    bool,
    _option(SOURCE, "--follow-symlinks", help="Send what links point to. Default: the links."),
]
AllowEmpty: TypeAlias = Annotated[
    bool,
    _option(
        SOURCE,
        "--allow-empty",
        help="Accept a context without entries. Default: refuse it (exit 3).",
    ),
]
Secrets: TypeAlias = Annotated[
    Literal["warn", "deny", "off"],
    _option(
        SOURCE,
        "--secrets",
        metavar="WHAT",
        envvar="E2B_UPLOAD_SECRETS",
        help="Files that look like credentials: warn of them, deny (exit 3), or off.",
    ),
]
WarnSize: TypeAlias = Annotated[
    str,
    _option(
        SOURCE,
        "--warn-size",
        metavar="SIZE",
        envvar="E2B_UPLOAD_WARN_SIZE",
        help="Name what is heaviest where there is more content than that; 0 never does.",
    ),
]

Compression: TypeAlias = Annotated[
    Literal["fast", "default", "small", "none"],
    _option(
        ARCHIVE,
        "--compression",
        metavar="LEVEL",
        envvar="E2B_UPLOAD_COMPRESSION",
        help="fast, default, small, or none for a plain tar.",
    ),
]
Threads: TypeAlias = Annotated[
    int | None,
    _option(
        ARCHIVE,
        "--threads",
        metavar="N",
        envvar="E2B_UPLOAD_THREADS",
        min=1,
        max=64,
        help="How many threads compress. Default: what the usable cores are worth.",
    ),
]
Mtime: TypeAlias = Annotated[
    int | None,
    _option(
        ARCHIVE,
        "--mtime",
        metavar="EPOCH",
        envvar="SOURCE_DATE_EPOCH",
        min=0,
        help="No time in the archive is later than this, in seconds since 1970.",
    ),
]
SpoolDir: TypeAlias = Annotated[
    str | None,
    _option(
        ARCHIVE,
        "--spool-dir",
        metavar="DIR",
        envvar="E2B_UPLOAD_SPOOL_DIR",
        help="Where the archive waits. Default: TMPDIR, else a folder on a disk.",
    ),
]
Output: TypeAlias = Annotated[
    str | None,
    _option(
        ARCHIVE,
        "-o",
        "--output",
        metavar="FILE",
        help="Keep the archive here; - is standard output.",
    ),
]

Url: TypeAlias = Annotated[
    str | None,
    _option(
        UPLOAD,
        "--url",
        metavar="URL",
        envvar="E2B_UPLOAD_URL",
        help="The presigned PUT URL; - reads it from standard input.",
    ),
]
UrlFile: TypeAlias = Annotated[
    str | None, _option(UPLOAD, "--url-file", metavar="FILE", help="Read the URL from a file.")
]
Headers: TypeAlias = Annotated[
    list[str] | None,
    _option(
        UPLOAD,
        "-H",
        "--header",
        metavar="'NAME: VALUE'",
        help="Send this header with the PUT. May be repeated.",
    ),
]
Retries: TypeAlias = Annotated[
    int | None,
    _option(
        UPLOAD,
        "--retries",
        metavar="N",
        envvar="E2B_UPLOAD_RETRIES",
        min=0,
        max=1000,
        help="Further attempts where one may help. Default: 4.",
    ),
]
ConnectTimeout: TypeAlias = Annotated[
    float | None,
    _option(
        UPLOAD,
        "--connect-timeout",
        metavar="SECONDS",
        envvar="E2B_UPLOAD_CONNECT_TIMEOUT",
        help="Wait so long for a connection. Default: 10.",
    ),
]
StallTimeout: TypeAlias = Annotated[
    float | None,
    _option(
        UPLOAD,
        "--stall-timeout",
        metavar="SECONDS",
        envvar="E2B_UPLOAD_STALL_TIMEOUT",
        help="Give an attempt up when no byte moves for so long, waiting for the answer included. "
        "Default: 60.",
    ),
]
MaxTime: TypeAlias = Annotated[
    float | None,
    _option(
        UPLOAD,
        "--max-time",
        metavar="SECONDS",
        envvar="E2B_UPLOAD_MAX_TIME",
        help="The upload, with all attempts and waits, takes no longer. Default: any time.",
    ),
]
MaxSize: TypeAlias = Annotated[
    str | None,
    _option(
        UPLOAD,
        "--max-size",
        metavar="SIZE",
        envvar="E2B_UPLOAD_MAX_SIZE",
        help="Send no larger archive: 500MB, 2GiB. Default: what the store takes, where the URL "
        "tells.",
    ),
]
IfAbsent: TypeAlias = Annotated[
    bool,
    _option(
        UPLOAD,
        "--if-absent",
        help="Upload only if the object does not exist; otherwise exit with 0 and status "
        '"present".',
    ),
]
IgnoreChecksum: TypeAlias = Annotated[
    bool,
    _option(
        UPLOAD,
        "--ignore-checksum",
        help="Do not compare the store's digests with the archive's, for stores whose ETags look "
        "like an MD5 and are not.",
    ),
]
DryRun: TypeAlias = Annotated[bool, _option(UPLOAD, "--dry-run", help="Do all but the PUT.")]

Template: TypeAlias = Annotated[
    str | None,
    _option(
        TEMPLATE,
        "--template",
        metavar="NAME_OR_ID",
        help="Put the files of this template where a build by E2B's SDK looks for them. "
        "E2B_API_KEY holds the key.",
    ),
]
Copies: TypeAlias = Annotated[
    list[str] | None,
    _option(
        TEMPLATE,
        "--copy",
        metavar="SRC:DEST",
        help="What the template copies, split at the last colon. May be repeated.",
    ),
]
Dockerfile: TypeAlias = Annotated[
    str | None,
    _option(
        TEMPLATE,
        "--dockerfile",
        metavar="FILE",
        help="Read what it copies from each COPY and ADD of this file, instead.",
    ),
]
Force: TypeAlias = Annotated[
    bool, _option(TEMPLATE, "--force", help="Put files that are there already, too.")
]
Create: TypeAlias = Annotated[
    bool, _option(TEMPLATE, "--create", help="Request the template where there is none.")
]
ApiKeyFile: TypeAlias = Annotated[
    str | None,
    _option(
        TEMPLATE,
        "--api-key-file",
        metavar="FILE",
        help="Read the API key from here instead of E2B_API_KEY; - is standard input.",
    ),
]
ApiUrl: TypeAlias = Annotated[
    str | None,
    _option(
        TEMPLATE,
        "--api-url",
        metavar="URL",
        envvar="E2B_API_URL",
        help="Where the API is. Default: https://api. and the domain.",
    ),
]
Domain: TypeAlias = Annotated[
    str | None,
    _option(
        TEMPLATE,
        "--domain",
        metavar="DOMAIN",
        envvar="E2B_DOMAIN",
        help="The domain of the API. Default: e2b.app.",
    ),
]

Largest: TypeAlias = Annotated[
    int | None,
    _option(
        LISTING,
        "--largest",
        metavar="N",
        min=1,
        help="Only the N folders and files that hold the most.",
    ),
]
Tree: TypeAlias = Annotated[
    bool, _option(LISTING, "--tree", help="As a tree, with what each folder holds.")
]

ProgressStyle: TypeAlias = Annotated[
    Literal["auto", "bar", "plain", "none"],
    _option(
        SHOWN,
        "--progress",
        metavar="STYLE",
        envvar="E2B_UPLOAD_PROGRESS",
        help="bar, plain (lines) or none; auto is a bar on a terminal.",
    ),
]
Quiet: TypeAlias = Annotated[bool, _option(SHOWN, "-q", "--quiet", help="Errors only.")]
Verbose: TypeAlias = Annotated[
    bool, _option(SHOWN, "-v", "--verbose", help="More lines: digests, times, the answer.")
]
ColorChoice: TypeAlias = Annotated[
    Literal["auto", "always", "never"],
    _option(
        SHOWN,
        "--color",
        metavar="WHEN",
        help="auto, always or never; auto heeds NO_COLOR and FORCE_COLOR.",
    ),
]
AsJson: TypeAlias = Annotated[
    bool,
    _option(
        SHOWN,
        "--json",
        help="One JSON object on standard output, on success and on failure.",
    ),
]
