"""The public names of the package, and which modules each command imports."""

import inspect
import subprocess
import sys
from dataclasses import fields

import pytest

import e2b_upload
from tests.cli.harness import ARCHIVE_KEYS, KIND, SUCCESS_KEYS, Place

HEAVY = {"typer", "rich", "requests", "urllib3", "pathspec", "re2", "isal", "anycrc"}
RUN = "import sys; from e2b_upload.cli.main import run; run(sys.argv[1:]);"
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("code", "command", "unneeded"),
    [
        ("import sys; import e2b_upload; e2b_upload.UsageError;", "", HEAVY),
        pytest.param("import sys; import e2b_upload.transfer.put;", "", {"anycrc"}, marks=SLOW),
        *(
            pytest.param(RUN, command, unneeded, marks=SLOW)
            for command, unneeded in (
                ("--version", HEAVY - {"typer"}),
                ("build --help", HEAVY - {"typer", "rich"}),
                ("build --frobnicate", HEAVY - {"typer", "rich"}),
                ("pack ctx -o /dev/null -q", {"requests", "urllib3"}),
                ("ls ctx", {"requests", "urllib3"}),
                ("explain ctx a", {"requests", "urllib3"}),
                ("hash ctx --copy .:/app", {"requests", "urllib3", "rich"}),
            )
        ),
    ],
)
def test_unneeded_modules(code: str, command: str, unneeded: set[str], place: Place) -> None:
    """Start-up time is most of the time of a small build."""
    tell = " print(file=sys.stderr); print(*sys.modules, file=sys.stderr)"
    process = subprocess.run(
        [sys.executable, "-c", code + tell, *command.split()],
        cwd=place.path,
        env=place.environment(),
        capture_output=True,
        check=True,
    )
    assert unneeded & {*process.stderr.decode().splitlines()[-1].split()} == set()


NAMES = """
    Archive Copy CopyReceipt Decision Entry Interrupted Receipt RefusedError SourceError SpoolError
    TemplateReceipt UnavailableError UploadError UsageError __version__ build build_async
    build_template collect collect_copies explain explain_copies files_hash pack put
"""


def test_exported_names() -> None:
    assert dir(e2b_upload) == NAMES.split()
    assert all(getattr(e2b_upload, name) for name in dir(e2b_upload))
    with pytest.raises(AttributeError, match="'e2b_upload' has no attribute 'frobnicate'"):
        e2b_upload.frobnicate  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(e2b_upload, "requests")


REQUIRED = {
    "collect": ["context"],
    "pack": ["context", "output"],
    "put": ["archive", "url"],
    "build": ["context", "url"],
    "build_async": ["context", "url"],
    "build_template": ["context", "template", "copies"],
    "files_hash": ["context", "copy"],
    "collect_copies": ["context", "copies"],
    "explain_copies": ["context", "copies", "paths"],
}


@pytest.mark.parametrize("name", REQUIRED)
def test_signatures(name: str) -> None:
    """Required parameters may be positional; all others are keyword-only."""
    function = getattr(e2b_upload, name)
    params = inspect.signature(function).parameters.values()
    positional = [each.name for each in params if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == REQUIRED[name]
    for each in params:
        assert each.name in positional or each.kind in {each.KEYWORD_ONLY, each.VAR_KEYWORD}
    assert inspect.iscoroutinefunction(function) == (name == "build_async")


def test_exit_code_of_each_error() -> None:
    subclasses = {error.exit_code: error.kind for error in e2b_upload.UploadError.__subclasses__()}
    assert subclasses == {code: KIND[code] for code in (2, 3, 4, 5, 6)}
    for error in e2b_upload.UploadError.__subclasses__():
        assert getattr(e2b_upload, error.__name__) is error
    assert not issubclass(e2b_upload.Interrupted, Exception)
    assert e2b_upload.Interrupted(2).exit_code == 130


def test_fields() -> None:
    assert e2b_upload.Entry._fields[:5] == ("path", "type", "size", "mode", "target")
    assert [field.name for field in fields(e2b_upload.Archive)] == [*ARCHIVE_KEYS, "path"]
    assert sorted(field.name for field in fields(e2b_upload.Receipt)) == sorted(SUCCESS_KEYS)
    assert {"path", "kept", "rule"} < {field.name for field in fields(e2b_upload.Decision)}
