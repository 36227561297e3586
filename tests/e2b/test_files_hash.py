"""The hash and the selection, against the real SDK."""

import io
import os
import re
import socket
import stat
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2b_upload.archive.pack import PackSettings, pack_entries
from e2b_upload.archive.spool import Spool
from e2b_upload.context.collect import Entry
from e2b_upload.context.root import Root
from e2b_upload.e2b.copies import Copy
from e2b_upload.e2b.hash import FilesHash, calculate
from e2b_upload.e2b.ignore import read_ignore_patterns
from e2b_upload.e2b.select import select
from e2b_upload.errors import SourceError, UploadError, UsageError
from e2b_upload.events import ignore_events
from tests.archive.users import another_user
from tests.e2b.judge import our_hash, sdk_archive, sdk_hash
from tests.support.trees import File, Folder, HardLink, Node, Symlink, Tree, make, trees

HASH: Final = re.compile("[0-9a-f]{64}")
MIB: Final = 1024 * 1024
# Where the SDK hashes what is not in the context, there is no hash here.
OUTSIDE: Final = "out of the context"


def agree(
    context: Path, src: str, exclude: Sequence[str] = (), *, follow: bool = False
) -> str | None:
    """Return what both say of a COPY to /app; None where both refuse."""
    theirs = sdk_hash(context, src, "/app", exclude, follow=follow)
    ours = our_hash(context, src, "/app", exclude, follow=follow)
    if isinstance(ours, UploadError):
        assert isinstance(theirs, Exception) or OUTSIDE in ours.message, (theirs, ours)
        return None
    assert theirs == ours
    assert HASH.fullmatch(ours)
    return ours


def selected(context: Path, src: str, exclude: Sequence[str] = ()) -> list[str]:
    root = Root(context)
    entries = select(root, Copy(src, "/app"), read_ignore_patterns(root, exclude))
    return [entry.path for entry in entries if isinstance(entry, Entry)]


# Any context

NAMES: Final = [
    *("a", "b", "c", "a-b", "a.b", "a b", "ab", "a0", ".a", ".git", "x.py", "y.py", "A"),
    *("*", "[a]", "a\\b", "n\nl", "{a}", "!a", "#a", "-a", "\u00e9", "e\u0301", "d", "link"),
]
TOKENS: Final = [
    *("a", "b", "c", "d", "x.py", "*", "?", "**", "***", "[a-c]", "[!a]", "[^a]", "[a-", "[]"),
    *("{a,b}", ".", ".a", ".*", "..", "*.py", "a*", "link", "\\a", "\\*", "\\", "\u00e9", "-a"),
    *("!a", "#a", " ", "(a)", "@(a|b)", "|", "~", "[[:alpha:]]", "a-b", "n\nl", "\udcff", "[[a]"),
]
SOURCES: Final = [
    *(".", "./", "./.", "", "/", "a/..", "a/../b", "*/..", "**/..", "*", "**", "**/*", "*/*"),
    *("*/*/*", "**/*.py", "[a-c]*", ".*", "**/.*", "d/", "a/", "./a", "a//b", "link/a", "link/*"),
    *("link/../a", "*/a", "*/", "**/", "./*", "./**", "./a/./b", "../x", "..", "{a,b}", "x/../a"),
]
TARGETS: Final = [
    *("a", "b", "..", ".", "../a", "../b", "a/b", "nowhere", "./c", "d", "../..", "link"),
    *("outside", "../outside", "CONTEXT/a", "CONTEXT/d", "/dev/null", "t" * 60),
]


class Case(NamedTuple):
    """A context, and what to copy of it. CONTEXT stands for its path."""

    tree: dict[bytes, Node]
    ignore: bytes | None
    exclude: list[str]
    src: str
    follow: bool
    special: str | None  # a name for a FIFO and, with .s, one for a socket


