"""Commands and their outcomes, one row each.

In a command, its environment, its input, and its files, `{url}` is a presigned URL of a server that
runs the scripts, and `{query}` is the query of that URL. `{refusing}` is an address that refuses
connections, `{api}` is the server as E2B's API, and `{key}` is an API key.
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
"""Each command, and the keys of its JSON object on success."""

MISTAKES: Final = {
    "build": "build nowhere --dry-run",
    "pack": "pack nowhere -o kept",
    "put": "put nowhere --url http://h/k",
    "ls": "ls nowhere",
    "explain": "explain nowhere a",
    "hash": "hash nowhere --copy a:/a",
}
"""Each command, with a path that does not exist."""


@dataclass(frozen=True)
class Case:
    """One command and its outcome.

    Attributes:
        command: the arguments, quoted as for a shell.
        code: the exit code.
        message: part of the error message.
        hint: part of the hint.
        env: environment variables.
        stdin: the content of standard input.
        asked: standard output without `--json`.
        scripts: the responses of the server.
        tls: True if the server speaks TLS; `{ca}` is a file with the CA of its certificate.
        files: files in the current directory, besides the context `ctx` with its file `a`.
    """

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
        return " ".join([*self.env, self.command]) + f": {self.message}" * bool(self.message)

    @property
    def verb(self) -> str:
        return self.command.split()[0]

    @property
    def keys(self) -> list[str]:
        """The keys of the JSON object on success."""
        words = self.command.split()
        more = ["largest"] if "--largest" in words else []
        return TEMPLATE_KEYS if "--template" in words else KEYS[self.verb] + more


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
    """Respond as E2B's API does; `{url}` becomes a presigned URL of this server."""

    return lambda connection: _say(connection, connection.read_head(), status, said)


def _say(connection: Connection, head: bytes, status: int, said: object) -> None:
    connection.read_body()
    host = re.search(rb"(?im)^host: *(\S+)", head)
    assert host is not None
    url = f"http://{host[1].decode()}/bucket/key?{QUERY}"
    body = json.dumps(said).replace("{url}", url).encode()
    connection.send(response(status, body, {"Content-Type": "application/json"}))


def link(**more: object) -> Script:
    """Respond with an upload link, changed by `more`."""
    return api(201, {"present": False, "url": "{url}", **more})


def link_or_store(present: Collection[str] = (), **more: object) -> Script:
    """Respond as E2B's API, which has the files of some hashes, or as the store."""

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
    """Return the hash that E2B's SDK computes for `--copy a:/a`; it depends on the umask."""
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
_DENIED = answer(403, xml("AccessDenied", "expired"))
_EXPIRED = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20200101T000000Z&X-Amz-Expires=60"
    "&X-Amz-SignedHeaders=host"
)
_VARIABLES = (
    *("E2B_UPLOAD_URL", "E2B_UPLOAD_IGNORE_FILE", "E2B_UPLOAD_COMPRESSION", "SOURCE_DATE_EPOCH"),
    *("E2B_UPLOAD_RETRIES", "E2B_UPLOAD_CONNECT_TIMEOUT", "E2B_UPLOAD_STALL_TIMEOUT"),
    *("E2B_UPLOAD_MAX_TIME", "E2B_UPLOAD_MAX_SIZE", "E2B_UPLOAD_THREADS", "E2B_UPLOAD_SECRETS"),
    *("E2B_UPLOAD_WARN_SIZE", "E2B_UPLOAD_SPOOL_DIR", "E2B_UPLOAD_PROGRESS"),
    *("NO_COLOR", "FORCE_COLOR", "HTTPS_PROXY"),
)
_TEMPLATE = "build ctx --template t --copy a:/a"
_E2B = {"E2B_API_KEY": "{key}", "E2B_API_URL": "{api}"}
_KNOWN = api(200, {"templateID": "z9y8x7", "public": False})
_UNKNOWN = api(404, {"code": 404, "message": "not found"})
_UNSET = dict.fromkeys(_VARIABLES, "")
_HTTPS = "build ctx --url 'https://store.invalid/bucket/key?{query}'"
_OTHER = {"E2B_UPLOAD_URL": "not used"}
_DOCKERFILE = {"D": "FROM x\nCOPY a /a\n"}
_BAD = {"ctx/.dockerignore": "# a comment\n\n  a[\n"}

