"""What the real SDK says, and what this project says to the same."""

import contextlib
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from e2b import Template
from e2b.template.types import InstructionType
from e2b.template.utils import (
    calculate_files_hash,
    read_dockerignore,
    tar_file_stream,
    validate_relative_path,
)

from e2b_upload.context.root import Root
from e2b_upload.e2b.copies import Copy
from e2b_upload.e2b.hash import calculate
from e2b_upload.e2b.ignore import read_ignore_patterns
from e2b_upload.errors import UploadError


def sdk_hash(
    context: Path, src: str, dest: str, exclude: Sequence[str] = (), *, follow: bool = False
) -> str | Exception:
    """Return the hash that a build asks for, or why it asks for none."""
    try:
        validate_relative_path(src, None)
        patterns = [*read_dockerignore(os.fspath(context)), *exclude]
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            return calculate_files_hash(src, dest, os.fspath(context), patterns, follow, None)
    except Exception as error:  # noqa: BLE001  (whatever it is, there is no hash)
        return error


def our_hash(
    context: Path, src: str, dest: str, exclude: Sequence[str] = (), *, follow: bool = False
) -> str | UploadError:
    try:
        root = Root(context, follow_symlinks=follow)
        return calculate(root, Copy(src, dest), read_ignore_patterns(root, exclude))
    except UploadError as error:
        return error


def sdk_archive(
    context: Path, src: str, patterns: list[str] | None = None, *, follow: bool = False
) -> IO[bytes]:
    return tar_file_stream(src, os.fspath(context), patterns or [], follow, gzip=True)


def sdk_copies(dockerfile: str) -> list[tuple[str, str]] | Exception:
    """Return source and destination of each COPY, or why there is no template."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder = Template().from_dockerfile(dockerfile)
    except Exception as error:  # noqa: BLE001  (whatever it is, there is no template)
        return error
    instructions = builder._template._instructions
    found = [i["args"] for i in instructions if i["type"] == InstructionType.COPY]
    return [(args[0], args[1]) for args in found]
