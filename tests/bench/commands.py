"""The commands that are measured: of other tools and of this project."""

import shlex
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

# The function that the SDK's build calls for COPY . /, with its defaults: no patterns except those
# of .dockerignore, links kept, gzip. The archive stays where the SDK leaves it until it is sent.
_SDK_PACKS = """
import json, os, sys
from e2b.template.utils import tar_file_stream
with tar_file_stream(".", sys.argv[1], [], False, True) as archive:
    print(json.dumps({"archive": {"bytes": os.fstat(archive.fileno()).st_size}}))
"""

# The SDK's packing and PUT, which use only these two attributes of its client. What its build does
# before that, reading every file for a hash, is not counted.
_SDK_UPLOADS = """
import sys
from types import SimpleNamespace
from e2b.template_sync.build_api import upload_file
client = SimpleNamespace(_proxy=None, _follow_redirects=False)
upload_file(client, ".", sys.argv[1], sys.argv[2], [], False, True, None)
"""

# A whole build, except for the work of E2B's service.
_SDK_BUILDS = """
import sys
from e2b import Template
template = Template(file_context_path=sys.argv[1]).from_image("scratch").copy(".", "/app")
Template.build_in_background(template, sys.argv[2])
"""

# Two commands, so that the program has a help of its own, as ours has.
BARE_TYPER = """
import typer
app = typer.Typer()
@app.command()
def build(context: str) -> None:
    "Build."
@app.command()
def show(context: str) -> None:
    "Show."
app()
"""

COLLECTS = """
import sys
import e2b_upload
print(sum(1 for _ in e2b_upload.collect(sys.argv[1], ignore_file=sys.argv[2])))
"""


class Packer(NamedTuple):
    """A way to pack.

    Attributes:
        key: its name in the keys of the targets.
        name: in the tables.
        needs: the programs or modules (`module:name`) that it needs.
        command: returns the command for a context and the path of the archive.
    """

    key: str
    name: str
    needs: tuple[str, ...]
    command: Callable[[str, str], list[str]]

    @property
    def missing(self) -> str:
        return missing(*self.needs)


def missing(*needs: str) -> str:
    """Return which of these programs and modules are not installed."""
    return ", ".join(need for need in needs if not _installed(need))


def _installed(need: str) -> bool:
    if need.startswith("module:"):
        return find_spec(need.removeprefix("module:")) is not None
    return shutil.which(need) is not None


def _pipe(compress: str, *, digests: bool = False) -> Callable[[str, str], list[str]]:
    def command(context: str, archive: str) -> list[str]:
        source, target = shlex.quote(context), shlex.quote(archive)
        if not digests:
            return ["sh", "-c", f"tar -C {source} -cf - . | {compress} >{target}"]
        sha256, md5 = f"{target}.sha256", f"{target}.md5"
        sums = f"sha256sum <{sha256} >/dev/null & md5sum <{md5} >/dev/null &"
        pipe = f"tar -C {source} -cf - . | {compress} | tee {sha256} {md5} >{target}"
        return ["sh", "-ec", f"mkfifo {sha256} {md5}; {sums} {pipe}; wait; rm {sha256} {md5}"]

    return command


def ours(context: str, *options: str) -> list[str]:
    """Return this project's build of a context."""
    return [sys.executable, "-m", "e2b_upload", "build", context, "--json", "-q", *options]


def ours_packing(compression: str) -> Packer:
    """Return this project's build without the PUT; the archive stays in the spool."""
    options = ("--dry-run", "--no-ignore", "--compression", compression)
    return Packer(compression, f"e2b-upload {compression}", (), lambda c, _: ours(c, *options))


def sdk_upload(context: str, url: str) -> list[str]:
    """Return the SDK's packing and PUT of a context."""
    return [sys.executable, "-c", _SDK_UPLOADS, context, url]


def sdk_build(context: str, name: str) -> list[str]:
    """Return the SDK's build of a template; it reads E2B_API_KEY and E2B_API_URL."""
    return [sys.executable, "-c", _SDK_BUILDS, context, name]


def curl(file: str, url: str, authority: str) -> list[str]:
    """Return curl's PUT of a file; it prints the seconds from the look-up to the answer."""
    quiet = ["curl", "-q", "--silent", "--show-error", "--fail", "-o", "/dev/null"]
    return [*quiet, "--cacert", authority, "-w", "%{time_total}", "-T", file, url]


SDK = Packer("sdk", "E2B SDK", ("module:e2b",), lambda c, _: [sys.executable, "-c", _SDK_PACKS, c])
PACKERS = (
    SDK,
    Packer("gzip", "tar | gzip", ("tar", "gzip"), _pipe("gzip")),
    Packer("pigz", "tar | pigz", ("tar", "pigz"), _pipe("pigz")),
    Packer("igzip", "tar | igzip -1", ("tar", "igzip"), _pipe("igzip -1 -c")),
    Packer(
        *("igzip-digests", "tar | igzip -1, SHA-256, MD5", ("tar", "igzip", "sha256sum")),
        _pipe("igzip -1 -c", digests=True),
    ),
    Packer("floor", "tar | cat", ("tar",), _pipe("cat")),
)
