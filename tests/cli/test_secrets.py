"""Whoever has a presigned URL can write: nothing of its query, or of a password, is ever shown."""

import pytest

from tests.cli.cases import DONE, FAILED, REFUSED, UNAVAILABLE, USAGE, Case
from tests.cli.conftest import Call, RunCase
from tests.cli.harness import PASSWORD, QUERY, SECRETS, Ended, Place, words

MODES: list[tuple[list[str], dict[str, str]]] = [
    ([], {}),
    (["--json"], {}),
    (["-v", "--progress", "bar", "--color", "always"], {"FORCE_COLOR": "1"}),
]


def shown(ended: Ended) -> list[str]:
    """Return the secrets that are to be seen."""
    text = ended.err + ended.out.decode("utf-8", "replace")
    unbroken = "".join(text.split())  # a narrow terminal breaks lines
    return [secret for secret in SECRETS if secret in text or secret in unbroken]


@pytest.mark.parametrize(
    "case", [case for case in (*DONE, *FAILED) if case.holds_a_secret], ids=str
)
def test_whatever_happens(case: Case, run_case: RunCase) -> None:
    for options, env in MODES:
        if case.takes(*options) or not options:
            ended = run_case(case, *options, env=env)
            assert shown(ended) == [], ended


ON_TERMINAL = [*DONE[:1], *DONE[5:7], *UNAVAILABLE[:1], *REFUSED[:2], *USAGE[3:6]]


@pytest.mark.parametrize("case", ON_TERMINAL, ids=str)
@pytest.mark.parametrize("columns", [40, 200])
def test_on_a_terminal(case: Case, columns: int, run_case: RunCase, place: Place) -> None:
    ended = run_case(case, "-v", runner=place.on_terminal, columns=columns)
    assert ended.code == case.code
    assert shown(ended) == []


# The URL where none belongs, as it comes out of a clipboard or out of a variable without quotes.

URLS = {
    "a URL": f"https://h/k?a=1&{QUERY}",
    "no scheme": f"h/k?{QUERY}",
    "quotes": f'"https://h/k?{QUERY}"',
    "other quotes": f"\u2018https://h/k?{QUERY}\u2019",
    "a space in it": f"https://h/k?a=1 &{QUERY}",
    "two lines": f"https://h/k?a=1&\n{QUERY}",
    "a quote in it": f"https://h/k?a='&{QUERY}",
    "out of HTML": f"https://h/k?a=1&amp;{QUERY.replace('&', '&amp;')}",
    "a password": f"https://u:{PASSWORD}@h/k",
    "a password with an @": f"https://u:p@{PASSWORD}@h/k",
}
PLACES = [
    "{it}",
    "build {it} --dry-run",
    "build ctx {it} --dry-run",
    "build ctx {it} {it} --dry-run",
    "build ctx --ur {it}",
    "build ctx --ur={it}",
    "build ctx --url_{it}",
    "build ctx -u{it}",
    "build ctx --url {it} --spool-dir nowhere",
    "build ctx --url-file {it}",
    "build ctx -H {it} --dry-run",
    "build ctx --ignore-file {it} --dry-run",
    "build ctx -x {it}[ --dry-run",
    "build ctx --mtime {it}",
    "build ctx --compression {it}",
    "build ctx --progress {it}",
    "build ctx --color {it}",
    "build ctx --spool-dir {it} --dry-run",
    "build ctx -o {it} --dry-run",
    "build ctx --max-size {it}",
    "build ctx --warn-size {it}",
    "build ctx --secrets {it}",
    "pack {it} -o kept",
    "pack ctx -o {it}",
    "pack ctx {it}",
    "put {it}",
    "put {it} --url http://h/k",
    "put {it} --url-file {it}",
    "put ctx/a {it}",
    "put ctx/a -H {it} --url http://h/k",
    "ls {it}",
    "ls ctx {it}",
    "ls ctx --ignore-file {it}",
    "ls ctx --largest {it}",
    "explain {it} a",
    "explain ctx {it}",
    "explain ctx {it} --json",
    "explain ctx a/{it}//b",
    "explain ctx {it} -x {it}",
    "explain ctx /{it}",
    "explain ctx a -x {it}[",
]