DONE: Final = [
    Case(_PUT, env={"E2B_UPLOAD_URL": "not used"}),
    Case(_PUT, tls=True, env={"REQUESTS_CA_BUNDLE": "{ca}"}),
    Case("build ctx", env={"E2B_UPLOAD_URL": "{url}\n"}),
    Case("build ctx --url -", stdin="{url}\r\n"),
    Case("build ctx --url ' {url} '"),
    Case("build ctx --url-file u", files={"u": "\n{url}\n"}, env=_OTHER),
    Case(_PUT, scripts=(redirect(307, f"/elsewhere?{QUERY}"), STORED)),
    Case("build ctx --url {url} -o kept.tar.gz"),
    Case("build ctx --url {url} --dry-run"),
    Case("build ctx --dry-run"),
    Case("pack ctx -o kept", env={"E2B_UPLOAD_URL": "{url}"}),
    Case("put archive", files=_ARCHIVE, env={"E2B_UPLOAD_URL": "{url}\n"}),
    Case("put archive --url-file -", stdin="{url}\n", files=_ARCHIVE),
    Case("put - --url-file u", stdin="not quite an archive", files={"u": "{url}"}),
    Case("put ./- --url -", stdin="{url}", files={"-": "archive"}),
    Case(_SEND, files=_ARCHIVE, scripts=(redirect(307, f"/elsewhere?{QUERY}"), STORED)),
    Case("ls ctx", asked="      2 B  a\n"),
    Case("ls ctx --tree", asked="      2 B  ctx/\n      2 B  └── a\n"),
    Case("ls ctx --ignore-file -", stdin="a\n"),
    Case("explain ctx a", asked="kept\tno pattern\ta\n"),
    Case("explain ctx -", stdin="a\n./a", asked="kept\tno pattern\ta\n" * 2),
    Case("explain ctx a --ignore-file -", stdin="#\n a \n", asked="excluded\t-:2:a\ta\n"),
    Case("explain ctx a", stdin="a\n", env={"E2B_UPLOAD_IGNORE_FILE": "-"},
         asked="excluded\t-:1:a\ta\n"),
    # Empty variables count as unset.
    Case(_PUT, env=_UNSET),
    Case("pack ctx -o kept", env=_UNSET),
    Case(_SEND, files=_ARCHIVE, env=_UNSET),
    Case("ls ctx", asked="      2 B  a\n", env=_UNSET),
    Case("explain ctx a", asked="kept\tno pattern\ta\n", env=_UNSET),
    # E2B templates.
    Case(_TEMPLATE, env=_E2B, scripts=(_KNOWN, link(), STORED)),
    Case(_TEMPLATE, env=_E2B, scripts=(_KNOWN, link(present=True))),
    Case(f"{_TEMPLATE} --force", env=_E2B, scripts=(_KNOWN, link(present=True), STORED)),
    Case(f"{_TEMPLATE} --copy .:/b", env=_E2B, scripts=(_KNOWN, link_or_store({files_hash()}))),
    Case(f"{_TEMPLATE} --copy a:/a", env=_E2B, scripts=(_KNOWN, link(), STORED)),
    Case("build ctx --template t --dockerfile D", env=_E2B, scripts=(_KNOWN, link(), STORED),
         files={"D": "FROM x\nWORKDIR /w\nCOPY a .\n"}),
    Case(f"{_TEMPLATE} --dry-run", env=_E2B, scripts=(_KNOWN, link())),
    Case(f"{_TEMPLATE} --create", env=_E2B,
         scripts=(_UNKNOWN, _UNKNOWN, api(202, {"templateID": "z9y8x7"}), link(), STORED)),
    Case(f"{_TEMPLATE} --api-key-file k --api-url {{api}}", files={"k": "{key}\n"},
         env={"E2B_API_KEY": "not used", "E2B_API_URL": "not used"},
         scripts=(_KNOWN, link(), STORED)),
    Case(f"{_TEMPLATE} --api-key-file -", stdin="{key}\n", env={"E2B_API_URL": "{api}"},
         scripts=(_KNOWN, link(), STORED)),
    Case(_TEMPLATE, scripts=(_KNOWN, link(), STORED),
         env=_E2B | _OTHER | {"E2B_UPLOAD_IGNORE_FILE": "nor that",
                              "E2B_UPLOAD_WARN_SIZE": "nor that"}),
    Case("hash ctx --copy a:/a --copy a:/a -x b", asked=f"{files_hash()}\n" * 2),
    Case("ls ctx --copy .:/a -x .dockerignore", asked="           ./\n      2 B  a\n"),
    Case("ls ctx --tree --copy b/*:/a --copy a:/a", files={"ctx/b/c": "c"},
         asked="      3 B  ctx/\n      2 B  ├── a\n      1 B  └── b/\n      1 B      └── c\n"),
    Case("ls ctx --largest 2 --copy b/*:/a", files={"ctx/b/c": "c"},
         asked="      1 B  100%  b/\n      1 B  100%  b/c\n"),
    Case("hash ctx --dockerfile D", asked=f"{files_hash()}\n", files=_DOCKERFILE),
    Case("ls ctx --dockerfile D", asked="      2 B  a\n", files=_DOCKERFILE | {"ctx/c": ""}),
    Case("explain ctx a c --dockerfile D", files=_DOCKERFILE | {"ctx/c": ""},
         asked="kept\tno pattern\ta\nexcluded\tno pattern\tc\t(no COPY takes it)\n"),
    Case("explain ctx a b c --copy a:/a -x b", files={"ctx/b": "", "ctx/c": ""},
         asked="kept\tno pattern\ta\nexcluded\t--exclude:1:b\tb\n"
         "excluded\tno pattern\tc\t(no COPY takes it)\n"),
]  # fmt: skip

