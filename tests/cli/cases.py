"""What the command line is asked to do, and what comes of it: one line each.

In a command, its environment, its input and its files, `{url}` is a presigned URL of a server that
plays the scripts, `{query}` its query; at `{refusing}` nobody listens.
`{api}` is that server as E2B's API, `{key}` a key of it.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

from tests.cli.harness import (
    LISTING_KEYS,
    PASSWORD,
    QUERY,
    SIGNATURE,
    SUCCESS_KEYS,
    TEMPLATE_KEYS,
    TOKEN,
)
from tests.support.rawserver import (
    Connection,
    Script,
    answer,
    early,
    garbage,
    reset_after,
    response,
    silent,
)

STORED: Final = answer(200)

KEYS: Final = {
    "build": SUCCESS_KEYS,
    "pack": SUCCESS_KEYS,
    "put": SUCCESS_KEYS,
    "ls": LISTING_KEYS,
    "explain": ["paths"],
    "hash": ["hashes"],
}
"""Each command, with what its object holds on success."""

MISTAKES: Final = {
    "build": "build nowhere --dry-run",
    "pack": "pack nowhere -o kept",
    "put": "put nowhere --url http://h/k",
    "ls": "ls nowhere",
    "explain": "explain nowhere a",
    "hash": "hash nowhere --copy a:/a",
}
"""Each command, with something that is not there."""


_HOLD_SECRETS = ("{url}", "{query}", "{key}", SIGNATURE)


@dataclass(frozen=True)
class Case:
    """One command.

    Attributes:
        name: what is tried.
        command: the arguments, quoted as for a shell.
        code: the exit code.
        message: words of the error.
        hint: words of what to do next.
        env: environment variables.
        stdin: what standard input holds.
        asked: what standard output holds without `--json`.
        scripts: how the server answers.
        tls: whether it speaks TLS; `{ca}` is a file with the CA that signed its certificate.
        files: what the working folder holds beside the context `ctx` with its file `a`.
    """

    name: str
    command: str
    code: int = 0
    message: str = ""
    hint: str = ""
    _: KW_ONLY
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: str = ""
    asked: str = ""
    scripts: tuple[Script, ...] = (STORED,)
    tls: bool = False
    files: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def verb(self) -> str:
        return self.command.split()[0]

    @property
    def keys(self) -> list[str]:
        """What its object holds on success."""
        words = self.command.split()
        more = ["largest"] if "--largest" in words else []
        return TEMPLATE_KEYS if "--template" in words else KEYS[self.verb] + more

    @property
    def holds_a_secret(self) -> bool:
        texts = (self.command, self.stdin, *self.env.values(), *self.files.values())
        return any(word in text for text in texts for word in _HOLD_SECRETS)

    def takes(self, *options: str) -> bool:
        """Whether more options can be put after the command."""
        words = {*self.command.split()}
        return (
            self.verb in KEYS
            and not words & {*options}
            and not ("--json" in options and "--tree" in words)
            and not ("--progress" in options and self.verb in {"ls", "explain", "hash"})
        )


def hang_up(connection: Connection) -> None:
    connection.read_head()
    connection.read_body()
    connection.close()


def redirect(status: int, location: str) -> Script:
    return answer(status, headers={"Location": location})


def xml(code: str, words: str, more: str = "") -> bytes:
    return (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message>{more}"
        "<RequestId>R3QU35T</RequestId></Error>"
    ).encode()


def api(status: int, said: object) -> Script:
    """Answer as E2B's API does; `{url}` is a presigned URL of this server."""

    return lambda connection: _say(connection, connection.read_head(), status, said)


def _say(connection: Connection, head: bytes, status: int, said: object) -> None:
    connection.read_body()
    host = re.search(rb"(?im)^host: *(\S+)", head)
    assert host is not None
    url = f"http://{host[1].decode()}/bucket/key?{QUERY}"
    body = json.dumps(said).replace("{url}", url).encode()
    connection.send(response(status, body, {"Content-Type": "application/json"}))


def link(**more: object) -> Script:
    """Answer that the files are to be put, unless `more` says something else."""
    return api(201, {"present": False, "url": "{url}", **more})


def link_or_store(present: Collection[str] = (), **more: object) -> Script:
    """Answer for E2B, where the files of some hashes are there already, or as the store."""

    def script(connection: Connection) -> None:
        head = connection.read_head()
        if head.startswith(b"PUT "):
            connection.read_body()
            connection.send(response(200))
            return
        there = head.split()[1].rpartition(b"/")[2].decode() in present
        _say(connection, head, 201, {"present": there, "url": "{url}", **more})

    return script


def files_hash() -> str:
    """Return what E2B's SDK makes of `--copy a:/a`; the umask is part of it."""
    os.umask(umask := os.umask(0o22))
    return hashlib.sha256(f"COPY a /aa{0o100666 & ~umask}2a\n".encode()).hexdigest()


_ECHO = xml(
    "SignatureDoesNotMatch",
    f"no match: {TOKEN}, {SIGNATURE}, https://h/k?{QUERY.replace('&', '&amp;')}",
    f"<SignatureProvided>{SIGNATURE}</SignatureProvided>",
)
_PUT = "build ctx --url {url}"
_SEND = "put archive --url {url}"
_ARCHIVE = {"archive": "not quite an archive"}
_ALTERED = answer(200, headers={"ETag": f'"{"0" * 32}"'})
_EXPIRED = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20200101T000000Z&X-Amz-Expires=60"
    "&X-Amz-SignedHeaders=host"
)
_VARIABLES = (
    *("E2B_UPLOAD_URL", "E2B_UPLOAD_IGNORE_FILE", "E2B_UPLOAD_COMPRESSION", "SOURCE_DATE_EPOCH"),
    *("E2B_UPLOAD_RETRIES", "E2B_UPLOAD_CONNECT_TIMEOUT", "E2B_UPLOAD_STALL_TIMEOUT"),
    *("E2B_UPLOAD_MAX_TIME", "E2B_UPLOAD_MAX_SIZE", "E2B_UPLOAD_THREADS", "E2B_UPLOAD_SECRETS"),
    *(
        "E2B_UPLOAD_WARN_SIZE",
        "E2B_UPLOAD_SPOOL_DIR",
        "E2B_UPLOAD_PROGRESS",
        "NO_COLOR",
        "FORCE_COLOR",
    ),
    "HTTPS_PROXY",
)
_TEMPLATE = "build ctx --template t --copy a:/a"
_E2B = {"E2B_API_KEY": "{key}", "E2B_API_URL": "{api}"}
_KNOWN = api(200, {"templateID": "z9y8x7", "public": False})
_UNKNOWN = api(404, {"code": 404, "message": "not found"})
_UNSET = dict.fromkeys(_VARIABLES, "")
_HTTPS = "build ctx --url 'https://store.invalid/bucket/key?{query}'"

