"""All that the README and the documents tell to type is typed, a page at a time."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import trustme

from tests.recipes.workplace import KEPT, OBJECT, REPOSITORY, names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.recipes.workplace import Workplace
    from tests.support.seaweed import Seaweed

# Those that test_pages.py types are not among them.
TYPED_ELSEWHERE: Final = {"ci.md", "presign.md", "scripts.md"}
TUTORIAL: Final = "docs/tutorial.md"
MAKES_A_STORE: Final = "make store"

_DIST: Final = "tests/packaging/dist.py installs it, with a package index"
_MAKE: Final = "it is a target of its own"
NOT_TYPED: Final = {
    "README.md": {
        "make demo": _MAKE,
        "make test": _MAKE,
        "python3 -m venv ~/.e2b-upload": _DIST,
        "~/.e2b-upload/bin/pip install .": _DIST,
    },
    "CONTRIBUTING.md": {
        "make lint": _MAKE,
        "make test": _MAKE,
        "make dist": _MAKE,
        "make check": _MAKE,
    },
    "docs/how-to/install.md": {
        "pipx install .": _DIST,
        "uv tool install .": _DIST,
        "python3 -m venv ~/.e2b-upload": _DIST,
        "~/.e2b-upload/bin/pip install .": _DIST,
        "man e2b-upload": _DIST,
        "make zipapp": _MAKE,
        "build/e2b-upload.pyz --version": _DIST,
        "docker build -t e2b-upload .": "tests/packaging/test_image.py does what the image does",
        (
            'docker run --rm --read-only --user "$(id -u):$(id -g)" -v "$PWD:/work:ro" '
            "-e E2B_UPLOAD_URL e2b-upload build /work"
        ): "tests/packaging/test_image.py does what the image does",
    },
    "docs/performance.md": {"make bench": _MAKE},
    "docs/reliability.md": {"make faults": _MAKE},
}
"""What is not typed here, and why."""


# A fenced block, and one of what comes of it; or an indented one.
_BLOCK: Final = re.compile(
    r"^```(\w*)\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?|(?<=\n\n)((?: {4}[^\n]+\n)+)(?=\n|\Z)",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """What is to be typed in one go, and what the page says comes of it."""

    language: str
    text: str
    shown: str = ""


def pages() -> list[str]:
    """Return all pages of the repository, from its top."""
    listed = ["git", "ls-files", "-z", "*.md"]
    ran = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = [path for path in ran.stdout.split("\0") if path]
    return [path for path in found if path.rpartition("/")[2] not in TYPED_ELSEWHERE]


def blocks(page: str) -> Iterator[Block]:
    """Yield what a page tells to type."""
    text = (REPOSITORY / page).read_text()
    for found in _BLOCK.finditer(text):
        language, typed, shown, indented = found.group(1, 2, 3, 4)
        if language == "console":
            *_, typed = typed.split("$ ", 1)
            typed, _, shown = typed.partition("\n")
        if indented or language in {"sh", "bash", "console", "python"}:
            typed = (indented and re.sub("(?m)^    ", "", indented)) or typed
            yield Block(language or "sh", typed.rstrip("\n"), shown or "")


def typed_here(page: str) -> list[Block]:
    """Return what is typed here: all but the lines of NOT_TYPED."""
    left_out = NOT_TYPED.get(page, {})
    kept = []
    for block in blocks(page):
        lines = [line for line in block.text.split("\n") if _command(line) not in left_out]
        if lines:
            kept.append(block._replace(text="\n".join(lines)))
    return kept


def _command(line: str) -> str:
    return re.sub(r"\s+# .*", "", line).strip()


PAGES: Final = [page for page in pages() if page != TUTORIAL and typed_here(page)]


def test_what_is_not_typed_stands_there() -> None:
    for page, left_out in NOT_TYPED.items():
        lines = {_command(line) for block in blocks(page) for line in block.text.split("\n")}
        assert [line for line in left_out if line not in lines] == [], page


def test_each_target_that_is_named_is_there() -> None:
    named = {
        found
        for page in pages()
        for found in re.findall(r"(?:`|^ {4}|\n)make ([a-z]+)", (REPOSITORY / page).read_text())
    }
    assert {"bench", "demo", "store", "test"} <= named
    for target in sorted(named):
        command = ["make", "--dry-run", "--silent", target]
        subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)


def script(page: str, found: list[Block]) -> str:
    """Return a page's blocks as one script for bash, which ends at the first command that fails."""
    parts = ["set -euo pipefail", "exec 2>&1"]
    for number, block in enumerate(found):
        text = block.text
        if block.language == "python":
            text = f"python3 - <<'END OF THE BLOCK'\n{text}\nEND OF THE BLOCK"
        parts += [f"echo '@@ {page}, block {number + 1}'", text]
    return "\n".join(parts)