USAGE: Final = [
    Case("upload ctx", 2, "No such command 'upload'", "--help"),
    Case("build ctx --frobnicate", 2, "--frobnicate", "--help"),
    Case("build --url {url}", 2, "Missing argument 'CONTEXT'", "--help"),
    Case("build ctx --url", 2, "'--url' requires an argument", "--help"),
    Case("build ctx {url}", 2, "unexpected extra argument", "--help"),
    Case("build ctx --ur {url}", 2, "No such option: --ur", "--help"),
    # Options that exclude each other.
    *(
        Case(f"{command} -q -v", 2, "-q and -v exclude", "Choose one")
        for command in (_PUT, "pack ctx -o kept", _SEND, "ls ctx", "explain ctx a")
    ),
    *(
        Case(f"{command} --no-ignore --ignore-file f", 2, "--no-ignore and --ignore-file exclude",
             "Choose one")
        for command in (_PUT, "pack ctx -o kept", "ls ctx", "explain ctx a")
    ),
    *(
        Case(f"{command} --url {{url}} --url-file u", 2, "--url-file exclude", "Choose one")
        for command in ("build ctx", "put archive")
    ),
    *(
        Case(f"{command} -o {name} --json", 2, "-o - and --json", "-o FILE")
        for command, name in ((_PUT, "-"), ("pack ctx", "/dev/stdout"))
    ),
    Case("ls ctx --tree --json", 2, "--tree and --json exclude", "Choose one"),
    # Standard input can be read only once.
    Case("build ctx --ignore-file - --url -", 2, "--ignore-file and the URL both read standard",
         "a file"),
    Case("put - --url-file -", 2, "FILE and the URL both read", "a file"),
    Case("put -", 2, "FILE and the URL both read", "a file", env={"E2B_UPLOAD_URL": "-"}),
    Case("explain ctx - --ignore-file -", 2, "--ignore-file and PATH both read standard input",
         "a file"),
    Case("explain ctx - a -", 2, "PATH and PATH both read", "a file", stdin="a\n"),
    # Missing arguments, and options of other commands.
    Case("pack ctx", 2, "no file to pack into", "-o FILE"),
    Case("pack ctx -o ''", 2, "-o is empty", "Was the variable set?"),
    Case("put - --url {url} --spool-dir ''", 2, "--spool-dir is empty", "Was the variable set?",
         stdin="archive"),
    Case("ls ctx --ignore-file ''", 2, "--ignore-file is empty", "Was the variable set?"),
    Case("put --url {url}", 2, "Missing argument 'FILE'", "put --help"),
    Case("ls", 2, "Missing argument 'CONTEXT'", "ls --help"),
    Case("explain ctx", 2, "Missing argument 'PATH'", "explain --help"),
    Case("pack ctx -o kept --url {url}", 2, "No such option: --url", "--help"),
    Case("put archive --url {url} --if-absent -H 'If-Match: \"a\"'", 2,
         "--if-absent and the header if-match exclude each other", "Leave if-match out",
         files=_ARCHIVE),
    # Invalid values.
    Case(f"{_SEND} --max-size 5M", 2, "'5M' is not a valid size for --max-size", "500MB",
         files=_ARCHIVE),
    Case("build ctx --dry-run --max-size -1", 2, "is not a valid size", "500MB"),
    Case(_SEND, 2, "'1e3' is not a valid size for E2B_UPLOAD_MAX_SIZE", "500MB", files=_ARCHIVE,
         env={"E2B_UPLOAD_MAX_SIZE": "1e3"}),
    Case(_PUT, 2, "'big' is not a valid size for E2B_UPLOAD_WARN_SIZE", "500MB",
         env={"E2B_UPLOAD_WARN_SIZE": "big"}),
    Case(_PUT + " --max-size 1X", 2, "'1X' is not a valid size for --max-size", "500MB",
         env={"E2B_UPLOAD_MAX_SIZE": "2X"}),
    Case(_PUT + " --retries x", 2, "for '--retries': ", "--help", env={"E2B_UPLOAD_RETRIES": "y"}),
    *(
        Case(command, 2, f"for '{name}': ", "--help", env={name: value}, files=_ARCHIVE)
        for name, value, command in (
            ("E2B_UPLOAD_SECRETS", "maybe", _PUT), ("E2B_UPLOAD_CONNECT_TIMEOUT", "x", _SEND),
            ("SOURCE_DATE_EPOCH", "noon", _PUT), ("E2B_UPLOAD_COMPRESSION", "bz2", _PUT),
            ("E2B_UPLOAD_PROGRESS", "odd", _PUT), ("E2B_UPLOAD_RETRIES", "few", _PUT),
            ("E2B_UPLOAD_THREADS", "65", _PUT),
        )
    ),
    *(
        Case(f"{command} {option} {value}", 2, message or f"'{option}'", "--help")
        for command, option, value, message in (
            (_SEND, "--retries", "-1", ""), (_PUT, "--retries", "few", ""),
            (_PUT, "--mtime", "-1", ""), ("pack ctx -o kept", "--mtime", "noon", ""),
            ("pack ctx -o kept", "--compression", "gzip", "'fast'"),
            (_PUT, "--progress", "odd", "'plain'"), ("ls ctx", "--color", "odd", "'never'"),
            *((_PUT, "--threads", value, "") for value in ("0", "65", "1.5")),
        )
    ),
    *(
        Case(f"{command} {option} {value}", 2, f"{value} is not a valid time for {option}",
             "more than 0", files=_ARCHIVE)
        for command, option, value in (
            (_PUT, "--connect-timeout", "0"), (_PUT, "--stall-timeout", "-1"),
            (_PUT, "--max-time", "nan"), (_SEND, "--max-time", "0"),
        )
    ),
    *(
        Case(_PUT, 2, f"{value} is not a valid time for {name}", "more than 0", env={name: value})
        for name, value in (("E2B_UPLOAD_STALL_TIMEOUT", "-1"), ("E2B_UPLOAD_MAX_TIME", "inf"))
    ),
    Case("build ctx", 2, "E2B_UPLOAD_URL: the URL must begin with https://",
         "exactly as the signer gave it", env={"E2B_UPLOAD_URL": "ftp://h/k?{query}"}),
    Case("put archive", 2, "E2B_UPLOAD_URL: the URL http", "signer",
         files=_ARCHIVE, env={"E2B_UPLOAD_URL": "http://h/a b?{query}"}),
    # The context.
    *(
        Case(command, 2, "nowhere does not exist", "folder")
        for command in (_PUT.replace("ctx", "nowhere"), *MISTAKES.values())
        if not command.startswith(("put", "hash"))
    ),
    Case("build ctx/a --url {url}", 2, "ctx/a is not a directory", "folder"),
    Case("ls ''", 2, "context", "folder"),
    # Paths in it.
    *(
        Case(command, 2, f"{path} lies outside of the context ctx",
             "Paths are taken from the context", stdin="a\n..\n")
        for command, path in (
            ("explain ctx a ../ctx/a", "../ctx/a"), ("explain ctx /a", "/a"),
            ("explain ctx -", ".."),
        )
    ),
    Case("explain ctx ''", 2, "a path is empty", "Name a path"),
    Case("explain ctx -", 2, "a path is empty", "Name a path", stdin="a\n\na\n"),
    Case("explain ctx -", 2, r"a\x00b is no path", "Name a path", stdin="a\0b\n"),
    Case("explain ctx -", 2, "longer than 65536 bytes", "one path a line", stdin="a/" * 32769),
    # The archive.
    Case(_SEND, 2, "the archive archive cannot be opened: No such file", "that is there"),
    Case("put '' --url {url}", 2, "cannot be opened", "that is there"),
    Case("put ctx --url {url}", 2, "ctx cannot be opened: Is a directory", "that is there"),
    Case("put /dev/null --url {url}", 2, "/dev/null is not a regular file",
         "write it to a file first"),
    Case(_SEND, 2, "the archive archive is empty", "Did what should have written",
         files={"archive": ""}),
    Case("put - --url {url}", 2, "the archive is empty", "Did what should have written"),
    # The URL.
    *(
        Case(command, 2, "there is no URL", "E2B_UPLOAD_URL", files=_ARCHIVE, env=env)
        for command in ("build ctx", "put archive")
        for env in ({}, {"E2B_UPLOAD_URL": ""})
    ),
    *(
        Case(f"{command} --url {url}", 2, message, hint, files=_ARCHIVE)
        for command, url, message, hint in (
            ("build ctx", "' \n'", "the URL is empty", "variable"),
            ("build ctx", "-", "the URL is empty", "Pass a URL"),
            ("put archive", "''", "the URL is empty", "variable"),
            ("put archive", "'ftp://store.invalid/k?{query}'", "https://", "exactly"),
            ("build ctx", "'store.invalid/k?{query}'", "https://", "exactly"),
            ("build ctx", "'https://h:odd/k?{query}'", "not parse", "exactly"),
            ("build ctx", f"'https://u:{PASSWORD}@h/k?{{query}}'",
             "the URL https://h/k holds a user name or password", "Leave them out"),
            ("build ctx", f"'https://u:{PASSWORD}/@h/k?{{query}}'", "does not parse", "exactly"),
            ("build ctx", "'https://h/k?a=1\n&{query}'", "several lines", "Join"),
            ("build ctx", "'https://h/ü?{query}'", "ASCII", "encoded"),
        )
    ),
    Case("build ctx", 2, "quotes around it", "--env-file",
         env={"E2B_UPLOAD_URL": "'https://h/k?{query}'"}),
    Case("build ctx --url-file u", 2, "a name before it", "follows",
         files={"u": "E2B_UPLOAD_URL=https://h/k?{query}\n"}),
    Case("build ctx --url -", 2, "a longer text", "--header",
         stdin="curl -T f 'https://h/k?{query}'"),
    Case("put archive --url-file u", 2, "from u: No such file", "file that"),
    Case("build ctx --url-file ctx", 2, "ctx: Is a directory", "file that"),
    Case("build ctx --url-file u", 2, "the URL is empty", "Pass a URL", files={"u": ""},
         env={"E2B_UPLOAD_URL": "{url}"}),
    Case("build ctx --url-file u", 2, "longer than 65536 bytes", "right file",
         files={"u": "https://h/k?a=" + "b" * 65536}),
    # Headers.
    *(
        Case(f"build ctx --url {{url}} -H {header}", 2, message, hint)
        for header, message, hint in (
            ("'X: a\r\nY: b'", "X holds a line break", "Encode"),
            ("'X\r\nY: b'", r"X\r\nY", "Name: value"),
            ("'content-length: 1'", "content-length", "Leave it out"),
            ("'Transfer-Encoding: chunked'", "Transfer-Encoding", "Leave it out"),
            (f"X-Amz-Security-Token={TOKEN}", "X-Amz-Security-Token", "Name: value"),
            ("'X: a' -H 'x: b'", "x is given twice", "once"),
        )
    ),
    Case(f"{_SEND} -H Nocolon", 2, "Nocolon", "Name: value", files=_ARCHIVE),
    # Patterns.
    *(
        Case(command, 2, ".dockerignore, line 3: the pattern 'a[' does not parse",
             "correct the pattern", files=_BAD)
        for command in (_PUT, "pack ctx -o kept", "ls ctx", "explain ctx a")
    ),
    Case("ls ctx --ignore-file -", 2, "-, line 2: the pattern 'a['", "correct the pattern",
         stdin="b\na["),
    *(
        Case(f"{command} -x b -x 'a['", 2, "--exclude (option 2): the pattern 'a[' does not parse",
             "correct the pattern")
        for command in (_PUT, "explain ctx a")
    ),
    Case("build ctx --url {url} -x ''", 2, "--exclude (option 1)", "Leave"),
    Case("ls ctx --ignore-file f", 2, "f does not exist", "relative to the current directory"),
    Case(_PUT, 2, "E2B_UPLOAD_IGNORE_FILE: the ignore file f does not exist",
         "relative to the current directory", env={"E2B_UPLOAD_IGNORE_FILE": "f"}),
    # CA bundles and proxies.
    *(
        Case(_PUT, 2, f"no-ca.pem ({name}): No such file", name, tls=True,
             env={name: "no-ca.pem"})
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    ),
    Case(_HTTPS, 2, "cannot be requested", "HTTPS_PROXY",
         env={"HTTPS_PROXY": f"odd://u:{PASSWORD}@{{refusing}}"}),
    # E2B templates.
    *(
        Case(f"build ctx --dry-run {option} {value}", 2, f"{option} needs a template",
             "--template NAME_OR_ID")
        for option, value in (
            ("--copy", "a:/a"), ("--dockerfile", "D"), ("--force", ""), ("--create", ""),
            ("--api-key-file", "k"), ("--api-url", "http://h"), ("--domain", "h"),
        )
    ),
    *(
        Case(f"{_TEMPLATE} {option} {value}", 2, f"{option} and --template exclude", hint, env=_E2B)
        for option, value, hint in (
            ("--url", "{url}", "E2B says where"), ("--url-file", "u", "E2B says where"),
            ("-o", "kept", "none is kept"), ("--ignore-file", "f", "CONTEXT/.dockerignore"),
            ("--no-ignore", "", "CONTEXT/.dockerignore"), ("--warn-size", "1GB", "--largest 10"),
            ("--allow-empty", "", "A COPY that matches nothing"),
            ("--if-absent", "", ""), ("--ignore-checksum", "", ""),
        )
    ),
    *(
        Case(_TEMPLATE, 2, "there is no API key", "E2B_API_KEY", env=env)
        for env in ({}, {"E2B_API_KEY": ""})
    ),
    Case(_TEMPLATE, 2, "key of E2B holds a space", "key alone",
         env={"E2B_API_KEY": "{key} {key}"}),
    Case(f"{_TEMPLATE} --api-key-file k", 2, "from k: No such file", "file that"),
    Case(f"{_TEMPLATE} --api-key-file k", 2, "longer than 65536 bytes", "right file",
         files={"k": "{key}" * 2000}),
    Case(f"{_TEMPLATE} --api-key {{key}}", 2, "No such option", "--help"),
    Case("build {key} --dry-run", 2, "does not exist", "folder"),
    *(
        Case(f"{command} {option} ''", 2, f"{option} is empty", "variable", env=_E2B)
        for command, option in (
            (_TEMPLATE, "--api-url"), (_TEMPLATE, "--domain"),
            ("build ctx --template t", "--dockerfile"),
        )
    ),
    Case(f"{_TEMPLATE} --domain a/b", 2, "not a domain", "E2B_DOMAIN", env=_E2B),
    Case(f"{_TEMPLATE} --api-url http://u:{PASSWORD}@h", 2, "holds a user name or password",
         "E2B_API_URL", env=_E2B),
    Case(_TEMPLATE, 2, "E2B_API_URL: the address of the E2B API: the URL must begin with",
         "E2B_API_URL", env=_E2B | {"E2B_API_URL": "ftp://h"}),
    Case(_TEMPLATE, 2, "E2B_DOMAIN: the domain of the E2B API", "E2B_DOMAIN",
         env={"E2B_API_KEY": "{key}", "E2B_DOMAIN": "a/b"}),
    Case("build ctx --template '' --copy a:/a", 2, "is not the name or the id", "name", env=_E2B),
    Case("build ctx --template t", 2, "nothing to copy", "--copy SRC:DEST", env=_E2B),
    *(
        Case(f"{command} --copy a:/a --dockerfile D", 2, "--copy and --dockerfile exclude each",
             "Choose one", env=_E2B, files=_DOCKERFILE)
        for command in ("build ctx --template t", "hash ctx")
    ),
    Case("ls ctx --dockerfile D --no-ignore", 2, "--no-ignore and --dockerfile exclude each other",
         ".dockerignore", files=_DOCKERFILE),
    Case("hash ctx", 2, "nothing to hash", "--copy SRC:DEST"),
    *(
        Case(f"{command} --copy {copy}", 2, message, hint, env=_E2B)
        for command, copy, message, hint in (
            ("build ctx --template t", "a", "a does not say what to copy", "SRC:DEST"),
            ("hash ctx", "/a:/a", "/a is absolute", "relative to the context"),
            ("ls ctx", "../a:/a", "../a leads out", "name a folder above"),
            ("explain ctx a", "a", "a does not say what to copy", "SRC:DEST"),
        )
    ),
    Case("explain ctx a --copy a:/a --ignore-file f", 2, "--ignore-file and --copy exclude",
         "CONTEXT/.dockerignore"),
    Case("explain ctx a --dockerfile D", 2, "the Dockerfile D cannot be read: No such file",
         "Name a file"),
    Case("build ctx --template t --dockerfile D", 2, "D:2: it has several stages", "correct it",
         env=_E2B, files={"D": "FROM a\nFROM b\n"}),
    Case(f"{_TEMPLATE} --compression none", 2, "not accept a plain tar", "--compression", env=_E2B),
    Case("hash ctx --copy .:/a -x 'a['", 2, "a[", "correct the pattern"),
]  # fmt: skip