DONE: Final = [
    Case("uploaded", _PUT),
    Case("uploaded over TLS", _PUT, tls=True, env={"REQUESTS_CA_BUNDLE": "{ca}"}),
    Case("uploaded, URL in the environment", "build ctx", env={"E2B_UPLOAD_URL": "{url}\n"}),
    Case("uploaded, URL from standard input", "build ctx --url -", stdin="{url}\r\n"),
    Case("uploaded, URL between blanks", "build ctx --url ' {url} '"),
    Case("uploaded, URL from a file", "build ctx --url-file u", files={"u": "\n{url}\n"},
         env={"E2B_UPLOAD_URL": "not looked at"}),
    Case("uploaded, URL before the environment's", _PUT, env={"E2B_UPLOAD_URL": "not looked at"}),
    Case("uploaded, no ignore file before the environment's", "build ctx --url {url} --no-ignore",
         env={"E2B_UPLOAD_IGNORE_FILE": "not looked at"}),
    Case("redirected", _PUT, scripts=(redirect(307, f"/elsewhere?{QUERY}"), STORED)),
    Case("kept", "build ctx --url {url} -o kept.tar.gz"),
    Case("dry run with a URL", "build ctx --url {url} --dry-run"),
    Case("dry run without a URL", "build ctx --dry-run"),
    Case("packed", "pack ctx -o kept.tar.gz"),
    Case("packed, a URL in the environment", "pack ctx -o kept", env={"E2B_UPLOAD_URL": "{url}"}),
    Case("put", _SEND, files=_ARCHIVE),
    Case("put, URL in the environment", "put archive", files=_ARCHIVE,
         env={"E2B_UPLOAD_URL": "{url}\n"}),
    Case("put, URL from standard input", "put archive --url -", stdin="{url}\n", files=_ARCHIVE),
    Case("put, URL file -", "put archive --url-file -", stdin="{url}\n", files=_ARCHIVE),
    Case("put, URL from a file", "put archive --url-file u", files={"u": "{url}"} | _ARCHIVE,
         env={"E2B_UPLOAD_URL": "not looked at"}),
    Case("put standard input", "put - --url {url}", stdin="not quite an archive"),
    Case("put standard input, URL from a file", "put - --url-file u", stdin="not quite an archive",
         files={"u": "{url}"}),
    Case("put a file whose name is -", "put ./- --url -", stdin="{url}", files={"-": "archive"}),
    Case("put redirected", _SEND, files=_ARCHIVE,
         scripts=(redirect(307, f"/elsewhere?{QUERY}"), STORED)),
    Case("listed", "ls ctx", asked="      2 B  a\n"),
    Case("listed as a tree", "ls ctx --tree", asked="      2 B  ctx/\n      2 B  └── a\n"),
    Case("listed, ignore file from standard input", "ls ctx --ignore-file -", stdin="a\n"),
    Case("explained", "explain ctx a", asked="kept\tno pattern\ta\n"),
    Case("explained, paths from standard input", "explain ctx -", stdin="a\n./a",
         asked="kept\tno pattern\ta\n" * 2),
    Case("explained, ignore file from standard input", "explain ctx a --ignore-file -",
         stdin="#\n a \n", asked="excluded\t-:2:a\ta\n"),
    Case("explained, ignore file - in the environment", "explain ctx a", stdin="a\n",
         env={"E2B_UPLOAD_IGNORE_FILE": "-"}, asked="excluded\t-:1:a\ta\n"),
    Case("empty variables", _PUT, env=_UNSET),
    Case("empty variables, packed", "pack ctx -o kept", env=_UNSET),
    Case("empty variables, put", _SEND, files=_ARCHIVE, env=_UNSET),
    Case("empty variables, listed", "ls ctx", asked="      2 B  a\n", env=_UNSET),
    Case("empty variables, explained", "explain ctx a", asked="kept\tno pattern\ta\n", env=_UNSET),
    # E2B.
    Case("template", _TEMPLATE, env=_E2B, scripts=(_KNOWN, link(), STORED)),
    Case("template, all are there", _TEMPLATE, env=_E2B, scripts=(_KNOWN, link(present=True))),
    Case("template, put all the same", f"{_TEMPLATE} --force", env=_E2B,
         scripts=(_KNOWN, link(present=True), STORED)),
    Case("template, headers with the link", _TEMPLATE, env=_E2B,
         scripts=(_KNOWN, link(headers={"X-Signed": "yes"}), STORED)),
    Case("template, one COPY is there", f"{_TEMPLATE} --copy .:/b", env=_E2B,
         scripts=(_KNOWN, link_or_store({files_hash()}))),
    Case("template, the same COPY twice", f"{_TEMPLATE} --copy a:/a", env=_E2B,
         scripts=(_KNOWN, link(), STORED)),
    Case("template, a Dockerfile", "build ctx --template t --dockerfile D", env=_E2B,
         files={"D": "FROM x\nWORKDIR /w\nCOPY a .\n"}, scripts=(_KNOWN, link(), STORED)),
    Case("template, dry run", f"{_TEMPLATE} --dry-run", env=_E2B, scripts=(_KNOWN, link())),
    Case("template, one that is requested", f"{_TEMPLATE} --create", env=_E2B,
         scripts=(_UNKNOWN, _UNKNOWN, api(202, {"templateID": "z9y8x7"}), link(), STORED)),
    Case("template, key from a file", f"{_TEMPLATE} --api-key-file k --api-url {{api}}",
         env={"E2B_API_KEY": "not looked at", "E2B_API_URL": "not looked at"},
         files={"k": "{key}\n"}, scripts=(_KNOWN, link(), STORED)),
    Case("template, key from standard input", f"{_TEMPLATE} --api-key-file -", stdin="{key}\n",
         env={"E2B_API_URL": "{api}"}, scripts=(_KNOWN, link(), STORED)),
    Case("template, variables of other builds", _TEMPLATE, scripts=(_KNOWN, link(), STORED),
         env=_E2B | {"E2B_UPLOAD_URL": "not looked at", "E2B_UPLOAD_IGNORE_FILE": "nor that",
                     "E2B_UPLOAD_WARN_SIZE": "nor that"}),
    Case("hashed", "hash ctx --copy a:/a", asked=f"{files_hash()}\n"),
    Case("hashed, two", "hash ctx --copy a:/a --copy a:/a -x b", asked=f"{files_hash()}\n" * 2),
    Case("listed, a COPY", "ls ctx --copy .:/a -x .dockerignore",
         asked="           ./\n      2 B  a\n"),
    Case("listed as a tree, a COPY", "ls ctx --tree --copy b/*:/a --copy a:/a",
         files={"ctx/b/c": "c"}, asked="      3 B  ctx/\n      2 B  ├── a\n"
         "      1 B  └── b/\n      1 B      └── c\n"),
    Case("listed, the largest of a COPY", "ls ctx --largest 2 --copy b/*:/a",
         files={"ctx/b/c": "c"}, asked="      1 B  100%  b/\n      1 B  100%  b/c\n"),
    Case("hashed, a Dockerfile", "hash ctx --dockerfile D", asked=f"{files_hash()}\n",
         files={"D": "FROM x\nCOPY a /a\n"}),
    Case("listed, a Dockerfile", "ls ctx --dockerfile D", asked="      2 B  a\n",
         files={"D": "FROM x\nCOPY a /a\n", "ctx/c": ""}),
    Case("explained, a Dockerfile", "explain ctx a c --dockerfile D",
         files={"D": "FROM x\nCOPY a /a\n", "ctx/c": ""},
         asked="kept\tno pattern\ta\nexcluded\tno pattern\tc\t(no COPY takes it)\n"),
    Case("explained, a COPY", "explain ctx a b c --copy a:/a -x b",
         files={"ctx/b": "", "ctx/c": ""}, asked="kept\tno pattern\ta\nexcluded\t--exclude:1:b\tb\n"
         "excluded\tno pattern\tc\t(no COPY takes it)\n"),
]  # fmt: skip

