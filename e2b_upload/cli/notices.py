"""The warnings and notes of a build, which are printed with every style of progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2b_upload import events
from e2b_upload.cli import github
from e2b_upload.cli.units import duration, size
from e2b_upload.errors import printable

if TYPE_CHECKING:
    from e2b_upload.cli.report import Report

WORDS: dict[events.Step, tuple[str, str, str]] = {
    "collect": ("count", "counting", "counted"),
    "hash": ("hash", "hashing", "hashed"),
    "pack": ("pack", "packing", "packed"),
    "put": ("upload", "uploading", "uploaded"),
}
_MAX_SECRETS = 10  # more are counted, not named


class Notices:
    """The callback that prints warnings and notes; subclasses also show progress."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._secrets: list[str] = []
        self._packed: events.Finished | None = None

    def __call__(self, event: events.Event) -> None:
        """Print the event if it is a notice."""
        warn, line = self.report.warn, self.report.line
        match event:
            case events.Finished(step="pack"):
                self._packed = event
                self._sum_up_secrets()
            case events.LeftOut(path=path, what=what):
                why = "it is the archive itself" if what == "archive" else f"a {what} is not data"
                warn(f"left out {printable(path)}: {why}")
            case events.Kept(path=path):
                line(f"kept the archive as {printable(path)}")
            case events.Redirected(http_status=status, target=target):
                line(f"redirected ({status}) to {target}")
            case events.Retrying(attempt=attempt, attempts=attempts, seconds=wait):
                which = f"attempt {attempt} of {attempts}"
                warn(f"{event.reason}; retrying in {duration(wait)} ({which})")
            case events.Expiring(seconds=left):
                when = f"expires in {duration(left)}, sooner than packing took"
                if not left:
                    when = "has expired by this machine's clock"
                late = "the upload may come too late; ask for one that is valid for longer"
                warn(f"the URL {when}: {late}")
            case events.PageAnswered(host=host, http_status=status):
                check = "if it is not your own upload server, check that the object is there"
                self._annotate(f"{host} answered {status} with an HTML page: {check}")
            case events.LooksSecret(path=path, why=why):
                self._secrets.append(f"{printable(path)} looks like a credential: {why}")
                if len(self._secrets) <= _MAX_SECRETS:
                    warn(self._secrets[-1])
            case events.Heavy():
                self._annotate(_heavy(event, self._packed))

    def _sum_up_secrets(self) -> None:
        if not self._secrets:
            return
        shown = self._secrets[:_MAX_SECRETS]
        if more := len(self._secrets) - len(shown):
            files = "file" if more == 1 else "files"
            shown.append(f"and {more:,} more {files} that look like credentials")
            self.report.warn(shown[-1])
        hint = "What must not leave this machine belongs in .dockerignore; --secrets off is quiet."
        self.report.line(f"  {hint}")
        if not self.report.quiet:
            github.annotate("warning", "\n".join((*shown, hint)))

    def _annotate(self, text: str) -> None:
        self.report.warn(text)
        if not self.report.quiet:
            github.annotate("warning", text)


def entries(count: int) -> str:
    """Return a number of files, directories and links in words."""
    return "1 entry" if count == 1 else f"{count:,} entries"


def _heavy(event: events.Heavy, packed: events.Finished | None) -> str:
    """Return the largest items, one a line: the size, and the pattern that excludes the item."""
    sizes = [size(item.bytes) for item in event.largest]
    width = max(map(len, sizes), default=0)
    among = f" in {entries(packed.entries)}" if packed else ""
    head = f"the context holds {size(event.content_bytes)}{among}, more than {size(event.limit)}; "
    head += "the heaviest, each as the line in .dockerignore that drops it:"
    rows = [f"  {s:>{width}}  {_item(i)}" for s, i in zip(sizes, event.largest, strict=True)]
    hint = "  If all of it is needed, allow more with --warn-size SIZE; 0 never warns."
    return "\n".join([head, *rows, hint])


def _item(item: events.Weight) -> str:
    slash = "/" * item.is_directory
    if item.pattern == item.path:  # a trailing slash does not change the pattern
        return item.pattern + slash
    return f"{printable(item.pattern)}  ({printable(item.path)}{slash})"
