"""The main job against a real S3 server, through the library and as a process."""

import json
import os
import subprocess
import sys
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


@pytest.mark.parametrize("key", ["a b", "a+b", "ü", "a/b//c", "a%2Fb", "~tilde", "per%cent"])
def test_keys_with_odd_characters_keep_their_signature(
    s3: Seaweed, context: Path, key: str
) -> None:
    receipt = e2b_upload.build(context, s3.presign_put(key))
    assert (receipt.http_status, receipt.archive.sha256) == (200, s3.digest(key))


def test_a_signed_header_must_be_sent_as_it_was_signed(s3: Seaweed, context: Path) -> None:
    s3.put("typed", b"old")
    url = s3.presign_put("typed", ContentType="application/gzip")
    for headers, status in (({}, None), ({"Content-Type": "text/plain"}, 403)):
        with pytest.raises(e2b_upload.RefusedError) as error:
            e2b_upload.build(context, url, headers=headers)
        assert error.value.http_status == status  # None: it was not even packed
        assert "`headers`" in error.value.hint or "fresh URL" in error.value.hint
        assert s3.get("typed") == b"old"
    receipt = e2b_upload.build(context, url, headers={"Content-Type": "application/gzip"})
    assert receipt.archive.sha256 == s3.digest("typed")
