"""The output of each command with --json is valid by docs/reference/schema.json."""

from __future__ import annotations

import json
import os
import re
import socket
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from e2b_upload.errors import Interrupted, UploadError
from tests.cli.cases import api, link
from tests.cli.harness import CRASHES, KEY, Ended, wait_for
from tests.docs.links import REPOSITORY
from tests.support.rawserver import answer, raw_server, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Call
    from tests.cli.harness import Place
    from tests.support.rawserver import RawServer

REFERENCE = REPOSITORY / "docs" / "reference"
SCHEMA = json.loads((REFERENCE / "schema.json").read_text())


def closed(schema: Any) -> Any:
    """Return a copy of the schema that allows no other keys."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return {name: closed(each) for name, each in schema.items()} | more


STRICT = jsonschema.Draft202012Validator(closed(SCHEMA))


@pytest.fixture(autouse=True)
def _context(place: Place) -> None:
    place.write("ctx/.dockerignore", b"node_modules\n*.log\n")
    place.write("ctx/node_modules/x.js", b"x")
    place.write("ctx/sub/b", b"b")
    place.write("ctx/bytes-\udcff", b"")
    (place.path / "ctx/link").symlink_to("a")
    (place.path / "ctx/hard").hardlink_to(place.path / "ctx/a")
    (place.path / "odd").mkdir()
    os.mkfifo(place.path / "odd/.dockerignore")
    (place.path / "special").mkdir()
    os.mkfifo(place.path / "special/fifo")


@pytest.fixture
def store() -> Iterator[RawServer]:
    with raw_server(answer(200)) as server:
        yield server


@pytest.fixture
def e2b() -> Iterator[RawServer]:
    """Serve the E2B API, which already has the files of the first COPY, and a store."""
    known = api(200, {"templateID": "z9y8x7", "public": False})
    with raw_server(known, link(present=True), link(), answer(200)) as server:
        yield server


def test_it_is_a_schema_that_rejects_other_objects() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for wrong in ({}, {"status": "uploaded"}, {"paths": [{"path": "a", "kept": True}]}):
        assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "build ctx --url {url}",
        "build ctx --dry-run",
        "pack ctx -o ctx.tar.gz",
        "pack ctx -o ctx.tar --compression none",
        "put ctx/a --url {url}",
        "ls ctx",
        "ls ctx --no-ignore",
        "ls ctx --largest 3",
        "ls ctx -x **",
        "explain ctx a node_modules/x.js sub node_modules nowhere link",
        "build ctx --template t --copy a:/a --copy sub:/b --api-url {api}",
        "build ctx --template t --copy sub:/b --dry-run --api-url {api}",
        "hash ctx --copy sub:/app --copy a:/a",
        "ls ctx --copy sub:/app --largest 2",
        "ls special --copy .:/app",
        "explain ctx a node_modules/x.js sub nowhere --copy sub:/app",
        "explain ctx a sub/b -x sub -x !sub/b",
        "explain ctx node_modules/x.js --ignore-file ctx/.dockerignore",
    ],
)
def test_a_result(line: str, call: Call, store: RawServer, e2b: RawServer) -> None:
    url = f"{store.url}/bucket/key?X-Amz-Signature=x"
    words = line.format(url=url, api=e2b.url).split()
    ended = call(*words, "--json", env={"E2B_API_KEY": KEY})
    assert ended.code == 0, ended.err
    STRICT.validate(ended.json)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("build ctx", 2),
        ("pack ctx", 2),
        ("put nowhere --url {url}", 2),
        ("ls nowhere", 2),
        ("explain nowhere a", 2),
        ("hash ctx", 2),
        ("build ctx --template t --copy a:/a --api-url {url}", 6),
        ("explode", 2),
        ("build odd --dry-run", 3),
        ("pack ctx -o nowhere/ctx.tar.gz", 4),
        ("put ctx/a --url {refusing}", 5),
        ("build ctx --url {url}", 6),
    ],
)
def test_a_failure(line: str, code: int, call: Call) -> None:
    with socket.socket() as taken, raw_server(answer(403)) as server:
        taken.bind(("127.0.0.1", 0))
        refusing = f"http://127.0.0.1:{taken.getsockname()[1]}/k"
        words = line.format(url=f"{server.url}/bucket/key", refusing=refusing).split()
        ended = call(*words, "--json", env={"E2B_API_KEY": KEY})
    assert ended.code == code, ended.err
    STRICT.validate(ended.json)


def test_a_bug(place: Place) -> None:
    ended = place.run("build", "ctx", "--dry-run", "--json", python=CRASHES)
    assert ended.code == 1
    STRICT.validate(ended.json)


def test_a_signal(place: Place) -> None:
    with raw_server(silent()) as server:
        url = f"{server.url}/bucket/key"
        with place.started("build", "ctx", "--url", url, "--json") as process:
            wait_for(process.stderr, "uploading")
            process.terminate()
            out, err = process.communicate()
    assert process.returncode == 143
    STRICT.validate(Ended(process.returncode, out, err.decode()).json)


def test_it_lists_every_kind_and_exit_code() -> None:
    error = SCHEMA["$defs"]["failure"]["properties"]["error"]["properties"]
    classes = UploadError.__subclasses__()
    kinds = {each.kind for each in classes} | {Interrupted.kind, "internal"}
    assert {*error["kind"]["enum"]} == kinds
    assert {each.exit_code for each in classes} < {*error["exit_code"]["enum"]}


def test_the_examples_of_the_page_are_valid() -> None:
    shown = re.findall(r"```json\n(.*?)```", (REFERENCE / "json.md").read_text(), re.DOTALL)
    assert len(shown) > 4
    for example in shown:
        STRICT.validate(json.loads(example))
