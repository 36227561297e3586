"""How Sphinx builds the documentation: `make docs`."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import e2b_upload

project = "e2b-upload"
author = "The e2b-upload authors"
version = release = e2b_upload.__version__
today = "\N{NO-BREAK SPACE}"  # the manual page is the same whenever it is made

extensions = ["command_line", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3  # links from page to page name a heading, as on GitHub
autodoc_member_order = "bysource"
napoleon_use_ivar = True  # attributes are many, and short
python_maximum_signature_line_length = 88
highlight_language = "none"
smartquotes = False  # --help is no dash

nitpicky = True
nitpick_ignore_regex = [
    # Other projects' names: nothing is asked of the network.
    (
        "py:.*",
        r"((asyncio|collections|os|typing)\..*|bool|bytes|float|int|str|IO|Callable|Mapping)",
    ),
    # aliases, which the page explains
    ("py:.*", "Path|OnEvent|Compression|EntryType|Secrets|Status"),
]

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_copyright = False

# `sphinx-build -t man` makes the manual page, of one source; the pages know nothing of it.
if tags.has("man"):  # type: ignore[name-defined]  # noqa: F821  (Sphinx gives it)
    root_doc = "manual-page"
    include_patterns = ["manual-page.md"]
    says = "pack a build context by .dockerignore, and PUT it to a presigned URL"
    man_pages = [(root_doc, project, says, "", 1)]
    suppress_warnings = ["myst.xref_missing"]  # links to pages: a terminal follows none
else:
    exclude_patterns = ["manual-page.md"]


def resolve(_: object, env: Any, node: Any, contnode: Any) -> Any:
    """Find what a docstring calls by its bare name, or where it lives, among the public names."""
    name = node["reftarget"].rpartition(".")[2]
    if node.get("refdomain") == "py" and name in dir(e2b_upload):
        return env.get_domain("py").resolve_xref(
            env, node["refdoc"], env.app.builder, "obj", f"e2b_upload.{name}", node, contnode
        )
    return None


def name_functions(*told: Any) -> tuple[str | None, str | None]:
    """Show a default that is a function by its name."""
    *_, signature, returns = told
    return signature and re.sub(r"<function (\w+)>", r"\1", signature), returns


def setup(app: Any) -> None:
    """Tell Sphinx of both."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", name_functions)