@st.composite
def small_trees(draw: st.DrawFn) -> dict[bytes, Node]:
    """Trees of few names, so that patterns and links hit."""
    nodes: st.SearchStrategy[Node | None] = st.one_of(
        st.sampled_from([0o755, 0o755, 0o700, 0o1777, 0o2755]).map(Folder),
        st.tuples(st.sampled_from([b"", b"x", b"y" * 1000]), st.sampled_from([0o644, 0o4755])).map(
            lambda args: File(*args)
        ),
        st.sampled_from(TARGETS).map(lambda target: Symlink(target.encode())),
        st.none(),  # a hard link
    )
    tree: dict[bytes, Node] = {}
    folders, files = [b""], list[bytes]()
    where = st.integers(0, 20)
    for place, name, node, which in draw(
        st.lists(st.tuples(where, st.sampled_from(NAMES), nodes, where), max_size=14)
    ):
        folder = folders[place % len(folders)]
        path = (folder + b"/" if folder else b"") + name.encode()
        if path in tree or (node is None and not files):
            continue
        tree[path] = HardLink(files[which % len(files)]) if node is None else node
        if isinstance(node, Folder):
            folders.append(path)
        elif isinstance(node, File):
            files.append(path)
    return tree


globs = st.lists(
    st.lists(st.sampled_from(TOKENS), min_size=1, max_size=2).map("".join), min_size=1, max_size=3
).map("/".join)


@st.composite
def near(draw: st.DrawFn, tree: Tree) -> str:
    """Paths of a tree, one part of which became a pattern or a detour."""
    if not tree:
        return draw(globs)
    some = os.fsdecode(draw(st.sampled_from(sorted(tree)))).split("/")
    at = draw(st.integers(0, len(some) - 1))
    part = some[at]
    some[at] = draw(
        st.sampled_from(
            [
                *(part, "*", "**", "?*", "[!z]*", f"{part[:1]}*", f"**/{part}"),
                *(f"./{part}", f"x/../{part}", f"{part}/", f"{part}/.", "*/.."),
            ]
        )
    )
    return "/".join(some)


@st.composite
def ignore_lines(draw: st.DrawFn, tree: Tree) -> list[str]:
    line = st.tuples(
        st.sampled_from(["", "", "", "!", "! ", "/", "./", " ", "\x1c", "#", "CONTEXT/", "!/"]),
        globs | near(tree),
        st.sampled_from(["", "", "", "/", "/*", "/.", " ", "\x1c"]),
    )
    return draw(st.lists(line.map("".join), max_size=5))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    tree = draw(small_trees() | trees())
    ignore = None
    if draw(st.booleans()):
        end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
        ignore = end.join(draw(ignore_lines(tree))).encode("utf-8", "surrogateescape")
        ignore = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"])) + ignore
    return Case(
        tree,
        ignore,
        draw(ignore_lines(tree)) if draw(st.booleans()) else [],
        draw(near(tree) | st.sampled_from(["**", "*"]) | st.sampled_from(SOURCES) | globs),
        draw(st.booleans()),
        draw(st.sampled_from([None, None, None, "fifo", "a/fifo"])),
    )


def make_case(case: Case, folder: str) -> tuple[Path, list[str]]:
    """Make a context and what lies beside it; return it, and the patterns for it."""
    outside, context = Path(folder, "outside"), Path(folder, "context")
    outside.mkdir()
    context.mkdir()
    make({b"a/x.py": File(b"1"), b"b": File(b"2"), b"link": Symlink(b"a")}, outside)
    place = os.fsencode(context)

    def here(node: Node) -> Node:
        if isinstance(node, Symlink):
            return node._replace(target=node.target.replace(b"CONTEXT", place))
        return node

    make({path: here(node) for path, node in case.tree.items()}, context)
    if case.special and (context / case.special).parent.is_dir():
        os.mkfifo(context / case.special)
        with closing(socket.socket(socket.AF_UNIX)) as listening:
            listening.bind(os.fspath(context / f"{case.special}.s"))
    if case.ignore is not None:
        (context / ".dockerignore").write_bytes(case.ignore.replace(b"CONTEXT", place))
    return context, [line.replace("CONTEXT", os.fspath(context)) for line in case.exclude]


# Special cases

