"""Trees of files: describe, create, inspect, and generate them with Hypothesis.

Files are opened relative to the descriptor of their directory, so no path is too long.
"""

import hashlib
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple, TypeAlias

from hypothesis import strategies as st

SECOND: Final = 1_000_000_000
YEAR_2300: Final = 10_413_792_000 * SECOND
YEAR_1960: Final = -315_619_200 * SECOND
_LONG_AGO: Final = -(2**31) * SECOND  # as far back as ext4 goes
_FAR_AHEAD: Final = 13_569_465_600 * SECOND  # the year 2400; ext4 goes to 2446
_WHENEVER: Final = 1_000_000_000 * SECOND


class File(NamedTuple):
    content: bytes = b""
    mode: int = 0o644
    mtime_ns: int = _WHENEVER


class Folder(NamedTuple):
    mode: int = 0o755
    mtime_ns: int = _WHENEVER


class Symlink(NamedTuple):
    target: bytes
    mtime_ns: int = _WHENEVER


class HardLink(NamedTuple):
    """Another name of the tree's file `to`."""

    to: bytes


Node: TypeAlias = File | Folder | Symlink | HardLink
Tree: TypeAlias = Mapping[bytes, Node]
"""Nodes by their paths. Parent directories can be omitted."""


class Seen(NamedTuple):
    """What a path refers to; `names` are all hard links of a file in the tree."""

    type: Literal["file", "directory", "symlink"]
    mode: int
    mtime_ns: int
    size: int = 0
    sha256: str | None = None
    target: bytes | None = None
    names: frozenset[bytes] = frozenset()


Snapshot: TypeAlias = dict[bytes, Seen]


def make(tree: Tree, folder: str | os.PathLike[str], *, owner: int | None = None) -> None:
    """Create `tree` below `folder`, which exists. As root, `owner` becomes its owner."""
    nodes = _with_parents(tree)
    for path in sorted(nodes, key=lambda path: isinstance(nodes[path], HardLink)):
        _create(folder, path, nodes[path])
    # Deepest first: creating an entry changes the time of its directory.
    for path in reversed(nodes):
        node = nodes[path]
        if isinstance(node, HardLink):
            continue
        parent, _, name = path.rpartition(b"/")
        with _opened(folder, parent) as at:
            if owner is not None:
                os.chown(name, owner, owner, dir_fd=at, follow_symlinks=False)
            if not isinstance(node, Symlink):
                os.chmod(name, node.mode, dir_fd=at)
            os.utime(name, ns=(node.mtime_ns, node.mtime_ns), dir_fd=at, follow_symlinks=False)


def snapshot(
    folder: str | os.PathLike[str], is_ignored: Callable[[bytes], bool] = lambda _: False
) -> Snapshot:
    """Return what is below `folder`, except for ignored paths."""
    seen: Snapshot = {}
    names: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
    to_come = [b""]
    while to_come:
        parent = to_come.pop()
        with _opened(folder, parent) as at:
            for name in map(os.fsencode, os.listdir(at)):
                path = _join(parent, name)
                if is_ignored(path):
                    continue
                found = os.stat(name, dir_fd=at, follow_symlinks=False)
                seen[path] = _look(name, at, found)
                if stat.S_ISDIR(found.st_mode):
                    to_come.append(path)
                elif stat.S_ISREG(found.st_mode):
                    names[found.st_dev, found.st_ino].append(path)
    for group in map(frozenset, names.values()):
        seen.update((path, seen[path]._replace(names=group)) for path in group)
    return seen


def in_order(paths: Iterable[bytes]) -> list[bytes]:
    """Sort as in an archive: a directory before its entries, names by their characters."""
    return sorted(paths, key=lambda path: os.fsdecode(path).split("/"))


def _with_parents(tree: Tree) -> dict[bytes, Node]:
    nodes: dict[bytes, Node] = dict(tree)
    for path in tree:
        parent = path.rpartition(b"/")[0]
        while parent and parent not in nodes:
            nodes[parent] = Folder()
            parent = parent.rpartition(b"/")[0]
    return {path: nodes[path] for path in in_order(nodes)}


def _create(folder: str | os.PathLike[str], path: bytes, node: Node) -> None:
    parent, _, name = path.rpartition(b"/")
    with _opened(folder, parent) as at:
        match node:
            case Folder():
                os.mkdir(name, dir_fd=at)
            case Symlink():
                os.symlink(node.target, name, dir_fd=at)
            case File():
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with open(os.open(name, flags, dir_fd=at), "wb") as file:
                    file.write(node.content)
            case HardLink():
                there, _, first = node.to.rpartition(b"/")
                with _opened(folder, there) as source:
                    os.link(first, name, src_dir_fd=source, dst_dir_fd=at)


