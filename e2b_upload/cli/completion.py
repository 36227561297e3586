"""Completion in shells: what may stand at the cursor, and the lines that have each shell ask.

A shell's lines run the program with the words up to the cursor in `ASKED`, one a line: the
program's name first, the word that is being typed last. The answer's first line is what may stand
there: ``words``, which follow, each with a tab and what it means; ``files``; or ``folders``. Those
two the shell finds and quotes itself. What was typed is not repeated, so no URL shows.

Typer's own completion parses the words, for which it imports pydantic, and so takes twice the time,
and that twice a key in fish; it names no shell but the one that it finds itself in; zsh's first key
does nothing; and for PowerShell it lifts the user's execution policy.
"""

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import typer

from e2b_upload.errors import SpoolError, UsageError, printable

ASKED: Final = "_E2B_UPLOAD_COMPLETE"
SHOW: Final = "--show-completion"
INSTALL: Final = "--install-completion"

Shell: TypeAlias = Literal["bash", "zsh", "fish", "powershell"]

_SUFFIXES: Final = {"bash": "bash", "zsh": "zsh", "fish": "fish", "powershell": "ps1"}
_KINDS: Final = {"CONTEXT": "folders", "DIR": "folders", "FILE": "files", "PATH": "files"}


def answer(group: Any, asked: str) -> Iterator[str]:  # noqa: ANN401  (Typer's own types)
    """Yield the lines that say what may stand at the cursor.

    Args:
        group: the commands.
        asked: the words as the shell has them, with their quotes.
    """
    *before, word = asked.split("\n")[1:] or [""]
    command = group
    if before and before[0] in group.commands:
        command = group.commands[before.pop(0)]
    params = [
        param
        for param in command.get_params(typer.Context(command, **command.context_settings))
        if not param.hidden
    ]
    options = {name: param for param in params for name in param.opts if name.startswith("-")}
    arguments = [param for param in params if param.param_type_name == "argument"]

    awaited, given, count = _read(before, options)
    name, equals, value = word.partition("=")
    if awaited is None and equals and name in options:
        yield from _values(options[name], value, name + equals)
    elif awaited is not None:
        yield from _values(awaited, "" if word == "=" else word)
    elif word.startswith("-"):
        yield "words"
        for name, option in options.items():
            if name.startswith(word) and (option.multiple or option not in given):
                yield _described(name, option.help)
    elif arguments:  # the last of them may be many
        yield from _values(arguments[min(count, len(arguments) - 1)], word)
    else:
        yield "words"
        for name, command in group.commands.items():
            if name.startswith(word):
                yield _described(name, command.help)


def _read(words: list[str], options: dict[str, Any]) -> tuple[Any, list[Any], int]:
    """Return the option that awaits its value, those that were given, and how many arguments."""
    awaited, given, count = None, [], 0
    for word in words:
        if awaited is not None:
            if word != "=":  # bash makes it a word of its own
                awaited = None
            continue
        name, equals, _ = word.partition("=")
        if (option := options.get(name)) is not None:
            given.append(option)
            awaited = None if option.is_flag or equals else option
        elif not word.startswith("-"):
            count += 1
    return awaited, given, count


def _values(param: Any, begun: str, before: str = "") -> Iterator[str]:  # noqa: ANN401
    choices = param.type_descriptor.choices or ()
    yield "words" if choices else _KINDS.get(param.metavar, "words")
    yield from (before + choice for choice in choices if choice.startswith(begun))


def _described(name: str, text: str) -> str:
    """Return a word with the first sentence of its help."""
    return f"{name}\t{text.partition('. ')[0].partition(chr(10))[0].rstrip('.')}"


def lines_for(shell: Shell) -> str:
    """Return what has a shell ask."""
    file = Path(__file__).with_name("shells") / f"completion.{_SUFFIXES[shell]}"
    return file.read_text(encoding="utf-8")


def with_shell(args: list[str]) -> list[str]:
    """Return the arguments, with the shell that calls where none is named."""
    if args not in ([SHOW], [INSTALL]):
        return args
    import shellingham  # Typer brings it

    try:
        name = shellingham.detect_shell()[0]
    except shellingham.ShellDetectionFailure:
        name = ""
    if name == "pwsh":
        name = "powershell"
    if name not in get_args(Shell):
        raise UsageError(
            "this shell is none that completes", hint=f"Name one: {', '.join(get_args(Shell))}."
        )
    return [*args, name]


def _show(shell: Shell | None) -> None:
    if shell is not None:
        typer.echo(lines_for(shell), nl=False)
        raise typer.Exit


def _install(ctx: typer.Context, shell: Shell | None) -> None:
    """Keep the lines in a file, and have the shell read it when it starts."""
    if shell is None:
        return
    file, start = _places(shell)
    where = file
    try:
        _write(where, lines_for(shell).encode())
        if start is not None:
            where = start
            _write(where, os.fsencode(f". {_quoted(shell, file)}\n"), more=True)
    except OSError as error:
        raise SpoolError(
            f"{printable(str(error.filename or where))} cannot be written: {error.strerror}",
            hint=f"Place it yourself: {SHOW} {shell} prints it.",
        ) from error
    ctx.obj.line(f"completion for {shell} is in {printable(str(file))}")
    if start is not None:
        ctx.obj.line(f"{printable(str(start))} reads it")
    ctx.obj.line("It works from the next shell on.")
    raise typer.Exit


def _places(shell: Shell) -> tuple[Path, Path | None]:
    """Return where to keep the lines, and what the shell reads when it starts."""
    home = Path(os.environ.get("HOME", os.path.expanduser("~")))
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    starts = {
        "bash": home / ".bashrc",
        "zsh": Path(os.environ.get("ZDOTDIR") or home) / ".zshrc",
        "powershell": config / "powershell/profile.ps1",
    }
    file, start = data / f"e2b-upload/completion.{_SUFFIXES[shell]}", starts.get(shell)
    if shell == "fish":  # finds them by the command's name
        file = config / "fish/completions/e2b-upload.fish"
    for path in (file, start or file):
        if not path.is_absolute() or {"\n", "\r"} & {*str(path)}:
            raise UsageError(
                f"{printable(str(path))} is no absolute path on one line",
                hint=f"Set HOME, or use {SHOW} {shell}.",
            )
    return file, start


def _quoted(shell: Shell, file: Path) -> str:
    name = str(file)
    return f"'{name.replace(chr(39), chr(39) * 2)}'" if shell == "powershell" else shlex.quote(name)


def _write(file: Path, data: bytes, *, more: bool = False) -> None:
    """Write a file anew, or add a line to one that is the user's own, once, in full or not."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # A FIFO that nobody reads is not waited for.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    if not more:
        flags |= os.O_TRUNC
    with open(os.open(file, flags, 0o666), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        before = stream.read() if more else b""
        if data.rstrip(b"\n") in before.split(b"\n"):
            return
        if before and not before.endswith(b"\n"):
            data = b"\n" + data
        try:
            while data:
                data = data[os.write(stream.fileno(), data) :]
        except BaseException:
            os.truncate(stream.fileno(), len(before))
            raise


ShowCompletion: TypeAlias = Annotated[
    Shell | None,
    typer.Option(
        SHOW,
        metavar="SHELL",
        callback=_show,
        is_eager=True,
        help="Print what completes commands in bash, zsh, fish or powershell.",
    ),
]
InstallCompletion: TypeAlias = Annotated[
    Shell | None,
    typer.Option(
        INSTALL,
        metavar="SHELL",
        callback=_install,
        is_eager=True,
        help="Have that shell complete commands. Default for both: the shell that calls.",
    ),
]
