"""Who else packs a folder or sends a file, and this project: each as a command to run as it is."""

import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

# The function that the SDK's own build calls for COPY . /, with its defaults: no patterns beside
# .dockerignore, links kept, gzip. The archive stays where the SDK leaves it until it is sent.
_SDK_PACKS = """
import json, os, sys
from e2b.template.utils import tar_file_stream
with tar_file_stream(".", sys.argv[1], [], False, True) as archive:
    print(json.dumps({"archive": {"bytes": os.fstat(archive.fileno()).st_size}}))
"""

# The SDK's own packing and PUT. Of its client it asks only these two things. What its build does
# before, reading every file for a hash, is not counted.
_SDK_UPLOADS = """
import sys
from types import SimpleNamespace
from e2b.template_sync.build_api import upload_file
client = SimpleNamespace(_proxy=None, _follow_redirects=False)
upload_file(client, ".", sys.argv[1], sys.argv[2], [], False, True, None)
"""

# A whole build, but for what E2B's own service does of it.
_SDK_BUILDS = """
import sys
from e2b import Template
template = Template(file_context_path=sys.argv[1]).from_image("scratch").copy(".", "/app")
Template.build_in_background(template, sys.argv[2])
"""


@dataclass(frozen=True)
class Peer:
    """A way to pack.

    Attributes:
        key: its name in the keys of targets.
        name: as the table shows it.
        needs: programs or modules (``module:name``) that must be there.
        command: the context and the archive's path → what to run.
    """

    key: str
    name: str
    needs: tuple[str, ...]
    command: Callable[[str, str], list[str]]

    @property
    def missing(self) -> str:
        """What is not installed, or an empty string."""
        return missing(*self.needs)


def missing(*needs: str) -> str:
    """Return which of these programs and modules are not installed."""
    return ", ".join(need for need in needs if not _there(need))


def _there(need: str) -> bool:
    if need.startswith("module:"):
        return find_spec(need.removeprefix("module:")) is not None
    return shutil.which(need) is not None


def _pipe(filter_: str) -> Callable[[str, str], list[str]]:
    def command(context: str, archive: str) -> list[str]:
        source, target = shlex.quote(context), shlex.quote(archive)
        return ["sh", "-c", f"tar -C {source} -cf - . | {filter_} >{target}"]

    return command


def ours(context: str, *options: str) -> list[str]:
    """Return this project's build of a context."""
    return [sys.executable, "-m", "e2b_upload", "build", context, "--json", "-q", *options]


def ours_packing(compression: str) -> Peer:
    """Return all of this project's build but the PUT; the archive stays in the spool."""
    options = ("--dry-run", "--no-ignore", "--compression", compression)
    return Peer(compression, f"e2b-upload {compression}", (), lambda c, _: ours(c, *options))


def sdk_upload(context: str, url: str) -> list[str]:
    """Return the SDK's own packing and PUT of a context."""
    return [sys.executable, "-c", _SDK_UPLOADS, context, url]


def sdk_build(context: str, name: str) -> list[str]:
    """Return the SDK's own build of a template; E2B_API_KEY and E2B_API_URL say where."""
    return [sys.executable, "-c", _SDK_BUILDS, context, name]


def curl(file: str, url: str, authority: str) -> list[str]:
    """Return curl's PUT of a file; it prints the seconds from the name's look-up to the answer."""
    quiet = ["curl", "-q", "--silent", "--show-error", "--fail", "-o", "/dev/null"]
    return [*quiet, "--cacert", authority, "-w", "%{time_total}", "-T", file, url]


SDK = Peer("sdk", "E2B SDK", ("module:e2b",), lambda c, _: [sys.executable, "-c", _SDK_PACKS, c])
FLOOR = Peer("floor", "tar | cat", ("tar",), _pipe("cat"))
PEERS = (
    SDK,
    Peer("gzip", "tar | gzip", ("tar", "gzip"), _pipe("gzip")),
    Peer("pigz", "tar | pigz", ("tar", "pigz"), _pipe("pigz")),
    Peer("igzip", "tar | igzip -1", ("tar", "igzip"), _pipe("igzip -1 -c")),
    FLOOR,
)
