"""The stores that other tests use reject what the originals reject."""

from __future__ import annotations

import hashlib
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.support.nginx import SMALL_BYTES

if TYPE_CHECKING:
    from tests.support.azurite import Azurite
    from tests.support.nginx import Nginx
    from tests.support.seaweed import Seaweed

pytestmark = pytest.mark.real

BLOB = {"x-ms-blob-type": "BlockBlob"}
CHUNKS: Any = iter([b"a", b"b"])


def put(url: str, data: bytes, **options: Any) -> tuple[int, str]:
    with requests.Session() as session:
        session.trust_env = False  # neither proxies nor ~/.netrc
        answer = session.put(url, data=data, timeout=30, **options)
        return answer.status_code, answer.text


def test_seaweed_stores_a_signed_put(s3: Seaweed) -> None:
    data = random.Random(1).randbytes(9_000_001)  # more than two of the filer's 4 MiB chunks
    for body in (b"old", data):
        assert put(s3.presign_put("stored"), body)[0] == 200
    assert s3.get("stored") == data
    assert s3.digest("stored") == hashlib.sha256(data).hexdigest()


def test_seaweed_rejects_what_was_not_signed(s3: Seaweed) -> None:
    late = s3.presign_put("strict-late", expires=1)
    typed = s3.presign_put("strict-typed", ContentType="application/gzip")
    time.sleep(1.5)
    for url, code in (
        (late, "AccessDenied"),
        (typed, "SignatureDoesNotMatch"),
        (s3.presign_put("signed").replace("/signed?", "/strict-other?"), "SignatureDoesNotMatch"),
        (s3.presign_raw_put("%7Eescaped"), "SignatureDoesNotMatch"),  # requests sends ~
    ):
        status, text = put(url, b"x")
        assert (status, code in text) == (403, True)
    assert not any(map(s3.exists, ("strict-late", "strict-typed", "strict-other", "~escaped")))
    assert put(typed, b"x", headers={"Content-Type": "application/gzip"})[0] == 200


@pytest.mark.parametrize(
    ("port", "data", "options", "status"),
    [
        ("port", b"x" * 100_000, {}, 200),
        ("port", CHUNKS, {}, 501),
        ("port", b"x", {"auth": ("someone", "something")}, 400),
        ("small", bytes(SMALL_BYTES + 1), {}, 413),
        ("orphan", b"x", {}, 502),
    ],
    ids=["plain", "chunks", "two ways to sign", "too large", "no store"],
)
def test_nginx_is_as_strict_as_aws(  # noqa: PLR0917  (a table)
    port: str, data: bytes, options: Any, status: int, s3: Seaweed, before_s3: Nginx
) -> None:
    there = replace(s3, endpoint=f"http://127.0.0.1:{getattr(before_s3, port)}")
    assert put(there.presign_put(f"nginx-{status}"), data, **options)[0] == status
    assert s3.exists(f"nginx-{status}") == (status == 200)


def test_azurite_stores_what_a_sas_permits_and_nothing_else(blobs: Azurite) -> None:
    for url, headers, status in (
        (blobs.presign_put("blob", "r"), BLOB, 403),
        (blobs.presign_put("blob", expires=-60), BLOB, 403),
        (blobs.presign_put("blob"), {}, 400),
        (blobs.presign_put("signed").replace("/signed?", "/blob?"), BLOB, 403),
    ):
        assert put(url, b"x", headers=headers)[0] == status
    assert blobs.get("blob") is None
    for body in (b"first", b"second"):
        assert put(blobs.presign_put("blob"), body, headers=BLOB)[0] == 201
    assert blobs.get("blob") == b"second"