@pytest.fixture
def reader(place: Workplace, bucket: Seaweed) -> Workplace:
    """Give what the pages take for granted: a repository, a context, URLs, a CA."""
    trustme.CA().cert_pem.write_to_path(str(place.path / "company-ca.pem"))
    place.write("ctx/src/a.js", "1\n")
    for command in ("init --quiet", "add .", "commit --quiet --message=first"):
        identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
        assert place.run("git", *identity, *shlex.split(command)).code == 0
    programs = place.path.parent / "programs"
    programs.mkdir()
    (snippet,) = [block.text for block in blocks("README.md") if "boto3" in block.text]
    signs = programs / "aws-presign-put"  # what the README has it stand for
    signs.write_text(f"#!{sys.executable}\n{snippet}\n")
    signs.chmod(0o755)
    own = {
        "E2B_UPLOAD_URL": bucket.presign_put(OBJECT),
        "PATH": f"{programs}:{place.env['PATH']}",
        "PRESIGNED_GET_URL": bucket.presign_get(OBJECT),
        "PRESIGNED_PUT_URL": bucket.presign_put(OBJECT),
        "SHELL": "/bin/bash",
    }
    return replace(place, env=place.env | bucket.environment() | own)


@pytest.mark.real
@pytest.mark.parametrize("page", PAGES)
def test_a_page_works_as_it_is_written(reader: Workplace, bucket: Seaweed, page: str) -> None:
    bucket.put(OBJECT, b"")
    ran = reader.run("bash", "-c", script(page, typed_here(page)))
    assert ran.code == 0, ran.log
    if "uploaded: " in ran.log:
        assert {*names(bucket.get(OBJECT))} == {*KEPT, "src/a.js"}


@pytest.mark.real
def test_the_tutorial_works_as_it_is_written(bare: Workplace, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("Makefile", "e2b_upload", "pyproject.toml", "tests"):
        (clone / name).symlink_to(REPOSITORY / name)
    (clone / ".venv").symlink_to(sys.prefix)
    place = replace(bare, path=clone)
    shutil.rmtree(bare.path)
    first, *rest = blocks(TUTORIAL)
    assert first.text == MAKES_A_STORE
    ready = os.path.exists(f"{sys.prefix}/.ready")
    command = [*shlex.split(first.text), *([] if ready else ["READY="])]  # not to install anew
    with subprocess.Popen(
        command, cwd=clone, env=place.env, stdout=subprocess.PIPE, text=True, process_group=0
    ) as store:
        try:
            assert store.stdout is not None
            for line in first.shown.splitlines():
                assert figureless(store.stdout.readline()) == figureless(line)
            ran = place.run("bash", "-c", script(TUTORIAL, rest))
        finally:
            os.killpg(store.pid, 2)
            store.communicate(timeout=60)
    assert ran.code == 0, ran.log
    outputs = re.split(r"@@ .*\n", ran.log)[1:]
    for block, output in zip(rest, outputs, strict=True):
        assert figureless(block.shown) in figureless(output)
    assert os.listdir(clone / "build/store") == []


def figureless(text: str) -> str:
    """Return a text without figures that may be others the next time."""
    text = re.sub(r"[\d.,]*\d (ms|s|[kM]?B(/s)?)\b", "N", re.sub(r":\d{4,5}\b", ":PORT", text))
    return "\n".join(" ".join(line.split()) for line in text.splitlines())