SOURCE: Final = [
    *(
        Case(f"{command} --ignore-file ctx", 3,
             "the ignore file ctx cannot be read: Is a directory", "--no-ignore")
        for command in (_PUT, "ls ctx", "explain ctx a")
    ),
    Case("hash ctx --copy b:/a", 3, "b matches nothing", ".dockerignore"),
    Case("build ctx --template t --copy b:/a", 3, "b matches nothing", ".dockerignore", env=_E2B,
         scripts=(_KNOWN,)),
    Case("build ctx --template t --copy .:/a --secrets deny", 3,
         "ctx/.env looks like an environment file", "--secrets", env=_E2B, scripts=(_KNOWN, link()),
         files={"ctx/.env": "TOKEN=x"}),
]  # fmt: skip

SPOOL: Final = [
    *(
        Case(f"{command} --spool-dir no", 4, "in no: No such file", "--spool-dir", stdin="archive",
             env=_E2B, scripts=(_KNOWN, link()))
        for command in (_PUT, "pack ctx -o kept", "put - --url {url}", _TEMPLATE)
    ),
    Case("build ctx --url {url} --spool-dir ctx/a", 4, "in ctx/a: Not a directory", "--spool-dir"),
    *(
        Case(command, 4, message, hint, env={name: "no"}, stdin="archive")
        for command in (_PUT, "put - --url {url}")
        for name, message, hint in (
            ("E2B_UPLOAD_SPOOL_DIR", "in no: No such file", "with E2B_UPLOAD_SPOOL_DIR"),
            ("TMPDIR", "in no: No such file", "TMPDIR"),
        )
    ),
    Case("build ctx --url {url} -o no/kept", 4, "no such directory", "--output"),
    Case("pack ctx -o ctx", 4, "ctx: it is a directory", "--output"),
    Case("pack ctx -o /dev/full", 4, "the disk is full", "Make room"),
]  # fmt: skip

