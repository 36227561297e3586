"""Which files look like credentials: by their names, and where a name leaves it open by a glance.

It is a table, and no search of everything for tokens: a file whose name says nothing is not read.
What a name asks for is looked for in the first 64 KiB. Where a value is expected, a placeholder
(``${NPM_TOKEN}``, ``<token>``, ``***``) is none.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args

from e2b_upload.context.problems import DeniedError, Problem
from e2b_upload.context.weight import line_for
from e2b_upload.errors import UsageError
from e2b_upload.events import LooksSecret

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from e2b_upload.context.collect import Entry
    from e2b_upload.context.root import Root
    from e2b_upload.events import OnEvent

Secrets: TypeAlias = Literal["warn", "deny", "off"]

# Credentials are small, and tokens stand near the top of the files that people configure.
_PEEK_BYTES: Final = 64 * 1024


# A named tuple: a frozen dataclass takes 0.8 ms to be made, at every start, and this one 0.1.
class _Look(NamedTuple):
    """What makes a file a credential.

    Attributes:
        why: what it is then.
        holds: an expression for what its content has to hold; None where the name says enough.
        folder: where it has to lie, at any depth, in small letters.
        named: an expression for what its name has to hold, in small letters, beside its row's.
        unless: an expression for what its name, in small letters, must not hold.
    """

    why: str
    holds: bytes | None = None
    folder: str = ""
    named: str = ""
    unless: str = ""


# What is to be filled in yet is no value, nor is a switch, nor what SOPS or Jasypt have encrypted.
_NO_VALUE: Final = rb"(?![$<%{*]|ENC[\[(]|(?:true|false|null|none|yes|no)\b)"
_VALUE: Final = rb"""["']?""" + _NO_VALUE + rb"""[^\s"',]"""

# PEM, OpenPGP and OpenSSH write it so, RFC 4716 with a blank and four dashes.
_PRIVATE_KEY: Final = rb"----[- ]BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY"

# A name that speaks of a secret and is given a value, in INI, TOML, YAML, JSON and shells alike; a
# URL with a password; a header; a token that tells whose it is by its beginning. Not in a comment,
# nor in a placeholder (`${NPM_TOKEN:-}`).
_GIVEN: Final = (
    rb"(?im)^(?:[^#;\n$]|\$(?!\{))*?(?:"
    rb"(?:token|secret|pass(?:word|wd|phrase)?|(?:api|access|account|private|secret)[-_]?key"
    rb"|key-data|[\"'_]auth|authident)[\"']?[ \t]*[:=][ \t]*" + _VALUE + rb"|"
    rb"://[^\s/:@]+:" + _NO_VALUE + rb"[^\s/@]+@|"
    rb"authorization:[ \t]*(?:basic|bearer|token)[ \t]+" + _NO_VALUE + rb"\S|"
    rb"\b(?-i:gh[pousr]_\w{30}|github_pat_\w{20}|glpat-[\w-]{20}|npm_\w{30}|pypi-[\w-]{16}))"
)
_NETRC: Final = rb"(?im)^[^#\n]*\bpassword\s+" + _NO_VALUE + rb"\S"
_XML: Final = (
    rb"(?i)<pass(?:word|phrase)>\s*" + _NO_VALUE + rb"[^\s<]"
    rb"|key=\"cleartextpassword\"\s+value=\"" + _NO_VALUE + rb"[^\"]"
)
# Composer's sections, and the logins of containers: `auth.json` is the name of many a translation,
# too, where a "password" is a word.
_AUTH_JSON: Final = (
    rb"\"(?:bearer|http-basic|(?:bitbucket|github|gitlab)-(?:oauth|token))\"\s*:\s*\{\s*\""
    rb"|\"auths\"\s*:\s*\{[^}]{0,400}\"auth\"\s*:\s*\"\w"
    rb"|\"(?:access_token|OPENAI_API_KEY)\"\s*:\s*\"\w"
)

# What is there to be copied and filled in, what is encrypted and meant to be shared, and code. What
# is left is taken at its word: a `.env.test` may well hold what the tests log in with.
_TEMPLATE: Final = (
    r"(?:\A|[._-])(?:example|sample|template|tmpl|tpl|dist|defaults?|schema"
    r"|age|enc|gpg|vault|[cm]?[jt]s|md)(?:[._-]|\Z)"
)
_ENVIRONMENT: Final = _Look(why="an environment file", unless=_TEMPLATE)
_KEY: Final = _Look(why="a private key", holds=_PRIVATE_KEY)
# Neither certificates alone, nor the key that every Android SDK makes, whose password is known.
_KEY_STORE: Final = _Look(
    why="a store of private keys", unless=r"trust|cacerts|\Adebug\.keystore\Z"
)

_NAMES: Final[tuple[tuple[_Look, str], ...]] = (
    # Keys
    (
        _Look(why="a private key"),
        "id_rsa id_dsa id_ecdsa id_ed25519 id_ecdsa_sk id_ed25519_sk secring.gpg .env.keys",
    ),
    (
        _Look(why="the master key of Rails' credentials", holds=rb"\A[0-9a-f]{32}\s*\Z"),
        "master.key",
    ),
    # Clouds
    (_Look(why="credentials of AWS", folder=".aws/"), "credentials"),
    (_Look(why="credentials of AWS", folder=".aws/", holds=_GIVEN), "config"),
    (_Look(why="credentials of Google Cloud"), "application_default_credentials.json"),
    (
        _Look(why="credentials of Google Cloud", folder="gcloud/"),
        "access_tokens.db adc.json credentials.db",
    ),
    (_Look(why="credentials of Google Cloud", holds=_GIVEN), ".boto"),
    (
        # On Windows these are .bin, and encrypted.
        _Look(why="credentials of Azure", folder=".azure/"),
        "accessTokens.json msal_token_cache.json service_principal_entries.json",
    ),
    (_Look(why="credentials of E2B", folder=".e2b/"), "config.json"),
    (_Look(why="credentials of an S3 store", holds=_GIVEN), ".s3cfg rclone.conf"),
    (_Look(why="credentials of an S3 store", holds=_GIVEN, folder=".mc/"), "config.json"),
    (_Look(why="credentials of an S3 store"), ".passwd-s3fs"),
    (_Look(why="credentials of a Kubernetes cluster", folder=".kube/"), "config"),
    (
        _Look(why="credentials of a Kubernetes cluster", holds=_GIVEN),
        "kubeconfig kubeconfig.yaml kubeconfig.yml k3s.yaml",
    ),
    (
        _Look(why="a state of Terraform, which holds secrets in the clear"),
        "terraform.tfstate.backup",
    ),
    (_Look(why="a token of Terraform", holds=_GIVEN), ".terraformrc credentials.tfrc.json"),
    (_Look(why="a token of Vault"), ".vault-token"),
    (_Look(why="credentials of a cloud service", holds=_GIVEN), "credentials.json"),
    (_Look(why="a token of Databricks", holds=_GIVEN), ".databrickscfg"),
    (_Look(why="a token of Kaggle"), "kaggle.json"),
    (_Look(why="a token of Hugging Face", folder="huggingface/"), "token"),
    (_Look(why="a login of Claude Code", folder=".claude/"), ".credentials.json"),
    (_Look(why="a login of the Gemini CLI", folder=".gemini/"), "oauth_creds.json"),
    # Registries of packages and images
    (_Look(why="a token or password of npm", holds=_GIVEN), ".npmrc"),
    (_Look(why="a token or password of Yarn", holds=_GIVEN), ".yarnrc.yml"),
    (_Look(why="a token or password of Bun", holds=_GIVEN), "bunfig.toml .bunfig.toml"),
    (_Look(why="a token or password of PyPI", holds=_GIVEN), ".pypirc"),
    (_Look(why="a password of a Python package index", holds=_GIVEN), "pip.conf pip.ini"),
    (_Look(why="a token of RubyGems", folder=".gem/"), "credentials"),
    (
        _Look(
            why="a password of a gem server",
            # Two names of the same characters in a row would be tried at every place to part them.
            holds=rb"(?m)^BUNDLE_(?=\w+__\w)\w+: *\"?[^\s/:\"]+:\w",
            folder=".bundle/",
        ),
        "config",
    ),
    (_Look(why="a token of Cargo", folder=".cargo/"), "credentials credentials.toml"),
    (_Look(why="a token or password", holds=_AUTH_JSON), "auth.json"),
    (_Look(why="a password of Maven", holds=_XML), "settings.xml"),
    (_Look(why="a password of NuGet", holds=_XML), "NuGet.Config"),
    (
        _Look(why="a password of a build by Gradle", holds=_GIVEN),
        "gradle.properties keystore.properties key.properties",
    ),
    (
        _Look(why="a login of a container registry", holds=_GIVEN, folder=".docker/"),
        "config.json",
    ),
    (_Look(why="a login of a container registry", holds=_GIVEN), ".dockercfg .dockerconfigjson"),
    # Everything else that logs in
    (_Look(why="a token or password for Git", holds=_GIVEN, folder=".git/"), "config"),
    (_Look(why="passwords of Git"), ".git-credentials"),
    (_Look(why="a token of GitHub", holds=_GIVEN, folder="gh/"), "hosts.yml"),
    (_Look(why="a password", holds=_NETRC), ".netrc _netrc"),
    (_Look(why="passwords of a web server"), ".htpasswd"),
    (_Look(why="passwords of PostgreSQL"), ".pgpass pgpass.conf"),
    (_Look(why="a password of MySQL", holds=_GIVEN), ".my.cnf"),
    (_Look(why="a password of MySQL"), ".mylogin.cnf"),
    (_Look(why="secrets of a shell environment", holds=_GIVEN), ".envrc"),
    (_ENVIRONMENT, ".env"),
)
# By what follows the last dot, or the whole name where there is none.
_SUFFIXES: Final[tuple[tuple[_Look, str], ...]] = (
    (_KEY, "pem key p8 asc ovpn"),
    (_Look(why="a private key"), "ppk pk8"),
    (_KEY_STORE, "p12 pfx jks keystore"),
    (_Look(why="a database of passwords"), "kdbx"),
    (_Look(why="a state of Terraform, which holds secrets in the clear"), "tfstate"),
    (_Look(why="a secret variable of Terraform", holds=_GIVEN), "tfvars"),
    (_Look(why="credentials of a Kubernetes cluster", holds=_GIVEN), "kubeconfig"),
    (_Look(why="an environment file", holds=_GIVEN, unless=_TEMPLATE), "env"),
    # The key of a service account, as people call it and as Google's console does.
    (
        _Look(
            why="a private key of a cloud service",
            holds=_PRIVATE_KEY,
            named=r"account|cred|firebase|gcloud|gcp|google|key|sdk|secret|-[0-9a-f]{12}\.",
        ),
        "json",
    ),
)
_SSH_ENDINGS: Final = ("_rsa", "_dsa", "_ecdsa", "_ed25519", "_key")


def _table(rows: tuple[tuple[_Look, str], ...]) -> Mapping[str, tuple[_Look, ...]]:
    table: dict[str, tuple[_Look, ...]] = {}
    for look, names in rows:
        for name in names.lower().split():
            table[name] = (*table.get(name, ()), look)
    return table


_BY_NAME: Final = _table(_NAMES)
_BY_SUFFIX: Final = _table(_SUFFIXES)


def guard(
    entries: Generator[Entry | Problem], root: Root, secrets: Secrets, *, on_event: OnEvent
) -> Generator[Entry | Problem]:
    """Yield the entries of a walk as they come, and tell of those that look like credentials.

    Args:
        entries: of :func:`~e2b_upload.context.collect.walk`, in its order; closed at the end.
        root: where the walk goes on.
        secrets: ``warn`` tells of them and lets them pass, ``deny`` yields a problem in the place
            of each, ``off`` does not look.
        on_event: told of :class:`~e2b_upload.events.LooksSecret`.

    Raises:
        UsageError: at once, for another word.
    """
    if secrets not in get_args(Secrets):
        words = ", ".join(get_args(Secrets))
        raise UsageError(f"{secrets!r} is nothing to do with secrets", hint=f"Give one of {words}.")
    if secrets == "off":
        return entries
    return _guard(entries, root, deny=secrets == "deny", on_event=on_event)


def _guard(
    entries: Generator[Entry | Problem], root: Root, *, deny: bool, on_event: OnEvent
) -> Generator[Entry | Problem]:
    with closing(entries):
        for entry in entries:
            # By the name first: most things are files, and few are called so.
            if (
                entry.type != "problem"
                and (looks := _looks(entry.path))
                and (why := _why(looks, entry, root))
            ):
                if deny:
                    message = f"{root.shown(entry.path)} looks like {why}"
                    yield Problem(DeniedError(message, line_for(entry.path)))
                    continue
                on_event(LooksSecret(path=entry.path, why=why))
            yield entry


def _looks(path: str) -> tuple[_Look, ...]:
    """Return what a file of that path may be, by its name alone, whatever its case."""
    # 0.6 µs, beside some 60 that it takes to pack a small file: python -m timeit -s "from
    # e2b_upload.context.secrets import _looks" "_looks('node_modules/lodash/fp/_baseConvert.js')"
    path = path.lower()
    name = path.rpartition("/")[2]
    _, dot, suffix = name.rpartition(".")
    looks = _BY_NAME.get(name, ())
    looks += (_ENVIRONMENT,) if name.startswith(".env.") else _BY_SUFFIX.get(suffix, ())
    if _lies_in(".ssh/", path) or (not dot and name.endswith(_SSH_ENDINGS)):
        looks += (_KEY,)
    return looks


def _lies_in(folder: str, path: str) -> bool:
    return f"/{folder}" in f"/{path}"


def _why(looks: tuple[_Look, ...], entry: Entry, root: Root) -> str | None:
    """Return what an entry is, of what it may be by its name; None where it is none of that."""
    # A hard link's own size is 0; what the system says is the file's. An empty file has no secret.
    if entry.type not in {"file", "hardlink"} or not entry.stat.st_size:
        return None
    path = entry.path.lower()
    name = path.rpartition("/")[2]
    content: bytes | None = None
    for look in looks:
        if not _lies_in(look.folder, path) or not re.search(look.named, name):
            continue
        if look.unless and re.search(look.unless, name):
            continue
        if look.holds is not None:
            if content is None:
                content = _peek(root, entry.path)
            if not re.search(look.holds, content):
                continue
        return look.why
    return None


def _peek(root: Root, path: str) -> bytes:
    """Return how a file begins; nothing where it cannot be read, which packing will tell."""
    try:
        descriptor = root.open(path)
    except OSError:
        return b""
    try:
        # It was a file when it was found; it may be a FIFO by now.
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return os.read(descriptor, _PEEK_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
