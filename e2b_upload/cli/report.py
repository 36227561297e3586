"""What the command line says: messages on standard error, one JSON object on standard output."""

from __future__ import annotations

import json
import os
import platform
import re
import select
import shutil
import signal
import sys
import threading
import traceback
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Literal, TextIO, TypeAlias

from e2b_upload import __version__
from e2b_upload.cli import github
from e2b_upload.cli.streams import STDOUT
from e2b_upload.cli.units import duration, size
from e2b_upload.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from e2b_upload.archive.pack import Archive
    from e2b_upload.e2b.copies import Copy
    from e2b_upload.e2b.receipts import CopyReceipt, TemplateReceipt
    from e2b_upload.errors import Interrupted, UploadError
    from e2b_upload.receipts import Receipt

Color: TypeAlias = Literal["auto", "always", "never"]

EXIT_BUG = 1
_KEY = re.compile("e2b_[0-9a-f]{16,}")  # of E2B's
_SHORTEST_KEY = 8  # characters: what is shorter is no key, and would blot out words
_PARAMETER = re.compile("`([a-z_]+)`")  # of a function of the library, in its messages
_DIGITS_SHOWN = 12  # of 64: enough to tell two apart
# What asks the program to stop.
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
_RED, _YELLOW, _GREEN, _BOLD_END = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;32m", "\x1b[0m"


def use_color(choice: Color, stream: TextIO) -> bool:
    """Whether to colour what goes to a stream (no-color.org, force-color.org)."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


@dataclass
class Report:
    """Where messages go, and how.

    Attributes:
        as_json: one object on standard output, whatever happens.
        quiet: errors only.
        verbose: more lines.
        color: escape sequences in messages.
        alone: what is held while something is said, so that a display does not draw meanwhile.
        options: the option or variable of each of the library's parameters.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    color: bool = False
    alone: AbstractContextManager[object] = field(default_factory=nullcontext)
    options: dict[str, str] = field(default_factory=dict)
    _secrets: set[str] = field(default_factory=set)
    _told: bool = False
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def hide(self, word: str) -> None:
        """Show nothing of the query and the user info in what may be a URL, and no key of E2B's."""
        self._secrets.update(_KEY.findall(word))
        if "://" in word or "&X-" in word:
            from e2b_upload.transfer.redaction import secrets_of

            self._secrets |= secrets_of(word)

    def hide_key(self, key: str | None) -> None:
        """Show nothing of what may be a key of E2B's."""
        if len(key := (key or "").strip()) >= _SHORTEST_KEY:
            self._secrets.add(key)

    def print_object(self, value: dict[str, object]) -> None:
        """Print the one object; a signal that comes after it does not bring another."""
        # A signal's exception between the two would leave no object at all.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with self._telling:
                if not self._told:
                    self._told = True
                    print(github.harmless_json(json.dumps(value)), flush=True)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def copy(self, text: IO[str]) -> None:
        """Print the one object from a file, which may be long: a signal may break it off."""
        self._told = True
        shutil.copyfileobj(text, sys.stdout)
        sys.stdout.flush()

    def line(self, text: str) -> None:
        """Say something on standard error, unless asked to be quiet."""
        if not self.quiet:
            self._say(text)

    def detail(self, text: str) -> None:
        """Say something that only ``-v`` asks for."""
        if self.verbose:
            self.line(text)

    def warn(self, text: str) -> None:
        """Say what the user should know although the build goes on."""
        if not self.quiet:
            self._say(text, "warning", _YELLOW)

    def done(self, receipt: Receipt, status: str = "") -> None:
        """Show the result, under another status than the receipt's if one is given."""
        status = status or receipt.status
        if self.as_json:
            self.print_object(_as_json(receipt, status))
        github.summarize(status, _facts(receipt))
        if not self.quiet:
            self._say(_in_words(receipt), status, _GREEN)
        self._details(receipt)

    def done_template(self, receipt: TemplateReceipt) -> None:
        """Say what came of each COPY of a template."""
        if self.as_json:
            self.print_object(_template_as_json(receipt))
        github.summarize(receipt.status, map(_copy_fact, receipt.copies))
        self.detail(f"template {printable(receipt.template_id or 'that is not there yet')}")
        for each in receipt.copies:
            if not self.quiet:
                words = _in_words(each.receipt) if each.receipt else shortened(each.files_hash)
                self._say(f"{printable(copy_in_words(each.copy))}, {words}", each.status, _GREEN)
            self.detail(f"files hash {each.files_hash}")
            if each.receipt:
                self._details(each.receipt)

    def hashes(self, copies: Sequence[Copy], hashes: Sequence[str]) -> None:
        """Print the hash of each COPY."""
        if self.as_json:
            pairs = zip(copies, hashes, strict=True)
            told = [{"copy": copy_in_words(copy), "files_hash": each} for copy, each in pairs]
            self.print_object({"hashes": told})
        else:
            print(*hashes, sep="\n")

    def _details(self, receipt: Receipt) -> None:
        archive, seconds = receipt.archive, receipt.seconds
        self.detail(f"sha256 {archive.sha256}, md5 {archive.md5}")
        if archive.files is not None:
            self.detail(f"packed in {duration(seconds.pack)}")
        if receipt.http_status is not None:
            tries = "1 attempt" if receipt.attempts == 1 else f"{receipt.attempts} attempts"
            proof = f"verified by {receipt.verified}" if receipt.verified else "not verified"
            self.detail(
                f"put in {duration(seconds.put)} and {tries}; the store answered "
                f"{receipt.http_status}, {proof}"
            )

    def failed(self, error: UploadError | Interrupted) -> int:
        """Say what went wrong and what to do next; return the exit code."""
        given = self.options.get(getattr(error, "parameter", ""), "")
        variable = f"{given}: " if given.isupper() else ""
        texts = (variable + error.message, getattr(error, "hint", ""))
        message, hint = (self._redact(self._with_options(text)) for text in texts)
        answered = {
            name: getattr(error, name, None) for name in ("http_status", "code", "request_id")
        }
        self._failure(error.kind, message, hint, error.exit_code, **answered)
        self._say(message, "error", _RED)
        if hint:
            self._say(f"  {hint}")
        github.annotate("error", f"{message}\n{hint}".rstrip())
        return error.exit_code

    def crashed(self, error: BaseException) -> int:
        """Report a bug: what is needed to find it, and no secrets."""
        message = printable(self._redact(f"{type(error).__name__}: {error}"))
        hint = "This is a bug of e2b-upload: please file the report on standard error as an issue."
        self._failure("internal", message, hint, EXIT_BUG)
        self._say(message, "internal error", _RED)
        told = self._redact("".join(traceback.format_exception(error)))
        system = f"Python {platform.python_version()}, {platform.platform()}"
        for line in (*told.rstrip().split("\n"), f"e2b-upload {__version__}, {system}", hint):
            self._say("  " + printable(line))
        github.annotate("error", f"{message}\n{hint}")
        return EXIT_BUG

    def last_word(self, error: Interrupted, *, patience: float) -> None:
        """Leave the one object behind, where no reader may be waited for.

        Another thread that is just telling it is waited for, `patience` seconds.
        """
        if not self.as_json or not self._telling.acquire(timeout=patience):
            return
        if not self._told and select.select([], [STDOUT], [], 0)[1]:
            self._told = True
            value = _as_failure(error.kind, error.message, "", error.exit_code)
            os.write(STDOUT, (json.dumps(value) + "\n").encode())

    def _failure(
        self, kind: str, message: str, hint: str, exit_code: int, **answered: object
    ) -> None:
        if self.as_json:
            self.print_object(_as_failure(kind, message, hint, exit_code, **answered))
        facts = [("what happened", message), ("what to do", hint)]
        github.summarize("failed", [*facts, ("exit code", f"{exit_code} ({kind})")])

    def _with_options(self, text: str) -> str:
        """Return a message of the library, with options for the parameters that it names."""
        return _PARAMETER.sub(lambda match: self.options.get(match[1], match[0]), text)

    def _redact(self, text: str) -> str:
        from e2b_upload.transfer.redaction import redact

        return redact(text, self._secrets)

    def _say(self, text: str, label: str = "", style: str = "") -> None:
        if label and self.color:
            label = f"{style}{label}{_BOLD_END}: "
        elif label:
            label += ": "
        with self.alone:
            print(github.harmless(f"{label}{text}"), file=sys.stderr, flush=True)


def _as_failure(
    kind: str, message: str, hint: str, exit_code: int, **answered: object
) -> dict[str, object]:
    nothing = {"http_status": None, "code": None, "request_id": None}
    error = {"kind": kind, "message": message, "hint": hint, "exit_code": exit_code}
    return {"status": "failed", "error": error | nothing | answered}


def _in_words(receipt: Receipt) -> str:
    archive, seconds = receipt.archive, receipt.seconds
    packed = size(archive.bytes)
    if archive.files is not None:  # not of an archive of somebody else's making
        files = "1 file" if archive.files == 1 else f"{archive.files:,} files"
        packed += f" from {files} of {size(archive.content_bytes or 0)}"
    took = duration(seconds.collect + seconds.pack + seconds.put)
    where, speed = "", ""
    if receipt.status == "present":
        return f"{receipt.url} exists and was left as it is; the archive has {packed}"
    if receipt.url:
        where = f" to {receipt.url}"
        speed = f", sent at {size(int(archive.bytes / max(seconds.put, 1e-3)))}/s"
    return f"{packed}{where} in {took}{speed}"


def _facts(receipt: Receipt) -> list[tuple[str, str]]:
    """Return what the summary of a job tells of a receipt."""
    archive = receipt.archive
    proof = receipt.verified or "not verified: no checksum in the response"
    return [
        ("to", receipt.url or ""),
        ("size", f"{size(archive.bytes)} ({archive.bytes:,} bytes)"),
        ("SHA-256", archive.sha256),
        ("verified", proof if receipt.status == "uploaded" else ""),
    ]


def _copy_fact(copied: CopyReceipt) -> tuple[str, str]:
    """Return what the summary of a job tells of one COPY."""
    lines = [printable(copy_in_words(copied.copy)), copied.status]
    if copied.receipt is not None:
        lines += [f"{name} {value}" for name, value in _facts(copied.receipt) if value]
    return "COPY", "\n".join([*lines, f"files hash {copied.files_hash}"])


def copy_in_words(copy: Copy) -> str:
    """Return a COPY as ``--copy`` takes it."""
    return f"{copy.src}:{copy.dest}"


def shortened(files_hash: str) -> str:
    """Return the beginning of a hash, for the eye."""
    return f"{files_hash[:_DIGITS_SHOWN]}…"


def _as_json(receipt: Receipt, status: str) -> dict[str, object]:
    return {
        "status": status,
        "url": receipt.url,
        "http_status": receipt.http_status,
        "attempts": receipt.attempts,
        "verified": receipt.verified,
        "archive": _archive_as_json(receipt.archive),
        "seconds": asdict(receipt.seconds),
    }


def _archive_as_json(archive: Archive) -> dict[str, object]:
    told = asdict(archive)
    del told["path"]
    return told


def _template_as_json(receipt: TemplateReceipt) -> dict[str, object]:
    return {
        "status": receipt.status,
        "template_id": receipt.template_id,
        "copies": [_copy_as_json(each) for each in receipt.copies],
    }


def _copy_as_json(copied: CopyReceipt) -> dict[str, object]:
    put = copied.receipt
    return {
        "copy": copy_in_words(copied.copy),
        "files_hash": copied.files_hash,
        "status": copied.status,
        "archive": put and _archive_as_json(put.archive),
        "url": put and put.url,
        "attempts": put.attempts if put else 0,
        "verified": put and put.verified,
    }
