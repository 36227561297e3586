"""Upload this repository to a real S3 server and compare what arrived.

Run it as ``python -m tests.real.demo``. What is expected comes from a plain walk of its own, so
that the program is not its own witness.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
import tarfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from tests.support.seaweed import seaweed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.seaweed import Seaweed

_REPOSITORY = Path(__file__).resolve().parents[2]
_KEY = "demo/build.tar.gz"
_SHOWN = 10  # differences of one sort

say = partial(print, flush=True)  # in step with the program, which writes to the same terminal


class Fact(NamedTuple):
    """What has to be the same on both sides; ``content`` is a SHA-256 or a link's target."""

    type: str
    mode: str
    size: int
    content: str


def main() -> int:
    with ExitStack() as running:
        running.callback(say, "SeaweedFS is stopped.")
        server = running.enter_context(seaweed())
        say(f"SeaweedFS is ready at {server.endpoint}")
        return 0 if upload(server) and arrived_whole(server) else 1


def upload(server: Seaweed) -> bool:
    url = server.presign_put(_KEY)
    say(f"Uploading {_REPOSITORY.name} to {url.partition('?')[0]}")
    command = [sys.executable, "-m", "e2b_upload", "build", str(_REPOSITORY), "--url", "-"]
    code = subprocess.run(command, input=url, text=True, check=False).returncode
    say(f"e2b-upload ended with {code}")
    return code == 0


def arrived_whole(server: Seaweed) -> bool:
    with TemporaryDirectory() as folder:
        archive = Path(folder, "build.tar.gz")
        server.download(_KEY, archive)
        stored = facts_of_archive(archive)
    source = facts_of_folder(_REPOSITORY)
    both = source.keys() & stored.keys()
    differences = {
        "missing": source.keys() - both,
        "unexpected": stored.keys() - both,
        "different": {path for path in both if source[path] != stored[path]},
    }
    sizes = [fact.size for fact in source.values() if fact.type == "file"]
    say(
        f"Expected {len(source)} entries, {len(sizes)} of them files of {sum(sizes):,} bytes in all"
    )
    counts = ", ".join(f"{len(paths)} {sort}" for sort, paths in differences.items())
    say(f"Stored   {len(stored)} entries: {counts}")
    for sort, paths in differences.items():
        for path in sorted(paths)[:_SHOWN]:
            say(f"  {sort}: {path!r}: {source.get(path)} -> {stored.get(path)}")
    whole = bool(source) and not any(differences.values())
    say("All agree." if whole else "They do NOT agree.")
    return whole


def facts_of_archive(path: Path) -> dict[str, Fact]:
    facts: dict[str, Fact] = {}
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            assert member.name not in facts, f"{member.name!r} is in the archive twice"
            facts[member.name] = (
                facts[member.linkname] if member.islnk() else fact_of_member(archive, member)
            )
    return facts


def fact_of_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Fact:
    mode = f"{member.mode:04o}"
    if member.isdir():
        return Fact("directory", mode, 0, "")
    if member.issym():
        return Fact("symlink", mode, 0, member.linkname)
    body = archive.extractfile(member)
    assert body, f"{member.name!r} is no data"
    digest = hashlib.sha256()
    while block := body.read(1 << 20):  # a stream cannot be read by hashlib.file_digest
        digest.update(block)
    return Fact("file", mode, member.size, digest.hexdigest())


def facts_of_folder(root: Path) -> dict[str, Fact]:
    at_top, anywhere = ignored_names((root / ".dockerignore").read_text().splitlines())
    facts: dict[str, Fact] = {}
    for folder, subfolders, files in os.walk(root):
        ignored = anywhere | at_top if folder == str(root) else anywhere
        subfolders[:] = [name for name in subfolders if name not in ignored]
        for name in {*subfolders, *files} - ignored:
            path = Path(folder, name)
            facts[path.relative_to(root).as_posix()] = fact_of_path(path)
    return facts


def fact_of_path(path: Path) -> Fact:
    status = path.lstat()
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    if stat.S_ISDIR(status.st_mode):
        return Fact("directory", mode, 0, "")
    if stat.S_ISLNK(status.st_mode):
        return Fact("symlink", mode, 0, str(path.readlink()))
    assert stat.S_ISREG(status.st_mode), f"{path} is no data"
    with path.open("rb") as file:
        return Fact("file", mode, status.st_size, hashlib.file_digest(file, "sha256").hexdigest())


def ignored_names(lines: Iterable[str]) -> tuple[set[str], set[str]]:
    """Split the file's patterns, ``NAME`` and ``**/NAME``, into those for the top and for all."""
    patterns = [line for line in lines if line and not line.startswith("#")]
    for pattern in patterns:
        assert re.fullmatch(r"(\*\*/)?[\w.-]+", pattern), f"{pattern!r} is more than a name"
    anywhere = {pattern[3:] for pattern in patterns if pattern.startswith("**/")}
    return {pattern for pattern in patterns if "/" not in pattern}, anywhere


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
