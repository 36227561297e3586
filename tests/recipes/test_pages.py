"""The pages show all recipes, and what they tell to type is typed."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.recipes.workplace import KEPT, OBJECT, PROGRAMS, RECIPES, REPOSITORY, names
from tests.support.azurite import CONTAINER
from tests.support.rawserver import answer, raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.mark import ParameterSet

    from tests.recipes.workplace import Workplace
    from tests.support.seaweed import Seaweed

PAGES = [REPOSITORY / "docs/how-to" / name for name in ("ci.md", "presign.md", "scripts.md")]
NOTHING_SENT = {
    "Google Cloud Storage",
    "Limit the size of the content",
    "List tracked files that are excluded",
    "Pipe the archive to another program",
    "Upload each archive once",  # the object exists
}
TYPED = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def sections() -> Iterator[ParameterSet]:
    """Give each section's name, and what its reader is told to type."""
    for page in PAGES:
        for section in page.read_text().split("\n## ")[1:]:
            if typed := TYPED.findall(section):
                name = section.partition("\n")[0]
                yield pytest.param(name, typed, id=name)


def test_every_recipe_is_shown_and_linked_to() -> None:
    text = "".join(page.read_text() for page in PAGES)
    shown = re.findall(r"\n\[(.+)\]\(\.\./(.+)\):\n\n```\{literalinclude\} \.\./(.+)\n", text)
    for name, linked, included in shown:
        assert linked == included
        assert linked.endswith(f"/{name}")
    files = [path for path in RECIPES.rglob("*") if path.is_file()]
    there = {str(path.relative_to(REPOSITORY / "docs")) for path in files}
    assert {included for _, _, included in shown} == there


@pytest.mark.real
@pytest.mark.parametrize(("section", "typed"), [*sections()])
def test_what_is_to_be_typed_works(
    job: Workplace,
    bucket: Seaweed,
    request: pytest.FixtureRequest,
    section: str,
    typed: list[str],
) -> None:
    """As it stands, but for addresses, which are those of the servers here."""
    for path in (*RECIPES.glob("*.sh"), *RECIPES.glob("presign/*")):
        shutil.copy(path, job.path)
    job = replace(job, env=job.env | {"PATH": f"{job.env['PATH']}:{PROGRAMS}"})
    assert job.run("git", "init", "--quiet").code == 0
    assert job.run("git", "add", "ctx").code == 0
    store: Any = bucket
    aws = bucket.environment()
    env = {"MINIO_ACCESS_KEY": aws["AWS_ACCESS_KEY_ID"]}
    env["MINIO_SECRET_KEY"] = aws["AWS_SECRET_ACCESS_KEY"]
    renamed = {
        "https://ACCOUNT_ID.r2.cloudflarestorage.com": bucket.endpoint,
        "https://minio.example:9000": bucket.endpoint,
        "my-container": CONTAINER,
    }
    with ExitStack() as stack:
        if section == "Azure":
            store = request.getfixturevalue("blobs")  # which is not everywhere
            env |= store.environment()
        elif section == "E2B":
            given = {"present": False, "url": bucket.presign_put(OBJECT)}
            script = answer(201, json.dumps(given).encode())
            env["E2B_API_URL"] = stack.enter_context(raw_server(script)).url
            env["E2B_API_KEY"] = "e2b_secret"
        elif section == "Google Cloud Storage":
            job.write("key.json", json.dumps(request.getfixturevalue("google_account")))
            renamed["--url -"] = "--url - --dry-run"  # there is no server for it here
        for commands in typed:
            bucket.put(OBJECT, b"")
            for name, here in renamed.items():
                commands = commands.replace(name, here)  # noqa: PLW2901
            ran = job.run("sh", "-euc", commands, env=env)
            assert ran.code == 0, ran.log
            if "uploaded: " in ran.log:
                assert names(store.get(OBJECT)) == KEPT
            else:
                assert section in NOTHING_SENT
