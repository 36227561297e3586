"""The CI recipes of docs/how-to/ci.md: the steps of each run against a real store."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.cli.cases import api, link_or_store
from tests.recipes.ci import OURS, SECRETS, SYSTEMS, GitHub, load
from tests.recipes.workplace import KEPT, OBJECT, PROGRAMS, RECIPES, REPOSITORY, names
from tests.support.rawserver import raw_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.recipes.workplace import Workplace
    from tests.support.seaweed import Seaweed

pytestmark = pytest.mark.real

PIPELINES = RECIPES / "ci"


def test_every_pipeline_is_run() -> None:
    assert sorted(path.name for path in PIPELINES.iterdir()) == sorted(SYSTEMS)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_pipeline_uploads_its_context_or_fails(
    job: Workplace, bucket: Seaweed, name: str
) -> None:
    ran = SYSTEMS[name](PIPELINES / name, job)
    assert ran.code == 0, ran.log
    assert names(bucket.get(OBJECT)) == KEPT
    if name == "github-action.yml":
        assert f"stored {bucket.digest(OBJECT)}\n" in ran.log
    else:
        result = json.loads((job.path / "result.json").read_text())
        assert result["status"] == "uploaded"
        assert result["verified"] == "md5"
        assert result["archive"]["sha256"] == bucket.digest(OBJECT)
    with socket.socket() as taken:  # nothing listens
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        given = {"AWS_ENDPOINT_URL": nobody, "E2B_UPLOAD_RETRIES": "0"}
        job = replace(job, env=job.env | given)
        again = SYSTEMS[name](PIPELINES / name, job, installed=True)
    assert again.code == 5, again.log  # two of them retry on it
    for secret in ("Signature", job.env["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in ran.log + again.log


def test_pipelines_retry_transient_failures() -> None:
    (upload,) = load(PIPELINES / "gitlab-ci.yml").values()
    assert upload["retry"]["exit_codes"] == 5
    (step,) = load(PIPELINES / "buildkite.yml")["steps"]
    assert step["retry"]["automatic"][0]["exit_status"] == 5


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("buildkite", PIPELINES / "buildkite.yml"),
        ("circle-ci", PIPELINES / "circleci.yml"),
        ("github-actions", REPOSITORY / "action.yml"),
        ("github-workflows", PIPELINES / "github-action.yml"),
        ("github-workflows", PIPELINES / "github-actions.yml"),
        ("gitlab-ci", PIPELINES / "gitlab-ci.yml"),
    ],
)
def test_a_pipeline_matches_its_schema(schema: str, path: Path) -> None:
    command = [f"{PROGRAMS}/check-jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_actionlint_accepts_the_workflows(tmp_path: Path) -> None:
    """It also reads the action, which a workflow uses."""
    workflows = tmp_path / ".github/workflows"
    workflows.mkdir(parents=True)
    (tmp_path / ".git").mkdir()  # where its search for the root ends
    shutil.copy(REPOSITORY / "action.yml", tmp_path)
    for name in ("github-action.yml", "github-actions.yml"):
        text = (PIPELINES / name).read_text()
        (workflows / name).write_text(text.replace(OURS, "./"))
    command = [f"{PROGRAMS}/actionlint", "-no-color", "-shellcheck", f"{PROGRAMS}/shellcheck"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_input_becomes_part_of_a_script() -> None:
    for step in load(REPOSITORY / "action.yml")["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_the_action_does_not_interpret_inputs(job: Workplace, bucket: Seaweed) -> None:
    runner = GitHub(job, secrets={})
    context = '-$(touch pwned) `touch pwned` "; touch pwned #'
    (job.path / "ctx").rename(job.path / context)
    job.write("ignore me", "*.py\n")
    url = bucket.presign_put(OBJECT, ContentType="a; b='$(touch pwned)'")
    inputs = {
        "context": context,
        "url": url,
        "headers": "Content-Type: a; b='$(touch pwned)'\n",
        "ignore-file": "ignore me",
        "args": "--exclude=src/a b.txt\n\n--exclude\n*.log\n--compression=none\n",
    }
    code, outputs = runner.run_action(inputs)
    assert code == 0, runner.log
    assert names(bucket.get(OBJECT)) == [".dockerignore", "src", "src/big.bin"]
    assert outputs == {
        "status": "uploaded",
        "url": f"{bucket.endpoint}/my-bucket/{OBJECT}",
        "sha256": bucket.digest(OBJECT),
        "bytes": str(len(bucket.get(OBJECT))),
        "verified": "md5",
    }
    runner.installed = True
    code, outputs = runner.run_action(inputs | {"args": "--exclude=["})
    assert code == 2
    assert outputs == {"status": "failed", "url": "", "sha256": "", "bytes": "", "verified": ""}
    assert not (job.path / "pwned").exists()
    assert "Signature" not in runner.log
    assert url in runner.masks


def test_the_action_masks_the_url_and_its_query(job: Workplace, bucket: Seaweed) -> None:
    runner, around = GitHub(job, secrets={}), " \r\n\t"
    url = bucket.presign_put(OBJECT, ContentType="50%0A or 50%25")
    headers = "Content-Type: 50%0A or 50%25"
    given = {"context": "ctx", "url": f"{around}{url}{around}", "headers": headers}
    code, outputs = runner.run_action(given)
    assert (code, outputs["status"]) == (0, "uploaded"), runner.log
    query = url.partition("?")[2]
    assert {url, query} <= runner.masks
    assert "Signature" not in runner.log


def test_the_action_masks_each_line_of_an_invalid_url(job: Workplace, bucket: Seaweed) -> None:
    runner = GitHub(job, secrets={})
    first, second = (bucket.presign_put(name) for name in ("first", "second"))
    for url, masks in ((f"{first}\n\n{second}\n", {first, second}), ("\n", set())):
        runner.masks.clear()
        code, outputs = runner.run_action({"context": "ctx", "url": url})
        assert (code, outputs["status"]) == (2, "failed")
        assert runner.masks >= masks
        assert bool(runner.masks) == bool(masks)
    assert "Signature" not in runner.log


def test_the_workflow_masks_the_url_before_it_is_an_output(job: Workplace) -> None:
    url = "https://example.com/k?a=50%25&X-Amz-Signature=0%0A"
    job.write("presign_s3.py", f"print({url!r})\n")
    runner = GitHub(job, secrets={name: job.env[name] for name in SECRETS})
    steps = load(PIPELINES / "github-action.yml")["jobs"]["upload"]["steps"]
    contexts = runner.contexts
    step = next(step for step in steps if step.get("id") == "presign")
    assert runner.run_steps([step], contexts) == 0, runner.log
    assert contexts["steps"]["presign"]["outputs"] == {"url": url}
    assert runner.masks == {url}


def test_the_action_fills_the_cache_of_a_template(job: Workplace) -> None:
    known = api(200, {"templateID": "z9y8x7", "public": False})
    with raw_server(known, link_or_store()) as server:
        env = {**job.env, "E2B_API_KEY": "e2b_00112233445566778899", "E2B_API_URL": server.url}
        runner = GitHub(replace(job, env=env), secrets={})
        args = "--template=t\n--copy=main.py:/app/\n--copy=src:/app/src\n"
        code, outputs = runner.run_action({"context": "ctx", "args": args})
        assert (code, outputs["status"]) == (0, "uploaded"), runner.log
        assert [each.method for each in server.requests].count("PUT") == 2
