"""What goes over the wire, to the byte: directly, through proxies, under TLS."""

import base64
import hashlib
import os
import re
import tarfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import boto3
import pytest
import requests
from botocore.config import Config

import e2b_upload
from e2b_upload import (
    Archive,
    RefusedError,
    SourceError,
    UnavailableError,
    UploadError,
    UsageError,
    build,
    put,
)
from e2b_upload.events import Event, Progress
from e2b_upload.transfer.put import EXPECT_BYTES
from tests.support.rawserver import (
    ClientGoneError,
    Connection,
    Recorded,
    Script,
    answer,
    raw_server,
    response,
    silent,
)
from tests.transfer.common import (
    KIB,
    MIB,
    PATH,
    SECRETS,
    TARGET,
    Serve,
    Tls,
    failure_of,
    redirect,
    tunnel,
)

OWN = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-md5",
    "host",
    "user-agent",
]
SOMEWHERE = f"store.invalid{TARGET}"
PROXY_PASSWORD = "Pr0xyP4ssW0rd"


def and_nothing_more(connection: Connection) -> None:
    """Answer, and see that the body is the last that comes."""
    connection.read_head()
    connection.read_body()
    connection.send(response(200))
    with suppress(ClientGoneError):
        connection.read_head()
    assert connection._read_ahead == b""


def with_password(proxy: str) -> str:
    return proxy.replace("//", f"//me:{PROXY_PASSWORD}@")


def names_of(request: Recorded) -> list[str]:
    return sorted(name.lower() for name, _ in request.headers)


@pytest.mark.parametrize(
    "size",
    [1, 64 * KIB, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, MIB + 1, 20 * MIB],
)
def test_a_file_goes_as_it_is_under_one_exact_length(
    size: int, serve: Serve, archive: Callable[[int], Archive]
) -> None:
    sent = archive(size)
    with serve(and_nothing_more) as server:
        receipt = put(str(sent.path), server.url + TARGET)
    (request,) = server.requests
    assert (request.method, request.target) == ("PUT", TARGET)
    assert names_of(request) == sorted([*OWN, *["expect"] * (size >= EXPECT_BYTES)])
    assert dict(request.headers)["Content-Length"] == str(size)
    assert dict(request.headers)["Host"] == server.url.partition("//")[2]
    assert (request.body_bytes, request.body_sha256) == (size, sent.sha256)
    assert (receipt.http_status, receipt.attempts) == (200, 1)
    assert receipt.url == server.url + PATH
    assert (receipt.archive.bytes, receipt.archive.sha256) == (size, sent.sha256)


@pytest.mark.parametrize("size", [1, 5 * MIB])
def test_a_build_goes_as_it_was_packed_under_one_exact_length(
    size: int, serve: Serve, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "data").write_bytes(os.urandom(size))
    with serve(and_nothing_more) as server:
        receipt = build(context, server.url + TARGET)
    (request,) = server.requests
    assert (request.method, request.target) == ("PUT", TARGET)
    expect = ["expect"] * (receipt.archive.bytes >= EXPECT_BYTES)
    assert names_of(request) == sorted([*OWN, *expect])
    md5 = base64.b64encode(hashlib.md5(request.body, usedforsecurity=False).digest()).decode()
    assert dict(request.headers)["Content-MD5"] == md5
    assert dict(request.headers)["Content-Length"] == str(receipt.archive.bytes)
    assert request.body_bytes == len(request.body) == receipt.archive.bytes
    assert hashlib.sha256(request.body).hexdigest() == receipt.archive.sha256
    with tarfile.open(fileobj=BytesIO(request.body), mode="r:gz") as tar:
        assert [member.name.lstrip("./") for member in tar] == ["data"]


def test_headers_that_are_asked_for_go_beside_requests_own(serve: Serve, small: Path) -> None:
    asked = {
        "Content-Type": "application/gzip",
        "x-ms-blob-type": "BlockBlob",
        "x-amz-meta-a": "caf\xe9 \u20ac",
        "X-Raw": "caf\udce9\udc85",
        "X-Empty": "",
        "Authorization": "Bearer asked-for",
    }
    with serve(and_nothing_more) as server:
        put(small, server.url + TARGET, headers=asked)
    (request,) = server.requests
    assert names_of(request) == sorted([*OWN, *map(str.lower, asked)])
    sent = {name: value.encode("latin-1") for name, value in request.headers}
    assert sent["x-amz-meta-a"] == b"caf\xc3\xa9 \xe2\x82\xac"
    assert sent["X-Raw"] == b"caf\xe9\x85"
    assert {
        name: value.encode("utf-8", "surrogateescape") for name, value in asked.items()
    }.items() <= sent.items()


