"""What the options and standard input hold, as the library takes it."""

from __future__ import annotations

import codecs
import os
import re
import sys
from contextlib import suppress
from decimal import Decimal
from typing import IO, TYPE_CHECKING

from e2b_upload.cli.streams import STDOUT
from e2b_upload.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer
    from typer._click.core import Context as ClickContext
    from typer._click.core import Parameter

_MAX_NAME = 11  # characters of what may be a header's name: longer words are shown to nobody
_MAX_SECRET_BYTES = 64 * 1024
_MAX_PATH_BYTES = 64 * 1024
# A unit of a single letter is 1,000 to some and 1,024 to others.
# ASCII: without it the Kelvin sign is a K in another case, too.
_SIZE = re.compile(
    r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:([KMGT]?)B|([KMGT])IB)?\s*",
    re.ASCII | re.IGNORECASE,
)


class StandardInput:
    """What ``-`` stands for: it can be read for one purpose only."""

    def __init__(self) -> None:
        self._taken_for: str | None = None

    def take(self, purpose: str) -> IO[bytes]:
        """Return the stream.

        Raises:
            UsageError: it was taken before.
        """
        if self._taken_for is not None:
            raise UsageError(
                f"{self._taken_for} and {purpose} both read standard input",
                hint="Give one of them a file.",
            )
        self._taken_for = purpose
        with suppress(OSError, ValueError):
            os.set_blocking(sys.stdin.fileno(), True)  # a parent may have left it otherwise
        return sys.stdin.buffer

    def lines(self, purpose: str) -> Iterator[str]:
        """Yield what is read, line by line, without the line ends.

        Raises:
            UsageError: it was taken before, cannot be read, or holds a line that is no path.
        """
        stream = self.take(purpose)
        try:
            while line := stream.readline(_MAX_PATH_BYTES + 1):
                if len(line) > _MAX_PATH_BYTES:
                    raise UsageError(
                        f"a line of standard input is longer than {_MAX_PATH_BYTES} bytes",
                        hint="Give one path a line.",
                    )
                yield as_utf8(line.removesuffix(b"\n"))
        except OSError as error:
            raise _unreadable(purpose, "standard input", error) from error


def as_utf8(argument: str | bytes) -> str:
    """Return an argument as names and patterns are compared: UTF-8, whatever the locale says."""
    return os.fsencode(argument).decode("utf-8", "surrogateescape")


def _unreadable(what: str, where: str, error: OSError) -> UsageError:
    return UsageError(
        f"{what} cannot be read from {where}: {error.strerror}",
        hint=f"Name a file that holds {what} and nothing else.",
    )


