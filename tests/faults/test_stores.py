"""The stores that the table relies on refuse what their originals refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import requests

from tests.support.nginx import SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.azurite import Azurite
    from tests.support.nginx import Nginx
    from tests.support.seaweed import Seaweed

pytestmark = pytest.mark.real

PATIENCE = 30.0
BLOB = {"x-ms-blob-type": "BlockBlob"}


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # neither proxies nor ~/.netrc
        yield session


def signed(s3: Seaweed, port: int, key: str) -> str:
    return replace(s3, endpoint=f"http://127.0.0.1:{port}").presign_put(key)


def test_nginx_stores_what_aws_takes(s3: Seaweed, before_s3: Nginx, http: requests.Session) -> None:
    put = http.put(signed(s3, before_s3.port, "plain"), data=b"x" * 100_000, timeout=PATIENCE)
    assert put.status_code == 200
    assert s3.get("plain") == b"x" * 100_000


def test_nginx_refuses_chunks(s3: Seaweed, before_s3: Nginx, http: requests.Session) -> None:
    url = signed(s3, before_s3.port, "chunked")
    put = http.put(url, data=iter([b"a", b"b"]), timeout=PATIENCE)
    assert (put.status_code, "NotImplemented" in put.text) == (501, True)
    assert not s3.exists("chunked")


def test_nginx_refuses_two_ways_to_sign(
    s3: Seaweed, before_s3: Nginx, http: requests.Session
) -> None:
    url = signed(s3, before_s3.port, "twice")
    put = http.put(url, data=b"x", auth=("someone", "something"), timeout=PATIENCE)
    assert (put.status_code, "InvalidArgument" in put.text) == (400, True)
    assert not s3.exists("twice")


@pytest.mark.parametrize(("port", "status"), [("small", 413), ("orphan", 502)])
def test_nginx_has_limits_of_its_own(
    port: str, status: int, s3: Seaweed, before_s3: Nginx, http: requests.Session
) -> None:
    url = signed(s3, getattr(before_s3, port), "limits")
    put = http.put(url, data=bytes(SMALL_BYTES + 1), timeout=PATIENCE)
    assert put.status_code == status
    assert not s3.exists("limits")


def test_azurite_stores_what_a_sas_permits(blobs: Azurite, http: requests.Session) -> None:
    assert blobs.get("stored") is None
    url = blobs.presign_put("stored")
    assert http.put(url, data=b"first", headers=BLOB, timeout=PATIENCE).status_code == 201
    assert http.put(url, data=b"second", headers=BLOB, timeout=PATIENCE).status_code == 201
    assert blobs.get("stored") == b"second"


@pytest.mark.parametrize(
    ("permissions", "expires", "headers", "status"),
    [("r", 3600, BLOB, 403), ("cw", -60, BLOB, 403), ("cw", 3600, {}, 400)],
    ids=["may only read", "expired", "no type"],
)
def test_azurite_refuses(
    permissions: str,
    expires: int,
    headers: dict[str, str],
    status: int,
    *,
    blobs: Azurite,
    http: requests.Session,
) -> None:
    url = blobs.presign_put("refused", permissions, expires)
    put = http.put(url, data=b"x", headers=headers, timeout=PATIENCE)
    assert put.status_code == status
    assert blobs.get("refused") is None


def test_azurite_refuses_a_sas_of_another_blob(blobs: Azurite, http: requests.Session) -> None:
    url = blobs.presign_put("signed").replace("/signed?", "/other?")
    assert http.put(url, data=b"x", headers=BLOB, timeout=PATIENCE).status_code == 403
    assert blobs.get("other") is None
