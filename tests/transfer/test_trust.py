"""Which CA certificates verify: a bundle, the system's store, or certifi if there is no store."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import requests.adapters
import requests.utils
import trustme

from e2b_upload import RefusedError, UsageError, put
from tests.support.rawserver import answer, raw_server
from tests.transfer.common import TARGET, Tls, failure_of

FILES: Final = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]
DIRECTORIES: Final = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"]


@pytest.fixture
def another_ca(tmp_path: Path) -> Path:
    path = tmp_path / "another.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.fixture
def hashed(tls: Tls, tmp_path: Path) -> Path:
    """Make a directory as OpenSSL reads it: each certificate in a file named by its hash."""
    try:
        done = subprocess.run(
            ["openssl", "x509", "-noout", "-hash", "-in", tls.ca], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl")
    directory = tmp_path / "hashed"
    directory.mkdir()
    (directory / f"{done.stdout.decode().strip()}.0").write_bytes(tls.ca.read_bytes())
    return directory


def test_the_fixtures_ca_is_unknown(small: Path, tls: Tls) -> None:
    with raw_server(answer(200), tls=tls.context) as server:
        assert "does not verify" in failure_of(small, server.url + TARGET).message


@pytest.mark.parametrize("variable", FILES)
def test_a_file_is_trusted(
    variable: str, small: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tls.ca))
    with raw_server(answer(200), tls=tls.context) as server:
        assert put(small, server.url + TARGET, retries=0).http_status == 200


@pytest.mark.parametrize("variable", DIRECTORIES)
def test_a_directory_is_trusted(
    variable: str, small: Path, tls: Tls, hashed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(hashed))
    with raw_server(answer(200), tls=tls.context) as server:
        assert put(small, server.url + TARGET, retries=0).http_status == 200


def test_directories_are_trusted(
    small: Path, tls: Tls, hashed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", f"{hashed}/no:{hashed}")
    with raw_server(answer(200), tls=tls.context) as server:
        assert put(small, server.url + TARGET, retries=0).http_status == 200


@pytest.mark.parametrize("stronger", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_takes_the_place_of_all_else(
    stronger: str, small: Path, tls: Tls, another_ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(tls.ca))
    monkeypatch.setattr(requests.utils, "DEFAULT_CA_BUNDLE_PATH", str(tls.ca))
    with raw_server(answer(200), tls=tls.context) as server:
        monkeypatch.setenv(stronger, str(another_ca))
        monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca))
        assert "does not verify" in failure_of(small, server.url + TARGET).message
        monkeypatch.setenv(stronger, str(tls.ca))
        monkeypatch.setenv("SSL_CERT_FILE", str(another_ca))
        assert put(small, server.url + TARGET, retries=0).http_status == 200


def test_the_systems_store_takes_the_place_of_certifi(
    small: Path, tls: Tls, another_ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(tls.ca))
    monkeypatch.setattr(requests.utils, "DEFAULT_CA_BUNDLE_PATH", str(tls.ca))
    monkeypatch.setenv("SSL_CERT_FILE", str(another_ca))
    with raw_server(answer(200), tls=tls.context) as server:
        error = failure_of(small, server.url + TARGET)
    assert type(error) is RefusedError
    assert "does not verify" in error.message


WITHOUT_A_STORE: Final = """
import sys, requests.utils
requests.utils.DEFAULT_CA_BUNDLE_PATH = sys.argv[1]
from e2b_upload import put
print(put(sys.argv[2], sys.argv[3], retries=0).http_status)
"""
HIDE: Final = """
for each in /etc/ssl /etc/pki /usr/lib/ssl; do
  if [ -d "$each" ]; then mount -t tmpfs tmpfs "$each" || exit 77; fi
done
[ "$#" = 0 ] || exec "$0" "$@"
"""


def test_certifi_is_trusted_where_the_system_has_no_store(small: Path, tls: Tls) -> None:
    hide = ["unshare", "--map-root-user", "--mount", "sh", "-c", HIDE]
    try:
        subprocess.run(hide, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as why:
        pytest.skip(f"the system's store cannot be hidden: {why}")
    with raw_server(answer(200), tls=tls.context) as server:
        url = server.url + TARGET
        code = [sys.executable, "-W", "error", "-c", WITHOUT_A_STORE, str(tls.ca), str(small), url]
        done = subprocess.run([*hide, *code], check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("200\n", "")


@pytest.mark.parametrize("variable", FILES)
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        ("", "it holds no certificate"),
        ("not a certificate\n", "it holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\n", "no certificate"),
    ],
    ids=["missing", "empty", "no PEM", "no certificate in it", "half a PEM"],
)
def test_a_file_without_certificates_is_named(  # noqa: PLR0917
    variable: str,
    content: str | None,
    why: str,
    small: Path,
    tls: Tls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = small.with_name("ca.pem")
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv(variable, str(path))
    with raw_server(answer(200), tls=tls.context) as server:
        error = failure_of(small, server.url + TARGET)
    assert type(error) is UsageError
    assert f"cannot load the CA certificates in {path} ({variable})" in error.message
    assert why in error.message
    assert variable in error.hint
    assert server.requests == []


def test_a_directory_that_is_not_there_is_named(
    small: Path, tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}/a:{tmp_path}/b")
    with raw_server(answer(200), tls=tls.context) as server:
        error = failure_of(small, server.url + TARGET)
    assert type(error) is UsageError
    assert "(SSL_CERT_DIR): No such file or directory" in error.message


def test_plain_http_needs_no_certificates(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [*FILES, "SSL_CERT_DIR"]:
        monkeypatch.setenv(variable, "/nowhere")
    with raw_server(answer(200)) as server:
        assert put(small, server.url + TARGET, retries=0).http_status == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_speaks_tls_is_verified_too(
    scheme: str, small: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raw_server(answer(200), tls=tls.context) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        error = failure_of(small, f"{scheme}://store.invalid{TARGET}")
    assert type(error) is RefusedError
    assert "does not verify" in error.message
    assert proxy.requests == []


def test_a_proxy_that_speaks_tls_is_trusted(
    small: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca))
    with raw_server(answer(200), tls=tls.context) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        put(small, f"http://store.invalid{TARGET}", retries=0)
    assert proxy.requests[0].target == f"http://store.invalid{TARGET}"