def test_a_header_comes_back_from_the_store_without_its_secret(small: Path) -> None:
    def echo(connection: Connection) -> None:
        head = connection.read_head()
        connection.read_body()
        token = re.search(rb"X-Token: ([^\r]*)", head)
        assert token
        connection.send(response(403, b"no: " + token[1]))

    with raw_server(echo) as server:
        headers = {"X-Token": "gr\xfcn-gr\xfcn-gr\xfcn"}
        error = failure_of(small, server.url + TARGET, "gr\xfcn-gr\xfcn", headers=headers)
    assert "403: no: \u2026" in error.message


def test_every_request_says_who_sends_it(small: Path) -> None:
    with raw_server(redirect(307, "/next"), and_nothing_more, and_nothing_more) as server:
        put(small, server.url + TARGET)
        put(small, server.url + TARGET, headers={"user-agent": "mine/1"})
    agents = [
        [value for name, value in request.headers if name.lower() == "user-agent"]
        for request in server.requests
    ]
    own = f"e2b-upload/{e2b_upload.__version__} python-requests/{requests.__version__}"
    assert agents == [[own], [own], ["mine/1"]]


@pytest.mark.parametrize("variable", ["HOME", "NETRC"])
def test_no_password_is_taken_from_a_netrc(
    variable: str, serve: Serve, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv(variable, str(tmp_path if variable == "HOME" else netrc))
    with serve(redirect(307, "/next"), and_nothing_more) as server:
        assert requests.utils.get_netrc_auth(server.url) == ("me", "secret")
        put(small, server.url + TARGET)
    unsigned = [name for name in OWN if name != "content-md5"]
    assert [names_of(request) for request in server.requests] == [OWN, unsigned]


@pytest.mark.parametrize(
    "key",
    [
        "a b",
        "a+b",
        "a%2Fb",
        "%",
        "ü",
        "\N{SNOWMAN}",
        "~-._",
        "a//b/",
        "a=b&c?d#e",
        "'(!*)'",
        "@:,;$",
    ],
)
def test_what_boto3_signs_arrives_untouched(key: str, small: Path) -> None:
    with raw_server(answer(200)) as server:
        s3 = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=server.url,
            aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
            aws_secret_access_key="wJalrXUtnFEMI",
            aws_session_token="token/with+and==",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        url = s3.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": key})
        s3.close()
        put(small, url)
    assert server.url + server.requests[0].target == url


@pytest.mark.parametrize(
    "target",
    [
        "/a%20b+c%2Bd%2Fe%C3%BC~f//g?X-Amz-Credential=a%2Fb&x=%20+~%2B//&y=%C3%BC",
        "//double//slashes//?a=b",
        "/k?a=%25%26%3D&empty=&bare&se=2026-01-01T00:00:00Z&signed=a%2Fb%3D",
        "/k?a=?b=c/../d",
        "/.../..a/a../.b?a=b",
    ],
)
def test_a_target_arrives_untouched(target: str, serve: Serve, small: Path) -> None:
    with serve(answer(200)) as server:
        put(small, server.url + target)
    assert server.requests[0].target == target


def test_a_file_that_shrinks_while_it_is_sent_is_a_failure(
    serve: Serve, archive: Callable[[int], Archive]
) -> None:
    sent = archive(20 * MIB)

    def shrink(event: Event) -> None:
        if isinstance(event, Progress):
            os.truncate(str(sent.path), MIB)

    with serve(answer(200)) as server:
        error = failure_of(sent, server.url + TARGET, on_event=shrink)
    assert isinstance(error, SourceError)
    assert f"shrank while it was sent: {MIB} of {20 * MIB} bytes" in error.message
    assert server.requests[0].body_bytes <= MIB


def test_a_file_that_grows_while_it_is_sent_goes_as_it_was(
    serve: Serve, archive: Callable[[int], Archive]
) -> None:
    sent = archive(MIB)

    def grow(event: Event) -> None:
        if isinstance(event, Progress):
            with Path(str(sent.path)).open("ab") as file:
                file.write(b"more")

    with serve(and_nothing_more) as server, pytest.raises(SourceError):
        put(sent, server.url + TARGET, on_event=grow)
    assert server.requests[0].body_sha256 == sent.sha256


def test_an_http_proxy_is_asked_for_the_whole_url(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raw_server(and_nothing_more) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        receipt = put(small, f"http://{SOMEWHERE}")
    (request,) = proxy.requests
    assert (request.method, request.target) == ("PUT", f"http://{SOMEWHERE}")
    assert names_of(request) == OWN
    assert dict(request.headers)["Host"] == "store.invalid"
    assert request.body == small.read_bytes()
    assert receipt.url == f"http://store.invalid{PATH}"


@pytest.mark.parametrize(
    "no_proxy", ["127.0.0.1", "127.0.0.0/8", "elsewhere.invalid,127.0.0.1", "*"]
)
def test_no_proxy_goes_around_it(
    no_proxy: str, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raw_server(answer(200)) as proxy, raw_server(answer(200)) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        put(small, server.url + TARGET)
    assert proxy.requests == []
    assert server.requests[0].target == TARGET


def test_an_https_proxy_is_told_the_host_and_no_more(
    small: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    with raw_server(tunnel(tls.context, and_nothing_more)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", with_password(proxy.url))
        put(small, f"https://localhost:8443{TARGET}", headers={"X-Asked": "for"})
    connect, request = proxy.requests
    assert (connect.method, connect.target) == ("CONNECT", "localhost:8443")
    assert set(names_of(connect)) <= {"host", "proxy-authorization"}
    assert dict(connect.headers)["Proxy-Authorization"].startswith("Basic ")
    assert (request.method, request.target) == ("PUT", TARGET)
    assert names_of(request) == sorted([*OWN, "x-asked"])
    assert request.body == small.read_bytes()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (407, RefusedError),
        (403, RefusedError),
        (502, UnavailableError),
        (503, UnavailableError),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_a_proxy_answers_is_told_apart(
    scheme: str,
    status: int,
    kind: type[UploadError],
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with raw_server(answer(status, b"the proxy's own page")) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", with_password(proxy.url))
        error = failure_of(small, f"{scheme}://{SOMEWHERE}", PROXY_PASSWORD)
    assert type(error) is kind
    assert error.exit_code == (6 if kind is RefusedError else 5)
    assert error.http_status == status
    assert "store.invalid" in error.message
    if status == 407:
        assert "the proxy's user and password" in error.hint
    if scheme == "https":
        assert "proxy" in error.message
        (connect,) = proxy.requests
        assert (connect.method, connect.target) == ("CONNECT", "store.invalid:443")
        assert not [secret for secret in SECRETS if secret.encode() in connect.head]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_unavailable(
    scheme: str, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raw_server(answer(200)) as gone:
        pass
    monkeypatch.setenv(f"{scheme}_proxy", gone.url)
    error = failure_of(small, f"{scheme}://{SOMEWHERE}")
    assert type(error) is UnavailableError
    assert error.message.startswith("the proxy on the way to store.invalid cannot be reached: ")
    assert "HTTPS_PROXY" in error.hint


@pytest.mark.parametrize("script", [silent(), Connection.reset], ids=["silent", "reset"])
@pytest.mark.usefixtures("impatient")
def test_a_proxy_that_does_not_answer_is_unavailable(
    script: Script, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raw_server(script) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert type(failure_of(small, f"https://{SOMEWHERE}")) is UnavailableError


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "proxy",
    [
        "http://",
        f"http://me:{PROXY_PASSWORD}@",
        f"http://me:{PROXY_PASSWORD}@[",
        f"http://me:{PROXY_PASSWORD}@host:99999",
        f"http://me:{PROXY_PASSWORD}@a..b",
        f"http://me:{PROXY_PASSWORD}/@host",
        f"me:{PROXY_PASSWORD}@host:x",
        f"ftp://me:{PROXY_PASSWORD}@host",
    ],
)
def test_a_proxy_that_cannot_be_is_an_error_of_usage(
    scheme: str, proxy: str, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    error = failure_of(small, f"{scheme}://{SOMEWHERE}", PROXY_PASSWORD)
    assert type(error) is UsageError
    assert "HTTPS_PROXY" in error.hint


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_of_an_unknown_ca_is_refused_by_the_hosts_name(
    host: str, small: Path, tls: Tls
) -> None:
    with raw_server(answer(200), tls=tls.context) as server:
        error = failure_of(small, f"https://{host}:{server.port}{TARGET}")
    assert type(error) is RefusedError
    assert f"the certificate of {host}:{server.port} does not verify" in error.message
    assert "add the one" in error.hint or "SSL_CERT_FILE" in error.hint
    assert server.requests == []


def test_a_certificate_for_another_host_is_refused(
    small: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    with raw_server(answer(200), tls=tls.context) as server:
        error = failure_of(small, f"https://127.1:{server.port}{TARGET}")
    assert type(error) is RefusedError
    assert error.message == (
        f"the certificate of 127.1:{server.port} does not cover the host 127.1"
    )
    assert "captive portal" in error.hint
