"""What is not needed is not imported: starting costs more than most builds of a small context."""

import subprocess
import sys

import pytest

import e2b_upload
from tests.cli.harness import Place

HEAVY = {"typer", "rich", "requests", "urllib3", "pathspec", "re2", "isal"}
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
        (RUN, ["--version"], HEAVY - {"typer"}),
        (RUN, ["--help"], HEAVY - {"typer", "rich"}),
        (RUN, ["build", "--help"], HEAVY - {"typer", "rich"}),
        (RUN, ["build", "--frobnicate"], HEAVY - {"typer", "rich"}),
        (RUN, ["build", "ctx", "--dry-run", "-q"], {"requests", "urllib3"}),
    ],
    ids=["the package", "its errors", "--version", "--help", "build --help", "mistake", "dry run"],
)
def test_what_is_not_needed_is_not_imported(
    code: str, args: list[str], unneeded: set[str], place: Place
) -> None:
    assert imported(place, code, *args) & unneeded == set()


def test_the_exported_names() -> None:
    assert sorted(e2b_upload.__all__) == dir(e2b_upload) == [
        "Archive",
        "Decision",
        "Entry",
        "Interrupted",
        "Receipt",
        "RefusedError",
        "SourceError",
        "SpoolError",
        "UnavailableError",
        "UploadError",
        "UsageError",
        "__version__",
        "build",
        "build_async",
        "collect",
        "explain",
        "pack",
        "put",
    ]  # fmt: skip
    assert all(getattr(e2b_upload, name) for name in e2b_upload.__all__)


def test_what_is_not_exported_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'e2b_upload' has no attribute 'frobnicate'"):
        e2b_upload.frobnicate  # noqa: B018
    assert not hasattr(e2b_upload, "requests")
