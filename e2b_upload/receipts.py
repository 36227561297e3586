"""The results of a build or an upload."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from e2b_upload.archive.pack import Archive
    from e2b_upload.transfer.put import Sent


Status: TypeAlias = Literal["uploaded", "present", "dry-run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Wall time of each step.

    Attributes:
        collect: to read the rules and to open the context; the walk goes on while packing.
        pack: until the archive was whole.
        put: until the store had answered.
    """

    collect: float = 0.0
    pack: float = 0.0
    put: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The result of a build or an upload.

    Attributes:
        status: ``uploaded``; ``present`` if the object exists, with ``if_absent``; ``dry-run``.
        url: where it was put, without its query; None where nothing was.
        http_status: the store's answer; None where nothing was put.
        attempts: how many requests it took, redirects not counted.
        verified: the check that proved the stored bytes, or None if the answer proves nothing.
        archive: what was packed and sent.
        seconds: how long it took.
    """

    status: Status = "dry-run"
    url: str | None = None
    http_status: int | None = None
    attempts: int = 0
    verified: str | None = None
    archive: Archive
    seconds: Seconds = field(default_factory=Seconds)

    @classmethod
    def of(cls, sent: Sent, archive: Archive, packed: Seconds | None = None) -> Receipt:
        """Return the receipt of an upload."""
        packed = packed or Seconds()
        return cls(
            status="present" if sent.present else "uploaded",
            url=sent.url.shown,
            http_status=sent.http_status,
            attempts=sent.attempts,
            verified=sent.verified,
            archive=archive,
            seconds=Seconds(collect=packed.collect, pack=packed.pack, put=sent.seconds),
        )