def _look(name: bytes, at: int, found: os.stat_result) -> Seen:
    mode, mtime = stat.S_IMODE(found.st_mode), found.st_mtime_ns
    if stat.S_ISDIR(found.st_mode):
        return Seen("directory", mode, mtime)
    if stat.S_ISLNK(found.st_mode):
        return Seen("symlink", mode, mtime, target=os.readlink(name, dir_fd=at))
    assert stat.S_ISREG(found.st_mode), f"{name!r} cannot be part of a tree"
    with open(os.open(name, os.O_RDONLY, dir_fd=at), "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return Seen("file", mode, mtime, found.st_size, digest.hexdigest())


@contextmanager
def _opened(folder: str | os.PathLike[str], path: bytes) -> Iterator[int]:
    """Open the directory `path` below `folder`, whatever its length."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in filter(None, path.split(b"/")):
            above, at = at, os.open(name, flags, dir_fd=at)
            os.close(above)
        yield at
    finally:
        os.close(at)


def _join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name


# Strategies for Hypothesis

HOSTILE_NAMES: Final = (
    b"new\nline",
    b"\r\n",
    b"\x1b[2J\x07",
    b" ",
    b" spaces ",
    b"\ttab",
    b"-rf",
    b"--help",
    b"...",
    b"~",
    b"*?[a]",
    b"back\\slash",
    b"\\n\\101",
    b"quo'te\"s",
    b"20 path=x",
    b"CASE",
    b"case",
    "\u00e9".encode(),
    "e\u0301".encode(),
    "\u202egnp.\u200b".encode(),
    "\U0001f40b\ufe0f".encode(),
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",  # a lone surrogate
    b"n" * 100,
    b"n" * 101,
    b"n" * 255,
    "\u20ac".encode() * 85,
    b"\xff" * 255,
)
_EVERYWHERE: Final = st.text("abc-_ .", min_size=1, max_size=3).map(str.encode)


def _is_name(name: bytes) -> bool:
    return name not in (b"", b".", b"..", b".dockerignore")


def names() -> st.SearchStrategy[bytes]:
    """Usual and unusual names of files."""
    if sys.platform == "darwin":  # its file systems accept only UTF-8, and fold it
        return _EVERYWHERE.filter(_is_name)
    wild = st.binary(max_size=255).map(lambda name: name.translate(None, b"/\0"))
    return (_EVERYWHERE | st.sampled_from(HOSTILE_NAMES) | wild).filter(_is_name)


def mtimes() -> st.SearchStrategy[int]:
    edges = [0, -1, 1, -SECOND, _LONG_AGO, YEAR_1960, 8**11 * SECOND - 1, 8**11 * SECOND, YEAR_2300]
    return st.sampled_from(edges) | st.integers(_LONG_AGO, _FAR_AHEAD)


def files() -> st.SearchStrategy[File]:
    """Files that their owner can read."""
    around_blocks = st.sampled_from([511, 512, 513, 10_240, 70_000]).map(lambda size: b"x" * size)
    modes = st.integers(0, 0o7777).map(lambda mode: mode | 0o400)
    return st.builds(File, st.binary(max_size=100) | around_blocks, modes, mtimes())


def folders() -> st.SearchStrategy[Folder]:
    """Directories with all permissions for their owner."""
    return st.builds(Folder, st.integers(0, 0o7777).map(lambda mode: mode | 0o700), mtimes())


def symlinks() -> st.SearchStrategy[Symlink]:
    """Links that dangle, loop, leave the tree, or are long."""
    wild = st.binary(min_size=1, max_size=300).filter(lambda target: 0 not in target)
    fixed = [b"a", b".", b"..", b"../../..", b"/", b"/etc/passwd", b"t" * 100, b"t" * 101]
    longest = b"long/" * 200  # XFS takes 1,023 bytes
    return st.builds(Symlink, st.sampled_from([*fixed, longest]) | wild, mtimes())


@st.composite
def trees(draw: st.DrawFn, *, max_size: int = 12) -> dict[bytes, Node]:
    """Trees of any shape, with hard links across directories."""
    anything = folders() | files() | symlinks() | st.none()  # None is a hard link
    where = st.integers(0, max_size)
    tree: dict[bytes, Node] = {}
    parents, sources = [b""], list[bytes]()
    for place, name, node, which in draw(
        st.lists(st.tuples(where, names(), anything, where), max_size=max_size)
    ):
        path = _join(parents[place % len(parents)], name)
        if path in tree or (node is None and not sources):
            continue
        tree[path] = HardLink(sources[which % len(sources)]) if node is None else node
        if isinstance(node, Folder):
            parents.append(path)
        elif isinstance(node, File):
            sources.append(path)
    return tree