def is_given(ctx: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line, not only in the environment."""
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def given_as(ctx: ClickContext, param: Parameter) -> str:
    """Return where a value comes from: the name of an option, or of an environment variable."""
    source = ctx.get_parameter_source(param.name or "")
    if source is not None and source.name == "ENVIRONMENT":
        return str(param.envvar)
    return max(param.opts, key=len)


def refuse_empty(option: str, value: str | None) -> None:
    """Refuse what a variable that is not set leaves behind.

    Raises:
        UsageError: the value is empty.
    """
    if value == "":
        raise UsageError(
            f"{option} is empty", hint="Was the variable set? Leave it out, or name a file."
        )


def ignore_file_source(
    ctx: typer.Context, stdin: StandardInput, ignore_file: str | None, *, no_ignore: bool
) -> str | IO[bytes] | None:
    """Return which ignore file to read, or None for the context's own."""
    if no_ignore and ignore_file is not None and is_given(ctx, "ignore_file"):
        raise UsageError("--no-ignore and --ignore-file exclude each other", hint="Choose one.")
    refuse_empty("--ignore-file", ignore_file)
    if no_ignore or ignore_file is None:
        return None
    return stdin.take("--ignore-file") if ignore_file == "-" else ignore_file


def read_output(output: str | None, *, as_json: bool) -> str | IO[bytes] | None:
    """Return where to keep the archive: a path, or standard output's stream."""
    refuse_empty("-o", output)
    if output is None or not _is_standard_output(output):
        return output
    # Not a file to replace, even if it is one: others may write there, too.
    if as_json:
        raise UsageError(
            "-o - and --json exclude each other: both write to standard output",
            hint="Keep the archive in a file: -o FILE.",
        )
    if sys.stdout.isatty():
        raise UsageError(
            "the archive would be written to the terminal", hint="Redirect it, or name a file."
        )
    # Unbuffered: after a failed write, Python would try the rest again as it exits, and complain.
    return open(STDOUT, "wb", buffering=0, closefd=False)


def _is_standard_output(output: str) -> bool:
    if output == "-":
        return True
    try:
        same = os.path.samestat(os.stat(output), os.fstat(STDOUT))
        return same and not os.path.samefile(output, os.devnull)
    except OSError:
        return False


def no_url(*others: str) -> UsageError:
    """Return the error that asks for a URL, or for another option in its place."""
    ways = ["Pass --url URL, --url - or --url-file FILE", "set E2B_UPLOAD_URL", *others]
    return UsageError("there is no URL to put to", hint=f"{', '.join(ways[:-1])}, or {ways[-1]}.")


def read_url(
    ctx: typer.Context, stdin: StandardInput, url: str | None, url_file: str | None
) -> str | None:
    """Return the URL, from wherever it comes; None where there is none."""
    if url_file is not None and not is_given(ctx, "url"):
        url = None  # an option wins over the environment
    if url is not None and url_file is not None:
        raise UsageError("--url and --url-file exclude each other", hint="Choose one.")
    if url_file is None and url != "-":
        return url
    return read_secret(stdin, "the URL", "-" if url_file is None else url_file)


def read_secret(stdin: StandardInput, what: str, path: str) -> str:
    """Return what a file holds, which is one line or little more; - is standard input.

    Raises:
        UsageError: it cannot be read, is too long to be that, or is UTF-16 text.
    """
    where = "standard input" if path == "-" else printable(path)
    try:
        if path == "-":
            stream = stdin.take(what)
            # A person ends a line, not the file.
            text = (stream.readline if sys.stdin.isatty() else stream.read)(_MAX_SECRET_BYTES + 1)
        else:
            with open(path, "rb") as file:
                text = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise _unreadable(what, where, error) from error
    if len(text) > _MAX_SECRET_BYTES:
        raise UsageError(
            f"{what} is longer than {_MAX_SECRET_BYTES} bytes", hint="Is it the right file?"
        )
    if text[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE} or b"\0" in text[:2]:
        raise UsageError(
            f"{what} is UTF-16 text in {where}",
            hint="Save it as UTF-8. In Windows PowerShell: | Out-File -Encoding ascii FILE.",
        )
    return text.decode("utf-8-sig", "replace")


def read_headers(lines: list[str]) -> dict[str, str]:
    """Return headers by name.

    Raises:
        UsageError: one has no value, or is given twice.
    """
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


def read_size(parameter: str, text: str) -> int:
    """Return bytes: ``500``, ``500MB`` (500·10⁶), ``1.5GiB`` (1.5·2³⁰), in any case.

    Raises:
        UsageError: it is no size.
    """
    if not (match := _SIZE.fullmatch(text)):
        raise UsageError(
            f"'{printable(text)}' is not a valid size for `{parameter}`",
            hint="Write bytes, or a number with kB, MB, GB, TB (powers of 1,000) or KiB, MiB, GiB, "
            "TiB (of 1,024): 500MB.",
        )
    number, decimal, binary = match.groups(default="")
    base, letter = (1024, binary) if binary else (1000, decimal)
    return int(Decimal(number) * base ** " KMGT".index(letter.upper() or " "))
