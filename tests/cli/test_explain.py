"""`explain` shows which pattern includes or excludes each path."""

import os
import re
import socket
from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.cli.harness import C_LOCALE, PATIENCE, Place
from tests.support.trees import HOSTILE_NAMES


@pytest.fixture
def tree(place: Place) -> None:
    for name in ("a.log", "d/e/f", "d/g", "h", "x"):
        place.write(f"ctx/{name}", b"")
    place.write("ctx/.dockerignore", b"# logs\n*.log\n\n  d  \n!d/e/f\n")
    os.mkfifo(place.path / "ctx/fifo")
    (place.path / "ctx/link").symlink_to("d")


EXPLAINED: dict[str, tuple[str, bool, tuple[str, int, str] | None]] = {
    "h": ("kept\tno pattern\th", True, None),
    "a.log": ("excluded\t.dockerignore:2:*.log\ta.log", False, (".dockerignore", 2, "*.log")),
    "d/e/f": ("kept\t.dockerignore:5:!d/e/f\td/e/f", True, (".dockerignore", 5, "!d/e/f")),
    # Decided by a parent directory.
    "d/g": (
        "excluded\t.dockerignore:4:d\td/g\t(by its folder d)",
        False,
        (".dockerignore", 4, "d"),
    ),
    # Excluded, but needed as the parent of an included file.
    "d": ("kept\t.dockerignore:4:d\td\t(for what is kept in it)", True, (".dockerignore", 4, "d")),
    "d/e": (
        "kept\t.dockerignore:4:d\td/e\t(by its folder d; for what is kept in it)",
        True,
        (".dockerignore", 4, "d"),
    ),
    # Paths that do not exist.
    "no": ("kept\tno pattern\tno\t(does not exist)", True, None),
    "no.log": (
        "excluded\t.dockerignore:2:*.log\tno.log\t(does not exist)",
        False,
        (".dockerignore", 2, "*.log"),
    ),
    "d/no/no": (
        "excluded\t.dockerignore:4:d\td/no/no\t(by its folder d; does not exist)",
        False,
        (".dockerignore", 4, "d"),
    ),
    "d/e/f/no": (
        "kept\t.dockerignore:5:!d/e/f\td/e/f/no\t(by its folder d/e/f; does not exist)",
        True,
        (".dockerignore", 5, "!d/e/f"),
    ),
    # The position of the option takes the place of the line number.
    "x": ("excluded\t--exclude:2:x\tx", False, ("--exclude", 2, "x")),
    "fifo": ("excluded\tno pattern\tfifo\t(a FIFO is not data)", False, None),
    "link": ("kept\tno pattern\tlink", True, None),
    "link/e": ("kept\tno pattern\tlink/e\t(does not exist)", True, None),
    ".": ("kept\tno pattern\t.", True, None),
}
OPTIONS = ["-x", "y", "--exclude", " x "]


def as_json(path: str) -> dict[str, Any]:
    _, kept, rule = EXPLAINED[path]
    names = ("source", "line", "pattern")
    return {"path": path, "kept": kept, "rule": rule and dict(zip(names, rule, strict=True))}


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("path", EXPLAINED)
def test_line_and_json(path: str, call: Call) -> None:
    ended = call("explain", "ctx", path, *OPTIONS)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.decode() == EXPLAINED[path][0] + "\n"
    told = call("explain", "ctx", path, *OPTIONS, "--json").json
    assert told == {"paths": [as_json(path)]}
    assert list(told["paths"][0]) == ["path", "kept", "rule"]
    assert type(told["paths"][0]["kept"]) is bool
    if told["paths"][0]["rule"]:
        assert list(told["paths"][0]["rule"]) == ["source", "line", "pattern"]
        assert type(told["paths"][0]["rule"]["line"]) is int