USAGE: Final = [
    Case("unknown command", "upload ctx", 2, "No such command 'upload'", "--help"),
    Case("unknown option", "build ctx --frobnicate", 2, "--frobnicate", "--help"),
    Case("missing argument", "build --url {url}", 2, "Missing argument 'CONTEXT'", "--help"),
    Case("missing value", "build ctx --url", 2, "'--url' requires an argument", "--help"),
    Case("argument too many", "build ctx {url}", 2, "unexpected extra argument", "--help"),
    Case("mistyped option", "build ctx --ur {url}", 2, "No such option: --ur", "--help"),
    # Options that exclude each other.
    Case("-q -v", "build ctx --url {url} -q -v", 2, "-q and -v exclude", "Choose one"),
    Case("two URLs", "build ctx --url {url} --url-file u", 2, "--url-file exclude", "Choose one"),
    Case("--no-ignore --ignore-file", "build ctx --url {url} --no-ignore --ignore-file f", 2,
         "--no-ignore and --ignore-file exclude", "Choose one"),
    Case("-o - --json", "build ctx --url {url} -o - --json", 2, "-o - and --json", "-o FILE"),
    Case("-o /dev/stdout --json", "build ctx --url {url} -o /dev/stdout --json", 2,
         "-o - and --json", "-o FILE"),
    Case("URL file without a name", "build ctx --url-file ''", 2, "cannot be read", "file that",
         env={"E2B_UPLOAD_URL": "{url}"}),
    Case("-o - --json, packed", "pack ctx -o - --json", 2, "-o - and --json", "-o FILE"),
    Case("-o /dev/stdout --json, packed", "pack ctx -o /dev/stdout --json", 2, "-o - and --json",
         "-o FILE"),
    Case("-q -v, packed", "pack ctx -o kept -q -v", 2, "-q and -v exclude", "Choose one"),
    Case("-q -v, put", "put archive --url {url} -q -v", 2, "-q and -v exclude", "Choose one"),
    Case("-q -v, listed", "ls ctx -q -v", 2, "-q and -v exclude", "Choose one"),
    Case("-q -v, explained", "explain ctx a -q -v", 2, "-q and -v exclude", "Choose one"),
    Case("--no-ignore --ignore-file, packed", "pack ctx -o kept --no-ignore --ignore-file f", 2,
         "--no-ignore and --ignore-file exclude", "Choose one"),
    Case("--no-ignore --ignore-file, listed", "ls ctx --no-ignore --ignore-file -", 2,
         "--no-ignore and --ignore-file exclude", "Choose one"),
    Case("--no-ignore --ignore-file, explained", "explain ctx a --no-ignore --ignore-file f", 2,
         "--no-ignore and --ignore-file exclude", "Choose one"),
    Case("two URLs, put", "put archive --url {url} --url-file u", 2, "--url-file exclude",
         "Choose one"),
    Case("--tree --json", "ls ctx --tree --json", 2, "--tree and --json exclude", "Choose one"),
    Case("--tree --largest", "ls ctx --tree --largest 3", 2, "--tree and --largest exclude",
         "Choose one"),
    # Standard input is read once.
    Case("- for both the ignore file and the URL", "build ctx --ignore-file - --url -", 2,
         "--ignore-file and the URL both read standard input", "a file"),
    Case("- for both the ignore file and the URL file", "build ctx --ignore-file - --url-file -", 2,
         "--ignore-file and the URL both read standard input", "a file"),
    Case("- for both FILE and the URL", "put - --url -", 2, "FILE and the URL both read", "a file"),
    Case("- for both FILE and the URL file", "put - --url-file -", 2, "FILE and the URL both read",
         "a file"),
    Case("- for both FILE and the variable", "put -", 2, "FILE and the URL both read", "a file",
         env={"E2B_UPLOAD_URL": "-"}),
    Case("- for both the ignore file and PATH", "explain ctx - --ignore-file -", 2,
         "--ignore-file and PATH both read standard input", "a file"),
    Case("- for PATH twice", "explain ctx - a -", 2, "PATH and PATH both read", "a file",
         stdin="a\n"),
    # What a command needs, and what it does not know.
    Case("no FILE to pack into", "pack ctx", 2, "no file to pack into", "-o FILE"),
    Case("-o empty", "pack ctx -o ''", 2, "-o is empty", "Was the variable set?"),
    Case("--spool-dir empty", "put - --url {url} --spool-dir ''", 2, "--spool-dir is empty",
         "Was the variable set?", stdin="archive"),
    Case("--ignore-file empty", "ls ctx --ignore-file ''", 2, "--ignore-file is empty",
         "Was the variable set?"),
    Case("no FILE to put", "put --url {url}", 2, "Missing argument 'FILE'", "put --help"),
    Case("no CONTEXT to list", "ls", 2, "Missing argument 'CONTEXT'", "ls --help"),
    Case("no PATH to explain", "explain ctx", 2, "Missing argument 'PATH'", "explain --help"),
    Case("no URL to put to", "put archive", 2, "there is no URL", "E2B_UPLOAD_URL", files=_ARCHIVE),
    Case("pack does not put", "pack ctx -o kept --url {url}", 2, "No such option: --url", "--help"),
    Case("put does not pack", "put archive --url {url} -x a", 2, "No such option: -x", "--help"),
    Case("ls does not pack", "ls ctx -o kept", 2, "No such option: -o", "--help"),
    Case("explain has no progress", "explain ctx a --progress bar", 2, "No such option", "--help"),
    Case("--if-absent beside another condition",
         "put archive --url {url} --if-absent -H 'If-Match: \"a\"'", 2,
         "--if-absent and the header if-match exclude each other", "Leave if-match out",
         files=_ARCHIVE),
    # Values that do not parse.
    Case("--max-size", "put archive --url {url} --max-size 5M", 2, "'5M' is no size for --max-size",
         "500MB", files=_ARCHIVE),
    Case("--max-size empty", "build ctx --url {url} --max-size ''", 2, "is no size", "500MB"),
    Case("--max-size negative", "build ctx --url {url} --max-size -1", 2, "is no size", "500MB"),
    Case("--max-size beside a dry run", "build ctx --dry-run --max-size much", 2, "is no size",
         "500MB"),
    Case("E2B_UPLOAD_MAX_SIZE", _SEND, 2, "'1e3' is no size for E2B_UPLOAD_MAX_SIZE", "500MB",
         files=_ARCHIVE, env={"E2B_UPLOAD_MAX_SIZE": "1e3"}),
    Case("E2B_UPLOAD_WARN_SIZE", _PUT, 2, "'big' is no size for E2B_UPLOAD_WARN_SIZE", "500MB",
         env={"E2B_UPLOAD_WARN_SIZE": "big"}),
    Case("E2B_UPLOAD_SECRETS", _PUT, 2, "for 'E2B_UPLOAD_SECRETS': 'maybe'", "--help",
         env={"E2B_UPLOAD_SECRETS": "maybe"}),
    Case("E2B_UPLOAD_STALL_TIMEOUT", _PUT, 2, "-1 is no time for E2B_UPLOAD_STALL_TIMEOUT",
         "more than 0", env={"E2B_UPLOAD_STALL_TIMEOUT": "-1"}),
    Case("E2B_UPLOAD_CONNECT_TIMEOUT", _SEND, 2, "for 'E2B_UPLOAD_CONNECT_TIMEOUT': ", "--help",
         files=_ARCHIVE, env={"E2B_UPLOAD_CONNECT_TIMEOUT": "x"}),
    Case("--max-size before the environment's", _PUT + " --max-size 1X", 2,
         "'1X' is no size for --max-size", "500MB", env={"E2B_UPLOAD_MAX_SIZE": "2X"}),
    Case("--retries before the environment's", _PUT + " --retries x", 2, "for '--retries': ",
         "--help", env={"E2B_UPLOAD_RETRIES": "y"}),
    Case("E2B_UPLOAD_URL of another kind", "build ctx", 2,
         "E2B_UPLOAD_URL: the URL must begin with https://", "exactly as the signer gave it",
         env={"E2B_UPLOAD_URL": "ftp://h/k?{query}"}),
    Case("E2B_UPLOAD_URL with a space", "put archive", 2, "E2B_UPLOAD_URL: the URL http", "signer",
         files=_ARCHIVE, env={"E2B_UPLOAD_URL": "http://h/a b?{query}"}),
    Case("--retries, put", "put archive --url {url} --retries -1", 2, "'--retries'", "--help"),
    Case("--max-time, put", "put archive --url {url} --max-time 0", 2, "0 is no time", "than 0",
         files=_ARCHIVE),
    Case("--mtime, packed", "pack ctx -o kept --mtime noon", 2, "'--mtime'", "--help"),
    Case("--compression, packed", "pack ctx -o kept --compression gzip", 2, "'fast'", "--help"),
    Case("--color, listed", "ls ctx --color odd", 2, "'never'", "--help"),
    Case("--mtime no number", "build ctx --url {url} --mtime noon", 2, "'--mtime'", "--help"),
    Case("--mtime negative", "build ctx --url {url} --mtime -1", 2, "'--mtime'", "--help"),
    Case("SOURCE_DATE_EPOCH no number", _PUT, 2, "for 'SOURCE_DATE_EPOCH': ", "--help",
         env={"SOURCE_DATE_EPOCH": "noon"}),
    Case("--compression", "build ctx --url {url} --compression bz2", 2, "'fast'", "--help"),
    Case("E2B_UPLOAD_COMPRESSION", _PUT, 2, "for 'E2B_UPLOAD_COMPRESSION': ", "--help",
         env={"E2B_UPLOAD_COMPRESSION": "bz2"}),
    Case("--progress", "build ctx --url {url} --progress odd", 2, "'plain'", "--help"),
    Case("E2B_UPLOAD_PROGRESS", _PUT, 2, "for 'E2B_UPLOAD_PROGRESS': ", "--help",
         env={"E2B_UPLOAD_PROGRESS": "odd"}),
    Case("--retries negative", "build ctx --url {url} --retries -1", 2, "'--retries'", "--help"),
    Case("--retries no number", "build ctx --url {url} --retries few", 2, "'--retries'", "--help"),
    Case("E2B_UPLOAD_RETRIES", _PUT, 2, "for 'E2B_UPLOAD_RETRIES': ", "--help",
         env={"E2B_UPLOAD_RETRIES": "few"}),
    Case("--connect-timeout 0", "build ctx --url {url} --connect-timeout 0", 2,
         "0 is no time for --connect-timeout", "more than 0"),
    Case("--stall-timeout negative", "build ctx --url {url} --stall-timeout -1", 2,
         "-1 is no time for --stall-timeout", "more than 0"),
    Case("--max-time nan", "build ctx --url {url} --max-time nan", 2,
         "nan is no time for --max-time", "more than 0"),
    Case("E2B_UPLOAD_MAX_TIME", _PUT, 2, "inf is no time for E2B_UPLOAD_MAX_TIME", "more than 0",
         env={"E2B_UPLOAD_MAX_TIME": "inf"}),
    Case("--color", "build ctx --url {url} --color odd", 2, "'never'", "--help"),
    # The context.
    Case("context missing", "build nowhere --url {url}", 2, "nowhere does not exist", "folder"),
    Case("context a file", "build ctx/a --url {url}", 2, "ctx/a is not a directory", "folder"),
    Case("context empty", "build '' --url {url}", 2, "context", "folder"),
    Case("context missing, packed", "pack nowhere -o kept", 2, "nowhere does not exist", "folder"),
    Case("context missing, listed", "ls nowhere", 2, "nowhere does not exist", "folder"),
    Case("context a file, listed", "ls ctx/a", 2, "ctx/a is not a directory", "folder"),
    Case("context empty, listed", "ls ''", 2, "context", "folder"),
    Case("context missing, explained", "explain nowhere a", 2, "nowhere does not exist", "folder"),
    # Paths in it.
    Case("outside", "explain ctx a ../ctx/a", 2, "../ctx/a lies outside of the context ctx",
         "Paths are taken from the context"),
    Case("outside, absolute", "explain ctx /a", 2, "/a lies outside of the context ctx",
         "Paths are taken from the context"),
    Case("outside, from standard input", "explain ctx -", 2, ".. lies outside of the context ctx",
         "Paths are taken from the context", stdin="a\n..\n"),
    Case("PATH empty", "explain ctx ''", 2, "a path is empty", "Name a path"),
    Case("a line empty", "explain ctx -", 2, "a path is empty", "Name a path", stdin="a\n\na\n"),
    Case("a line with a zero byte", "explain ctx -", 2, r"a\x00b is no path", "Name a path",
         stdin="a\0b\n"),
    Case("a line too long", "explain ctx -", 2, "longer than 65536 bytes", "one path a line",
         stdin="a/" * 32769),
    # The archive.
    Case("archive missing", _SEND, 2, "the archive archive cannot be opened: No such file",
         "that is there"),
    Case("archive without a name", "put '' --url {url}", 2, "cannot be opened", "that is there"),
    Case("archive a folder", "put ctx --url {url}", 2, "ctx cannot be opened: Is a directory",
         "that is there"),
    Case("archive a device", "put /dev/null --url {url}", 2, "/dev/null is not a regular file",
         "write it to a file first"),
    Case("archive empty", _SEND, 2, "the archive archive is empty", "Did what should have written",
         files={"archive": ""}),
    Case("standard input empty, put", "put - --url {url}", 2, "the archive is empty",
         "Did what should have written"),
    # The URL.
    Case("ftp, put", "put archive --url 'ftp://store.invalid/k?{query}'", 2, "https://", "exactly",
         files=_ARCHIVE),
    Case("URL empty, put", "put archive --url ''", 2, "the URL is empty", "variable",
         files=_ARCHIVE),
    Case("URL file missing, put", "put archive --url-file u", 2, "from u: No such file",
         "file that"),
    Case("no URL", "build ctx", 2, "there is no URL", "E2B_UPLOAD_URL"),
    Case("E2B_UPLOAD_URL empty", "build ctx", 2, "there is no URL", "E2B_UPLOAD_URL",
         env={"E2B_UPLOAD_URL": ""}),
    Case("E2B_UPLOAD_URL empty, put", "put archive", 2, "there is no URL", "E2B_UPLOAD_URL",
         env={"E2B_UPLOAD_URL": ""}, files=_ARCHIVE),
    Case("empty URL", "build ctx --url ''", 2, "the URL is empty", "variable"),
    Case("blank URL", "build ctx --url ' \n'", 2, "the URL is empty", "variable"),
    Case("no scheme", "build ctx --url 'store.invalid/k?{query}'", 2, "https://", "exactly"),
    Case("ftp", "build ctx --url 'ftp://store.invalid/k?{query}'", 2, "https://", "exactly"),
    Case("file", "build ctx --url 'file:///k?{query}'", 2, "must begin with https://", "exactly"),
    Case("no host", "build ctx --url 'https:///k?{query}'", 2, "has no host", "exactly"),
    Case("odd port", "build ctx --url 'https://h:odd/k?{query}'", 2, "not parse", "exactly"),
    Case("odd address", "build ctx --url 'https://[::1/k?{query}'", 2, "not parse", "exactly"),
    Case("user info", f"build ctx --url 'https://u:{PASSWORD}@h/k?{{query}}'", 2,
         "the URL https://h/k holds a user name or password", "Leave them out"),
    Case("user info with a slash", f"build ctx --url 'https://u:{PASSWORD}/@h/k?{{query}}'", 2,
         "does not parse", "exactly"),
    Case("space in the URL", "build ctx --url 'https://h/k?a=1 &{query}'", 2, "space", "encoded"),
    Case("new line in the URL", "build ctx --url 'https://h/k?a=1\n&{query}'", 2, "several lines",
         "Join"),
    Case("letter in the URL", "build ctx --url 'https://h/ü?{query}'", 2, "ASCII", "encoded"),
    Case("URL out of HTML", "build ctx --url 'https://h/k?a=1&amp;{query}'", 2, "&amp;", "with &"),
    Case("quotes around E2B_UPLOAD_URL", "build ctx", 2, "quotes around it", "--env-file",
         env={"E2B_UPLOAD_URL": "'https://h/k?{query}'"}),
    Case("a name before the URL", "build ctx --url-file u", 2, "a name before it", "follows",
         files={"u": "E2B_UPLOAD_URL=https://h/k?{query}\n"}),
    Case("URL out of JSON", r"build ctx --url 'https://h/k?a=1\u0026{query}'", 2, "JSON", "jq -r"),
    Case("a curl command", "build ctx --url -", 2, "a longer text", "-H",
         stdin="curl -T f 'https://h/k?{query}'"),
    Case("backslash in the host", r"build ctx --url 'https://h\k?{query}'", 2, "in its host",
         "exactly"),
    Case("dots in the URL", "build ctx --url 'https://h/a/../k?{query}'", 2, "..", "key"),
    Case("URL file missing", "build ctx --url-file u", 2, "from u: No such file", "file that"),
    Case("URL file a folder", "build ctx --url-file ctx", 2, "ctx: Is a directory", "file that"),
    Case("URL file empty", "build ctx --url-file u", 2, "the URL is empty", "--url-file",
         files={"u": ""}),
    Case("URL file empty, a URL in the environment", "build ctx --url-file u", 2,
         "error: the URL is empty", "--url-file", files={"u": ""}, env={"E2B_UPLOAD_URL": "{url}"}),
    Case("URL file too long", "build ctx --url-file u", 2, "longer than 65536 bytes", "right file",
         files={"u": "https://h/k?a=" + "b" * 65536}),
    Case("standard input empty", "build ctx --url -", 2, "the URL is empty", "--url -"),
    # Headers.
    Case("CR LF", "build ctx --url {url} -H 'X: a\r\nY: b'", 2, "X holds a line break", "Encode"),
    Case("LF", "build ctx --url {url} -H 'X: a\n'", 2, "X holds a line break", "Encode"),
    Case("CR LF in a name", "build ctx --url {url} -H 'X\r\nY: b'", 2, r"X\r\nY", "Name: value"),
    Case("Content-Length", "build ctx --url {url} -H 'content-length: 1'", 2, "content-length",
         "Leave it out"),
    Case("Transfer-Encoding", "build ctx --url {url} -H 'Transfer-Encoding: chunked'", 2,
         "Transfer-Encoding", "Leave it out"),
    Case("no colon", "build ctx --url {url} -H Nocolon", 2, "Nocolon", "Name: value"),
    Case("no colon, a secret", f"build ctx --url {{url}} -H X-Amz-Security-Token={TOKEN}", 2,
         "X-Amz-Security-Token", "Name: value"),
    Case("no name", "build ctx --url {url} -H ': a'", 2, "not the name of a header", "Name: value"),
    Case("twice", "build ctx --url {url} -H 'X: a' -H 'x: b'", 2, "x is given twice", "once"),
    Case("Content-Length, put", "put archive --url {url} -H 'Content-Length: 1'", 2,
         "Content-Length", "Leave it out", files=_ARCHIVE),
    Case("no colon, put", "put archive --url {url} -H Nocolon", 2, "Nocolon", "Name: value"),
    # Patterns.
    Case("bad pattern, packed", "pack ctx -o kept", 2, ".dockerignore, line 1: the pattern 'a['",
         "correct the pattern", files={"ctx/.dockerignore": "a["}),
    Case("bad pattern, listed", "ls ctx", 2, ".dockerignore, line 1: the pattern 'a['",
         "correct the pattern", files={"ctx/.dockerignore": "a["}),
    Case("bad pattern, explained", "explain ctx a", 2, ".dockerignore, line 1: the pattern 'a['",
         "correct the pattern", files={"ctx/.dockerignore": "a["}),
    Case("bad pattern, standard input", "ls ctx --ignore-file -", 2, "-, line 2: the pattern 'a['",
         "correct the pattern", stdin="b\na["),
    Case("bad --exclude, explained", "explain ctx a -x b -x 'a['", 2, "--exclude (option 2)",
         "correct the pattern"),
    Case("ignore file missing, listed", "ls ctx --ignore-file f", 2, "f does not exist",
         "from the working folder"),
    Case("bad pattern", _PUT, 2, ".dockerignore, line 3: the pattern 'a[' does not parse",
         "correct the pattern", files={"ctx/.dockerignore": "# a comment\n\n  a[\n"}),
    Case("bad pattern, other file", "build ctx --url {url} --ignore-file f", 2,
         "f, line 2: the pattern '!' excludes nothing", "correct the pattern",
         files={"f": "*.log\n!\n"}),
    Case("bad --exclude", "build ctx --url {url} -x good -x 'a['", 2,
         "--exclude (option 2): the pattern 'a[' does not parse", "correct the pattern"),
    Case("lone backslash", r"build ctx --url {url} -x 'a\'", 2, r"'a\' does not parse", "correct"),
    Case("empty --exclude", "build ctx --url {url} -x ''", 2, "--exclude (option 1)", "Leave"),
    Case("ignore file missing", "build ctx --url {url} --ignore-file f", 2, "f does not exist",
         "from the working folder"),
    Case("E2B_UPLOAD_IGNORE_FILE missing", _PUT, 2,
         "E2B_UPLOAD_IGNORE_FILE: the ignore file f does not exist", "from the working folder",
         env={"E2B_UPLOAD_IGNORE_FILE": "f"}),
    # The way there.
    *(
        Case(f"{name} missing", _PUT, 2, f"no-ca.pem ({name}): No such file", name, tls=True,
             env={name: "no-ca.pem"})
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    ),
    Case("odd proxy", _HTTPS, 2, "cannot be requested", "HTTPS_PROXY",
         env={"HTTPS_PROXY": f"odd://u:{PASSWORD}@{{refusing}}"}),
    # E2B.
    *(
        Case(f"{option} without a template", f"build ctx --dry-run {option} {value}", 2,
             f"{option} needs a template", "--template NAME_OR_ID")
        for option, value in (
            ("--copy", "a:/a"), ("--dockerfile", "D"), ("--force", ""), ("--create", ""),
            ("--api-key-file", "k"), ("--api-url", "http://h"), ("--domain", "h"),
        )
    ),
    *(
        Case(f"{option} with a template", f"{_TEMPLATE} {option} {value}", 2,
             f"{option} and --template exclude", hint, env=_E2B)
        for option, value, hint in (
            ("--url", "{url}", "E2B says where"), ("--url-file", "u", "E2B says where"),
            ("-o", "kept", "none is kept"), ("--ignore-file", "f", "CONTEXT/.dockerignore"),
            ("--no-ignore", "", "CONTEXT/.dockerignore"), ("--warn-size", "1GB", "--largest 10"),
            ("--allow-empty", "", "A COPY that matches nothing"),
        )
    ),
    Case("no key", _TEMPLATE, 2, "there is no API key", "E2B_API_KEY"),
    Case("key empty", _TEMPLATE, 2, "there is no API key", "E2B_API_KEY", env={"E2B_API_KEY": ""}),
    Case("key of two words", _TEMPLATE, 2, "key of E2B holds a space", "key alone",
         env={"E2B_API_KEY": "{key} {key}"}),
    Case("key file missing", f"{_TEMPLATE} --api-key-file k", 2, "from k: No such file",
         "file that"),
    Case("key file too long", f"{_TEMPLATE} --api-key-file k", 2, "longer than 65536 bytes",
         "right file", files={"k": "{key}" * 2000}),
    Case("key on the command line", f"{_TEMPLATE} --api-key {{key}}", 2, "No such option",
         "--help"),
    Case("key for CONTEXT", "build {key} --dry-run", 2, "does not exist", "folder"),
    Case("--api-url empty", f"{_TEMPLATE} --api-url ''", 2, "--api-url is empty", "variable",
         env=_E2B),
    Case("--domain empty", f"{_TEMPLATE} --domain ''", 2, "--domain is empty", "variable",
         env=_E2B),
    Case("--domain no domain", f"{_TEMPLATE} --domain a/b", 2, "no domain", "E2B_DOMAIN", env=_E2B),
    Case("API's address with user info", f"{_TEMPLATE} --api-url http://u:{PASSWORD}@h", 2,
         "holds a user name or password", "E2B_API_URL", env=_E2B),
    Case("E2B_API_URL of another kind", _TEMPLATE, 2,
         "E2B_API_URL: the address of E2B's API: the URL must begin with", "E2B_API_URL",
         env=_E2B | {"E2B_API_URL": "ftp://h"}),
    Case("E2B_DOMAIN no domain", _TEMPLATE, 2, "E2B_DOMAIN: the domain of E2B's API", "E2B_DOMAIN",
         env={"E2B_API_KEY": "{key}", "E2B_DOMAIN": "a/b"}),
    Case("no name", "build ctx --template '' --copy a:/a", 2, "is not the name or the id", "name",
         env=_E2B),
    Case("nothing to copy", "build ctx --template t", 2, "nothing to copy", "--copy SRC:DEST",
         env=_E2B),
    Case("--copy --dockerfile", f"{_TEMPLATE} --dockerfile D", 2, "--copy and --dockerfile exclude",
         "Choose one", env=_E2B),
    Case("a COPY and a Dockerfile to hash", "hash ctx --copy a:/a --dockerfile D", 2,
         "--copy and --dockerfile exclude each other", "Choose one", files={"D": "COPY a /a"}),
    Case("a Dockerfile and an ignore file", "ls ctx --dockerfile D --no-ignore", 2,
         "--no-ignore and --dockerfile exclude each other", ".dockerignore",
         files={"D": "COPY a /a"}),
    Case("a Dockerfile that is not there", "explain ctx a --dockerfile D", 2, "D", ""),
    Case("nothing to hash", "hash ctx", 2, "nothing to hash", "--copy SRC:DEST"),
    *(
        Case(f"{name}, {command.split()[0]}", command.replace("COPY", copy), 2, message, hint,
             env=_E2B)
        for command in ("build ctx --template t --copy COPY", "hash ctx --copy COPY",
                        "ls ctx --copy COPY", "explain ctx a --copy COPY")
        for name, copy, message, hint in (
            ("no DEST", "a", "a does not say what to copy", "SRC:DEST"),
            ("SRC absolute", "/a:/a", "/a is absolute", "relative to the context"),
            ("SRC outside", "../a:/a", "../a leads out", "name a folder above"),
        )
    ),
    Case("ignore file for a COPY, listed", "ls ctx --copy a:/a --no-ignore", 2,
         "--no-ignore and --copy exclude", "CONTEXT/.dockerignore"),
    Case("ignore file for a COPY, explained", "explain ctx a --copy a:/a --ignore-file f", 2,
         "--ignore-file and --copy exclude", "CONTEXT/.dockerignore"),
    Case("Dockerfile missing", "build ctx --template t --dockerfile D", 2,
         "the Dockerfile D cannot be read: No such file", "Name a file", env=_E2B),
    Case("Dockerfile empty", "build ctx --template t --dockerfile ''", 2, "--dockerfile is empty",
         "variable", env=_E2B),
    Case("Dockerfile of several stages", "build ctx --template t --dockerfile D", 2,
         "D:2: it has several stages", "correct it", env=_E2B, files={"D": "FROM a\nFROM b\n"}),
    Case("Dockerfile that copies nothing", "build ctx --template t --dockerfile D", 2,
         "copies nothing", "uploads nothing", env=_E2B, files={"D": "FROM a\n"}),
    Case("a plain tar for a template", f"{_TEMPLATE} --compression none", 2, "no plain tar",
         "--compression", env=_E2B),
    Case("a bad pattern, hashed", "hash ctx --copy .:/a -x 'a['", 2, "a[", "correct the pattern"),
]  # fmt: skip

