"""What the options of E2B's templates hold, and what they cannot stand beside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from e2b_upload.cli.inputs import as_utf8, is_given, read_secret, refuse_empty
from e2b_upload.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    import typer

    from e2b_upload.cli.inputs import StandardInput
    from e2b_upload.cli.options import Copied, Template
    from e2b_upload.e2b.build import TemplateOptions
    from e2b_upload.e2b.copies import Copy

KEY_VARIABLE: Final = "E2B_API_KEY"

# Parameters that mean nothing without a template, and those that mean nothing with one.
_ONLY_WITH: Final = {
    "copies": "--copy",
    "dockerfile": "--dockerfile",
    "force": "--force",
    "create": "--create",
    "api_key_file": "--api-key-file",
    "api_url": "--api-url",
    "domain": "--domain",
}
_SDK_READS = "E2B's SDK reads CONTEXT/.dockerignore, and nothing else."
_NOT_WITH: Final = {
    "url": ("--url", "E2B says where each COPY is put."),
    "url_file": ("--url-file", "E2B says where each COPY is put."),
    "if_absent": ("--if-absent", "E2B tells which files it has; --force uploads them all."),
    "ignore_checksum": ("--ignore-checksum", "E2B stores what its own links lead to."),
    "output": ("-o", "Each COPY has an archive of its own, and none is kept."),
    "ignore_file": ("--ignore-file", _SDK_READS),
    "no_ignore": ("--no-ignore", _SDK_READS),
    "allow_empty": ("--allow-empty", "A COPY that matches nothing is always an error."),
    "warn_size": ("--warn-size", "e2b-upload ls --copy SRC:DEST --largest 10 tells what is heavy."),
}


def refuse_beside(ctx: typer.Context, template: str | None) -> None:
    """Refuse options that the other kind of build takes; variables are just not looked at.

    Raises:
        UsageError: there is such an option.
    """
    if template is None:
        for name, option in _ONLY_WITH.items():
            if is_given(ctx, name):
                raise UsageError(
                    f"{option} needs a template", hint="Name it: --template NAME_OR_ID."
                )
        return
    refuse_ignore_file(ctx, "--template")
    for name, (option, hint) in _NOT_WITH.items():
        if is_given(ctx, name):
            raise UsageError(f"{option} and --template exclude each other", hint=hint)


def refuse_ignore_file(ctx: typer.Context, option: str) -> None:
    """Refuse another ignore file than the one that E2B's SDK reads.

    Raises:
        UsageError: there is such an option.
    """
    for name in ("ignore_file", "no_ignore"):
        if is_given(ctx, name):
            other, hint = _NOT_WITH[name]
            raise UsageError(f"{other} and {option} exclude each other", hint=hint)


def read_copies_if_any(ctx: typer.Context, copied: Copied) -> list[Copy]:
    """Return what a template copies; nothing if neither option is given.

    Raises:
        UsageError: they cannot be used, or stand beside another ignore file.
    """
    if not copied.copies and copied.dockerfile is None:
        return []
    refuse_ignore_file(ctx, "--copy" if copied.copies else "--dockerfile")
    return read_what_to_copy(copied.copies, copied.dockerfile)


def read_copies(texts: Iterable[str]) -> list[Copy]:
    """Return what each ``SRC:DEST`` says.

    Raises:
        UsageError: one says nothing, or leads out of the context.
    """
    from e2b_upload.e2b.copies import Copy

    return [Copy.parse(as_utf8(text)) for text in texts]


def read_what_to_copy(
    texts: list[str] | None,
    dockerfile: str | None,
    otherwise: str = "there is nothing to copy into the template",
) -> list[Copy]:
    """Return what a template copies, from the options or from a Dockerfile.

    Raises:
        UsageError: neither is there, or both, or one that cannot be used.
    """
    if texts and dockerfile is not None:
        raise UsageError("--copy and --dockerfile exclude each other", hint="Choose one.")
    if dockerfile is None:
        if not texts:
            raise UsageError(
                otherwise,
                hint="Pass --copy SRC:DEST, such as .:/app, or --dockerfile FILE.",
            )
        return read_copies(texts)
    refuse_empty("--dockerfile", dockerfile)
    from e2b_upload.e2b.dockerfile import copies, read_dockerfile

    found = copies(read_dockerfile(dockerfile), source=dockerfile)
    if not found:
        raise UsageError(
            f"the Dockerfile {printable(dockerfile)} copies nothing out of the context",
            hint="Then there is nothing to upload, and a build by E2B's SDK uploads nothing.",
        )
    return found


def read_options(
    ctx: typer.Context, stdin: StandardInput, template: Template, *, dry_run: bool
) -> TemplateOptions:
    """Return which template, and how to reach the E2B API, as the library takes it.

    Raises:
        UsageError: an option is empty, which would send the key elsewhere; no file of the key.
    """
    for option, value in {"--api-url": template.api_url, "--domain": template.domain}.items():
        if value == "":
            raise UsageError(f"{option} is empty", hint="Was the variable set? Or leave it out.")
    # An option wins over the environment.
    only_domain = is_given(ctx, "domain") and not is_given(ctx, "api_url")
    if template.api_key_file is None:
        key = os.environ.get(KEY_VARIABLE)
    else:
        key = read_secret(stdin, "the API key", template.api_key_file)
    from e2b_upload.e2b.build import TemplateOptions

    return TemplateOptions(
        template=template.template or "",
        api_key=key,
        api_url=None if only_domain else template.api_url,
        domain=template.domain,
        force=template.force,
        create=template.create,
        dry_run=dry_run,
    )