@pytest.mark.usefixtures("tree")
def test_order_of_paths(call: Call) -> None:
    paths = [*reversed(EXPLAINED), "h", "h"]
    lines = [EXPLAINED[path][0] for path in paths]
    given = call("explain", "ctx", *paths, *OPTIONS)
    assert given.out.decode().splitlines() == lines
    stdin = "\n".join(paths).encode()
    for ending in (b"", b"\n"):
        assert call("explain", "ctx", "-", *OPTIONS, stdin=stdin + ending).out == given.out
    mixed = call("explain", "ctx", "d", "-", "x", *OPTIONS, stdin=stdin)
    assert mixed.out.decode().splitlines() == [EXPLAINED["d"][0], *lines, EXPLAINED["x"][0]]
    told = call("explain", "ctx", "-", *OPTIONS, "--json", stdin=stdin).json
    assert told == {"paths": [as_json(path) for path in paths]}


def test_no_paths(call: Call) -> None:
    assert call("explain", "ctx", "-").out == b""
    assert call("explain", "ctx", "-", "--json").json == {"paths": []}


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("name", ["others", "./others", "{there}/others", "ctx/../others"])
def test_name_of_the_ignore_file(name: str, place: Place, call: Call) -> None:
    place.write("others", b"\nh\n")
    given = name.format(there=place.path)
    told = call("explain", "ctx", "h", "--ignore-file", given, "--json").json
    assert told["paths"][0]["rule"] == {"source": given, "line": 2, "pattern": "h"}
    told = call("explain", "ctx", "h", "--json", env={"E2B_UPLOAD_IGNORE_FILE": given}).json
    assert told["paths"][0]["rule"]["source"] == given


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("context", "paths"),
    [
        ("ctx", ["d/g", "./d/g", "d//g/", "{there}/ctx/d/g", "{there}/link/d/./g/"]),
        ("ctx/", ["{there}//ctx/d/g"]),
        ("link", ["d/g", "{there}/ctx/d/g", "{there}/link/d/g"]),
        ("{there}/link", ["d/g", "{there}/ctx/d/g"]),
    ],
)
def test_forms_of_a_path(context: str, paths: list[str], place: Place, call: Call) -> None:
    (place.path / "link").symlink_to("ctx")
    given = [word.format(there=place.path) for word in (context, *paths)]
    expected = "excluded\t.dockerignore:4:d\td/g\t(by its folder d)\n" * len(paths)
    assert call("explain", *given).out.decode() == expected


@pytest.mark.slow
@pytest.mark.usefixtures("tree")
def test_current_directory_behind_a_link(place: Place) -> None:
    (place.path / "link").symlink_to("ctx")
    ended = place.run(
        *("explain", ".", f"{place.path}/ctx/d/g", f"{place.path}/link/d/g"),
        sh='cd link; exec "$0" "$@"',
        env={"PYTHONPATH": os.getcwd()},
    )
    assert ended.out == b"excluded\t.dockerignore:4:d\td/g\t(by its folder d)\n" * 2


@pytest.mark.usefixtures("tree")
def test_follow_symlinks(call: Call) -> None:
    told = call("explain", "ctx", "link/e/f", "link", "fifo", "--follow-symlinks").out.decode()
    assert told.splitlines() == [
        "kept\tno pattern\tlink/e/f",
        "kept\tno pattern\tlink",
        EXPLAINED["fifo"][0],
    ]


def test_repeated_pattern(place: Place, call: Call) -> None:
    place.write("ctx/d/e", b"")
    place.write("ctx/.dockerignore", b"d\n*.log\nd\n")
    told = call("explain", "ctx", "d", "d/e", "--json").json["paths"]
    assert [each["rule"]["line"] for each in told] == [3, 3]


# Hostile names and patterns.