SOURCE: Final = [
    Case("ignore file a folder", "build ctx --url {url} --ignore-file ctx", 3,
         "the ignore file ctx cannot be read: Is a directory", "--no-ignore"),
    *(
        Case(f"ignore file a folder, {verb}", f"{command} --ignore-file ctx", 3,
             "the ignore file ctx cannot be read: Is a directory", "--no-ignore")
        for verb, command in (
            ("packed", "pack ctx -o kept"), ("listed", "ls ctx"), ("explained", "explain ctx a")
        )
    ),
    Case("a COPY of nothing", "hash ctx --copy b:/a", 3, "b matches nothing", ".dockerignore"),
    Case("a COPY of nothing, built", "build ctx --template t --copy b:/a", 3, "b matches nothing",
         ".dockerignore", env=_E2B, scripts=(_KNOWN,)),
    Case("a credential for a template", "build ctx --template t --copy .:/a --secrets deny", 3,
         "ctx/.env looks like an environment file", "--secrets", env=_E2B, scripts=(_KNOWN, link()),
         files={"ctx/.env": "TOKEN=x"}),
]  # fmt: skip

SPOOL: Final = [
    Case("spool folder missing", "build ctx --url {url} --spool-dir no", 4, "in no: No such file",
         "--spool-dir"),
    Case("spool folder a file", "build ctx --url {url} --spool-dir ctx/a", 4,
         "in ctx/a: Not a directory", "--spool-dir"),
    Case("E2B_UPLOAD_SPOOL_DIR missing", _PUT, 4,
         "E2B_UPLOAD_SPOOL_DIR: no archive can be written in no: No such file", "--spool-dir",
         env={"E2B_UPLOAD_SPOOL_DIR": "no"}),
    Case("TMPDIR missing", _PUT, 4, "in no: No such file", "TMPDIR", env={"TMPDIR": "no"}),
    Case("-o in a missing folder", "build ctx --url {url} -o no/kept", 4, "no such folder", "-o"),
    Case("-o a folder", "build ctx --url {url} -o ctx", 4, "ctx: it is a folder", "-o"),
    Case("-o full", "build ctx --url {url} -o /dev/full", 4, "the disk is full", "Make room"),
    Case("spool folder missing, packed", "pack ctx -o kept --spool-dir no", 4,
         "in no: No such file", "--spool-dir"),
    Case("spool folder missing, put", "put - --url {url} --spool-dir no", 4, "in no: No such file",
         "--spool-dir", stdin="archive"),
    Case("E2B_UPLOAD_SPOOL_DIR missing, put", "put - --url {url}", 4, "in no: No such file",
         "--spool-dir", stdin="archive", env={"E2B_UPLOAD_SPOOL_DIR": "no"}),
    Case("TMPDIR missing, put", "put - --url {url}", 4, "in no: No such file", "TMPDIR",
         stdin="archive", env={"TMPDIR": "no"}),
    Case("packed in a missing folder", "pack ctx -o no/kept", 4, "no such folder", "-o"),
    Case("packed as a folder", "pack ctx -o ctx", 4, "ctx: it is a folder", "-o"),
    Case("packed, full", "pack ctx -o /dev/full", 4, "the disk is full", "Make room"),
    Case("spool folder missing, template", f"{_TEMPLATE} --spool-dir no", 4, "in no: No such file",
         "--spool-dir", env=_E2B, scripts=(_KNOWN, link())),
]  # fmt: skip

