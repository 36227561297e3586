"""Which files look like credentials, and what becomes of them."""

import gzip
import io
import json
import os
import re
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import e2b_upload
from e2b_upload.context.collect import walk
from e2b_upload.context.root import Root
from e2b_upload.context.secrets import _NAMES, _PEEK_BYTES, _SUFFIXES, guard
from e2b_upload.context.selection import Selection, read_rules
from e2b_upload.events import Event, LooksSecret, Started, ignore_events
from tests.archive.users import another_user, give_away
from tests.support.rawserver import answer, raw_server


def pem(kind: str) -> str:
    return f"-----BEGIN {kind}-----\nMIIEvQIBADANBgkq\n-----END {kind}-----\n"


KEY = pem("PRIVATE KEY")
CERTIFICATE = pem("CERTIFICATE")
SERVICE_ACCOUNT = json.dumps({"type": "service_account", "private_key": KEY})


def told(folder: Path, **options: Any) -> dict[str, str]:
    """Return what looks like a credential in a context, and like which."""
    events: list[Event] = []
    list(e2b_upload.collect(folder, on_event=events.append, **options))
    found = secrets_in(events)
    assert len({path for path, _ in found}) == len(found), "each is told once"
    return dict(found)


def secrets_in(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.path, event.why) for event in events if isinstance(event, LooksSecret)]