UNAVAILABLE: Final = [
    Case("build ctx --url 'http://{refusing}/k?{query}'", 5, "refused", "later"),
    Case(_PUT, 5, "500", "later", scripts=(answer(500),)),
    Case(_SEND, 5, "503 SlowDown: breathe", "later", files=_ARCHIVE,
         scripts=(answer(503, xml("SlowDown", "breathe")),)),
    Case("put - --url {url}", 5, "closed without an answer", "Try again", scripts=(hang_up,),
         stdin="archive"),
    Case(_PUT, 5, "broke after", "Try again", scripts=(reset_after(1),)),
    Case(_PUT, 5, "the answer is not HTTP", "Try again", scripts=(garbage(),)),
    Case("put archive --url {url} --max-time 0.1", 5, "was not done in 0.1", "--max-time",
         files=_ARCHIVE, scripts=(silent(),)),
    *(
        Case(command, 5, "stored something else than the archive", "on the way", files=_ARCHIVE,
             scripts=(_ALTERED,))
        for command in (_PUT, _SEND)
    ),
    Case(_HTTPS, 5, "proxy on the way to store.invalid", "HTTPS_PROXY",
         env={"HTTPS_PROXY": f"http://u:{PASSWORD}@{{refusing}}"}),
    Case(_TEMPLATE, 5, "refused", "later", env=_E2B | {"E2B_API_URL": "http://{refusing}"}),
    Case(_TEMPLATE, 5, "429", "later", env=_E2B, scripts=(api(429, {}),)),
    Case(_TEMPLATE, 5, "500", "later", env=_E2B, scripts=(_KNOWN, api(500, {}))),
    Case(_TEMPLATE, 5, "500", "later", env=_E2B, scripts=(_KNOWN, link(), answer(500))),
    Case(_TEMPLATE, 5, "stored something else", "on the way", env=_E2B,
         scripts=(_KNOWN, link(), _ALTERED)),
]  # fmt: skip