UNAVAILABLE: Final = [
    Case("nobody listens", "build ctx --url 'http://{refusing}/k?{query}'", 5, "refused", "later"),
    Case("500", _PUT, 5, "500", "later", scripts=(answer(500),)),
    Case("503", _PUT, 5, "503 SlowDown: breathe", "later",
         scripts=(answer(503, xml("SlowDown", "breathe")),)),
    Case("hangs up", _PUT, 5, "closed without an answer", "Try again", scripts=(hang_up,)),
    Case("resets", _PUT, 5, "broke after", "Try again", scripts=(reset_after(1),)),
    Case("no HTTP", _PUT, 5, "the answer is not HTTP", "Try again", scripts=(garbage(),)),
    Case("nobody listens, put", "put archive --url 'http://{refusing}/k?{query}'", 5, "refused",
         "later", files=_ARCHIVE),
    Case("503, put", _SEND, 5, "503 SlowDown: breathe", "later", files=_ARCHIVE,
         scripts=(answer(503, xml("SlowDown", "breathe")),)),
    Case("hangs up, put standard input", "put - --url {url}", 5, "closed without an answer",
         "Try again", scripts=(hang_up,), stdin="archive"),
    Case("never answers, put", "put archive --url {url} --max-time 0.1", 5, "was not done in 0.1",
         "--max-time", files=_ARCHIVE, scripts=(silent(),)),
    Case("stores something else", _PUT, 5, "stored something else than the archive",
         "on the way", scripts=(_ALTERED,)),
    Case("stores something else, put", _SEND, 5, "stored something else than the archive",
         "on the way", files=_ARCHIVE, scripts=(_ALTERED,)),
    Case("no proxy", _HTTPS, 5, "proxy on the way to store.invalid", "HTTPS_PROXY",
         env={"HTTPS_PROXY": f"http://u:{PASSWORD}@{{refusing}}"}),
    Case("no API listens", _TEMPLATE, 5, "refused", "later",
         env=_E2B | {"E2B_API_URL": "http://{refusing}"}),
    Case("API: 500", _TEMPLATE, 5, "500", "later", env=_E2B, scripts=(api(500, {}),)),
    Case("API: 429", _TEMPLATE, 5, "429", "later", env=_E2B, scripts=(api(429, {}),)),
    Case("API: 500 for the link", _TEMPLATE, 5, "500", "later", env=_E2B,
         scripts=(_KNOWN, api(500, {}))),
    Case("500 of the store, template", _TEMPLATE, 5, "500", "later", env=_E2B,
         scripts=(_KNOWN, link(), answer(500))),
    Case("stores something else, template", _TEMPLATE, 5, "stored something else", "on the way",
         env=_E2B, scripts=(_KNOWN, link(), _ALTERED)),
]  # fmt: skip