def test_hostile_names(place: Place, call: Call) -> None:
    paths = [os.fsdecode(name) for name in HOSTILE_NAMES if not name.isspace()]
    patterns = [re.sub(r"([\\[\]*?])", r"\\\1", path) for path in paths]
    options = [option for pattern in patterns for option in ("-x", pattern)]
    text = "\n".join(pattern for pattern in patterns if "\n" not in pattern)
    place.write("ctx/.dockerignore", os.fsencode(text))
    for more in (options, []):
        ended = call("explain", "ctx", *more, "--", *paths)
        assert ended.code == 0
        lines = ended.out.decode().removesuffix("\n").split("\n")
        assert [line for line in lines if not line.replace("\t", "").isprintable()] == []
        assert len(lines) == len(paths)
        assert {line.count("\t") for line in lines} == {3}
        told = call("explain", "ctx", "--json", *more, "--", *paths).json["paths"]
        expected = [os.path.normpath(path) for path in paths]
        assert [each["path"] for each in told] == expected
        rules = [each["rule"] for each in told if each["rule"]]
        assert len(rules) > len(paths) // 2


def test_paths_that_are_not_utf_8(place: Place, call: Call) -> None:
    for name in (b"\xff\xfe", b"\xed\xa0\x80", b"\xc3"):
        path = os.path.join(os.fsencode(place.path), b"ctx", name)
        with open(path, "wb"):
            pass
    ended = call("explain", "ctx", "-", "-x", "*", stdin=b"\xff\xfe\n\xed\xa0\x80\n\xc3")
    assert ended.out.decode().splitlines() == [
        f"excluded\t--exclude:1:*\t{shown}" for shown in (r"\xff\xfe", r"\xed\xa0\x80", r"\xc3")
    ]


@pytest.mark.slow
def test_paths_in_the_c_locale(place: Place) -> None:
    place.write("ctx/é/ö", b"")
    place.write("ctx/.dockerignore", "?\n!?/ö\n".encode())
    paths = ["é", "é/ö", f"{place.path}/ctx/é"]
    stdin = "\n".join(paths).encode()
    told = place.run("explain", "ctx", *paths, "--json").out
    assert place.run("explain", "ctx", *paths, "--json", env=C_LOCALE).out == told
    assert place.run("explain", "ctx", "-", "--json", env=C_LOCALE, stdin=stdin).out == told
    ended = place.run("explain", "ctx", *paths, env=C_LOCALE)
    assert ended.code == 0
    assert ended.out.splitlines() == [
        rb"kept" + b"\t.dockerignore:1:?\t" + rb"\xe9" + b"\t(for what is kept in it)",
        rb"kept" + b"\t.dockerignore:2:!?/" + rb"\xf6" + b"\t" + rb"\xe9/\xf6",
        rb"kept" + b"\t.dockerignore:1:?\t" + rb"\xe9" + b"\t(for what is kept in it)",
    ]


# Streams.


@pytest.mark.slow
def test_paths_from_a_file_and_a_socket(place: Place) -> None:
    with (
        place.write("paths", b"a\nb").open("rb") as stdin,
        place.started("explain", "ctx", "-", stdin=stdin) as process,
    ):
        out, _ = process.communicate(timeout=PATIENCE)
    ours, theirs = socket.socketpair()
    with ours, theirs, place.started("explain", "ctx", "-", stdin=theirs.fileno()) as process:
        theirs.close()
        for piece in (b"a\n", b"b"):
            ours.sendall(piece)
        ours.shutdown(socket.SHUT_WR)
        from_socket, _ = process.communicate(timeout=PATIENCE)
    assert out == from_socket == b"kept\tno pattern\ta\nkept\tno pattern\tb\t(does not exist)\n"


@pytest.mark.slow
def test_reader_that_leaves(place: Place) -> None:
    place.write("paths", b"".join(b"some/where/file-%d\n" % number for number in range(20_000)))
    pipeline = 'set -o pipefail; "$0" "$@" <paths | head -1'
    ended = place.run("explain", "ctx", "-", sh=f'exec bash -c \'{pipeline}\' "$0" "$@"')
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == b"kept\tno pattern\tsome/where/file-0\t(does not exist)\n"


@pytest.mark.slow
def test_unreadable_context(place: Place) -> None:
    (place.path / "ctx").chmod(0)
    ended = place.run("explain", "ctx", "a", "--json", privileged=False)
    (place.path / "ctx").chmod(0o700)
    ended.told(3)