REFUSED: Final = [
    *(
        Case(command, 6, "403 AccessDenied: expired (request id R3QU35T)", "fresh URL",
             files=_ARCHIVE, scripts=(_DENIED,))
        for command in (_PUT, _SEND)
    ),
    Case(_PUT, 6, "403 SignatureDoesNotMatch", "--header", scripts=(answer(403, _ECHO),)),
    Case("put - --url {url}", 6, "403", "fresh URL", stdin="archive", scripts=(answer(403),)),
    *(
        Case(_PUT, 6, str(status), hint, scripts=(answer(status),))
        for status, hint in (
            (404, "Is the URL right?"), (413, "send less"), (501, "presigned PUT URL"),
            (418, "look at the URL"),
        )
    ),
    Case(_PUT, 6, "redirected (to https://h/k?…)", "endpoint",
         scripts=(redirect(301, f"https://h/k?{QUERY}"),)),
    Case(_PUT, 6, "more than 5 times", "endpoint", scripts=(redirect(307, f"/again?{QUERY}"),)),
    Case(_PUT, 6, "not encrypted", "endpoint", tls=True, env={"REQUESTS_CA_BUNDLE": "{ca}"},
         scripts=(redirect(308, f"http://h/k?{QUERY}"),)),
    Case(_PUT, 6, "certificate of localhost", "SSL_CERT_FILE", tls=True),
    *(
        Case(f"{command} --url 'https://h/k?{query}'", 6, message, hint, files=_ARCHIVE)
        for command, query, message, hint in (
            ("build ctx", f"{_EXPIRED}&{QUERY}", "expired", "fresh URL"),
            ("put archive", f"{_EXPIRED}&{QUERY}", "expired", "fresh URL"),
            ("build ctx", "X-Amz-SignedHeaders=host;x-amz-acl&" + QUERY,
             "headers that are not sent: x-amz-acl", "--header 'x-amz-acl: …'"),
            ("put archive", "sv=1&sig=not-known-to-anybody&sp=r", "no permission to write",
             "may create or write"),
        )
    ),
    Case(_PUT, 6, "200 AccessDenied", "fresh URL",
         scripts=(answer(200, xml("AccessDenied", "no")),)),
    Case(_PUT, 6, "HTML page", "login", scripts=(answer(200, b"<!doctype html>"),)),
    Case(_PUT + " -H 'If-None-Match: *'", 6, "412", "condition", scripts=(answer(412),)),
    Case("build ctx --url 'https://h/k?GoogleAccessId=me&{query}' --if-absent", 6,
         "only if the header x-goog-if-generation-match: 0 was signed", "Ask for a URL"),
    Case(f"{_PUT} --max-size 10 --dry-run", 6, "larger than the 10 that are",
         "Or allow more with --max-size"),
    Case("put - --url {url} --max-size 0", 6, "larger than the 0 that are",
         "Or allow more with --max-size", stdin="archive"),
    Case(_HTTPS, 6, "proxy refused the way to store.invalid: 407", "NO_PROXY",
         scripts=(early(407),), env={"HTTPS_PROXY": f"http://u:{PASSWORD}@127.0.0.1:{{port}}"}),
    Case("build ctx --url 'http://store.invalid/k?{query}'", 6, "407", "NO_PROXY",
         scripts=(answer(407),), env={"HTTP_PROXY": f"http://u:{PASSWORD}@127.0.0.1:{{port}}"}),
    *(
        Case(command, 6, message, hint, env=_E2B, scripts=scripts)
        for command, message, hint, scripts in (
            (_TEMPLATE, "refuses the API key", "E2B_API_KEY",
             (api(401, {"code": 401, "message": "Invalid API key {url}"}),)),
            (_TEMPLATE, "this team has no template 't'", "--create", (_UNKNOWN,)),
            (_TEMPLATE, "the template 't' is another team's", "E2B_API_KEY",
             (api(403, {"code": 403, "message": "no access"}),)),
            (_TEMPLATE, "not this team's, or is gone", "right template", (_KNOWN, _UNKNOWN)),
            (f"{_TEMPLATE} --create", "cannot have a template 't'", "another name",
             (_UNKNOWN, _UNKNOWN, api(403, {"code": 403, "message": "already used"}))),
            (_TEMPLATE, "it gave no URL to upload to", "E2B_API_URL",
             (_KNOWN, api(201, {"present": False}))),
            (_TEMPLATE, "the URL must begin with https://", "E2B_API_URL",
             (_KNOWN, link(url=f"ftp://h/k?{QUERY}"))),
            (_TEMPLATE, "without an object of JSON", "E2B_API_URL",
             (_KNOWN, answer(201, b'{"present": fal'))),
            (_TEMPLATE, "where the key does not go", "E2B_API_URL",
             (redirect(301, f"https://h/k?{QUERY}"),)),
            (_TEMPLATE, "403 AccessDenied", "E2B gave the URL",
             (_KNOWN, link(), answer(403, xml("AccessDenied", "no")))),
            (f"{_TEMPLATE} --max-size 10", "larger than the 10 that are", "--max-size",
             (_KNOWN, link())),
        )
    ),
]  # fmt: skip

FAILED: Final = [*USAGE, *SOURCE, *SPOOL, *UNAVAILABLE, *REFUSED]