def fill(folder: Path, files: dict[str, str | bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


SECRET: list[tuple[str, str | bytes, str]] = [
    # Environment files
    (".env", "A=1\n", "an environment file"),
    ("deploy/.env.production", "A=1\n", "an environment file"),
    (".env.json", "{}", "an environment file"),
    (".ENV", "A=1\n", "an environment file"),
    ("prod.env", "PORT=80\nDB_PASSWORD=hunter2\n", "an environment file"),
    ("prod.env", "export DATABASE_URL=postgres://app:hunter2@db/app\n", "an environment file"),
    (".env.keys", "DOTENV_PRIVATE_KEY=abc\n", "a private key"),
    (".envrc", "export API_TOKEN=abc\n", "secrets of a shell environment"),
    # Private keys
    ("id_rsa", KEY, "a private key"),
    (".ssh/id_ed25519", "not even a key\n", "a private key"),
    (".ssh/work", pem("OPENSSH PRIVATE KEY"), "a private key"),
    (".SSH/.env.work/work", KEY, "a private key"),
    ("ssh_host_rsa_key", pem("RSA PRIVATE KEY"), "a private key"),
    ("old_key", "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n", "a private key"),
    ("tls/server.key", pem("EC PRIVATE KEY"), "a private key"),
    ("tls/Server.PEM", CERTIFICATE + pem("ENCRYPTED PRIVATE KEY"), "a private key"),
    ("me.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "a private key"),
    ("client.ovpn", f"remote example.com\n<key>\n{KEY}</key>\n", "a private key"),
    ("node_modules/agent/test/fixtures/key.pem", KEY, "a private key"),
    ("putty.ppk", "PuTTY-User-Key-File-3: ssh-ed25519\n", "a private key"),
    ("cert.p12", b"\x30\x82", "a store of private keys"),
    ("android/release.keystore", b"\xfe\xed\xfe\xed", "a store of private keys"),
    ("server.jks", b"\xfe\xed\xfe\xed", "a store of private keys"),
    ("passwords.kdbx", b"\x03\xd9", "a database of passwords"),
    ("config/master.key", "0123456789abcdef" * 2 + "\n", "the master key of Rails' credentials"),
    ("config/master.key", KEY, "a private key"),
    # Clouds
    (".aws/credentials", "[default]\n", "credentials of AWS"),
    (".aws/config", "[default]\naws_secret_access_key = abc/def\n", "credentials of AWS"),
    ("application_default_credentials.json", "{}", "credentials of Google Cloud"),
    (".config/gcloud/credentials.db", b"SQLite", "credentials of Google Cloud"),
    (".boto", "[Credentials]\ngs_oauth2_refresh_token = 1//0abc\n", "credentials of Google Cloud"),
    ("service-account.json", SERVICE_ACCOUNT, "a private key of a cloud service"),
    ("credentials.json", SERVICE_ACCOUNT, "credentials of a cloud service"),
    (
        "credentials.json",
        '{"installed": {"client_secret": "G-abc"}}',
        "credentials of a cloud service",
    ),
    (".azure/accessTokens.json", "[]", "credentials of Azure"),
    (".e2b/config.json", '{"teamApiKey": "e2b_0"}', "credentials of E2B"),
    (".s3cfg", "[default]\nsecret_key = abc\n", "credentials of an S3 store"),
    ("rclone.conf", "[s3]\nsecret_access_key = abc\n", "credentials of an S3 store"),
    ("rclone.conf", '[d]\ntoken = {"access_token":"abc"}\n', "credentials of an S3 store"),
    (".mc/config.json", '{"aliases": {"x": {"secretKey": "abc"}}}', "credentials of an S3 store"),
    (".kube/config", "apiVersion: v1\n", "credentials of a Kubernetes cluster"),
    ("kubeconfig.yaml", "users:\n- user:\n    token: abc\n", "credentials of a Kubernetes cluster"),
    ("prod.kubeconfig", "    client-key-data: LS0t\n", "credentials of a Kubernetes cluster"),
    ("terraform.tfstate", "{}", "a state of Terraform, which holds secrets in the clear"),
    ("terraform.tfstate.backup", "{}", "a state of Terraform, which holds secrets in the clear"),
    ("prod.tfvars", 'db_password = "abc"\n', "a secret variable of Terraform"),
    (".terraformrc", 'credentials "x" {\n  token = "abc"\n}\n', "a token of Terraform"),
    (".vault-token", "hvs.abc", "a token of Vault"),
    (".databrickscfg", "[DEFAULT]\ntoken = dapi0\n", "a token of Databricks"),
    ("kaggle.json", '{"key": "abc"}', "a token of Kaggle"),
    (".cache/huggingface/token", "hf_abc", "a token of Hugging Face"),
    (".claude/.credentials.json", '{"accessToken": "x"}', "a login of Claude Code"),
    # Registries of packages and images
    (".npmrc", "//registry.npmjs.org/:_authToken=npm_abc\n", "a token or password of npm"),
    (".npmrc", "registry=https://x\n_auth = dTpw\n", "a token or password of npm"),
    (".npmrc", "a=1\r\n//r/:_authToken=abc\r\n", "a token or password of npm"),
    (".yarnrc.yml", 'npmAuthToken: "abc"\n', "a token or password of Yarn"),
    (".yarnrc.yml", "npmAuthIdent: user:pass\n", "a token or password of Yarn"),
    ("bunfig.toml", '[install.scopes]\nx = { token = "abc" }\n', "a token or password of Bun"),
    (
        ".pypirc",
        "[pypi]\nusername = __token__\npassword = pypi-abc\n",
        "a token or password of PyPI",
    ),
    (
        "pip.conf",
        "[global]\nindex-url = https://u:p@pypi.example.com/simple\n",
        "a password of a Python package index",
    ),
    (".gem/credentials", ":rubygems_api_key: abc\n", "a token of RubyGems"),
    (".bundle/config", 'BUNDLE_GEMS__EXAMPLE__COM: "user:pass"\n', "a password of a gem server"),
    (".cargo/credentials.toml", '[registry]\ntoken = "abc"\n', "a token of Cargo"),
    ("auth.json", '{"http-basic": {"example.com": {"password": "x"}}}', "a token or password"),
    ("auth.json", '{\n "auths": {\n  "quay.io": {\n   "auth": "dTpw"\n', "a token or password"),
    (".m2/settings.xml", "<server><password>abc</password></server>", "a password of Maven"),
    (
        "NuGet.Config",
        '<add key="ClearTextPassword" value="abc" />',
        "a password of NuGet",
    ),
    ("gradle.properties", "ossrhPassword=abc\n", "a password of a build by Gradle"),
    (".docker/config.json", '{"auths":{"x":{"auth":"dTpw"}}}', "a login of a container registry"),
    (".dockercfg", '{"https://x": {"auth": "dTpw"}}', "a login of a container registry"),
    # Everything else that logs in
    (
        "lib/.git/modules/x/config",
        '[remote "origin"]\n\turl = https://ghp_aaaaaaaaaabbbbbbbbbbccccccccccdddddd@github.com/r\n',
        "a token or password for Git",
    ),
    (
        ".git/config",
        '[http "https://github.com/"]\n\textraheader = AUTHORIZATION: basic eDpnaHM=\n',
        "a token or password for Git",
    ),
    (".git-credentials", "https://u:p@github.com\n", "passwords of Git"),
    (".config/gh/hosts.yml", "github.com:\n    oauth_token: gho_a\n", "a token of GitHub"),
    (".netrc", "machine example.com login me password abc\n", "a password"),
    ("_netrc", "machine example.com\n  login me\n  password\n  abc\n", "a password"),
    (".htpasswd", "me:$apr1$x\n", "passwords of a web server"),
    (".pgpass", "*:*:*:me:abc\n", "passwords of PostgreSQL"),
    (".my.cnf", "[client]\npassword=abc\n", "a password of MySQL"),
]
NOT_SECRET: list[tuple[str, str | bytes]] = [
    # Nothing is in it.
    (".env", ""),
    ("id_rsa", ""),
    # There to be copied and filled in, or encrypted and there to be shared, or code.
    (".env.example", "API_KEY=\n"),
    (".env.example.local", "A=1\n"),
    (".env.vault", "A=1\n"),
    (".env.d.ts", "declare const TOKEN = 'x'\n"),
    ("example.env", "API_TOKEN=abc\n"),
    # Other names.
    (".environment", "TOKEN=abc\n"),
    ("env.py", "TOKEN = 'abc'\n"),
    ("bin/env", b"\x7fELF"),
    ("build.env", "PORT=80\nAPI_TOKEN=${API_TOKEN}\n"),
    ("README", KEY),
    ("id_rsa.pub", "ssh-rsa AAAA\n"),
    (".ssh/known_hosts", "example.com ssh-rsa AAAA\n"),
    ("foreign_key", "id\n"),
    # Certificates, public keys, translations, presentations.
    ("certifi/cacert.pem", CERTIFICATE * 100),
    ("public.pem", pem("PUBLIC KEY")),
    ("messages.key", "greeting = Hello\n"),
    ("release.asc", pem("PGP SIGNATURE")),
    ("truststore.jks", b"\xfe\xed"),
    ("android/app/debug.keystore", b"\xfe\xed"),
    # What a name asks for is not in it.
    ("my.aws/credentials", "[default]\n"),
    ("laugh/hosts.yml", "github.com:\n    oauth_token: gho_a\n"),
    (".aws/config", "[default]\nregion = eu-west-1\nsso_session = x\n"),
    ("credentials", "token = abc\n"),
    ("config.json", '{"token": "abc"}'),
    ("package.json", '{"private_key": "abc"}'),
    ("service-account.json", '{"type": "service_account", "private_key": ""}'),
    ("credentials.json", "{}"),
    ("kubeconfig", "- user:\n    exec:\n      command: aws\n      args: [get-token]\n"),
    ("kubeconfig", "    client-key: /etc/key.pem\n    tokenFile: /run/token\n"),
    ("prod.tfvars", 'region = "eu"\ndb_password = ""\n'),
    (".npmrc", "registry=https://registry.npmjs.org/\nalways-auth=true\n"),
    (".npmrc", "//registry.npmjs.org/:_authToken=${NPM_TOKEN}\n"),
    (".npmrc", "//registry.npmjs.org/:_authToken=<your token>\n"),
    (".npmrc", "# //registry.npmjs.org/:_authToken=npm_abc\n; _auth=abc\n"),
    (".yarnrc.yml", "npmAuthToken: ${NPM_TOKEN:-}\nnodeLinker: node-modules\n"),
    ("bunfig.toml", '[install.scopes]\nx = { token = "$npm_token" }\n'),
    ("pip.conf", "[global]\nindex-url = https://pypi.example.com/simple\n"),
    ("pip.conf", "index-url = https://${USER}:${PASSWORD}@pypi.example.com/simple\n"),
    ("pip.conf", "# index-url = https://u:p@pypi.example.com/simple\n"),
    ("locales/en/auth.json", '{"password": "Password", "token": "Token"}'),
    (".m2/settings.xml", "<server><password>${env.PASSWORD}</password></server>"),
    (".m2/settings.xml", "<server><password>{COQLCE6DU6GtcS5P=}</password></server>"),
    ("nuget.config", '<add key="ClearTextPassword" value="%TOKEN%" />'),
    ("gradle.properties", "org.gradle.jvmargs=-Xmx2g\nsigningPassword=\n"),
    (".docker/config.json", '{"auths": {"x": {}}, "credsStore": "desktop"}'),
    (".git/config", '[remote "origin"]\n\turl = https://github.com/a/b.git\n'),
    (".git/config", '[remote "origin"]\n\turl = https://me@bitbucket.org/a/b.git\n'),
    (".git/config", '[remote "origin"]\n\turl = ssh://git@example.com:22/a@b.git\n'),
    (".git/config", "[http]\n\textraheader = AUTHORIZATION: basic ***\n"),
    ("app/config", "url = https://u:p@example.com\n"),
    (".config/gh/hosts.yml", "github.com:\n    user: me\n"),
    (".netrc", "# machine example.com password abc\n"),
]


def test_credentials_are_found(tmp_path: Path) -> None:
    wrong = []
    for number, (path, content, why) in enumerate(SECRET):
        found = told(fill(tmp_path / str(number), {path: content}))
        if found != {path: why}:
            wrong.append((path, content, found))
        assert len(why) <= 60  # one sentence on one line
        assert why.isprintable()
    assert not wrong


def test_other_files_are_not_reported(tmp_path: Path) -> None:
    wrong = []
    for number, (path, content) in enumerate(NOT_SECRET):
        if told(fill(tmp_path / str(number), {path: content})):
            wrong.append((path, content))
    assert not wrong


@pytest.mark.parametrize("package", ["certifi", pytest.param("botocore", marks=pytest.mark.slow)])
def test_an_ordinary_package_holds_no_credentials(package: str) -> None:
    spec = find_spec(package)
    assert spec
    assert spec.origin
    assert told(Path(spec.origin).parent) == {}


def test_excluded_files_are_not_reported(tmp_path: Path) -> None:
    fill(tmp_path, {".env": "A=1\n", "id_rsa": KEY, "a": "x", ".dockerignore": ".env\n"})
    assert told(tmp_path) == {"id_rsa": "a private key"}
    assert told(tmp_path, exclude=["id_rsa"]) == {}


def test_off_looks_at_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {".env": "A=1\n", ".npmrc": "_auth=abc\n"})
    monkeypatch.delattr(Root, "open")
    assert told(tmp_path, secrets="off") == {}
    root = Root(tmp_path)
    found = walk(root, read_rules(root, Selection()), on_event=ignore_events)
    assert guard(found, root, "off", on_event=ignore_events) is found


@pytest.mark.parametrize("call", [e2b_upload.collect, e2b_upload.pack])
def test_another_word_is_a_usage_error(call: Any, tmp_path: Path) -> None:
    arguments = [tmp_path / "a"] if call is e2b_upload.pack else []
    with pytest.raises(e2b_upload.UsageError, match="'loud'") as caught:
        call(tmp_path, *arguments, secrets="loud")
    assert "warn, deny, off" in caught.value.hint
    assert not (tmp_path / "a").exists()


def test_only_files_are_credentials(tmp_path: Path) -> None:
    fill(tmp_path, {"x.pem/y": "A=1\n", "key": "A=1\n"})
    (tmp_path / ".npmrc").symlink_to("key")
    os.mkfifo(tmp_path / ".env")
    assert told(tmp_path, secrets="deny") == {}


def test_a_file_that_turns_into_a_fifo_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {".npmrc": "_auth=abc\n"})
    really_open = Root.open

    def replaced(self: Root, path: str) -> int:
        (tmp_path / path).unlink()
        os.mkfifo(tmp_path / path)
        return really_open(self, path)

    monkeypatch.setattr(Root, "open", replaced)
    assert told(tmp_path) == {}


def test_every_name_of_a_file_counts_by_itself(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "A=1\n", ".npmrc": "_auth=abc\n", "out": "x", ".dockerignore": "out\n"})
    os.link(tmp_path / "a", tmp_path / "b.ppk")
    os.link(tmp_path / ".npmrc", tmp_path / "pip.conf")
    (tmp_path / ".env").symlink_to("a")
    by_link = {
        ".npmrc": "a token or password of npm",
        "b.ppk": "a private key",
        "pip.conf": "a password of a Python package index",
    }
    assert told(tmp_path) == by_link
    assert told(tmp_path, follow_symlinks=True) == {".env": "an environment file", **by_link}


