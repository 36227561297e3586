"""CI systems, as far as the recipes need them: who runs which step, in which shell, with what set.

Each takes a pipeline's file and a workplace that is its checkout, and runs the steps in order: all,
or those after installing. What a file asks for and is not known here fails the test, and so does
what shellcheck has to say.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import tree_sitter
import tree_sitter_groovy
from ruamel.yaml import YAML

from tests.recipes.workplace import PROGRAMS, REPOSITORY, Ran

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.recipes.workplace import Workplace

    CiSystem: TypeAlias = Callable[..., Ran]

SECRETS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""What a CI system keeps for a job; the pipelines ask for them in their ways."""

OURS: Final = "OWNER/e2b-upload@main"
"""What stands for this repository's action in a recipe."""


def load(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = YAML(typ="safe").load(path)
    return parsed


def check(script: str, shell: str) -> None:
    command: list[str | Path] = [PROGRAMS / "shellcheck", f"--shell={shell}", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def run_in_order(place: Workplace, shell: list[str], scripts: list[str]) -> Ran:
    """Run scripts up to the first that fails."""
    log = ""
    for script in scripts:
        check(script, shell[0])
        ran = place.run(*shell, script)
        log += ran.log
        if ran.code:
            return Ran(ran.code, log)
    return Ran(0, log)


def configured(place: Workplace, variables: Mapping[str, object]) -> Workplace:
    """Set a job's variables; which region and which server is the test's business."""
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
    assert not any("<<" in script for script in scripts)  # means a parameter there
    shell = ["bash", "-eo", "pipefail", "-c"]
    place = configured(place, job["environment"])
    return run_in_order(place, shell, scripts[-1:] if installed else scripts)


def buildkite(path: Path, place: Workplace, *, installed: bool = False) -> Ran:
    """https://buildkite.com/docs/pipelines/configure/step-types/command-step: one bash script."""
    (step,) = load(path)["steps"]
    assert step["artifact_paths"] == "result.json"
    script = "\n".join(step["commands"][-1:] if installed else step["commands"])
    assert "$" not in script  # the agent would replace it as it reads the file
    return run_in_order(configured(place, step["env"]), ["bash", "-e", "-c"], [script])


def jenkins(path: Path, place: Workplace, *, installed: bool = False) -> Ran:
    """https://www.jenkins.io/doc/book/pipeline/syntax/: each `sh` is a script that is traced."""
    pipeline = Jenkinsfile.read(path)
    assert set(pipeline.secrets.values()) == {"aws-access-key-id", "aws-secret-access-key"}
    assert sorted(pipeline.secrets) == sorted(SECRETS)
    scripts = pipeline.scripts[-1:] if installed else pipeline.scripts
    return run_in_order(configured(place, pipeline.variables), ["sh", "-xec"], scripts)


@dataclass(frozen=True)
class Jenkinsfile:
    """What a declarative pipeline holds.

    Attributes:
        sections: the names of what stands directly in `pipeline`.
        secrets: variables, and the credentials that they are set to.
        variables: others.
        scripts: of each `sh`, in order.
    """

    sections: list[str]
    secrets: dict[str, str]
    variables: dict[str, str]
    scripts: list[str]

    @classmethod
    def read(cls, path: Path) -> Jenkinsfile:
        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_groovy.language()))
        root = parser.parse(path.read_bytes()).root_node
        assert not root.has_error, f"{path.name} is no Groovy"
        (pipeline,) = _calls(root, "pipeline")
        sections = [name for node in _statements(pipeline) if (name := _name(node))]
        (environment,) = _calls(pipeline, "environment")
        secrets, variables = {}, {}
        for node in _find(environment, "assignment_expression"):
            left, right = _field(node, "left"), _field(node, "right")
            if right.type == "method_invocation":
                assert _name(right) == "credentials"
                secrets[_text(left)] = _string(_field(right, "arguments").named_children[0])
            else:
                variables[_text(left)] = _string(right)
        scripts = [_string(_field(call, "args").named_children[0]) for call in _calls(root, "sh")]
        return cls(sections, secrets, variables, scripts)


