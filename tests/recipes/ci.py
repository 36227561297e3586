"""Fakes of CI systems: which steps run, in which shell, with which environment.

Each takes the file of a pipeline and its checkout, and runs the steps in order: all, or those after
the installation. It fails if it does not know something in the file, or if shellcheck complains.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ruamel.yaml import YAML

from tests.recipes.workplace import PROGRAMS, REPOSITORY, Ran

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.recipes.workplace import Workplace

    CiSystem: TypeAlias = Callable[..., Ran]

SECRETS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""What a CI system keeps secret for a job."""

OURS: Final = "OWNER/e2b-upload@main"
"""The name of this repository's action in a recipe."""


def load(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = YAML(typ="safe").load(path)
    return parsed


def check(script: str, shell: str) -> None:
    command: list[str | Path] = [PROGRAMS / "shellcheck", f"--shell={shell}", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def run_in_order(place: Workplace, shell: list[str], scripts: list[str]) -> Ran:
    """Run scripts until one fails."""
    log = ""
    for script in scripts:
        check(script, shell[0])
        ran = place.run(*shell, script)
        log += ran.log
        if ran.code:
            return Ran(ran.code, log)
    return Ran(0, log)


def configured(place: Workplace, variables: Mapping[str, object]) -> Workplace:
    """Set the variables of a job, except for the region, which the test sets."""
    given = {name: str(value) for name, value in variables.items()}
    assert given.pop("AWS_DEFAULT_REGION", "") in {"", "eu-central-1"}
    return replace(place, env=place.env | given)


def gitlab(path: Path, place: Workplace, *, installed: bool = False) -> Ran:
    """https://docs.gitlab.com/ci/yaml/: before_script and script are one script of bash."""
    (job,) = load(path).values()
    assert job["image"].startswith("python:")
    install = [] if installed else job["before_script"]
    script = "\n".join(["set -eo pipefail", *install, *job["script"]])
    return run_in_order(configured(place, job["variables"]), ["bash", "-c"], [script])


def circleci(path: Path, place: Workplace, *, installed: bool = False) -> Ran:
    """https://circleci.com/docs/configuration-reference/#run: a shell for each step."""
    job = load(path)["jobs"]["upload"]
    assert job["docker"][0]["image"].startswith("cimg/python:")
    checkout, *steps, store = job["steps"]
    assert checkout == "checkout"
    assert store == {"store_artifacts": {"path": "result.json"}}
    scripts = [step["run"]["command"] for step in steps]
    assert not any("<<" in script for script in scripts)  # would be a parameter
    shell = ["bash", "-eo", "pipefail", "-c"]
    place = configured(place, job["environment"])
    return run_in_order(place, shell, scripts[-1:] if installed else scripts)


def buildkite(path: Path, place: Workplace, *, installed: bool = False) -> Ran:
    """https://buildkite.com/docs/pipelines/configure/step-types/command-step: one bash script."""
    (step,) = load(path)["steps"]
    assert step["artifact_paths"] == "result.json"
    script = "\n".join(step["commands"][-1:] if installed else step["commands"])
    assert "$" not in script  # the agent would replace it
    return run_in_order(configured(place, step["env"]), ["bash", "-e", "-c"], [script])


def jenkins(path: Path, place: Workplace, *, installed: bool = False) -> Ran:
    """https://www.jenkins.io/doc/book/pipeline/syntax/: each `sh` is a script that is traced."""
    text = path.read_text()
    assert [text.count(each) for each in "{(["] == [text.count(each) for each in "})]"]
    assert re.findall(r"(?m)^ {4}(\w+) [{\w]", text) == ["agent", "environment", "stages", "post"]
    # Only strings in single quotes, in which nothing is replaced.
    assert '"' not in text.partition("pipeline {")[2]
    secrets = dict(re.findall(r"(\w+) = credentials\('([\w-]+)'\)", text))
    assert secrets == {name: name.lower().replace("_", "-") for name in SECRETS}
    scripts = [found[1] for found in re.findall(r"\bsh ('''|')(.*?)\1", text, re.DOTALL)]
    place = configured(place, dict(re.findall(r"(\w+) = '([\w-]+)'", text)))
    return run_in_order(place, ["sh", "-xec"], scripts[-1:] if installed else scripts)


def github(path: Path, place: Workplace, *, installed: bool = False) -> Ran:
    """https://docs.github.com/actions: one job, and the actions that it uses."""
    (job,) = load(path)["jobs"].values()
    runner = GitHub(place, {name: place.env[name] for name in SECRETS}, installed=installed)
    hidden = {name: value for name, value in place.env.items() if name not in SECRETS}
    hidden["PATH"] = hidden["PATH"].partition(":")[2]  # setup-python has not run yet
    runner.place = replace(place, env=hidden)
    code = runner.run_steps(job["steps"], runner.contexts)
    return Ran(code, runner.log)


_EXPRESSION = re.compile(r"\$\{\{ ([a-z]+(?:\.[\w-]+)+) \}\}")

Contexts: TypeAlias = dict[str, Any]

_ESCAPES: Final = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
"""The escapes in the value of a command, in the order in which a runner replaces them."""


@dataclass
class GitHub:
    """A GitHub runner, with its commands, files and masks."""

    place: Workplace
    secrets: dict[str, str]
    installed: bool = False
    log: str = ""
    masks: set[str] = field(default_factory=set)
    step_count: int = 0

    @property
    def contexts(self) -> Contexts:
        return {"secrets": self.secrets, "steps": {}}

    def run_steps(self, steps: list[dict[str, Any]], contexts: Contexts) -> int:
        """Run steps until one fails; add their outputs to `contexts`."""
        for step in steps:
            if self.installed and step.get("name", "").startswith("Install"):
                continue
            code, outputs = self._run_step(step, contexts)
            if "id" in step:
                contexts["steps"][step["id"]] = {"outputs": outputs}
            if code:
                return code
        return 0

    def run_action(self, inputs: dict[str, str]) -> tuple[int, dict[str, str]]:
        """Run this repository's action; return its exit code and its outputs."""
        action = load(REPOSITORY / "action.yml")
        unknown = inputs.keys() - action["inputs"].keys()
        assert not unknown
        given = {
            name: inputs[name] if about.get("required") else inputs.get(name, about.get("default"))
            for name, about in action["inputs"].items()
        }
        github = {"action_path": str(REPOSITORY)}
        contexts: Contexts = {"inputs": given, "github": github, "steps": {}}
        code = self.run_steps(action["runs"]["steps"], contexts)
        outputs = {
            name: evaluated(about["value"], contexts) for name, about in action["outputs"].items()
        }
        return code, outputs

    def _run_step(self, step: dict[str, Any], contexts: Contexts) -> tuple[int, dict[str, str]]:
        if "run" in step:
            return self._run_script(step, contexts)
        given = {name: evaluated(value, contexts) for name, value in step.get("with", {}).items()}
        if step["uses"] == OURS:
            return self.run_action(given)
        return 0, self._pretend(step["uses"].partition("@")[0], given)

    def _run_script(self, step: dict[str, Any], contexts: Contexts) -> tuple[int, dict[str, str]]:
        self.step_count += 1
        runner = self.place.path.parent / "runner"
        runner.mkdir(exist_ok=True)
        output = runner / f"output-{self.step_count}"
        output.touch()
        script = runner / f"script-{self.step_count}.sh"
        script.write_text(evaluated(step["run"], contexts))
        check(script.read_text(), "bash")
        shell = {"": ["bash", "-e"], "bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"]}
        env = {name: evaluated(value, contexts) for name, value in step.get("env", {}).items()}
        env["GITHUB_ACTIONS"] = "true"
        env["GITHUB_OUTPUT"] = str(output)
        env["RUNNER_TEMP"] = str(runner)
        place = configured(self.place, env)
        ran = place.run(*shell[step.get("shell", "")], script)
        self._add_to_log(ran)
        return ran.code, dict(line.split("=", 1) for line in output.read_text().splitlines())

    def _pretend(self, action: str, given: dict[str, str]) -> dict[str, str]:
        """Do what one of GitHub's own actions does, as far as it matters."""
        if action == "actions/checkout":
            assert given == {"persist-credentials": "False"}
        elif action == "actions/upload-artifact":
            assert (self.place.path / given["path"]).is_file()
        elif action == "actions/setup-python":
            folder = self.place.path.parent / "python/bin"
            if given.get("update-environment") != "False":
                path = f"{folder}:{self.place.env['PATH']}"
                self.place = replace(self.place, env=self.place.env | {"PATH": path})
            return {"python-path": f"{folder}/python"}
        else:
            raise AssertionError(f"unknown action {action}")
        return {}

    def _add_to_log(self, ran: Ran) -> None:
        """Add the visible output to the log."""
        for line in ran.log.splitlines(keepends=True):
            if line.startswith("::add-mask::"):
                value = line.removeprefix("::add-mask::").rstrip("\r\n")
                for written, meant in _ESCAPES:
                    value = value.replace(written, meant)
                assert value, "there is nothing to mask"
                self.masks |= {value, *filter(None, value.splitlines())}
            else:
                self.log += line
        for secret in (*self.secrets.values(), *self.masks):
            self.log = self.log.replace(secret, "***")


def evaluated(text: object, contexts: Contexts) -> str:
    """Replace expressions that name a value, the only kind that is known here."""

    def value(found: re.Match[str]) -> str:
        here: Any = contexts
        for name in found[1].split("."):
            here = here[name]
        return str(here)

    unknown = _EXPRESSION.sub("", str(text))
    assert "${{" not in unknown, f"unknown expression in {unknown!r}"
    return _EXPRESSION.sub(value, str(text))


SYSTEMS: Final[dict[str, CiSystem]] = {
    "Jenkinsfile": jenkins,
    "buildkite.yml": buildkite,
    "circleci.yml": circleci,
    "github-action.yml": github,
    "github-actions.yml": github,
    "gitlab-ci.yml": gitlab,
}
