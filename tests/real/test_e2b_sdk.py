"""E2B's SDK builds against the stand-in unchanged: the stand-in is asked what E2B's API is."""

import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.e2b import (
    LINK_SECONDS,
    SdkBuild,
    Standin,
    error,
    sdk_build,
    standin,
    with_members,
    without_members,
)
from tests.support.seaweed import Seaweed

pytestmark = pytest.mark.real

TWINS = pytest.mark.parametrize("twin", ["sync", "async"])
COPIES = [("src", "/app/src"), ("*.txt", "/app/")]


@pytest.fixture
def api(s3: Seaweed) -> Iterator[Standin]:
    with standin(s3) as server:
        yield server


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "src/deep").mkdir(parents=True)
    (folder / "src/deep/data.bin").write_bytes(os.urandom(3_000_000))
    (folder / "src/main.py").write_text("print()\n")
    (folder / "notes.txt").write_text("notes\n")
    (folder / "left.out").write_text("not copied\n")
    return folder


def steps(build: SdkBuild) -> list[str]:
    return [call.name for call in build.calls]


def members(archive: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return set(tar.getnames())


@TWINS
def test_a_build_uploads_each_copy_and_a_second_one_nothing(
    api: Standin, context: Path, twin: str
) -> None:
    first = sdk_build(api, context, COPIES, name="app", use_async=twin == "async")
    assert steps(first) == ["request", "link", "link", "start"]
    assert {call.status for call in first.calls} == {201, 202}
    assert len(set(first.hashes)) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in first.hashes)
    assert [(put.key, put.status) for put in first.puts] == [
        (first.keys[each], 200) for each in first.hashes
    ]
    src, notes = (api.archive(first.template_id, each) for each in first.hashes)
    assert (len(src), len(notes)) == tuple(put.size for put in first.puts)
    assert members(src) == {"src", "src/deep", "src/deep/data.bin", "src/main.py"}
    assert members(notes) == {"notes.txt"}

    again = sdk_build(api, context, COPIES, name="app", use_async=twin == "async")
    assert again.template_id == first.template_id
    assert again.build_id != first.build_id
    assert again.hashes == first.hashes
    assert again.puts == ()
    assert steps(again) == steps(first)


def test_what_the_calls_carry(api: Standin, context: Path) -> None:
    build = sdk_build(api, context, COPIES, name="app:v2")
    request, link, _, start = build.calls
    assert request.body == {"name": "app:v2"}
    assert {call.headers["x-api-key"] for call in build.calls} == {api.key}
    assert link.body is None
    assert link.arguments == (build.template_id, build.hashes[0])
    assert start.arguments == (build.template_id, build.build_id)
    assert [step["filesHash"] for step in start.body["steps"]] == list(build.hashes)
    assert [step["args"][:2] for step in start.body["steps"]] == [
        ["src", "/app/src"],
        ["*.txt", "/app/"],
    ]
    for put in build.puts:
        assert "x-api-key" not in put.headers
        assert put.headers["content-length"] == str(put.size)
        assert "transfer-encoding" not in put.headers


@TWINS
def test_a_build_that_is_waited_for_polls_until_it_is_ready(
    api: Standin, context: Path, twin: str
) -> None:
    build = sdk_build(api, context, COPIES, use_async=twin == "async", wait=True)
    assert steps(build) == ["request", "link", "link", "start", "status", "status"]
    assert "?logsOffset=1&" in build.calls[-1].target  # until no more is logged


def test_a_build_fails_whose_files_are_not_there(api: Standin, context: Path) -> None:
    from e2b.exceptions import BuildException

    api.script("link", with_members(present=True))
    with pytest.raises(BuildException, match="no files of hash"):
        sdk_build(api, context, COPIES[:1], wait=True)


def test_what_is_present_is_uploaded_where_the_sdk_is_told_to(api: Standin, context: Path) -> None:
    first = sdk_build(api, context, COPIES[:1])
    again = sdk_build(api, context, COPIES[:1], force_upload=True)
    assert again.hashes == first.hashes
    assert len(again.puts) == 1


def test_a_dockerfile_and_patterns_in_code(api: Standin, context: Path) -> None:
    build = sdk_build(
        api,
        context,
        dockerfile="FROM scratch\nWORKDIR /srv\nCOPY src notes.txt ./\n",
        ignore=["**/*.bin"],
    )
    assert len(build.hashes) == len(build.puts) == 2
    assert members(api.archive(build.template_id, build.hashes[0])) == {
        "src",
        "src/deep",
        "src/main.py",
    }


def test_each_template_has_its_own_files(api: Standin, context: Path) -> None:
    one = sdk_build(api, context, COPIES, name="one")
    other = sdk_build(api, context, COPIES, name="other")
    assert one.hashes == other.hashes
    assert len(other.puts) == 2


def test_a_link_is_good_for_half_an_hour_and_may_want_headers(api: Standin, context: Path) -> None:
    api.link_headers = {"Content-Type": "application/x-tar"}
    build = sdk_build(api, context, COPIES[:1])
    assert build.puts[0].status == 200
    assert build.puts[0].headers["content-type"] == "application/x-tar"
    assert LINK_SECONDS == 1800


def test_the_sdk_looks_a_name_up_as_an_alias(api: Standin, context: Path) -> None:
    from e2b import Template

    def exists(name: str) -> bool:
        return Template.exists(name, api_key=api.key, api_url=api.url)

    sdk_build(api, context, COPIES[:1], name="app:v2")
    api.add("theirs", is_mine=False)
    assert exists("app")
    assert exists("theirs")  # it may be another team's
    assert not exists("none")
    assert [call.arguments[0] for call in api.calls if call.name == "alias"] == [
        "app",
        "theirs",
        "none",
    ]


def test_misbehaviour_reaches_the_sdk_and_passes(api: Standin, context: Path) -> None:
    from e2b.exceptions import AuthenticationException, BuildException, FileUploadException

    api.script("request", error(401))
    with pytest.raises(AuthenticationException):
        sdk_build(api, context, COPIES)
    api.script("request", error(500, "down"))
    with pytest.raises(BuildException, match="500: down"):
        sdk_build(api, context, COPIES)
    api.script("link", error(429, headers={"Retry-After": "0"}))
    assert steps(sdk_build(api, context, COPIES[:1])) == ["request", "link", "link", "start"]
    api.script("link", error(404, "no such template"))
    with pytest.raises(FileUploadException, match="404: no such template"):
        sdk_build(api, context, COPIES)
    api.script("link", with_members(url=f"{api.url}/nowhere", present=False))
    with pytest.raises(FileUploadException):
        sdk_build(api, context, COPIES)
    api.script("link", without_members("url"))  # the SDK takes it for present
    assert sdk_build(api, context, [("notes.txt", "/")]).puts == ()
