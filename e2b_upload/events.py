"""What the work tells whoever watches: frozen values, handed to the ``on_event`` callback.

The callback runs in the thread that works, so it should return at once; an exception that it
raises ends the work and reaches the caller. ``Progress`` comes with every 2 MiB or 256 entries
that are packed and every 256 KiB that are sent, never once a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Step: TypeAlias = Literal["collect", "hash", "pack", "put"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A step begins.

    Attributes:
        step: which one.
        total: bytes of content to pack or of archive to put; None where it is not known before.
        target: where to, for the eye: the spool's folder, or the URL without its query.
        done: bytes of the total that are done by then, where others began the step before: several
            COPYs of a template are in it at once.
    """

    step: Step
    total: int | None = None
    target: str = ""
    done: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a step has come.

    Attributes:
        step: which one.
        done: bytes of content found, hashed or packed, or of archive put, since the step began.
        entries: files, folders and links so far; 0 while putting.
    """

    step: Step
    done: int
    entries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A step is done.

    Attributes:
        step: which one.
        done: bytes of content or archive.
        entries: files, folders and links.
        seconds: wall time.
        result: bytes of the archive that came of packing; 0 for the other steps.
    """

    step: Step
    done: int
    entries: int
    seconds: float
    result: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something in the context is not data and is not archived.

    Attributes:
        path: relative to the context, as ``Entry.path``.
        what: ``FIFO``, ``socket``, ``device``, or ``archive``: the file that it is kept in.
    """

    path: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LooksSecret:
    """A file that looks like a credential is part of the archive.

    Attributes:
        path: relative to the context, as ``Entry.path``.
        why: what it looks like, to follow "looks like": ``a private key``.
    """

    path: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What a file or a folder adds to a context.

    Attributes:
        path: relative to the context, as ``Entry.path``.
        bytes: of content, before compression. A hard link and a symbolic link weigh nothing.
        is_directory: whether it is a folder, with all that is kept of it.
        pattern: the line that drops it when it stands last in the ignore file.
    """

    path: str
    bytes: int
    is_directory: bool
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heavy:
    """There is more content than the caller expects. It is packed by now, and not sent yet.

    Attributes:
        content_bytes: what the files hold, before compression.
        limit: how much there may be without this event.
        largest: what it would help most to leave out, the heaviest first; none lies in another.
    """

    content_bytes: int
    limit: int
    largest: tuple[Weight, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The archive has a name now, and stays whatever becomes of the upload.

    Attributes:
        path: the file's.
    """

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirected:
    """The store sends the same PUT elsewhere (307 or 308), and it is followed.

    Attributes:
        http_status: 307 or 308.
        target: where to, without its query.
    """

    http_status: int
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """An attempt to put failed, and there will be another after a wait.

    Attributes:
        attempt: the number of the one to come; the first was 1.
        attempts: how many there may be.
        seconds: how long until then.
        reason: what the last one came to.
    """

    attempt: int
    attempts: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring:
    """The URL expires soon: packing took longer than it still has.

    Attributes:
        seconds: until it does, by this machine's clock.
    """

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAnswered:
    """A server that is not a known store answered success with an HTML page.

    Attributes:
        host: which one.
        http_status: 200, 201 or 204.
    """

    host: str
    http_status: int


Event: TypeAlias = (
    Started
    | Progress
    | Finished
    | LeftOut
    | LooksSecret
    | Heavy
    | Kept
    | Redirected
    | Retrying
    | Expiring
    | PageAnswered
)
OnEvent: TypeAlias = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """Watch nothing: the callback where the caller gave none."""
    del event
