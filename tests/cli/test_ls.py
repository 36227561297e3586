"""`ls` lists what a build would send, as lines, as a tree, or as JSON."""

import json
import os
import socket
import tarfile
from typing import Any

import pytest

from e2b_upload.cli import listing
from tests.cli.conftest import Call
from tests.cli.harness import (
    C_LOCALE,
    ENDLESS_LISTING,
    ENTRY_KEYS,
    LIMITED,
    LISTING_KEYS,
    PATIENCE,
    Place,
)
from tests.support.trees import HOSTILE_NAMES


@pytest.fixture
def tree(place: Place) -> None:
    for name, size in {"b/c": 1500, "b/d/e": 2, "b/d/f": 0, "g": 12, "b-": 1}.items():
        place.write(f"ctx/{name}", b"x" * size)
    context = place.path / "ctx"
    (context / "empty").mkdir()
    (context / "g").chmod(0o4755)
    (context / "empty").chmod(0o1777)
    (context / "b/c").chmod(0o600)
    (context / "b/d/f").chmod(0)
    (context / "h").hardlink_to(context / "g")
    (context / "link").symlink_to("b/none")
    os.mkfifo(context / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(context / "socket"))


LISTED = """\
      2 B  a
           b/
   1.5 kB  b/c
           b/d/
      2 B  b/d/e
      0 B  b/d/f
      1 B  b-
           empty/
     12 B  g
           h = g
           link -> b/none
"""
TREE = """\
   1.5 kB  ctx/
      2 B  ├── a
   1.5 kB  ├── b/
   1.5 kB  │   ├── c
      2 B  │   └── d/
      2 B  │       ├── e
      0 B  │       └── f
      1 B  ├── b-
      0 B  ├── empty/
     12 B  ├── g
           ├── h = g
           └── link -> b/none
"""
TOTALS = "6 files, 3 folders, 1 link, 1 hard link; 1.5 kB of content"
LEFT_OUT = [
    "warning: left out fifo: a FIFO is not data",
    "warning: left out socket: a socket is not data",
]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(("more", "listed"), [([], LISTED), (["--tree"], TREE)])
def test_names_sizes_and_totals(more: list[str], listed: str, call: Call) -> None:
    ended = call("ls", "ctx", *more)
    assert (ended.code, ended.out.decode()) == (0, listed)
    assert ended.lines == [*LEFT_OUT, TOTALS]
    quiet = call("ls", "ctx", "-q", *more)
    assert (quiet.code, quiet.out.decode(), quiet.err) == (0, listed, "")


@pytest.mark.usefixtures("tree")
def test_json(call: Call) -> None:
    ended = call("ls", "ctx", "--json")
    assert ended.code == 0
    assert ended.lines == LEFT_OUT
    assert list(ended.json) == LISTING_KEYS
    rows = [list(entry.values()) for entry in ended.json["entries"]]
    assert {tuple(entry) for entry in ended.json["entries"]} == {tuple(ENTRY_KEYS)}
    umask = os.umask(0)
    os.umask(umask)
    file, folder = f"{0o666 & ~umask:04o}", f"{0o777 & ~umask:04o}"
    assert rows == [
        ["a", "file", 2, file, None],
        ["b", "directory", 0, folder, None],
        ["b/c", "file", 1500, "0600", None],
        ["b/d", "directory", 0, folder, None],
        ["b/d/e", "file", 2, file, None],
        ["b/d/f", "file", 0, "0000", None],
        ["b-", "file", 1, file, None],
        ["empty", "directory", 0, "01777", None],
        ["g", "file", 12, "04755", None],
        ["h", "hardlink", 0, "04755", "g"],
        ["link", "symlink", 0, "0777", "b/none"],
    ]
    assert [ended.json[key] for key in LISTING_KEYS[1:]] == [6, 3, 1, 1, 1517]


def test_tree_and_largest(call: Call) -> None:
    ended = call("ls", "ctx", "--tree", "--largest", "3")
    assert (ended.code, ended.out) == (2, b"")
    assert "--tree and --largest exclude each other" in ended.err