def test_only_the_beginning_of_a_large_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = b"//registry.npmjs.org/:_authToken=abc\n"
    fill(tmp_path, {"a/.npmrc": b"a=1\n" + line, "b/.npmrc": b"#" * _PEEK_BYTES + b"\n" + line})
    os.truncate(tmp_path / "a/.npmrc", 1 << 40)
    asked: list[int] = []
    really_read = os.read

    def read(descriptor: int, count: int) -> bytes:
        asked.append(count)
        return really_read(descriptor, count)

    monkeypatch.setattr(os, "read", read)
    assert list(told(tmp_path)) == ["a/.npmrc"]
    assert asked == [_PEEK_BYTES] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "expression", sorted({look.holds for look, _ in (*_NAMES, *_SUFFIXES) if look.holds})
)
def test_no_content_takes_exponential_time(expression: bytes) -> None:
    """An expression that backtracks would take minutes: there is more here than a peek."""
    for piece in (
        *(b"token", b"token ", b"_auth", b"password ", b"authorization: ", b"$", b'"auth" '),
        *(b"://", b"://a:", b"://a:b", b'"auths":{', b"<password>", b"-----BEGIN ", b"AAAA "),
        *(b"BUNDLE_A__A", b"a", b"0", b"_", b":", b'"', b" ", b"\n"),
    ):
        for head in (b"", b"password", b"://a:", b'"auths":{', b"BUNDLE_A__A:"):
            re.search(expression, head + piece * (2 * _PEEK_BYTES // len(piece)))


def test_names_of_all_kinds(tmp_path: Path) -> None:
    names = ["\udcff.ppk", ".env.\udcfe", "new\nline.ppk", " .ppk", "[a].ppk", "é.ppk", "ß_KEY"]
    for name in names:
        (tmp_path / name).write_text(KEY)
    assert {*told(tmp_path)} == {*names}
    with pytest.raises(e2b_upload.SourceError) as caught:
        told(tmp_path, secrets="deny")
    assert caught.value.message.replace("\n", "").isprintable()
    assert caught.value.hint.isprintable()


# Warnings and denials


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return fill(
        tmp_path / "ctx",
        {
            ".env": "A=1\n",
            "a/.npmrc": "_auth=abc\n",
            "a/plain": "x",
            "z/[id].pem": KEY,
            "z/plain": "x",
        },
    )


WHY = {
    ".env": "an environment file",
    "a/.npmrc": "a token or password of npm",
    "z/[id].pem": "a private key",
}


def packed(file: Path) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(file.read_bytes()))) as archive:
        return {*archive.getnames()}


