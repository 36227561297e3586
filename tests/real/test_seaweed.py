"""The server that the other real tests rely on refuses what S3 refuses."""

from __future__ import annotations

import hashlib
import random
import time
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.seaweed import Seaweed

pytestmark = pytest.mark.real


def test_a_presigned_put_stores_the_bytes(s3: Seaweed, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(9_000_001)  # more than two of the filer's 4 MiB chunks
    assert not s3.exists("stored")
    answer = _put(s3.presign_put("stored"), data)
    assert answer.status_code == 200
    assert answer.headers["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert s3.exists("stored")
    assert s3.get("stored") == data
    assert s3.digest("stored") == hashlib.sha256(data).hexdigest()
    s3.download("stored", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


def test_put_replaces(s3: Seaweed) -> None:
    s3.put("replaced", b"old")
    s3.put("replaced", b"new")
    assert s3.get("replaced") == b"new"


def test_an_expired_url_is_refused(s3: Seaweed) -> None:
    url = s3.presign_put("late", expires=1)
    time.sleep(1.5)
    _assert_refused(_put(url, b"late"), "AccessDenied", "expired")
    assert not s3.exists("late")


def test_a_signed_header_has_to_be_sent(s3: Seaweed) -> None:
    url = s3.presign_put("signed-header", ContentType="application/gzip")
    _assert_refused(_put(url, b"typed"), "SignatureDoesNotMatch")
    assert not s3.exists("signed-header")
    assert _put(url, b"typed", {"Content-Type": "application/gzip"}).ok
    assert s3.get("signed-header") == b"typed"


def test_another_key_than_the_signed_one_is_refused(s3: Seaweed) -> None:
    url = s3.presign_put("signed").replace("/signed?", "/other?")
    _assert_refused(_put(url, b"other"), "SignatureDoesNotMatch")
    assert not s3.exists("other")


def test_the_older_signature_covers_each_escape(s3: Seaweed) -> None:
    url = s3.presign_raw_put("%7Eescaped")
    _assert_refused(_put(url, b"rewritten"), "SignatureDoesNotMatch")  # requests sends ~
    assert not s3.exists("~escaped")


def _put(url: str, data: bytes, headers: dict[str, str] | None = None) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # neither proxies nor ~/.netrc
        return session.put(url, data=data, headers=headers, timeout=30)


def _assert_refused(answer: requests.Response, *words: str) -> None:
    assert answer.status_code == 403, answer.text
    for word in words:
        assert word in answer.text