def test_empty_context(place: Place, call: Call) -> None:
    (place.path / "ctx/a").unlink()
    ended = call("ls", "ctx")
    assert (ended.code, ended.out, ended.lines) == (0, b"", ["0 files; 0 B of content"])
    assert call("ls", "ctx", "--tree").out == b"      0 B  ctx/\n"
    assert call("ls", "ctx", "--largest", "3").out == b""
    told = call("ls", "ctx", "--json", "--largest", "3").json
    assert list(told.items()) == [
        *(("entries", []), ("files", 0), ("directories", 0), ("symlinks", 0), ("hardlinks", 0)),
        *(("content_bytes", 0), ("largest", [])),
    ]


@pytest.mark.usefixtures("tree")
def test_largest_in_json(call: Call) -> None:
    plain = call("ls", "ctx", "--json").json
    told = call("ls", "ctx", "--json", "--largest", "3").json
    assert list(told) == [*LISTING_KEYS, "largest"]
    assert told.pop("largest") == [
        {"path": "b", "bytes": 1502},
        {"path": "b/c", "bytes": 1500},
        {"path": "g", "bytes": 12},
    ]
    assert told == plain


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("more", [["-x", "b/d"], ["--follow-symlinks"]], ids=" ".join)
def test_listed_as_packed(more: list[str], place: Place, call: Call) -> None:
    place.write("ctx/0", b"0" * 1000)
    (place.path / "ctx/i").symlink_to("b/c")
    (place.path / "ctx/b/d/f").chmod(0o644)
    listed = call("ls", "ctx", "--json", *more).json
    told = call("pack", "ctx", "-o", "kept", "--json", *more).json["archive"]
    assert {key: told[key] for key in LISTING_KEYS[1:]} == {
        key: listed[key] for key in LISTING_KEYS[1:]
    }
    types = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "directory"}
    types |= {tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink"}
    with tarfile.open(place.path / "kept") as tar:
        packed = [
            {
                "path": member.name,
                "type": types[member.type],
                "size": member.size,
                "mode": f"0{member.mode:03o}",
                "target": member.linkname or None,
            }
            for member in tar
        ]
    assert packed == listed["entries"]


@pytest.mark.parametrize(
    ("context", "shown"),
    [
        ("ctx", "ctx/"),
        ("./ctx", "./ctx/"),
        ("ctx/.", "ctx/./"),
        ("link", "link/"),
        ("{there}/ctx", "{there}/ctx/"),
    ],
)
def test_context_name(context: str, shown: str, place: Place, call: Call) -> None:
    (place.path / "link").symlink_to("ctx")
    there = os.fspath(place.path)
    ended = call("ls", context.format(there=there), "--tree")
    assert ended.out.decode().splitlines() == [
        f"      2 B  {shown.format(there=there)}",
        "      2 B  └── a",
    ]
    assert call("ls", context.format(there=there)).out == b"      2 B  a\n"


def test_deep_tree(place: Place, call: Call) -> None:
    path = "/".join(["d"] * 300)
    place.write(f"ctx/{path}/e", b"12345")
    (place.path / "ctx/a").unlink()
    lines = call("ls", "ctx", "--tree").out.decode().splitlines()
    assert len(lines) == 302
    assert all(line.startswith("      5 B  ") for line in lines)
    assert lines[-1] == "      5 B  " + "    " * 300 + "└── e"


# Hostile names.


@pytest.fixture
def hostile(place: Place) -> list[bytes]:
    """Create links whose names contain escape sequences, line breaks, or JSON."""
    (place.path / "ctx/a").unlink()
    names = [*HOSTILE_NAMES, b"[bold]x", b'"},{', "\x9b2J".encode(), "\u2028".encode()]
    for name in names:
        path = os.path.join(os.fsencode(place.path), b"ctx", name)
        os.symlink(name[:200], path)
    return names


@pytest.mark.parametrize("more", [[], ["--tree"], ["--largest", "50"]], ids=" ".join)
def test_hostile_names_as_lines(
    more: list[str], hostile: list[bytes], place: Place, call: Call
) -> None:
    for number, name in enumerate(hostile):
        directory = os.path.join(os.fsencode(place.path), b"ctx", b"%d-" % number + name[:100])
        os.mkdir(directory)
        with open(os.path.join(directory, name), "wb") as file:
            file.write(b"x")
    ended = call("ls", "ctx", *more)
    lines = ended.out.decode().split("\n")
    assert ended.code == 0
    assert [line for line in lines if not line.isprintable()] == []
    expected = 50 if "--largest" in more else 3 * len(hostile) + ("--tree" in more)
    assert (len(lines), lines[-1]) == (expected + 1, "")


def test_hostile_names_in_json(hostile: list[bytes], call: Call) -> None:
    entries = call("ls", "ctx", "--json").json["entries"]
    names = [entry["path"].encode("utf-8", "surrogateescape") for entry in entries]
    assert sorted(names) == sorted(hostile)
    for entry, name in zip(entries, names, strict=True):
        assert entry["target"].encode("utf-8", "surrogateescape") == name[:200]


@pytest.mark.slow
@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("more", [[], ["--tree"], ["--json"]], ids=" ".join)
def test_ascii_output(more: list[str], place: Place) -> None:
    place.write("ctx/ü/ö", b"")
    ended = place.run("ls", "ctx", *more, env=C_LOCALE)
    assert ended.code == 0
    assert ended.out.isascii()
    if more == ["--json"]:
        assert ended.out == place.run("ls", "ctx", "--json").out
    if more == ["--tree"]:
        lines = ended.out.splitlines()
        assert rb"      0 B  |   `-- \xf6" in lines
        assert rb"      0 B  |-- \xfc/" in lines


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["pack ctx -o - --allow-empty", "ls ctx --json", "explain ctx - --json"]
)
def test_patterns_in_the_c_locale(command: str, place: Place) -> None:
    for name in ("é", "éa", "b"):
        place.write(f"ctx/{name}", b"")
    told = []
    for env in ({}, C_LOCALE):
        args = [*command.split(), "-x", "?", "-x", "[é]a"]
        ended = place.run(*args, env=env, stdin="é\néa\nc\n".encode())
        assert ended.code == 0, ended.err
        told.append(ended.out)
    assert told[0] == told[1]
    if command.startswith("ls"):
        assert json.loads(told[0])["entries"] == []


