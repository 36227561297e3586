"""Conditions on a PUT: only if the object does not exist. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from e2b_upload.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2b_upload.transfer.presigned import Terms
    from e2b_upload.transfer.url import PresignedUrl

_CONDITIONAL = re.compile("if-.*|x-(?:goog|ms)-if-.*|x-oss-forbid-overwrite", re.IGNORECASE)
_GENERATION = "x-goog-if-generation-match"
_FORBID_OVERWRITE = "x-oss-forbid-overwrite"


def is_conditional(name: str) -> bool:
    """Whether a header makes a PUT depend on the object that is there."""
    return _CONDITIONAL.fullmatch(name) is not None


def only_if_absent(headers: Mapping[str, str], terms: Terms, url: PresignedUrl) -> dict[str, str]:
    """Return headers with the one that makes the PUT fail if the object exists.

    S3, R2, MinIO and Azure take ``If-None-Match: *`` unsigned. Google and OSS have a header of
    their own, which must be signed.

    Args:
        headers: what the caller sends.
        terms: what the URL says.
        url: for the message.

    Raises:
        UsageError: the caller sends another condition: its failure would look the same.
        RefusedError: the store's own condition was not signed.
    """
    name, value, store = _condition(terms, url)
    sent = {key.lower(): each for key, each in headers.items() if is_conditional(key)}
    wanted = {name.lower(): value}
    if other := next((key for key in sent if sent[key] != wanted.get(key)), None):
        raise UsageError(
            f"`if_absent` and the header {other} exclude each other",
            hint=f"Leave {other} out: `if_absent` sends {name}: {value}.",
        )
    if sent:
        return dict(headers)
    if store and name not in terms.required_headers:
        raise RefusedError(
            f"the URL {url.shown} cannot be used with `if_absent`: {store} takes that condition "
            f"only if the header {name}: {value} was signed",
            hint=f"Ask for a URL that is signed with {name}: {value}. If this one is, and does not "
            f"show it, pass `headers` '{name}: {value}' as well.",
        )
    return {**headers, name: value}


def _condition(terms: Terms, url: PresignedUrl) -> tuple[str, str, str]:
    """Return the header and its value, and the store's name if it must be signed."""
    host = f".{urlsplit(url.shown).hostname or ''}".rstrip(".")
    if terms.dialect in {"GCS V4", "GCS V2"} or host.endswith(".storage.googleapis.com"):
        return _GENERATION, "0", "Google Cloud Storage"
    if terms.dialect == "OSS" or host.endswith(".aliyuncs.com"):
        return _FORBID_OVERWRITE, "true", "OSS"
    return "If-None-Match", "*", ""