TREE: Final[dict[bytes, Node]] = {
    b".d/.e": File(b"e"),
    b".dot": File(b"dot"),
    b"a": Folder(0o2755),
    b"a-b": File(b"between a and what is in it"),
    b"a.py": File(b"1"),
    b"a/b": File(b"b"),
    b"a/c/y.py": File(b"2"),
    b"a/x.py": File(b"3"),
    b"empty": Folder(0o1777),
    b"setuid": File(b"s", mode=0o4755),
    b"nothing": File(),
    b"one": File(b"both", mode=0o640),
    b"two": HardLink(b"one"),
    b"link": Symlink(b"a"),
    b"to-file": Symlink(b"a/b"),
    b"up": Symlink(b"../.."),
    b"loop": Symlink(b"loop"),
    b"dangling": Symlink(b"nowhere"),
    b"new\nline": File(b"n"),
    "\u00e9".encode(): File(b"composed"),
    "e\u0301".encode(): File(b"decomposed"),
    b"{a,b}": File(b"braces"),
    b"*": File(b"star"),
    b"back\\slash": File(b"\\"),
}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a context with all special cases, which no test may change."""
    place = tmp_path_factory.mktemp("context")
    make(TREE, place)
    return place


def test_all_kinds_of_files(context: Path) -> None:
    for src in (".", "./.", "a/..", "*", "**", "./**", "**/", "*/", "a", "link", "up", "empty"):
        for follow in (False, True):
            assert agree(context, src, follow=follow)


@pytest.mark.parametrize(
    ("src", "paths"),
    [
        ("a", ["a", "a/b", "a/c", "a/c/y.py", "a/x.py"]),
        ("./a/.", ["a", "a/b", "a/c", "a/c/y.py", "a/x.py"]),
        ("a/../a-b", ["a-b"]),
        ("a/**", ["a", "a/b", "a/c", "a/c/y.py", "a/x.py"]),
        ("a/*", ["a/b", "a/c", "a/c/y.py", "a/x.py"]),
        ("**/*.py", ["a.py", "a/c/y.py", "a/x.py"]),
        ("a*", ["a", "a-b", "a.py", "a/b", "a/c", "a/c/y.py", "a/x.py"]),
        ("[a-c]*b", ["a-b"]),
        ("[!a-z]*", ["*", ".d", ".d/.e", ".dot", "{a,b}", "\u00e9"]),
        (".*", [".d", ".d/.e", ".dot"]),
        ("**/.e", [".d/.e"]),
        ("{a,b}", ["{a,b}"]),  # braces are no pattern
        ("\\*", ["*"]),
        ("back\\\\slash", ["back\\slash"]),
        ("new\nline", ["new\nline"]),
        ("\u00e9", ["\u00e9"]),
        ("e\u0301", ["e\u0301"]),
        ("link", ["link"]),
        ("link/", ["link"]),
        ("link/b", ["link/b"]),
        ("link/c", ["link/c", "link/c/y.py"]),
        ("*/b", ["a/b", "link/b"]),
        ("**/b", ["a/b"]),  # which follows no link
        ("two", ["two"]),
        ("dangling", ["dangling"]),
    ],
)
def test_sources(src: str, paths: list[str], context: Path) -> None:
    assert selected(context, src) == paths
    assert agree(context, src)
    assert agree(context, src, follow=True)


def test_a_source_that_matches_nothing(context: Path) -> None:
    for src in ("", "missing", "A", "a/missing", "a.py/", "empty/*", "**/*.PY", "loop"):
        assert agree(context, src) is None
        ours = our_hash(context, src, "/app")
        assert isinstance(ours, SourceError)
        assert "matches nothing in the context" in ours.message
    for src in ("/", "/etc", "..", "a/../..", "**/../.."):
        assert agree(context, src) is None
        with pytest.raises(UsageError, match=r"is absolute|leads out of the context"):
            Copy(src, "/app")


@pytest.mark.parametrize(
    ("ignore", "src", "paths"),
    [
        (b"a\n!a/b", "a*", ["a-b", "a.py"]),  # an excluded folder that was matched is left alone
        (b"a\n!a/b", "a/*", ["a/b"]),
        (b"a\n!a/c/y.py", "[a]", None),
        (b"*\n!a/b", ".", [".", "a/b"]),  # its folder is not selected
        (b"*\n!**/*.py", "**/*.py", ["a.py", "a/c/y.py", "a/x.py"]),
        (b"**/*.py\n!a/x.py", "a", ["a", "a/b", "a/c", "a/x.py"]),
        (b"**/c", "a", ["a", "a/b", "a/x.py"]),
        (b"**/b\n**/x.py\n#a\n", "a", ["a", "a/c", "a/c/y.py"]),
        (b" #a", "a-b", ["a-b"]),
        (b"/a/b\n./a/c\n/a/x.py/", "a", ["a"]),
        (b"\xef\xbb\xbfa/c\r\na/x.py\r\n", "a", ["a", "a/b"]),
        (b"a/c\ra/x.py", "a", ["a", "a/b"]),  # a lone \r ends a line
        (b"\xef\xbb\xbf\xef\xbb\xbfa", "a-b", ["a-b"]),
        ("a\u00a0\n\u3000a-b\x1c".encode(), "a*", ["a.py"]),
        (b"!/a/b\na\n! a/x.py", "a/*", ["a/x.py"]),
        (b"CONTEXT/a/c\n!CONTEXT/a/c/y.py", "a", ["a", "a/b", "a/c/y.py", "a/x.py"]),
        (b"CONTEXT/../a", "a-b", ["a-b"]),
        (b".\n/\n..\n../a", "a-b", ["a-b"]),
        (b"{a,b}", "*{*", None),
        (b"link/b", "*/b", ["a/b"]),
        (b"**", ".", ["."]),
        (b"a-b\nnothing/below", "nothing", ["nothing"]),
    ],
)
def test_ignore_files(ignore: bytes, src: str, paths: list[str] | None, tmp_path: Path) -> None:
    make(TREE, tmp_path)
    (tmp_path / ".dockerignore").write_bytes(ignore.replace(b"CONTEXT", os.fsencode(tmp_path)))
    assert selected(tmp_path, src) == (paths or [])
    assert (agree(tmp_path, src) is None) == (paths is None)


def test_patterns_of_the_caller_come_after_the_files(context: Path, tmp_path: Path) -> None:
    make(TREE, tmp_path)
    (tmp_path / ".dockerignore").write_bytes(b"a/b\n!a/x.py")
    assert selected(tmp_path, "a", ["!a/b", "a/x.py"]) == ["a", "a/b", "a/c", "a/c/y.py"]
    assert agree(tmp_path, "a", ["!a/b", " a/x.py "])
    assert agree(context, "a", ["#x", "", " ", "!/b"])


def test_a_pattern_that_does_not_parse(context: Path) -> None:
    for pattern in ("[", "a[]", "a\\", "! ", "[z-a]", "[a-"):
        assert agree(context, "a", [pattern]) is None
        ours = our_hash(context, "a", "/app", [pattern])
        assert isinstance(ours, UsageError)
        assert f"Invalid ignore pattern '{pattern.strip()}'" in ours.message
    assert agree(context, "a", ["[[a]x", "**/[[b]"])  # the re module warns of this one


@pytest.mark.parametrize(
    ("make_it", "why"),
    [
        (lambda path: path.write_bytes(b"a\xff"), "is not UTF-8"),
        (lambda path: path.mkdir(), "is not a regular file"),
        (lambda path: path.symlink_to(".."), "is not a regular file"),
        (lambda path: path.write_bytes(b"#" * (MIB + 1)), "is larger than 1048576 bytes"),
    ],
    ids=["bytes", "directory", "link to a directory", "large"],
)
def test_an_ignore_file_that_cannot_be_read(
    make_it: Callable[[Path], object], why: str, tmp_path: Path
) -> None:
    make_it(tmp_path / ".dockerignore")
    with pytest.raises(UploadError, match=why):
        read_ignore_patterns(Root(tmp_path))


@pytest.mark.parametrize("target", ["rules", "nowhere"])
def test_an_ignore_file_that_is_a_link(target: str, tmp_path: Path) -> None:
    make({b"a/b": File(), b"a/c": File(), b"rules": File(b"a/c")}, tmp_path)
    (tmp_path / ".dockerignore").symlink_to(target)
    assert selected(tmp_path, "a") == ["a", "a/b", *(["a/c"] if target == "nowhere" else [])]
    assert agree(tmp_path, "a")


# Files that are not like others


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_fifos_sockets_and_devices(tmp_path: Path) -> None:
    make({b"a": File(b"a"), b"to-device": Symlink(b"device")}, tmp_path)
    os.mkfifo(tmp_path / "fifo")
    os.mknod(tmp_path / "device", 0o620 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(tmp_path / "disk", 0o660 | stat.S_IFBLK, os.makedev(253, 7))
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(os.fspath(tmp_path / "socket"))
    assert agree(tmp_path, ".")
    assert agree(tmp_path, ".", follow=True)
    members = archive(tmp_path, ".")
    assert members == read_archive(sdk_archive(tmp_path, "."))
    assert [(member.name, member.type) for member in members] == [
        (".", tarfile.DIRTYPE),
        ("a", tarfile.REGTYPE),
        ("device", tarfile.CHRTYPE),
        ("disk", tarfile.BLKTYPE),
        ("fifo", tarfile.FIFOTYPE),
        ("to-device", tarfile.SYMTYPE),
    ]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take only UTF-8")
@pytest.mark.parametrize(
    ("tree", "what"),
    [
        ({b"a/\xff": File()}, r"the name .*/a/\\xff"),
        ({b"a/\xff/b/c": File()}, r"the name .*/a/\\xff"),
        ({b"a/x": Symlink(b"\xff")}, "where the link .*/a/x points"),
    ],
)
def test_what_is_not_utf8_is_refused(tree: Tree, what: str, tmp_path: Path) -> None:
    make({b"a/b": File(), **tree}, tmp_path)
    assert agree(tmp_path, ".") is None
    ours = our_hash(tmp_path, ".", "/app")
    assert isinstance(ours, SourceError)
    assert re.fullmatch(f"{what} is not UTF-8, which E2B's hash needs", ours.message)
    assert "\udcff" not in ours.message + ours.hint
    assert agree(tmp_path, ".", ["a/[^b]"])  # where it is left out it is no matter
    assert agree(tmp_path, "a/b")


def test_all_unreadable_paths_are_reported_together() -> None:
    with TemporaryDirectory() as folder:
        there = Path(folder)
        there.chmod(0o755)
        make({b"a/b": File(mode=0), b"c": File(mode=0), b"d": File(), b"e/f": File()}, there)
        make({b"g/h": File(), b"i": Symlink(b"g/h")}, there)
        (there / "e").chmod(0)
        (there / "g").chmod(0o444)
        with another_user():
            for src, follow in product([".", "**", "c", "e", "g/h", "i", "e/f", "*/*"], [0, 1]):
                agree(there, src, follow=bool(follow))
            assert agree(there, ".", ["a", "c", "e", "g"])
            assert agree(there, ".", ["a", "c", "e", "g"], follow=True)
            assert agree(there, ".", ["a/b", "c", "e", "!e/x", "g"]) is None
            ours = our_hash(there, ".", "/app")
        assert isinstance(ours, SourceError)
        shown = ours.message.replace(folder, "")
        assert shown.splitlines() == [
            "4 paths cannot be packed:",
            "  /a/b cannot be read: Permission denied",
            "  /c cannot be read: Permission denied",
            "  /e cannot be read: Permission denied",
            "  /g/h cannot be read: Permission denied",
        ]


# Links


def test_a_source_through_a_link_stays_in_the_context(tmp_path: Path) -> None:
    outside, context = tmp_path / "outside", tmp_path / "context"
    make({b"secret": File(b"s"), b"d/e": File()}, outside_made := _made(outside))
    make(
        {
            b"a/b/c": File(b"c"),
            b"in": Symlink(b"a"),
            b"round": Symlink(b"in/b/.."),
            b"self": Symlink(b"."),
            b"absolute": Symlink(os.fsencode(context / "a")),
            b"out": Symlink(b"../outside"),
            b"far": Symlink(os.fsencode(outside_made)),
        },
        _made(context),
    )
    for src in ("in/b", "round/b/c", "self/a", "self/self/in/b", "absolute/*", "self", "out"):
        assert agree(context, src)
        assert agree(context, src, follow=True)
    assert selected(context, "self/in/b") == ["self/in/b", "self/in/b/c"]
    for src in ("out/secret", "far/d", "self/out/*", "in/../out/d/e"):
        assert not isinstance(sdk_hash(context, src, "/app"), Exception)
        ours = our_hash(context, src, "/app")
        assert isinstance(ours, SourceError)
        assert "links lead from " in ours.message
        assert ours.message.endswith(" out of the context")
        assert agree(context, src, follow=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_glob_above_the_context_is_refused(context: Path) -> None:
    assert not isinstance(sdk_hash(context / "a", "**/..", "/app"), Exception)
    ours = our_hash(context / "a", "**/..", "/app")
    assert isinstance(ours, UsageError)
    assert ours.message == "the source **/.. leads out of the context"


def test_a_context_that_is_a_link(context: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(context)
    for src in ("a", "**/*.py", "link/b"):
        assert agree(link, src) == agree(context, src)
    for follow in (False, True):  # the SDK archives a link that is named .
        ours = our_hash(link, ".", "/app", follow=follow)
        assert isinstance(ours, UsageError)
        assert ours.hint.endswith(os.path.realpath(context))


# Copies


def test_a_copy_is_parsed_at_its_last_colon() -> None:
    assert Copy.parse("a:b: /c") == Copy("a:b", " /c")
    for text in ("", ":", "a", "a:", ":/app"):
        with pytest.raises(UsageError, match="does not say what to copy and where to") as raised:
            Copy.parse(text)
        assert "SRC:DEST" in raised.value.hint


def test_a_context_that_the_sdk_resolves_differently(context: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(context / "a")
    for place in (tmp_path / "link" / "..", tmp_path / "link" / ".." / "a" / ".." / ".." / "x"):
        ours = our_hash(place, "a", "/app")
        assert isinstance(ours, UsageError)
    assert "is not" in str(our_hash(tmp_path / "link" / "..", "a", "/app"))


def test_the_hash_takes_source_and_destination_as_they_are_given(context: Path) -> None:
    ways = [("a", "/x"), ("a/", "/x"), ("./a", "/x"), ("a", "/x/"), ("a", "")]
    hashes = [our_hash(context, src, dest) for src, dest in ways]
    assert hashes == [sdk_hash(context, src, dest) for src, dest in ways]
    assert len(set(hashes)) == len(ways)


# Archives


class Member(NamedTuple):
    name: str
    type: bytes
    mode: int
    link: str
    content: bytes | None
    device: tuple[int, int]


def read_archive(stream: IO[bytes]) -> list[Member]:
    with stream, tarfile.open(fileobj=stream) as tar:
        return [
            Member(
                member.name,
                member.type,
                member.mode & 0o7777,
                member.linkname,
                file.read() if member.isreg() and (file := tar.extractfile(member)) else None,
                (member.devmajor, member.devminor) if member.isdev() else (0, 0),
            )
            for member in tar
        ]


def archive(
    context: Path, src: str, patterns: Sequence[str] = (), *, follow: bool = False
) -> list[Member]:
    """Pack what a COPY takes, and make sure that it hashes as it did before."""
    root, copy = Root(context, follow_symlinks=follow), Copy(src, "/app")
    before, hashing = calculate(root, copy, patterns), FilesHash(copy)
    with Spool() as spool:
        entries = select(root, copy, patterns)
        pack_entries(entries, root, spool, PackSettings(), hashing=hashing, on_event=ignore_events)
        assert hashing.hexdigest() == before
        return read_archive(io.BytesIO(os.pread(spool.fileno(), spool.size, 0)))


@pytest.mark.parametrize("follow", [False, True], ids=["links", "followed"])
def test_the_archive_unpacks_to_what_the_sdk_uploads(context: Path, *, follow: bool) -> None:
    patterns = ["dangling", "loop", "up"] if follow else []  # the SDK cannot follow the first two
    for src in (".", "a", "**/*.py", "two", "*", "link/c", "*/b", "[!dlu]*"):
        ours = archive(context, src, patterns, follow=follow)
        assert ours == read_archive(sdk_archive(context, src, patterns, follow=follow))


@pytest.mark.slow
@given(cases())
@settings(deadline=None, max_examples=300)
def test_any_context_hashes_and_packs_as_in_the_sdk(case: Case) -> None:
    with TemporaryDirectory() as folder:
        context, exclude = make_case(case, folder)
        for src in (".", case.src):
            agree(context, src, exclude, follow=case.follow)
        try:
            # A link to a special file stays a link here; the SDK fails, or archives the device.
            ours = archive(context, case.src, exclude)
        except UploadError:
            return
        assert ours == read_archive(sdk_archive(context, case.src, exclude))


def test_a_second_name_of_a_file_hashes_what_it_holds(tmp_path: Path) -> None:
    make({b"b": File(b"both"), b"a": HardLink(b"b"), b"c": HardLink(b"b")}, tmp_path)
    make({b"d": Symlink(b"a"), b"out": Folder()}, tmp_path)
    assert [(m.name, m.type, m.link) for m in archive(tmp_path, "*[!.]")] == [
        ("a", tarfile.REGTYPE, ""),
        ("b", tarfile.LNKTYPE, "a"),
        ("c", tarfile.LNKTYPE, "a"),
        ("d", tarfile.SYMTYPE, "a"),
        ("out", tarfile.DIRTYPE, ""),
    ]
    assert [m.content for m in archive(tmp_path, "[!o]", follow=True)] == [b"both"] * 4


# Changes during the hash


def test_a_file_that_changes_before_it_is_read(tmp_path: Path) -> None:
    make({b"a": File(b"1234"), b"b": File(b"b")}, tmp_path)
    root, hashing = Root(tmp_path), FilesHash(Copy("*", "/app"))
    entries = [entry for entry in select(root, Copy("*", "/app"), []) if isinstance(entry, Entry)]
    for content in (b"12345", b"123", b"", b"4321"):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(SourceError, match="changed while it was hashed") as raised:
            hashing.read(root, entries[0])
        assert "(4 bytes before, " in raised.value.message
    (tmp_path / "a").unlink()
    with pytest.raises(SourceError, match="a cannot be read: No such file"):
        hashing.read(root, entries[0])
    (tmp_path / "a").symlink_to("b")
    with pytest.raises(SourceError, match="a cannot be read"):
        hashing.read(root, entries[0])
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")
    writer = os.open(tmp_path / "a", os.O_RDWR)
    with pytest.raises(SourceError, match="a cannot be read: Resource temporarily"):
        hashing.read(root, entries[0])
    os.close(writer)
    hashing.read(root, entries[1])


def test_a_file_that_grows_while_it_is_read(tmp_path: Path) -> None:
    make({b"a": File(b"x" * 10)}, tmp_path)

    def grow(_: int) -> None:
        os.truncate(tmp_path / "a", 11)

    with pytest.raises(SourceError, match="a changed while it was hashed"):
        calculate(Root(tmp_path), Copy("a", "/app"), [], on_bytes=grow)


def test_a_folder_that_vanishes_while_it_is_selected(tmp_path: Path) -> None:
    make({b"a/b": File(), b"c/d": File(), b"e/f": File()}, tmp_path)
    entries = select(Root(tmp_path), Copy("*", "/app"), [])
    assert getattr(next(entries), "path", None) == "a"
    (tmp_path / "c" / "d").unlink()
    (tmp_path / "c").rmdir()
    (tmp_path / "e").rename(tmp_path / "g")
    rest = list(entries)
    assert [getattr(entry, "path", "a problem") for entry in rest] == [
        "a/b",
        "a problem",
        "a problem",
    ]


def test_directories_are_closed_early(context: Path) -> None:
    count = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    entries = select(Root(context), Copy("a", "/app"), [])
    for _ in range(4):
        next(entries)
    entries.close()
    if count:
        assert len(os.listdir("/proc/self/fd")) == count


# How much it takes


def test_memory_holds_neither_files_nor_the_list_of_them(tmp_path: Path) -> None:
    make({b"%d/%d" % (i, j): File() for i in range(20) for j in range(50)}, tmp_path)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(8 * MIB)
    told: list[int] = []
    calculate(Root(tmp_path), Copy("0/0", "/app"), [])  # imports what it needs
    tracemalloc.start()
    try:
        calculate(Root(tmp_path), Copy(".", "/app"), [], on_bytes=told.append)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB // 4  # the names of two directories; the buffer is not counted
    assert sum(told) == 8 * MIB


@pytest.mark.parametrize("name", ["e2b_dockerfile_utils", "wcmatch"])
def test_without_the_extra(name: str, context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match="packages that are not installed") as raised:
        calculate(Root(context), Copy("a", "/app"), [])
    assert (
        raised.value.hint
        == "They are its extra e2b: install e2b-upload[e2b], or from a clone '.[e2b]'."
    )


def test_the_extra_is_not_imported_before_something_is_hashed() -> None:
    code = (
        "import sys, e2b_upload.e2b.hash, e2b_upload.e2b.dockerfile;"
        " sys.exit(bool({'wcmatch', 'e2b_dockerfile_utils', 'bracex'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
