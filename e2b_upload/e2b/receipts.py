"""The results of a template's uploads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2b_upload.e2b.copies import Copy
    from e2b_upload.receipts import Receipt, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReceipt:
    """The result of one COPY.

    Attributes:
        copy: what was copied, and where to.
        files_hash: the hash that the E2B SDK computes, 64 lower-case hexadecimal digits.
        status: ``present`` if the files were stored before, ``uploaded``, or ``dry-run``.
        receipt: of the upload, or of the dry run; None if nothing was packed.
    """

    copy: Copy
    files_hash: str
    status: Status
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateReceipt:
    """The result of uploading a template's files.

    Attributes:
        template_id: E2B's; None only if a dry run meets a template that does not exist yet.
        copies: one for each COPY, in the given order.
    """

    template_id: str | None
    copies: tuple[CopyReceipt, ...]

    @property
    def status(self) -> Status:
        """``present`` only if all are; otherwise the status of the others."""
        return next((each.status for each in self.copies if each.status != "present"), "present")