@pytest.mark.parametrize("url", URLS.values(), ids=URLS.keys())
def test_where_no_url_belongs(url: str, call: Call) -> None:
    ended = {command: call(*words(command, it=url)) for command in PLACES}
    leaks = {command: ended for command, ended in ended.items() if shown(ended)}
    assert leaks == {}
    assert {ended.code for ended in ended.values()} <= {0, 2, 4, 5}


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["plain", "json"])
def test_where_paths_are_read(more: list[str], call: Call) -> None:
    pasted = "".join(f"{url}\n" for url in URLS.values() if "\n" not in url).encode()
    ended = call("explain", "ctx", "-", *more, stdin=b"a?b=c\n" + pasted)
    assert (ended.code, shown(ended)) == (0, [])
    assert b"a?b=c" in ended.out
    assert (b"https://h/k?\\u2026" if more else "https://h/k?…".encode()) in ended.out


VARIABLES = [
    *("E2B_UPLOAD_URL", "E2B_UPLOAD_IGNORE_FILE", "E2B_UPLOAD_COMPRESSION"),
    *("E2B_UPLOAD_SPOOL_DIR", "E2B_UPLOAD_PROGRESS", "SOURCE_DATE_EPOCH", "TMPDIR"),
    *("E2B_UPLOAD_MAX_SIZE", "E2B_UPLOAD_WARN_SIZE", "E2B_UPLOAD_SECRETS"),
]


@pytest.mark.parametrize(
    ("variable", "ending"),
    [
        *((variable, "") for variable in VARIABLES),
        ("E2B_UPLOAD_URL", "\n"),
        ("E2B_UPLOAD_URL", " "),
    ],
)
def test_in_the_environment(variable: str, ending: str, call: Call) -> None:
    url = f"https://u:{PASSWORD}@h/k?{QUERY}{ending}"
    for command in (
        *("build ctx", "build ctx --dry-run", "build --help", "pack ctx -o kept", "put ctx/a"),
        *("put -", "put --help", "ls ctx", "ls --help", "explain ctx a"),
    ):
        assert shown(call(*command.split(), env={variable: url})) == []


@pytest.mark.parametrize(
    "variable", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE"]
)
def test_in_the_environment_of_requests(variable: str, refusing_port: int, call: Call) -> None:
    env = {variable: f"http://u:{PASSWORD}@127.0.0.1:{refusing_port}/?{QUERY}"}
    for scheme in ("http", "https"):
        url = f"{scheme}://127.0.0.1:{refusing_port}/k?{QUERY}"
        ended = call("build", "ctx", "-v", "--url", url, env=env)
        assert ended.code in {2, 5}
        assert shown(ended) == []


CRASH = """
import json, urllib.parse
from e2b_upload import pipeline
def build(context, url, **options):
    try:
        raise KeyError(url)
    except KeyError as error:
        forms = [url, urllib.parse.unquote(url), repr(url), repr(url.encode()), json.dumps(url)]
        told = [*forms, url.split("?")[1], url.split("=")[-1], *url.split("&")]
        raise RuntimeError("; ".join(told), url.encode()) from error
pipeline.build = build"""
CRASH_BEFORE_THE_URL_IS_KNOWN = """
from e2b_upload.cli import app
def read_url(ctx, stdin, url, url_file):
    raise RuntimeError(f"what is {url}?", url)
app.read_url = read_url"""


@pytest.mark.parametrize(
    "python", [CRASH, CRASH_BEFORE_THE_URL_IS_KNOWN], ids=["known", "not yet known"]
)
@pytest.mark.parametrize("more", [["-v"], ["--json"]], ids=" ".join)
def test_in_the_report_of_a_bug(python: str, more: list[str], place: Place) -> None:
    env = {"E2B_UPLOAD_URL": f"https://h/k?{QUERY}\n"}
    ended = place.run("build", "ctx", *more, python=python, env=env)
    assert ended.code == 1
    assert "RuntimeError" in ended.err
    assert shown(ended) == []
