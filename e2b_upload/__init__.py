"""Pack a build context by ``.dockerignore`` and PUT it to a presigned URL.

The names below are the whole public interface. Each is imported when it is first asked for, so
that ``import e2b_upload`` costs nothing.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from e2b_upload.archive.pack import Archive
    from e2b_upload.context.collect import Entry
    from e2b_upload.context.explain import Decision
    from e2b_upload.e2b.files_hash import Copy
    from e2b_upload.errors import (
        Interrupted,
        RefusedError,
        SourceError,
        SpoolError,
        UnavailableError,
        UploadError,
        UsageError,
    )
    from e2b_upload.pipeline import (
        Receipt,
        build,
        build_async,
        collect,
        explain,
        pack,
        put,
    )
    from e2b_upload.template import (
        CopyReceipt,
        TemplateReceipt,
        build_template,
        collect_copies,
        explain_copies,
        files_hash,
    )

_HOME = {
    "Archive": "e2b_upload.archive.pack",
    "Copy": "e2b_upload.e2b.files_hash",
    "CopyReceipt": "e2b_upload.template",
    "Decision": "e2b_upload.context.explain",
    "Entry": "e2b_upload.context.collect",
    "Interrupted": "e2b_upload.errors",
    "Receipt": "e2b_upload.pipeline",
    "RefusedError": "e2b_upload.errors",
    "SourceError": "e2b_upload.errors",
    "SpoolError": "e2b_upload.errors",
    "TemplateReceipt": "e2b_upload.template",
    "UnavailableError": "e2b_upload.errors",
    "UploadError": "e2b_upload.errors",
    "UsageError": "e2b_upload.errors",
    "build": "e2b_upload.pipeline",
    "build_async": "e2b_upload.pipeline",
    "build_template": "e2b_upload.template",
    "collect": "e2b_upload.pipeline",
    "collect_copies": "e2b_upload.template",
    "explain": "e2b_upload.pipeline",
    "explain_copies": "e2b_upload.template",
    "files_hash": "e2b_upload.template",
    "pack": "e2b_upload.pipeline",
    "put": "e2b_upload.pipeline",
}

__all__ = [
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
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  (as late as all the rest)

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
