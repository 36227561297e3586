"""What is not needed is not imported: starting costs more than most builds of a small context."""

import inspect
import subprocess
import sys
from dataclasses import fields

import pytest

import e2b_upload
from tests.cli.harness import ARCHIVE_KEYS, KIND, SUCCESS_KEYS, Place

HEAVY = {"typer", "rich", "requests", "urllib3", "pathspec", "re2", "isal", "anycrc"}
RUN = "import sys; from e2b_upload.cli.edge import run; run(sys.argv[1:]);"


def imported(place: Place, code: str, *args: str) -> set[str]:
    """Return which of the heavy packages a fresh interpreter has imported."""
    tell = " print(file=sys.stderr); print(*sys.modules, file=sys.stderr)"
    process = subprocess.run(
        [sys.executable, "-c", code + tell, *args],
        cwd=place.path,
        env=place.environment(),
        capture_output=True,
        check=True,
    )
    return HEAVY & {*process.stderr.decode().splitlines()[-1].split()}


@pytest.mark.parametrize(
    ("code", "args", "unneeded"),
    [
        ("import sys; import e2b_upload;", [], HEAVY),
        ("import sys; from e2b_upload import UploadError, UsageError;", [], HEAVY),
        ("import sys; import e2b_upload.transfer.put;", [], {"anycrc"}),
        (RUN, ["--version"], HEAVY - {"typer"}),
        (RUN, ["--help"], HEAVY - {"typer", "rich"}),
        (RUN, ["build", "--help"], HEAVY - {"typer", "rich"}),
        (RUN, ["build", "--frobnicate"], HEAVY - {"typer", "rich"}),
        (RUN, ["build", "ctx", "--dry-run", "-q"], {"requests", "urllib3"}),
        (RUN, ["pack", "ctx", "-o", "/dev/null", "-q"], {"requests", "urllib3"}),
        (RUN, ["ls", "ctx"], {"requests", "urllib3"}),
        (RUN, ["explain", "ctx", "a"], {"requests", "urllib3"}),
        (RUN, ["hash", "ctx", "--copy", ".:/app"], {"requests", "urllib3", "rich"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_needed_is_not_imported(
    code: str, args: list[str], unneeded: set[str], place: Place
) -> None:
    assert imported(place, code, *args) & unneeded == set()


def test_the_exported_names() -> None:
    assert sorted(e2b_upload.__all__) == dir(e2b_upload) == [
        "Archive",
        "Copy",
        "CopyReceipt",
        "Decision",
        "Entry",
        "Interrupted",
        "Receipt",
        "RefusedError",
        "SourceError",
        "SpoolError",
        "TemplateReceipt",
        "UnavailableError",
        "UploadError",
        "UsageError",
        "__version__",
        "build",
        "build_async",
        "build_template",
        "collect",
        "collect_copies",
        "explain",
        "explain_copies",
        "files_hash",
        "pack",
        "put",
    ]  # fmt: skip
    assert all(getattr(e2b_upload, name) for name in e2b_upload.__all__)


NOTHING = inspect.Parameter.empty
SIGNATURES: dict[str, dict[str, object]] = {
    "collect": {"context": NOTHING, "ignore_file": None, "exclude": (), "follow_symlinks": False},
    "pack": {"context": NOTHING, "output": NOTHING, "options": NOTHING},
    "put": {"archive": NOTHING, "url": NOTHING, "headers": None, "retries": 4},
    "build": {"context": NOTHING, "url": NOTHING, "options": NOTHING},
    "build_async": {"context": NOTHING, "url": NOTHING, "options": NOTHING},
    "build_template": {
        "context": NOTHING,
        "template": NOTHING,
        "copies": NOTHING,
        "options": NOTHING,
    },
    "files_hash": {"context": NOTHING, "copy": NOTHING, "exclude": (), "follow_symlinks": False},
    "collect_copies": {"context": NOTHING, "copies": NOTHING, "exclude": ()},
    "explain_copies": {"context": NOTHING, "copies": NOTHING, "paths": NOTHING, "exclude": ()},
}
"""The names and defaults that callers rely on; there may be more."""


@pytest.mark.parametrize("name", SIGNATURES)
def test_what_a_function_takes(name: str) -> None:
    given = inspect.signature(getattr(e2b_upload, name)).parameters
    defaults = {each: param.default for each, param in given.items()}
    assert SIGNATURES[name].items() <= defaults.items()
    kinds = inspect.Parameter
    for each, param in given.items():
        if each == "options":
            assert param.kind is kinds.VAR_KEYWORD
        elif param.default is NOTHING:
            keyword = each == "api_key"  # not to be mixed up with the template
            assert param.kind is (kinds.KEYWORD_ONLY if keyword else kinds.POSITIONAL_OR_KEYWORD)
        else:
            assert param.kind is kinds.KEYWORD_ONLY
    assert inspect.iscoroutinefunction(getattr(e2b_upload, name)) == (name == "build_async")


def test_each_exit_code_has_its_error() -> None:
    subclasses = {error.exit_code: error.kind for error in e2b_upload.UploadError.__subclasses__()}
    assert subclasses == {code: KIND[code] for code in (2, 3, 4, 5, 6)}
    for error in e2b_upload.UploadError.__subclasses__():
        assert getattr(e2b_upload, error.__name__) is error
    assert not issubclass(e2b_upload.Interrupted, Exception)
    assert e2b_upload.Interrupted(2).exit_code == 130


def test_what_values_hold() -> None:
    assert e2b_upload.Entry._fields[:5] == ("path", "type", "size", "mode", "target")
    assert [field.name for field in fields(e2b_upload.Archive)] == [*ARCHIVE_KEYS, "path"]
    names = [field.name for field in fields(e2b_upload.Receipt)]
    assert sorted(names) == sorted(SUCCESS_KEYS)
    assert {"path", "kept", "rule"} < {field.name for field in fields(e2b_upload.Decision)}


def test_what_is_not_exported_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'e2b_upload' has no attribute 'frobnicate'"):
        e2b_upload.frobnicate  # noqa: B018
    assert not hasattr(e2b_upload, "requests")
