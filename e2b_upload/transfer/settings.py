"""How to upload: headers, retries and timeouts, limits and conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from e2b_upload.transfer.headers import checked_headers
from e2b_upload.transfer.retry import Patience

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """How to upload.

    Attributes:
        headers: sent with the PUT; Content-Length and Transfer-Encoding are refused.
        patience: retries and timeouts.
        max_size: bytes; a larger archive is not sent. None for the store's own limit, if known.
        if_absent: upload only if the object does not exist.
        ignore_checksum: do not compare the store's digests with the archive's.

    Raises:
        UsageError: a header that cannot be sent.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    patience: Patience = field(default_factory=Patience)
    max_size: int | None = None
    if_absent: bool = False
    ignore_checksum: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", checked_headers(self.headers))