# Streams.


@pytest.mark.slow
def test_reader_that_leaves(place: Place) -> None:
    with place.started("ls", "ctx", python=ENDLESS_LISTING) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"      1 B  file-0\n"
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b"listing\n"


@pytest.mark.slow
def test_directory_that_cannot_be_listed(place: Place) -> None:
    """The error comes after everything else."""
    (place.path / "ctx/b").mkdir(mode=0)
    place.write("ctx/d/e", b"e")
    tree = "      3 B  ctx/\n      2 B  ├── a\n      1 B  └── d/\n      1 B      └── e\n"
    for more, out in (
        ("", "      2 B  a\n           d/\n      1 B  d/e\n"),
        ("--tree", tree),
        ("--largest 1", "      2 B   66%  a\n"),
    ):
        ended = place.run("ls", "ctx", *more.split(), privileged=False)
        assert (ended.code, ended.out.decode()) == (3, out)
        assert "error: the folder ctx/b cannot be listed: Permission denied" in ended.lines
    place.run("ls", "ctx", "--json", privileged=False).told(3)
    (place.path / "ctx/b").chmod(0o700)


# A list that is too long for memory is spooled to disk.


@pytest.mark.usefixtures("tree")
def test_spooled_list(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    short = call("ls", "ctx", "--json").out
    monkeypatch.setattr(listing, "_IN_MEMORY_BYTES", 10)
    assert call("ls", "ctx", "--json").out == short
    ended = call("ls", "ctx", "--json", env={"TMPDIR": "nowhere"})
    assert "the list cannot be written in nowhere: No such file" in ended.told(4)["message"]


@pytest.mark.slow
def test_spooled_list_on_a_full_disk(place: Place) -> None:
    directory = os.path.join(os.fsencode(place.path), b"ctx")
    for _ in range(15):
        directory = os.path.join(directory, b"\xff" * 200)
    os.makedirs(directory)
    for number in range(500):  # each 18 kB of JSON, in total 9 MB
        os.symlink(b"a", os.path.join(directory, b"%d" % number))
    error = place.run("ls", "ctx", "--json", sh=LIMITED).told(4)
    assert "the list cannot be written in" in error["message"]
    assert "TMPDIR" in error["hint"]
    whole: dict[str, Any] = json.loads(place.run("ls", "ctx", "--json").out)
    assert whole["symlinks"] == 500
