"""Who is told what happens, and says what must not be missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2b_upload.cli import github
from e2b_upload.cli.units import duration, size
from e2b_upload.errors import printable
from e2b_upload.events import (
    Expiring,
    Finished,
    Heavy,
    Kept,
    LeftOut,
    LooksSecret,
    PageAnswered,
    Progress,
    Redirected,
    Retrying,
    Started,
)

if TYPE_CHECKING:
    from e2b_upload.cli.report import Report
    from e2b_upload.events import Event, Weight

_MOST_SECRETS = 10  # are named; the others are counted


class Watcher:
    """Says what must not be missed, however little is shown otherwise."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._secrets: list[str] = []
        self._secrets_unnamed = 0
        self._packed: Finished | None = None

    def __call__(self, event: Event) -> None:
        """Tell what happened."""
        match event:
            case Started():
                self.started(event)
            case Progress():
                self.moved(event)
            case Finished():
                if event.step == "pack":
                    self._packed = event
                    self._sum_up_secrets()
                self.finished(event)
            case LeftOut(path=path, what=what):
                why = "it is the archive itself" if what == "archive" else f"a {what} is not data"
                self.report.warn(f"left out {printable(path)}: {why}")
            case Kept(path=path):
                self.report.line(f"kept the archive as {printable(path)}")
            case Redirected(http_status=status, target=target):
                self.report.line(f"redirected ({status}) to {target}")
            case Retrying():
                self.retrying(event)
            case Expiring(seconds=left):
                when = f"expires in {duration(left)}, sooner than packing took"
                if not left:
                    when = "has expired by this machine's clock"
                self.report.warn(
                    f"the URL {when}: the upload may come too late; "
                    "ask for one that is valid for longer"
                )
            case PageAnswered(host=host, http_status=status):
                self._warn_on_page(
                    f"{host} answered {status} with an HTML page: if it is not your own upload "
                    "server, check that the object is there"
                )
            case LooksSecret():
                self._secret(event)
            case Heavy():
                self._warn_on_page(_heavy(event, self._packed))

    def started(self, event: Started) -> None:
        """A step begins."""

    def moved(self, event: Progress) -> None:
        """A step has come on."""

    def finished(self, event: Finished) -> None:
        """A step is done."""

    def retrying(self, event: Retrying) -> None:
        """An attempt failed, and there will be another."""
        which = f"attempt {event.attempt} of {event.attempts}"
        self.report.warn(f"{event.reason}; retrying in {duration(event.seconds)} ({which})")

    def _secret(self, event: LooksSecret) -> None:
        if len(self._secrets) == _MOST_SECRETS:
            self._secrets_unnamed += 1
            return
        self._secrets.append(f"{printable(event.path)} looks like a credential: {event.why}")
        self.report.warn(self._secrets[-1])

    def _sum_up_secrets(self) -> None:
        if not self._secrets:
            return
        told = [*self._secrets]
        if self._secrets_unnamed:
            files = "file" if self._secrets_unnamed == 1 else "files"
            told.append(f"and {self._secrets_unnamed:,} more {files} that look like credentials")
            self.report.warn(told[-1])
        hint = "What must not leave this machine belongs in .dockerignore; --secrets off is quiet."
        self.report.line(f"  {hint}")
        if not self.report.quiet:
            github.annotate("warning", "\n".join((*told, hint)))

    def _warn_on_page(self, text: str) -> None:
        self.report.warn(text)
        if not self.report.quiet:
            github.annotate("warning", text)


def entries(count: int) -> str:
    """Return how many files, folders and links, in words."""
    return "1 entry" if count == 1 else f"{count:,} entries"


def _heavy(event: Heavy, packed: Finished | None) -> str:
    """Return what is heavy, a line each: how much, and the pattern that drops it."""
    amounts = [size(item.bytes) for item in event.largest]
    wide = max(map(len, amounts), default=0)
    among = f" in {entries(packed.entries)}" if packed else ""
    rows = (
        f"  {amount:>{wide}}  {_line(item)}"
        for amount, item in zip(amounts, event.largest, strict=True)
    )
    head = f"the context holds {size(event.content_bytes)}{among}, more than {size(event.limit)}; "
    head += "the heaviest, each as the line in .dockerignore that drops it:"
    hint = "  If all of it is needed, allow more with --warn-size SIZE; 0 never warns."
    return "\n".join([head, *rows, hint])


def _line(item: Weight) -> str:
    slash = "/" * item.is_directory
    if item.pattern == item.path:  # for a pattern a slash at its end is nothing
        return item.pattern + slash
    return f"{printable(item.pattern)}  ({printable(item.path)}{slash})"
