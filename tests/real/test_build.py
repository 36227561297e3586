"""The main job against a real S3 server, through the library and as a process."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import e2b_upload
from tests.support.seaweed import Seaweed

pytestmark = pytest.mark.real


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "ctx"
    (folder / "src").mkdir(parents=True)
    (folder / "src/big.bin").write_bytes(os.urandom(3_000_000))
    (folder / "src/cache.pyc").write_bytes(b"x")
    (folder / "main.py").write_text("print()\n")
    (folder / ".dockerignore").write_text("**/*.pyc\n")
    return folder


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_what_is_stored_is_the_archive(s3: Seaweed, context: Path, tmp_path: Path) -> None:
    receipt = e2b_upload.build(context, s3.presign_put("library"))
    assert receipt.http_status == 200
    assert receipt.archive.sha256 == s3.digest("library")
    s3.download("library", tmp_path / "stored.tar.gz")
    assert names(tmp_path / "stored.tar.gz") == [".dockerignore", "main.py", "src", "src/big.bin"]
    assert receipt.archive.bytes == (tmp_path / "stored.tar.gz").stat().st_size


def test_the_command_and_its_json(s3: Seaweed, context: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "e2b_upload", "build", context, "--url", "-", "--json"],
        input=s3.presign_put("command") + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout)
    assert result["status"] == "uploaded"
    assert result["url"] == f"{s3.endpoint}/{s3.bucket}/command"
    assert result["archive"]["sha256"] == s3.digest("command")
    assert result["archive"]["files"] == 3
    assert "Signature" not in done.stdout + done.stderr


def test_pack_then_put(s3: Seaweed, context: Path, tmp_path: Path) -> None:
    archive = e2b_upload.pack(context, tmp_path / "a.tar.gz")
    receipt = e2b_upload.put(archive, s3.presign_put("pack-put"))
    assert receipt.archive == archive
    again = e2b_upload.put(tmp_path / "a.tar.gz", s3.presign_put("file"))
    assert again.archive.sha256 == archive.sha256
    assert s3.digest("pack-put") == s3.digest("file") == archive.sha256
    assert hashlib.sha256((tmp_path / "a.tar.gz").read_bytes()).hexdigest() == archive.sha256


def test_a_signed_header_is_sent_with_h_and_missing_is_refused(s3: Seaweed, context: Path) -> None:
    url = s3.presign_put("typed", ContentType="application/gzip")
    with pytest.raises(e2b_upload.RefusedError) as error:
        e2b_upload.build(context, url)
    assert error.value.http_status is None  # it was not even packed
    assert "-H 'content-type: …'" in error.value.hint
    with pytest.raises(e2b_upload.RefusedError) as error:
        e2b_upload.build(context, url, headers={"Content-Type": "text/plain"})
    assert error.value.http_status == 403
    assert error.value.code
    assert "-H" in error.value.hint or "fresh URL" in error.value.hint
    receipt = e2b_upload.build(context, url, headers={"Content-Type": "application/gzip"})
    assert receipt.archive.sha256 == s3.digest("typed")


@pytest.mark.parametrize("key", ["a b", "a+b", "ü", "a/b//c", "a%2Fb", "~tilde", "per%cent"])
def test_keys_with_odd_characters_keep_their_signature(
    s3: Seaweed, context: Path, key: str
) -> None:
    receipt = e2b_upload.build(context, s3.presign_put(key))
    assert receipt.archive.sha256 == s3.digest(key)


def test_a_bucket_that_is_not_there(s3: Seaweed, context: Path) -> None:
    url = s3.presign_put("key").replace(f"/{s3.bucket}/", "/no-such-bucket/")
    with pytest.raises(e2b_upload.RefusedError) as error:
        e2b_upload.build(context, url)
    assert error.value.http_status in {403, 404}


def test_a_refused_upload_leaves_the_old_object(s3: Seaweed, context: Path) -> None:
    s3.put("old", b"old")
    url = s3.presign_put("old")
    with pytest.raises(e2b_upload.RefusedError):
        e2b_upload.build(context, url[:-1] + ("0" if url[-1] != "0" else "1"))
    assert s3.get("old") == b"old"