def _find(node: tree_sitter.Node, *kinds: str) -> Iterator[tree_sitter.Node]:
    for child in node.named_children:
        if child.type in kinds:
            yield child
        yield from _find(child, *kinds)


def _calls(node: tree_sitter.Node, name: str) -> Iterator[tree_sitter.Node]:
    return (
        call
        for call in _find(node, "method_invocation", "juxt_function_call")
        if _name(call) == name
    )


def _statements(call: tree_sitter.Node) -> list[tree_sitter.Node]:
    nodes = _field(call, "body").named_children
    return [
        node.named_children[0] if node.type == "expression_statement" else node for node in nodes
    ]


def _name(node: tree_sitter.Node) -> str:
    if node.type == "local_variable_declaration":  # `agent any`, to the grammar
        return _text(_field(node, "type"))
    name = node.child_by_field_name("name")
    return _text(name) if name else ""


def _field(node: tree_sitter.Node, name: str) -> tree_sitter.Node:
    found = node.child_by_field_name(name)
    assert found is not None, f"{_text(node)!r} has no {name}"
    return found


def _text(node: tree_sitter.Node) -> str:
    assert node.text is not None
    return node.text.decode()


def _string(node: tree_sitter.Node) -> str:
    """Return the value of a string in single quotes: nothing in it is replaced."""
    found = re.fullmatch(r"('''|')([^\\]*)\1", _text(node), re.DOTALL)
    assert found, f"{_text(node)!r} is no plain string"
    return found[2]


def github(path: Path, place: Workplace, *, installed: bool = False) -> Ran:
    """https://docs.github.com/actions: one job, and the actions that it uses."""
    (job,) = load(path)["jobs"].values()
    runner = GitHub(place, {name: place.env[name] for name in SECRETS}, installed=installed)
    hidden = {name: value for name, value in place.env.items() if name not in SECRETS}
    hidden["PATH"] = hidden["PATH"].partition(":")[2]  # setup-python has not been there yet
    runner.place = replace(place, env=hidden)
    code = runner.run_steps(job["steps"], runner.contexts)
    return Ran(code, runner.log)


_EXPRESSION = re.compile(r"\$\{\{ ([a-z]+(?:\.[\w-]+)+) \}\}")

Contexts: TypeAlias = dict[str, Any]

_ESCAPES: Final = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
"""What a runner reads in a command's value, in its order."""


@dataclass
class GitHub:
    """A runner of GitHub's with its commands, files and masks."""

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
        """Run steps until one fails; their outputs are put into `contexts`."""
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
        self._tell(ran)
        return ran.code, dict(line.split("=", 1) for line in output.read_text().splitlines())

    def _pretend(self, action: str, given: dict[str, str]) -> dict[str, str]:
        """Do what an action of GitHub's own would have done, as far as it matters."""
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
            raise AssertionError(f"nobody here knows {action}")
        return {}

    def _tell(self, ran: Ran) -> None:
        """Add to the log what a person would see of it."""
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
    """Put values in the place of expressions that name them, the only kind that is known here."""

    def value(found: re.Match[str]) -> str:
        here: Any = contexts
        for name in found[1].split("."):
            here = here[name]
        return str(here)

    unknown = _EXPRESSION.sub("", str(text))
    assert "${{" not in unknown, f"nobody here knows what {unknown!r} means"
    return _EXPRESSION.sub(value, str(text))


SYSTEMS: Final[dict[str, CiSystem]] = {
    "Jenkinsfile": jenkins,
    "buildkite.yml": buildkite,
    "circleci.yml": circleci,
    "github-action.yml": github,
    "github-actions.yml": github,
    "gitlab-ci.yml": gitlab,
}
