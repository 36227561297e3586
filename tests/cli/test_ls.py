"""What would be sent is listed: for a person, as a tree, and as one object."""

import json
import os
import signal
import socket
import subprocess
import tarfile
from typing import Any

import pytest

from e2b_upload.cli import listing
from tests.cli.conftest import Call
from tests.cli.harness import (
    AT_ANY_MOMENT,
    ENTRY_KEYS,
    LIMITED,
    LISTING_KEYS,
    PATIENCE,
    Ended,
    Place,
    wait_for,
)
from tests.support.trees import HOSTILE_NAMES

ENDLESS = """
import sys
from itertools import count
from e2b_upload import pipeline
from e2b_upload.context.collect import Entry
def collect(*args, **options):
    print("listing", file=sys.stderr, flush=True)
    for number in count():
        yield Entry(f"file-{number}", "file", 1, 0o644, None, None)
pipeline.collect = collect"""
"""A context whose end nobody sees."""

ONLY_ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


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
def test_a_person_sees_names_sizes_and_totals(more: list[str], listed: str, call: Call) -> None:
    ended = call("ls", "ctx", *more)
    assert (ended.code, ended.out.decode()) == (0, listed)
    assert ended.lines == [*LEFT_OUT, TOTALS]
    quiet = call("ls", "ctx", "-q", *more)
    assert (quiet.code, quiet.out.decode(), quiet.err) == (0, listed, "")


@pytest.mark.usefixtures("tree")
def test_the_object_tells_what_each_entry_is(call: Call) -> None:
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


def test_an_empty_context(place: Place, call: Call) -> None:
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
def test_the_largest_are_named_beside_all_entries(call: Call) -> None:
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
@pytest.mark.parametrize("more", [[], ["-x", "b/d"], ["--follow-symlinks"]], ids=" ".join)
def test_what_is_listed_is_what_is_packed(more: list[str], place: Place, call: Call) -> None:
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
        ("ctx/", "ctx/"),
        ("./ctx", "./ctx/"),
        ("ctx/.", "ctx/./"),
        ("link", "link/"),
        ("{there}/ctx", "{there}/ctx/"),
    ],
)
def test_a_context_is_named_as_it_was_given(
    context: str, shown: str, place: Place, call: Call
) -> None:
    (place.path / "link").symlink_to("ctx")
    there = os.fspath(place.path)
    ended = call("ls", context.format(there=there), "--tree")
    assert ended.out.decode().splitlines() == [
        f"      2 B  {shown.format(there=there)}",
        "      2 B  └── a",
    ]
    assert call("ls", context.format(there=there)).out == b"      2 B  a\n"


def test_a_tree_is_as_deep_as_it_is(place: Place, call: Call) -> None:
    path = "/".join(["d"] * 300)
    place.write(f"ctx/{path}/e", b"12345")
    (place.path / "ctx/a").unlink()
    lines = call("ls", "ctx", "--tree").out.decode().splitlines()
    assert len(lines) == 302
    assert all(line.startswith("      5 B  ") for line in lines)
    assert lines[-1] == "      5 B  " + "    " * 300 + "└── e"


# Names are data.


@pytest.fixture
def hostile(place: Place) -> list[bytes]:
    """Names that would do something to a terminal, to JSON, or to whoever reads line by line."""
    (place.path / "ctx/a").unlink()
    names = [*HOSTILE_NAMES, b"[bold]x", b'"},{', "\x9b2J".encode(), "\u2028".encode()]
    for name in names:
        path = os.path.join(os.fsencode(place.path), b"ctx", name)
        os.symlink(name[:200], path)
    return names


@pytest.mark.parametrize("more", [[], ["--tree"], ["--largest", "50"]], ids=" ".join)
def test_each_name_is_one_line_that_does_nothing(
    more: list[str], hostile: list[bytes], place: Place, call: Call
) -> None:
    for number, name in enumerate(hostile):
        folder = os.path.join(os.fsencode(place.path), b"ctx", b"%d-" % number + name[:100])
        os.mkdir(folder)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"x")
    ended = call("ls", "ctx", *more)
    lines = ended.out.decode().split("\n")
    assert ended.code == 0
    assert [line for line in lines if not line.isprintable()] == []
    expected = 50 if "--largest" in more else 3 * len(hostile) + ("--tree" in more)
    assert (len(lines), lines[-1]) == (expected + 1, "")


