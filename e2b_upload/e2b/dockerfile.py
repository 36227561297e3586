"""What a Dockerfile copies, as ``from_dockerfile`` of E2B's SDK (2.63.0) resolves it.

The SDK's own parser (``e2b-dockerfile-utils``) takes the file apart, and what the SDK refuses is
refused here, wherever it stands: a hash of files that no build asks for is of no use. What it only
warns of, such as flags that it ignores, it tells of when it builds.
"""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING

from e2b_upload.e2b.copies import Copy, extra_is_missing
from e2b_upload.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from e2b_dockerfile_utils import DockerfileHeredoc, DockerfileInstruction

# A Dockerfile has some kilobytes; what has more is a file of another kind, named by mistake.
MAX_FILE_BYTES = 1024 * 1024

# Flags that an instruction may have → whether they are switches. But for --chown, --chmod and
# --from the SDK ignores them all.
_COPY = {
    "chmod": False,
    "chown": False,
    "exclude": False,
    "from": False,
    "link": True,
    "parents": True,
}
_ADD = {**_COPY, "checksum": False, "keep-git-dir": True, "unpack": True}
_RUN = {"device": False, "mount": False, "network": False, "security": False}
_FROM = {"platform": False}
_NONE: dict[str, bool] = {}
_HEEDED = {"chmod", "chown", "from"}

_MODE = re.compile(r"[0-7]{3,4}")
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_VARIABLE = re.compile(r"\d+|[-@*#?$!]|\w+")


def read_dockerfile(path: str | os.PathLike[str]) -> str:
    r"""Return the text of a Dockerfile, every ``\r`` and ``\r\n`` a new line, as the SDK reads it.

    Raises:
        UsageError: it cannot be read, is not UTF-8, or larger than 1 MiB.
    """
    shown = printable(os.fspath(path))
    try:
        with open(path, encoding="utf-8") as file:
            # As many characters may be more bytes: it is a bound, no promise.
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"the Dockerfile {shown} cannot be read: {error.strerror}",
            hint="Name a file that is there and may be read.",
        ) from error
    except ValueError as error:
        raise UsageError(
            f"the Dockerfile {shown} is not UTF-8", hint="Is it the right file? Save it as UTF-8."
        ) from error
    if len(text) > MAX_FILE_BYTES:
        raise UsageError(
            f"the Dockerfile {shown} is larger than {MAX_FILE_BYTES} bytes",
            hint="Is it the right file?",
        )
    return text


def copies(text: str, *, source: str = "Dockerfile") -> list[Copy]:
    """Return what each COPY and ADD takes, in their order: one for each of its sources.

    A heredoc is no copy: the SDK writes the file by a command. Variables stay as they are written.

    Args:
        text: the Dockerfile.
        source: its name, for messages.

    Raises:
        UsageError: the SDK refuses it; the message names the file and the line.
    """
    try:
        from e2b_dockerfile_utils import DockerfileSyntaxError, parse_dockerfile_ast
    except ImportError:
        raise extra_is_missing() from None
    try:
        ast = parse_dockerfile_ast(text)
    except DockerfileSyntaxError as error:
        raise _refused(source, error.line, str(error).partition(": ")[2]) from error
    except (ValueError, RecursionError) as error:
        raise _refused(source, None, str(error)) from error
    stages = [i.start_line for i in ast.instructions if i.name == "FROM"]
    if len(stages) != 1:
        why = "it has several stages, and one is supported" if stages else "it has no FROM"
        raise _refused(source, stages[1] if stages else None, why)
    reader = _Reader(ast.escape_token)
    for instruction in ast.instructions:
        try:
            if instruction.start_line < stages[0] and instruction.name != "ARG":
                raise ValueError(f"{instruction.name} comes before FROM")  # noqa: TRY301
            reader.take(instruction)
        except UsageError as error:
            raise _refused(source, instruction.start_line, error.message, error.hint) from error
        except (ValueError, RecursionError) as error:
            raise _refused(source, instruction.start_line, str(error)) from error
    return reader.copies


def _refused(
    source: str, line: int | None, why: str, hint: str = "E2B's SDK refuses it, too: correct it."
) -> UsageError:
    where = printable(source) if line is None else f"{printable(source)}:{line}"
    return UsageError(f"{where}: {printable(why)}", hint=hint)


