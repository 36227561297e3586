"""The error tree. A class carries its kind and its exit code; a message what, where and what next.

::

    UploadError
    ├── UsageError        2  an option, a URL or a pattern that does not parse, a missing context
    ├── SourceError       3  a file that cannot be read, vanished, changed or cannot be archived
    ├── SpoolError        4  no space, or a folder that cannot be written
    ├── UnavailableError  5  the network or the store failed; the same call may work later
    └── RefusedError      6  the store refuses; the same call will fail again
    Interrupted (a BaseException, so that nothing swallows it)  128 + the signal's number
"""

from __future__ import annotations

import errno
import signal
from typing import ClassVar


def printable(text: str) -> str:
    r"""Return ``text`` with every character that a terminal could obey shown as an escape.

    File names and the words of a server are data: ``"\x1b[2J"`` becomes ``"\\x1b[2J"``, and a byte
    that is not UTF-8 (a surrogate escape, PEP 383) the byte that it stands for, ``"\\xff"``.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def how_to_read(error: OSError) -> str:
    """Return the hint for a file of the context that the system does not let one read."""
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return "Allow more open files (ulimit -n)."
    return "Make it readable for this user, or exclude it in .dockerignore."


class UploadError(Exception):
    """Base class of all expected errors.

    Attributes:
        message: what happened, and to which path or host. Never holds a URL's query.
        hint: what to do next, or an empty string.
        http_status: the store's answer, or None where there was none.
        code: the store's own name for the error, such as ``AccessDenied``.
        request_id: what the store's operators ask for.
        parameter: the parameter whose value is wrong, or an empty string. Messages and hints name
            parameters in backticks.
    """

    kind: ClassVar[str]
    exit_code: ClassVar[int]

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        http_status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        parameter: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.http_status = http_status
        self.code = code
        self.request_id = request_id
        self.parameter = parameter


class UsageError(UploadError):
    """The call itself is wrong: nothing was read or sent."""

    kind = "usage"
    exit_code = 2


class SourceError(UploadError):
    """A file of the context cannot be read, vanished, changed while it was read."""

    kind = "source"
    exit_code = 3


class SpoolError(UploadError):
    """The archive cannot be written: no space, or no permission."""

    kind = "spool"
    exit_code = 4


def archive_unreadable(error: OSError) -> SpoolError:
    """Return the error of an archive that was written and cannot be read."""
    return SpoolError(f"the archive cannot be read back: {error.strerror}", hint="Check the disk.")


class UnavailableError(UploadError):
    """The network or the store failed in a way that may pass.

    Attributes:
        retry_after: seconds that the store asks to wait, or None where it does not.
    """

    kind = "unavailable"
    exit_code = 5
    retry_after: float | None = None


class RefusedError(UploadError):
    """The store refuses, or certainly will: the same call will fail again.

    Attributes:
        expired: True if the URL has expired.
    """

    kind = "refused"
    exit_code = 6
    expired = False


class Interrupted(BaseException):
    """A signal asks to stop. Raised by the command line's handlers, in the main thread."""

    kind = "interrupted"

    def __init__(self, signum: int) -> None:
        self.exit_code = 128 + signum
        self.message = f"stopped by {signal.Signals(signum).name}"
        super().__init__(self.message)
