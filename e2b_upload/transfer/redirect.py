"""Where a redirect leads, and what may go there. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from e2b_upload.errors import RefusedError, UsageError
from e2b_upload.transfer.answer import redact_location, redirect_hint
from e2b_upload.transfer.condition import is_conditional
from e2b_upload.transfer.redaction import has_secret_name
from e2b_upload.transfer.url import parse

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from e2b_upload.transfer.answer import Answer
    from e2b_upload.transfer.url import PresignedUrl

# Metadata, and the names of keys that stay in the store, are not secrets.
_NOT_SECRET = re.compile("x-[a-z]+-meta-.*|.*(?:kms-key|bucket-key).*", re.IGNORECASE)


def redirect_target(answer: Answer, url: PresignedUrl, *, known: bool) -> PresignedUrl:
    """Return where a redirect leads.

    Args:
        answer: which redirects.
        url: which answered.
        known: whether the URL is of a known kind of store.

    Raises:
        RefusedError: no PUT can go there, or only without encryption.
    """
    why = "and it is no URL to PUT to"
    try:
        target = parse(_resolved(url, answer.headers["location"].strip()))
        if urlsplit(url.url).scheme == "http" or urlsplit(target.url).scheme == "https":
            return target.beside(url)
        why = "which is not encrypted"
    except (UsageError, ValueError):
        pass
    raise RefusedError(
        f"{url.host} redirected the upload to {redact_location(answer, url)}, {why}",
        hint=redirect_hint(answer, url, known=known),
        http_status=answer.http_status,
    )


def _resolved(url: PresignedUrl, location: str) -> str:
    """Return a whole URL with path and query as they are; urljoin rewrites them."""
    if "://" in location.partition("?")[0]:
        return location
    if location.startswith("/") and not location.startswith("//"):
        return url.origin.removesuffix("/") + location
    return urljoin(url.url, location)


def headers_for_another_host(
    headers: Mapping[str, str], url: PresignedUrl, target: PresignedUrl, signed: Collection[str]
) -> dict[str, str]:
    """Return the headers that a redirect takes to another host.

    What tells the store how to store is kept. Secrets, and a Host of the caller's, are dropped.

    Args:
        headers: what the caller sends.
        url: which redirected, for the message.
        target: where to, for the message.
        signed: names in lower case that the first URL's signature covers.

    Raises:
        RefusedError: the object would be stored otherwise than asked, because what would be
            dropped was signed, is a condition, or encrypts the object.
    """
    kept = {name: value for name, value in headers.items() if not _is_for_one_host(name)}
    for name in headers.keys() - kept.keys():
        if name.lower() in signed or is_conditional(name) or "encryption" in name.lower():
            raise RefusedError(
                f"{url.host} redirected the upload to {target.host}, and the header {name} is "
                "meant for the first host only: the object would be stored without it",
                hint=f"Ask for a URL of {target.host}, or leave {name} out.",
            )
    return kept


def _is_for_one_host(name: str) -> bool:
    return name.lower() == "host" or (has_secret_name(name) and not _NOT_SECRET.fullmatch(name))