class _Reader:
    """Takes instructions one after the other. What the SDK refuses raises a ValueError."""

    def __init__(self, escape: str) -> None:
        from e2b_dockerfile_utils import ShellLex

        self.copies: list[Copy] = []
        self._lex = ShellLex(escape)
        # ARG and ENV so far: for the mode of --chmod, and nothing else.
        self._variables: dict[str, str] = {}
        self._resolving = ShellLex(escape, env=self._variables, skip_unset_env=False)
        self._takers: Mapping[str, Callable[[DockerfileInstruction], None]] = {
            "ADD": partial(self._copy, allowed=_ADD),
            "ARG": self._arg,
            "CMD": _check_no_flags,
            "COPY": partial(self._copy, allowed=_COPY),
            "ENTRYPOINT": _check_no_flags,
            "ENV": self._env,
            "FROM": self._from,
            "RUN": _check_run,
            "USER": self._single,
            "WORKDIR": self._single,
        }

    def take(self, instruction: DockerfileInstruction) -> None:
        """Take the next instruction; one that has no meaning for a template does nothing."""
        if taker := self._takers.get(instruction.name):
            taker(instruction)

    def _from(self, instruction: DockerfileInstruction) -> None:
        _flags(instruction, _FROM)
        args = instruction.args
        if len(args) != 1 and not (len(args) == 3 and args[1].lower() == "as"):  # noqa: PLR2004
            raise ValueError("FROM takes an image, and may give it a name by AS")
        self._lex.process_word(args[0])

    def _single(self, instruction: DockerfileInstruction) -> None:
        _flags(instruction, _NONE)
        if len(instruction.args) != 1:
            raise ValueError(f"{instruction.name} takes one argument")
        self._lex.process_word(instruction.args[0])

    def _env(self, instruction: DockerfileInstruction) -> None:
        _flags(instruction, _NONE)
        names, values = instruction.args[0::3], instruction.args[1::3]
        if not names:
            raise ValueError("ENV takes an argument")
        for name, value in zip(names, values, strict=True):
            self._set(instruction, name, value)

    def _arg(self, instruction: DockerfileInstruction) -> None:
        _flags(instruction, _NONE)
        if not instruction.args:
            raise ValueError("ARG takes an argument")
        for arg in instruction.args:
            name, _, value = arg.partition("=")
            self._set(instruction, name, value)

    def _set(self, instruction: DockerfileInstruction, name: str, value: str) -> None:
        key = self._lex.process_word(name)
        if not key:
            raise ValueError(f"{instruction.name} sets a variable without a name")
        self._lex.process_word(value)
        self._variables[key] = self._resolving.process_word(value)

    def _copy(self, instruction: DockerfileInstruction, *, allowed: Mapping[str, bool]) -> None:
        from e2b_dockerfile_utils import parse_heredoc

        flags = _flags(instruction, allowed)
        if len(instruction.args) < 2:  # noqa: PLR2004
            raise ValueError(f"{instruction.name} takes a source and a destination")
        if "from" in flags:
            raise ValueError(f"{instruction.name} --from is not supported")
        self._lex.process_word(flags.get("chown", ""))
        if (mode := flags.get("chmod")) is not None:
            self._check_mode(mode)
        *sources, last = instruction.args
        if parse_heredoc(last):
            raise ValueError(f"{instruction.name} has a heredoc for a destination")
        dest = self._lex.process_word(last)
        heredocs = {heredoc.name: heredoc for heredoc in instruction.heredocs}
        for source in sources:
            if marker := parse_heredoc(source):
                if marker.name not in heredocs:
                    raise ValueError(f"the heredoc {marker.name} has no content")
                _check_heredoc(heredocs[marker.name])
                continue
            src = self._lex.process_word(source)
            if instruction.name == "ADD" and _REMOTE.match(src):
                raise ValueError(f"ADD of a URL is not supported: {src}")
            self.copies.append(Copy(src, dest))

    def _check_mode(self, mode: str) -> None:
        self._lex.process_word(mode)
        resolved = self._resolving.process_word(mode)
        if not _MODE.fullmatch(resolved):
            comes_to = "" if resolved == mode else f", which comes to {resolved}"
            raise ValueError(f"--chmod={mode}{comes_to}: write an octal mode such as 0755")


def _check_no_flags(instruction: DockerfileInstruction) -> None:
    _flags(instruction, _NONE)


def _check_run(instruction: DockerfileInstruction) -> None:
    from e2b_dockerfile_utils import parse_heredoc

    _flags(instruction, _RUN)
    if not instruction.args:
        raise ValueError("RUN takes an argument")
    if len(instruction.heredocs) == 1:
        parse_heredoc(instruction.args[0].strip())  # the SDK asks whether it is all there is


def _flags(instruction: DockerfileInstruction, allowed: Mapping[str, bool]) -> dict[str, str]:
    """Return the flags that the SDK heeds."""
    heeded: dict[str, str] = {}
    for flag in instruction.flags:
        name, equals, value = flag.removeprefix("--").partition("=")
        if name not in allowed:
            raise ValueError(f"{instruction.name} knows no flag --{name}")
        if name in heeded:
            raise ValueError(f"the flag --{name} is given twice")
        if allowed[name]:
            if value not in {"", "true", "false"}:
                raise ValueError(f"--{name} is true or false, not {value}")
        elif not equals:
            raise ValueError(f"the flag --{name} has no value")
        if name in _HEEDED:
            heeded[name] = value
    return heeded


def _check_heredoc(heredoc: DockerfileHeredoc) -> None:
    from e2b_dockerfile_utils import chomp_heredoc_content

    if heredoc.expand:
        content = heredoc.content
        _Expansions(chomp_heredoc_content(content) if heredoc.chomp else content).check()


class _Expansions:
    """Whether variables of a heredoc's text are written in a way that the SDK takes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def check(self) -> None:
        """Raise a ValueError where one is not."""
        while self._at < len(self._text):
            self._one()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        if not (char := self._peek()):
            raise ValueError("a ${ is not closed")
        self._at += 1
        return char

    def _one(self, stop: str = "") -> bool:
        """Go past a character, what it escapes, or a variable; say whether it is ``stop``."""
        char = self._next()
        if char == stop:
            return True
        if char == "\\":
            self._at += 1
        elif char == "$":
            self._variable()
        return False

    def _up_to(self, stop: str) -> None:
        while not self._one(stop):
            pass

    def _name(self) -> None:
        if match := _VARIABLE.match(self._text, self._at):
            self._at = match.end()

    def _variable(self) -> None:
        if self._peek() != "{":
            self._name()
            return
        self._at += 1
        if self._peek() in {"{", "}", ":"}:
            raise ValueError("a ${ names no variable")
        self._name()
        modifier = self._next()
        if modifier == "}":
            return
        if modifier == "/":
            if self._peek() == "/":
                self._at += 1
            self._up_to("/")
        elif modifier == ":":
            modifier += self._next()
        if modifier not in {"/", "+", "-", "?", "#", "%", ":+", ":-", ":?"}:
            raise ValueError(f"variables have no {modifier}")
        self._up_to("}")