def test_by_default_they_are_reported_and_packed(context: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    archive = e2b_upload.pack(context, tmp_path / "a", count_first=True, on_event=events.append)
    assert secrets_in(events) == [*WHY.items()]
    first = next(number for number, event in enumerate(events) if isinstance(event, LooksSecret))
    started = [event.step for event in events[:first] if isinstance(event, Started)]
    assert started == ["collect", "pack"], "the pass that counts reports nothing"
    assert {*WHY} <= packed(tmp_path / "a")
    assert e2b_upload.pack(context, tmp_path / "b", secrets="off").sha256 == archive.sha256


def test_denied_they_are_an_error_that_names_them_all(context: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    options: Any = {"secrets": "deny", "on_event": events.append}
    with raw_server(answer(200)) as store:
        for call in (
            lambda: e2b_upload.pack(context, tmp_path / "a", **options),
            lambda: list(e2b_upload.collect(context, **options)),
            lambda: e2b_upload.build(context, f"{store.url}/key", **options),
        ):
            with pytest.raises(e2b_upload.SourceError) as caught:
                call()
            assert caught.value.exit_code == 3
            assert caught.value.message.split("\n  ") == [
                "3 paths cannot be packed:",
                *(f"{context}/{path} looks like {why}" for path, why in WHY.items()),
            ]
            assert caught.value.hint == (
                "Exclude them in .dockerignore, with the lines .env, a/.npmrc and z/?id?.pem, or "
                "let them pass with `secrets` warn."
            )
    assert not store.requests
    assert not (tmp_path / "a").exists()
    assert secrets_in(events) == []


def denied_lines(context: Path) -> list[str]:
    with pytest.raises(e2b_upload.SourceError) as caught:
        told(context, secrets="deny")
    lines = re.search("with the lines? (.*), or let", caught.value.hint)
    assert lines
    return re.split(", | and ", lines[1])


def test_the_lines_that_a_denial_names_are_those_that_help(context: Path) -> None:
    ignore_file = context / ".dockerignore"
    ignore_file.write_text("\n".join(denied_lines(context)[1:]))
    assert ignore_file.read_text() == "a/.npmrc\nz/?id?.pem"
    (last,) = denied_lines(context)
    with ignore_file.open("a") as file:
        file.write("\n" + last)
    assert told(context, secrets="deny") == {}


@pytest.mark.parametrize("secrets", ["warn", "deny"])
def test_what_cannot_be_read_is_told_once(secrets: Any, open_folder: Path) -> None:
    fill(open_folder, {".env": "A=1\n", ".npmrc": "_auth=abc\n"})
    for name in (".env", ".npmrc"):
        (open_folder / name).chmod(0)
        give_away(os.fspath(open_folder / name))
    with another_user(), pytest.raises(e2b_upload.SourceError) as caught:
        e2b_upload.pack(open_folder, os.devnull, secrets=secrets)
    env, npmrc = caught.value.message.split("\n  ")[1:]
    assert ".env looks like" in env if secrets == "deny" else ".env cannot be opened" in env
    assert ".npmrc cannot be opened" in npmrc


def test_other_problems_are_told_with_them(context: Path) -> None:
    walked = e2b_upload.collect(context, secrets="deny")
    assert next(walked).path == "a"
    (context / "a/plain").unlink()
    with pytest.raises(e2b_upload.SourceError) as caught:
        list(walked)
    assert "a/plain cannot be read" in caught.value.message
    assert "4 paths" in caught.value.message
    assert "the lines .env, a/.npmrc and z/?id?.pem, or let" in caught.value.hint
    assert "run again when nothing writes to it" in caught.value.hint
