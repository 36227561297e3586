"""The query of a URL and passwords are never shown, wherever they are pasted. See test_cases.py."""

import pytest

from tests.cli.conftest import Call
from tests.cli.harness import PASSWORD, QUERY, Place, secrets_in, words

URLS = {
    "a URL": f"https://h/k?a=1&{QUERY}",
    "no scheme": f"h/k?{QUERY}",
    "quotes": f'"https://h/k?{QUERY}"',
    "other quotes": f"\u2018https://h/k?{QUERY}\u2019",
    "a space in it": f"https://h/k?a=1 &{QUERY}",
    "two lines": f"https://h/k?a=1&\n{QUERY}",
    "a quote in it": f"https://h/k?a='&{QUERY}",
    "HTML": f"https://h/k?a=1&amp;{QUERY.replace('&', '&amp;')}",
    "a password": f"https://u:{PASSWORD}@h/k",
    "a password with an @": f"https://u:p@{PASSWORD}@h/k",
}
COMMANDS = [
    "{it}",
    "build {it} --dry-run",
    "build ctx {it} {it} --dry-run",
    *("build ctx --ur {it}", "build ctx --ur={it}", "build ctx --url_{it}", "build ctx -u{it}"),
    "build ctx --url {it} --spool-dir nowhere",
    "build ctx --url-file {it}",
    "build ctx -H {it} --dry-run",
    "build ctx --ignore-file {it} --dry-run",
    "build ctx -x {it}[ --dry-run",
    *(
        f"build ctx {option} {{it}}"
        for option in ("--mtime", "--compression", "--progress", "--color", "--spool-dir")
    ),
    *(f"build ctx {option} {{it}}" for option in ("-o", "--max-size", "--warn-size", "--secrets")),
    *("pack {it} -o kept", "pack ctx -o {it}", "pack ctx {it}"),
    *("put {it}", "put {it} --url http://h/k", "put {it} --url-file {it}", "put ctx/a {it}"),
    "put ctx/a -H {it} --url http://h/k",
    *("ls {it}", "ls ctx {it}", "ls ctx --ignore-file {it}", "ls ctx --largest {it}"),
    *("explain {it} a", "explain ctx {it}", "explain ctx {it} --json", "explain ctx a/{it}//b"),
    *("explain ctx {it} -x {it}", "explain ctx /{it}", "explain ctx a -x {it}["),
]


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_url_in_the_wrong_place(url: str, call: Call) -> None:
    ended = {command: call(*words(command, it=url)) for command in COMMANDS}
    assert {command: each for command, each in ended.items() if secrets_in(each)} == {}
    assert {each.code for each in ended.values()} <= {0, 2, 4, 5}


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["plain", "json"])
def test_url_among_paths(more: list[str], call: Call) -> None:
    pasted = "".join(f"{url}\n" for url in URLS.values() if "\n" not in url).encode()
    ended = call("explain", "ctx", "-", *more, stdin=b"a?b=c\n" + pasted)
    assert (ended.code, secrets_in(ended)) == (0, [])
    assert b"a?b=c" in ended.out
    assert (b"https://h/k?\\u2026" if more else "https://h/k?…".encode()) in ended.out


VARIABLES = [
    *("E2B_UPLOAD_URL", "E2B_UPLOAD_IGNORE_FILE", "E2B_UPLOAD_COMPRESSION"),
    *("E2B_UPLOAD_SPOOL_DIR", "E2B_UPLOAD_PROGRESS", "SOURCE_DATE_EPOCH", "TMPDIR"),
    *("E2B_UPLOAD_MAX_SIZE", "E2B_UPLOAD_WARN_SIZE", "E2B_UPLOAD_SECRETS"),
]


@pytest.mark.parametrize("variable", VARIABLES)
def test_url_in_a_variable(variable: str, call: Call) -> None:
    for ending in ("", "\n") if variable == "E2B_UPLOAD_URL" else ("",):
        url = f"https://u:{PASSWORD}@h/k?{QUERY}{ending}"
        for command in ("build ctx", "pack ctx -o kept", "put -", "ls ctx"):
            assert secrets_in(call(*command.split(), env={variable: url})) == []


def test_url_in_help(call: Call) -> None:
    env = dict.fromkeys(VARIABLES, f"https://u:{PASSWORD}@h/k?{QUERY}")
    for command in ("build", "put", "ls"):
        ended = call(command, "--help", env=env)
        assert (ended.code, secrets_in(ended)) == (0, [])


@pytest.mark.parametrize(
    "variable", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE"]
)
def test_password_in_a_variable_of_requests(variable: str, refusing_port: int, call: Call) -> None:
    env = {variable: f"http://u:{PASSWORD}@127.0.0.1:{refusing_port}/?{QUERY}"}
    for scheme in ("http", "https"):
        url = f"{scheme}://127.0.0.1:{refusing_port}/k?{QUERY}"
        ended = call("build", "ctx", "-v", "--url", url, env=env)
        assert ended.code in {2, 5}
        assert secrets_in(ended) == []


CRASH = """
import json, urllib.parse
from e2b_upload import pipeline
def build(context, url, *values, **options):
    try:
        raise KeyError(url)
    except KeyError as error:
        forms = [url, urllib.parse.unquote(url), repr(url), repr(url.encode()), json.dumps(url)]
        told = [*forms, url.split("?")[1], url.split("=")[-1], *url.split("&")]
        raise RuntimeError("; ".join(told), url.encode()) from error
pipeline.run_build = build"""
EARLY_CRASH = """
import os
from typer.core import TyperCommand
def main(*args, **options):
    raise RuntimeError("what is " + os.environ["E2B_UPLOAD_URL"])
TyperCommand.main = main"""


@pytest.mark.slow
@pytest.mark.parametrize("python", [CRASH, EARLY_CRASH], ids=["late", "early"])
@pytest.mark.parametrize("more", [["-v"], ["--json"]], ids=" ".join)
def test_url_in_a_bug_report(python: str, more: list[str], place: Place) -> None:
    env = {"E2B_UPLOAD_URL": f"https://h/k?{QUERY}\n"}
    ended = place.run("build", "ctx", *more, python=python, env=env)
    assert ended.code == 1
    assert "RuntimeError" in ended.err
    assert secrets_in(ended) == []
