"""The URLs of docs/how-to/presign.md; test_pages.py checks that they work."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from e2b_upload.transfer.presigned import read_terms
from e2b_upload.transfer.url import parse
from tests.recipes.workplace import KEPT, OBJECT, names
from tests.support.rawserver import answer, raw_server

if TYPE_CHECKING:
    from tests.recipes.workplace import Workplace
    from tests.support.seaweed import Seaweed

pytestmark = pytest.mark.real

HOUR = 3600


def check_terms(url: str, dialect: str) -> None:
    terms = read_terms(parse(url))
    assert (terms.dialect, terms.required_headers) == (dialect, {})
    assert terms.expiry is not None
    assert abs(terms.expiry - time.time() - HOUR) < 60


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("", "eu-central-1"),
        ("https://0123abc.r2.cloudflarestorage.com", "auto"),
        ("http://minio.example:9000", "us-east-1"),
    ],
)
def test_s3_names_the_right_store(
    place: Workplace, bucket: Seaweed, endpoint: str, region: str
) -> None:
    env = bucket.environment() | {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": region}
    ran = place.run("python3", "presign_s3.py", "my-bucket", OBJECT, env=env)
    there = endpoint or "https://s3.eu-central-1.amazonaws.com"
    assert ran.out.startswith(f"{there}/my-bucket/{OBJECT}?"), ran.log
    check_terms(ran.out, "AWS SigV4")


def test_google(place: Workplace, google_account: dict[str, str]) -> None:
    """No server here verifies such a signature, so only the URL is checked."""
    place.write("key.json", json.dumps(google_account))
    env = {"GOOGLE_APPLICATION_CREDENTIALS": "key.json"}
    ran = place.run("python3", "presign_gcs.py", "my-bucket", OBJECT, env=env)
    assert ran.out.startswith(f"https://storage.googleapis.com/my-bucket/{OBJECT}?"), ran.err
    check_terms(ran.out, "GCS V4")


def test_e2b(place: Workplace, bucket: Seaweed) -> None:
    url = bucket.presign_put(OBJECT, ContentType="application/gzip", StorageClass="STANDARD")
    headers = {"Content-Type": "application/gzip", "x-amz-storage-class": "STANDARD"}
    needed = json.dumps({"present": False, "url": url, "headers": headers}).encode()
    there = json.dumps({"present": True}).encode()
    denied = json.dumps({"code": 401, "message": "Invalid API key"}).encode()
    with raw_server(answer(201, needed), answer(201, there), answer(401, denied)) as server:
        env = {"E2B_API_URL": server.url, "E2B_API_KEY": "e2b_secret"}
        command = ("sh", "upload_to_e2b.sh", "./ctx", "template-1", "f" * 64)
        first, second, third = (place.run(*command, env=env) for _ in range(3))
        asked = server.requests[0]
    assert (asked.method, asked.target) == ("GET", f"/templates/template-1/files/{'f' * 64}")
    assert ("X-API-KEY", "e2b_secret") in asked.headers
    assert first.code == 0, first.err
    assert names(bucket.get(OBJECT)) == KEPT
    assert second.code == 0, second.err
    assert second.out == "E2B has these files already\n"
    assert third.code == 22
    assert "Invalid API key" in third.err
    assert "e2b_secret" not in first.log + second.log + third.log


def test_e2b_takes_a_name_that_looks_like_an_option(place: Workplace, bucket: Seaweed) -> None:
    bucket.put(OBJECT, b"untouched")
    (place.path / "ctx").rename(place.path / "-ctx")
    needed = json.dumps({"present": False, "url": bucket.presign_put(OBJECT)}).encode()
    with raw_server(answer(201, needed)) as server:
        env = {"E2B_API_URL": server.url, "E2B_API_KEY": "e2b_secret"}
        ran = place.run("sh", "upload_to_e2b.sh", "-ctx", "[1-2]", "f" * 64, env=env)
        assert [asked.target for asked in server.requests] == [f"/templates/[1-2]/files/{'f' * 64}"]
    assert ran.code == 0, ran.err
    assert names(bucket.get(OBJECT)) == KEPT


def test_e2b_sends_nothing_where_the_answer_is_not_understood(
    place: Workplace, bucket: Seaweed
) -> None:
    bucket.put(OBJECT, b"untouched")
    listed = json.dumps({"url": bucket.presign_put(OBJECT), "headers": "Content-Type: a"}).encode()
    said = b"\n::error::\x1b[2J\xc2\x9b no"
    with raw_server(answer(200, b"<html>"), answer(200, listed), answer(403, said)) as server:
        env = {"E2B_API_URL": server.url, "E2B_API_KEY": "e2b_secret"}
        command = ("sh", "upload_to_e2b.sh", "./ctx", "template-1", "f" * 64)
        page, no_headers, denied = (place.run(*command, env=env) for _ in range(3))
    for ran in (page, no_headers):
        assert ran.code
        assert "error" in ran.err
        assert "URL" not in ran.err  # e2b-upload was not even asked
    assert denied.code == 22
    assert denied.err.endswith("\nE2B says:  ::error:: [2J   no\n")
    assert bucket.get(OBJECT) == b"untouched"
