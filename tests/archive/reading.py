"""Archives as Python's tarfile reads them, and as a snapshot of their source says they must be."""

import hashlib
import os
import tarfile
from typing import Final, NamedTuple

from tests.support.trees import SECOND, Snapshot, in_order

LAST_SECOND: Final = 8**11 - 1  # of what eleven octal digits can say
_TYPES: Final = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}


class Listed(NamedTuple):
    """One entry; `mtime` is in seconds, `target` of a link of either kind."""

    path: bytes
    type: str
    mode: int
    mtime: float
    size: int = 0
    sha256: str | None = None
    target: bytes | None = None


def listed(archive: str | os.PathLike[str]) -> list[Listed]:
    """Read an archive, and make sure that it names nobody."""
    with tarfile.open(archive, encoding="utf-8", errors="surrogateescape") as tar:
        members = tar.getmembers()
        assert {(m.uid, m.gid, m.uname, m.gname) for m in members} <= {(0, 0, "", "")}
        return [_listed(tar, member) for member in members]


def _listed(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Listed:
    kind = _TYPES[member.type]
    content = tar.extractfile(member) if kind == "file" else None
    return Listed(
        os.fsencode(member.name),
        kind,
        member.mode,
        member.mtime,
        member.size,
        hashlib.sha256(content.read()).hexdigest() if content else None,
        os.fsencode(member.linkname) if member.linkname else None,
    )


def expected(source: Snapshot, *, no_later_than: int | None = None) -> list[Listed]:
    """Return what an archive of the tree has to hold, in its order."""
    entries = []
    firsts: dict[bytes, bytes] = {}
    for path in in_order(source):
        seen = source[path]
        first = firsts.setdefault(path, path)
        firsts.update(dict.fromkeys(seen.names, first))
        mtime = seen.mtime_ns // SECOND
        if no_later_than is not None:
            mtime = min(mtime, no_later_than)
        if first == path:
            what = (seen.type, seen.mode, mtime, seen.size, seen.sha256, seen.target)
            entries.append(Listed(path, *what))
        else:
            entries.append(Listed(path, "hardlink", seen.mode, mtime, target=first))
    return entries