def test_the_object_tells_names_as_they_are(hostile: list[bytes], call: Call) -> None:
    entries = call("ls", "ctx", "--json").json["entries"]
    names = [entry["path"].encode("utf-8", "surrogateescape") for entry in entries]
    assert sorted(names) == sorted(hostile)
    for entry, name in zip(entries, names, strict=True):
        assert entry["target"].encode("utf-8", "surrogateescape") == name[:200]


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("env", ONLY_ASCII, ids=lambda env: next(iter(env)))
@pytest.mark.parametrize("more", [[], ["--tree"], ["--json"], ["--help"]], ids=" ".join)
def test_where_only_ascii_can_be_shown(more: list[str], env: dict[str, str], place: Place) -> None:
    place.write("ctx/ü/ö", b"")
    ended = place.run("ls", "ctx", *more, env=env)
    assert ended.code == 0
    assert ended.out.isascii()
    if more == ["--json"]:
        assert ended.out == place.run("ls", "ctx", "--json").out
    if more == ["--tree"]:
        lines = ended.out.splitlines()
        assert rb"      0 B  |   `-- \xf6" in lines
        assert rb"      0 B  |-- \xfc/" in lines


@pytest.mark.parametrize(
    "command", ["pack ctx -o - --allow-empty", "ls ctx --json", "explain ctx - --json"]
)
def test_patterns_mean_the_same_in_every_locale(command: str, place: Place) -> None:
    for name in ("é", "éa", "b"):
        place.write(f"ctx/{name}", b"")
    told = []
    for env in ({}, ONLY_ASCII[1]):
        args = [*command.split(), "-x", "?", "-x", "[é]a"]
        ended = place.run(*args, env=env, stdin="é\néa\nc\n".encode())
        assert ended.code == 0, ended.err
        told.append(ended.out)
    assert told[0] == told[1]
    if command.startswith("ls"):
        assert json.loads(told[0])["entries"] == []


# Streams.


def test_a_reader_that_leaves_is_not_waited_for(place: Place) -> None:
    with place.started("ls", "ctx", python=ENDLESS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"      1 B  file-0\n"
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b"listing\n"


def test_head_is_quiet(place: Place) -> None:
    for number in range(2000):
        (place.path / f"ctx/{number:0200}").touch()
    pipeline = 'set -o pipefail; "$0" "$@" | head -1'
    for more, first in (([], b"      0 B  0"), (["--tree"], b"      2 B  ctx/\n")):
        with place.started("ls", "ctx", *more) as process:
            command = [*process.args]  # type: ignore[misc]
        done = subprocess.run(
            ["bash", "-c", pipeline, *command],
            cwd=place.path,
            env=place.environment(),
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(first)
        assert done.stdout.count(b"\n") == 1


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["plain", "json"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_a_signal_ends_a_listing(signum: signal.Signals, more: list[str], place: Place) -> None:
    unread = "" if more else 'exec "$0" "$@" >/dev/null'
    with place.started("ls", "ctx", *more, python=ENDLESS, sh=unread, env=AT_ANY_MOMENT) as process:
        wait_for(process.stderr, "listing")
        process.send_signal(signum)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signum
    assert err.decode() == f"error: stopped by {signum.name}\n"
    if more:
        Ended(process.returncode, out, err.decode()).told(128 + signum)


@pytest.mark.parametrize(
    ("more", "out"),
    [
        ([], b"      2 B  a\n           d/\n      1 B  d/e\n"),
        (
            ["--tree"],
            "      3 B  ctx/\n      2 B  ├── a\n      1 B  └── d/\n      1 B      └── e\n".encode(),
        ),
        (["--largest", "1"], b"      2 B   66%  a\n"),
    ],
    ids=["plain", "tree", "largest"],
)
def test_what_cannot_be_listed_is_told_after_all_else(
    more: list[str], out: bytes, place: Place
) -> None:
    (place.path / "ctx/b").mkdir(mode=0)
    place.write("ctx/d/e", b"e")
    ended = place.run("ls", "ctx", *more, privileged=False)
    json_too = place.run("ls", "ctx", "--json", privileged=False)
    (place.path / "ctx/b").chmod(0o700)
    assert (ended.code, ended.out) == (3, out)
    assert "error: the folder ctx/b cannot be listed: Permission denied" in ended.lines
    json_too.told(3)


# A list that is too long for the memory waits on the disk.


@pytest.mark.usefixtures("tree")
def test_a_long_object_is_the_same(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    short = call("ls", "ctx", "--json").out
    monkeypatch.setattr(listing, "_IN_MEMORY_BYTES", 10)
    assert call("ls", "ctx", "--json").out == short
    ended = call("ls", "ctx", "--json", env={"TMPDIR": "nowhere"})
    assert "the list cannot be written in nowhere: No such file" in ended.told(4)["message"]


def test_a_disk_that_is_full_is_4(place: Place) -> None:
    folder = os.path.join(os.fsencode(place.path), b"ctx")
    for _ in range(15):
        folder = os.path.join(folder, b"\xff" * 200)
    os.makedirs(folder)
    for number in range(500):  # each 18 kB of JSON, and 9 MB all together
        os.symlink(b"a", os.path.join(folder, b"%d" % number))
    error = place.run("ls", "ctx", "--json", sh=LIMITED).told(4)
    assert "the list cannot be written in" in error["message"]
    assert "TMPDIR" in error["hint"]
    whole: dict[str, Any] = json.loads(place.run("ls", "ctx", "--json").out)
    assert whole["symlinks"] == 500
