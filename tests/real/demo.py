"""Upload this repository to a real S3 server, and compare what arrived.

Run as `python -m tests.real.demo` (`make demo`). The expected entries come from a plain walk, not
from e2b-upload.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.archive.reading import expected, listed
from tests.support.seaweed import seaweed
from tests.support.trees import snapshot

if TYPE_CHECKING:
    from tests.support.seaweed import Seaweed

_REPOSITORY = Path(__file__).resolve().parents[2]
_KEY = "demo/build.tar.gz"
_SHOWN = 10

say = partial(print, flush=True)  # in order with the output of the command


def main() -> int:
    with ExitStack() as running:
        running.callback(say, "SeaweedFS is stopped.")
        server = running.enter_context(seaweed())
        say(f"SeaweedFS is ready at {server.endpoint}")
        return 0 if upload(server) and arrived(server) else 1


def upload(server: Seaweed) -> bool:
    url = server.presign_put(_KEY)
    say(f"Uploading {_REPOSITORY.name} to {url.partition('?')[0]}")
    command = [sys.executable, "-m", "e2b_upload", "build", str(_REPOSITORY), "--url", "-"]
    code = subprocess.run(command, input=url, text=True, check=False).returncode
    say(f"e2b-upload ended with {code}")
    return code == 0


def arrived(server: Seaweed) -> bool:
    with TemporaryDirectory() as folder:
        archive = Path(folder, "build.tar.gz")
        server.download(_KEY, archive)
        stored = listed(archive)
    source = snapshot(_REPOSITORY, is_ignored)
    wanted = expected(source)
    files = [seen.size for seen in source.values() if seen.type == "file"]
    say(f"Expected {len(wanted)} entries, {len(files)} of them files of {sum(files):,} bytes")
    differences = {*wanted} ^ {*stored}
    say(f"Stored   {len(stored)} entries, {len(differences)} differences")
    for entry in sorted(differences)[:_SHOWN]:
        say(f"  {'missing' if entry in wanted else 'unexpected'}: {entry}")
    same = stored == wanted
    say("All agree." if same else "They do NOT agree.")
    return same


def is_ignored(path: bytes) -> bool:
    """Match `.dockerignore`, whose patterns are `NAME` and `**/NAME` only."""
    lines = (_REPOSITORY / ".dockerignore").read_bytes().splitlines()
    names = path.split(b"/")
    return path in lines or any(b"**/" + name in lines for name in names)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