REFUSED: Final = [
    Case("403", _PUT, 6, "403 AccessDenied: expired (request id R3QU35T)", "fresh URL",
         scripts=(answer(403, xml("AccessDenied", "expired")),)),
    Case("403 that tells the secret", _PUT, 6, "403 SignatureDoesNotMatch", "-H",
         scripts=(answer(403, _ECHO),)),
    Case("403 without a word", _PUT, 6, "403", "fresh URL", scripts=(answer(403),)),
    Case("404", _PUT, 6, "404 NoSuchBucket", "bucket",
         scripts=(answer(404, xml("NoSuchBucket", "no such bucket")),)),
    Case("413", _PUT, 6, "413", "send less", scripts=(answer(413),)),
    Case("501", _PUT, 6, "501", "presigned PUT URL", scripts=(answer(501),)),
    Case("418", _PUT, 6, "418", "look at the URL", scripts=(answer(418),)),
    *(
        Case(str(status), _PUT, 6, "redirected (to https://h/k?…)", "endpoint",
             scripts=(redirect(status, f"https://h/k?{QUERY}"),))
        for status in (301, 302, 303)
    ),
    Case("redirected for ever", _PUT, 6, "more than 5 times", "endpoint",
         scripts=(redirect(307, f"/again?{QUERY}"),)),
    Case("redirected to http", _PUT, 6, "not encrypted", "endpoint", tls=True,
         env={"REQUESTS_CA_BUNDLE": "{ca}"}, scripts=(redirect(308, f"http://h/k?{QUERY}"),)),
    Case("untrusted certificate", _PUT, 6, "certificate of localhost", "REQUESTS_CA_BUNDLE",
         tls=True),
    Case("403, put", _SEND, 6, "403 AccessDenied: expired (request id R3QU35T)", "fresh URL",
         files=_ARCHIVE, scripts=(answer(403, xml("AccessDenied", "expired")),)),
    Case("403, put standard input", "put - --url {url}", 6, "403", "fresh URL", stdin="archive",
         scripts=(answer(403),)),
    *(
        Case(f"{name}{', put' * ('put' in command)}", f"{command} --url 'https://h/k?{query}'", 6,
             message, hint, files=_ARCHIVE)
        for command in ("build ctx", "put archive")
        for name, query, message, hint in (
            ("expired", f"{_EXPIRED}&{QUERY}", "expired", "fresh URL"),
            ("signed header missing", "X-Amz-SignedHeaders=host;x-amz-acl&" + QUERY,
             "headers that are not sent: x-amz-acl", "-H 'x-amz-acl: …'"),
            ("may only be read", "sv=1&sig=not-known-to-anybody&sp=r", "no permission to write",
             "may create or write"),
        )
    ),
    Case("an error document with 200", _PUT, 6, "200 AccessDenied", "fresh URL",
         scripts=(answer(200, xml("AccessDenied", "no")),)),
    Case("a page with 200", _PUT, 6, "HTML page", "login",
         scripts=(answer(200, b"<!doctype html>"),)),
    Case("the object exists", _PUT + " -H 'If-None-Match: *'", 6, "412", "condition",
         scripts=(answer(412),)),
    Case("--if-absent that is not signed",
         "build ctx --url 'https://h/k?GoogleAccessId=me&{query}' --if-absent", 6,
         "only if the header x-goog-if-generation-match: 0 was signed", "Ask for a URL"),
    Case("larger than --max-size", f"{_PUT} --max-size 10", 6, "larger than the 10 that are",
         "Or allow more: --max-size"),
    Case("larger than --max-size, dry run", f"{_PUT} --max-size 10 --dry-run", 6,
         "larger than the 10 that are", "Or allow more: --max-size"),
    Case("larger than --max-size, put", f"{_SEND} --max-size 19B", 6, "larger than the 19 that are",
         "Or allow more: --max-size", files=_ARCHIVE),
    Case("larger than --max-size, put standard input", "put - --url {url} --max-size 0", 6,
         "larger than the 0 that are", "Or allow more: --max-size", stdin="archive"),
    Case("407 of a tunnel", _HTTPS, 6, "proxy refused the way to store.invalid: 407", "NO_PROXY",
         scripts=(early(407),), env={"HTTPS_PROXY": f"http://u:{PASSWORD}@127.0.0.1:{{port}}"}),
    Case("407 of a proxy", "build ctx --url 'http://store.invalid/k?{query}'", 6, "407", "NO_PROXY",
         scripts=(answer(407),), env={"HTTP_PROXY": f"http://u:{PASSWORD}@127.0.0.1:{{port}}"}),
    Case("a wrong key", _TEMPLATE, 6, "refuses the API key", "E2B_API_KEY", env=_E2B,
         scripts=(api(401, {"code": 401, "message": "Invalid API key {url}"}),)),
    Case("a template that is not there", _TEMPLATE, 6, "this team has no template 't'", "--create",
         env=_E2B, scripts=(_UNKNOWN,)),
    Case("a template of another team", _TEMPLATE, 6, "the template 't' is another team's",
         "E2B_API_KEY", env=_E2B, scripts=(api(403, {"code": 403, "message": "no access"}),)),
    Case("a template that is gone", _TEMPLATE, 6, "not this team's, or is gone", "right template",
         env=_E2B, scripts=(_KNOWN, _UNKNOWN)),
    Case("a name that is taken", f"{_TEMPLATE} --create", 6, "cannot have a template 't'",
         "another name", env=_E2B,
         scripts=(_UNKNOWN, _UNKNOWN, api(403, {"code": 403, "message": "already used"}))),
    Case("a link without a URL", _TEMPLATE, 6, "it gave no URL to upload to", "E2B_API_URL",
         env=_E2B, scripts=(_KNOWN, api(201, {"present": False}))),
    Case("a link of another kind", _TEMPLATE, 6, "the URL must begin with https://", "E2B_API_URL",
         env=_E2B, scripts=(_KNOWN, link(url=f"ftp://h/k?{QUERY}"))),
    Case("no API at all", _TEMPLATE, 6, "without an object of JSON", "E2B_API_URL", env=_E2B,
         scripts=(answer(200, b"<h1>Welcome"),)),
    Case("malformed JSON for the link", _TEMPLATE, 6, "without an object of JSON", "E2B_API_URL",
         env=_E2B, scripts=(_KNOWN, answer(201, b'{"present": fal'))),
    Case("the API redirects", _TEMPLATE, 6, "where the key does not go", "E2B_API_URL", env=_E2B,
         scripts=(redirect(301, f"https://h/k?{QUERY}"),)),
    Case("403 of the store, template", _TEMPLATE, 6, "403 AccessDenied", "E2B gave the URL",
         env=_E2B, scripts=(_KNOWN, link(), answer(403, xml("AccessDenied", "no")))),
    Case("larger than --max-size, template", f"{_TEMPLATE} --max-size 10", 6,
         "larger than the 10 that are", "--max-size", env=_E2B, scripts=(_KNOWN, link())),
]  # fmt: skip

FAILED: Final = [*USAGE, *SOURCE, *SPOOL, *UNAVAILABLE, *REFUSED]
