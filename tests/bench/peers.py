"""Who else makes a compressed archive of a folder, each as a command line to run as it is."""

import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

# The function that the SDK's own template build calls, with what it passes for COPY . /
_SDK = """
import os, shutil, sys
from e2b.template.utils import tar_file_stream
with tar_file_stream(".", sys.argv[1], [], False, True) as archive, open(sys.argv[2], "wb") as out:
    shutil.copyfileobj(archive, out)
"""


@dataclass(frozen=True)
class Peer:
    """A way to pack.

    Attributes:
        name: as the table shows it.
        needs: programs or modules (``module:name``) that must be there.
        command: the context and the archive's path → what to run.
    """

    name: str
    needs: tuple[str, ...]
    command: Callable[[str, str], list[str]]

    @property
    def missing(self) -> str:
        """What is not installed, or an empty string."""
        return ", ".join(need for need in self.needs if not _there(need))


def _there(need: str) -> bool:
    if need.startswith("module:"):
        return find_spec(need.removeprefix("module:")) is not None
    return shutil.which(need) is not None


def _pipe(filter_: str) -> Callable[[str, str], list[str]]:
    def command(context: str, archive: str) -> list[str]:
        source, target = shlex.quote(context), shlex.quote(archive)
        return ["sh", "-c", f"tar -C {source} -cf - . | {filter_} >{target}"]

    return command


def ours(compression: str) -> Peer:
    """Return this project's own build, all but the PUT."""

    def command(context: str, archive: str) -> list[str]:
        del archive  # it goes to the spool, on the same disk
        options = ["--dry-run", "--no-ignore", "--json", "-q", "--compression", compression]
        return [sys.executable, "-m", "e2b_upload", "build", context, *options]

    return Peer(f"e2b-upload {compression}", (), command)


PEERS = (
    Peer("E2B SDK", ("module:e2b",), lambda c, a: [sys.executable, "-c", _SDK, c, a]),
    Peer("tar | gzip", ("tar", "gzip"), _pipe("gzip")),
    Peer("tar | pigz", ("tar", "pigz"), _pipe("pigz")),
    Peer("tar | igzip -1", ("tar", "igzip"), _pipe("igzip -1 -c")),
    Peer("tar | cat", ("tar",), _pipe("cat")),
)
