"""The CI recipes of docs/how-to/ci.md: each is parsed, and its steps run against a real store."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.cli.cases import api, link_or_store
from tests.recipes.ci import OURS, SECRETS, SYSTEMS, GitHub, Jenkinsfile, load
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
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        given = {"AWS_ENDPOINT_URL": nobody, "E2B_UPLOAD_RETRIES": "0"}
        job = replace(job, env=job.env | given)
        again = SYSTEMS[name](PIPELINES / name, job, installed=True)
    assert again.code == 5, again.log  # two of them know it as worth another try
    for secret in ("Signature", job.env["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in ran.log + again.log


def test_what_is_tried_again_is_what_may_work_later() -> None:
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
def test_a_pipeline_is_what_its_system_reads(schema: str, path: Path) -> None:
    command: list[str | Path] = [
        PROGRAMS / "check-jsonschema",
        "--builtin-schema",
        f"vendor.{schema}",
        path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_actionlint_has_nothing_to_say(tmp_path: Path) -> None:
    """Not of the workflows, nor of the action, which it reads where one of them uses it."""
    workflows = tmp_path / ".github/workflows"
    workflows.mkdir(parents=True)
    (tmp_path / ".git").mkdir()  # where its search for the root ends
    shutil.copy(REPOSITORY / "action.yml", tmp_path)
    for name in ("github-action.yml", "github-actions.yml"):
        text = (PIPELINES / name).read_text()
        (workflows / name).write_text(text.replace(OURS, "./"))
    command: list[str | Path] = [
        PROGRAMS / "actionlint",
        "-no-color",
        "-shellcheck",
        PROGRAMS / "shellcheck",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_jenkinsfile_is_a_declarative_pipeline() -> None:
    """As far as can be told without Jenkins: it is Groovy, and of these sections."""
    pipeline = Jenkinsfile.read(PIPELINES / "Jenkinsfile")
    assert pipeline.sections == ["agent", "environment", "stages", "post"]
    assert len(pipeline.scripts) == 3


def test_no_input_becomes_part_of_a_script() -> None:
    for step in load(REPOSITORY / "action.yml")["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_the_action_takes_inputs_for_what_they_are(job: Workplace, bucket: Seaweed) -> None:
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


@pytest.mark.parametrize("around", ["", "\n", " \r\n\t"])
def test_the_action_masks_the_url_and_its_query(
    job: Workplace, bucket: Seaweed, around: str
) -> None:
    """Whatever else is said of them in the job, and by whom."""
    runner = GitHub(job, secrets={})
    url = bucket.presign_put(OBJECT, ContentType="50%0A or 50%25")
    headers = "Content-Type: 50%0A or 50%25"
    given = {"context": "ctx", "url": f"{around}{url}{around}", "headers": headers}
    code, outputs = runner.run_action(given)
    assert (code, outputs["status"]) == (0, "uploaded"), runner.log
    query = url.partition("?")[2]
    assert {url, query} <= runner.masks
    assert "Signature" not in runner.log


def test_the_action_masks_each_line_of_what_is_no_url(job: Workplace, bucket: Seaweed) -> None:
    runner = GitHub(job, secrets={})
    first, second = (bucket.presign_put(name) for name in ("first", "second"))
    code, outputs = runner.run_action({"context": "ctx", "url": f"{first}\n\n{second}\n"})
    assert (code, outputs["status"]) == (2, "failed")
    assert {first, second} <= runner.masks
    assert "Signature" not in runner.log


def test_the_workflow_masks_the_url_before_it_is_an_output(job: Workplace) -> None:
    url = "https://example.com/k?a=50%25&X-Amz-Signature=0%0A"
    job.write("presign_s3.py", f"print({url!r})\n")
    runner = GitHub(job, secrets={name: job.env[name] for name in SECRETS})
    (step,) = (
        step
        for step in load(PIPELINES / "github-action.yml")["jobs"]["upload"]["steps"]
        if step.get("id") == "presign"
    )
    contexts = runner.contexts
    assert runner.run_steps([step], contexts) == 0, runner.log
    assert contexts["steps"]["presign"]["outputs"] == {"url": url}
    assert runner.masks == {url}


def test_an_action_without_a_url_masks_nothing(job: Workplace) -> None:
    runner = GitHub(job, secrets={})
    code, outputs = runner.run_action({"context": "ctx", "url": "\n"})
    assert (code, outputs["status"]) == (2, "failed")
    assert runner.masks == set()


def test_the_action_fills_the_cache_of_a_template(job: Workplace) -> None:
    known = api(200, {"templateID": "z9y8x7", "public": False})
    with raw_server(known, link_or_store()) as server:
        env = {**job.env, "E2B_API_KEY": "e2b_00112233445566778899", "E2B_API_URL": server.url}
        runner = GitHub(replace(job, env=env), secrets={})
        args = "--template=t\n--copy=main.py:/app/\n--copy=src:/app/src\n"
        code, outputs = runner.run_action({"context": "ctx", "args": args})
        assert (code, outputs["status"]) == (0, "uploaded"), runner.log
        assert [each.method for each in server.requests].count("PUT") == 2
