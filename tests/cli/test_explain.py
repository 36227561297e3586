"""Why a path is sent or not: a line each for a person, one object for a script."""

import os
import re
import socket
import subprocess
from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.cli.harness import PATIENCE, Place
from tests.support.trees import HOSTILE_NAMES

ONLY_ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


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
    # What a parent decided.
    "d/g": (
        "excluded\t.dockerignore:4:d\td/g\t(by its folder d)",
        False,
        (".dockerignore", 4, "d"),
    ),
    # Excluded, and part of the context all the same, for what is kept in it.
    "d": ("kept\t.dockerignore:4:d\td\t(for what is kept in it)", True, (".dockerignore", 4, "d")),
    "d/e": (
        "kept\t.dockerignore:4:d\td/e\t(by its folder d; for what is kept in it)",
        True,
        (".dockerignore", 4, "d"),
    ),
    # What is not there.
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
    # An option's position stands for the line.
    "x": ("excluded\t--exclude:2:x\tx", False, ("--exclude", 2, "x")),
    "fifo": ("excluded\tno pattern\tfifo\t(a FIFO is not data)", False, None),
    "link": ("kept\tno pattern\tlink", True, None),
    "link/e": ("kept\tno pattern\tlink/e\t(does not exist)", True, None),
    ".": ("kept\tno pattern\t.", True, None),
}
OPTIONS = ["-x", "y", "--exclude", " x "]
FOLLOWED = {"--follow-symlinks"}


def as_json(path: str) -> dict[str, Any]:
    _, kept, rule = EXPLAINED[path]
    names = ("source", "line", "pattern")
    return {"path": path, "kept": kept, "rule": rule and dict(zip(names, rule, strict=True))}


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("path", EXPLAINED)
def test_each_path_is_a_line_and_a_part_of_the_object(path: str, call: Call) -> None:
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
def test_all_paths_are_told_in_their_order(place: Place) -> None:
    paths = [*reversed(EXPLAINED), "h", "h"]
    lines = [EXPLAINED[path][0] for path in paths]
    given = place.run("explain", "ctx", *paths, *OPTIONS)
    assert given.out.decode().splitlines() == lines
    stdin = "\n".join(paths).encode()
    for ending in (b"", b"\n"):
        piped = place.run("explain", "ctx", "-", *OPTIONS, stdin=stdin + ending)
        assert piped.out == given.out
    mixed = place.run("explain", "ctx", "d", "-", "x", *OPTIONS, stdin=stdin)
    assert mixed.out.decode().splitlines() == [EXPLAINED["d"][0], *lines, EXPLAINED["x"][0]]
    told = place.run("explain", "ctx", "-", *OPTIONS, "--json", stdin=stdin).json
    assert told == {"paths": [as_json(path) for path in paths]}


def test_no_path_at_all_from_standard_input(call: Call) -> None:
    assert call("explain", "ctx", "-").out == b""
    assert call("explain", "ctx", "-", "--json").json == {"paths": []}


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("name", ["others", "./others", "{there}/others", "ctx/../others"])
def test_a_source_is_named_as_it_was_given(name: str, place: Place, call: Call) -> None:
    place.write("others", b"\nh\n")
    given = name.format(there=place.path)
    told = call("explain", "ctx", "h", "--ignore-file", given, "--json").json
    assert told["paths"][0]["rule"] == {"source": given, "line": 2, "pattern": "h"}
    told = call("explain", "ctx", "h", "--json", env={"E2B_UPLOAD_IGNORE_FILE": given}).json
    assert told["paths"][0]["rule"]["source"] == given


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("context", ["ctx", "ctx/", ".", "{there}/ctx", "link", "{there}/link"])
@pytest.mark.parametrize(
    "path", ["d/g", "./d/g", "d//g/", "{there}/ctx/d/g", "{there}/link/d/./g/", "{there}//ctx/d/g"]
)
def test_a_path_is_taken_from_the_context(
    path: str, context: str, place: Place, call: Call
) -> None:
    (place.path / "link").symlink_to("ctx")
    there = os.fspath(place.path)
    if context == ".":
        ended = place.run(
            *("explain", ".", path.format(there=there)),
            sh='cd link; exec "$0" "$@"',
            env={"PYTHONPATH": os.getcwd()},
        )
    else:
        ended = call("explain", context.format(there=there), path.format(there=there))
    assert ended.out == b"excluded\t.dockerignore:4:d\td/g\t(by its folder d)\n"


@pytest.mark.usefixtures("tree")
def test_links_may_be_followed(call: Call) -> None:
    told = call("explain", "ctx", "link/e/f", "link", "fifo", "--follow-symlinks").out.decode()
    assert told.splitlines() == [
        "kept\tno pattern\tlink/e/f",
        "kept\tno pattern\tlink",
        EXPLAINED["fifo"][0],
    ]


def test_a_line_that_repeats_another_decides_for_all_below(place: Place, call: Call) -> None:
    place.write("ctx/d/e", b"")
    place.write("ctx/.dockerignore", b"d\n*.log\nd\n")
    told = call("explain", "ctx", "d", "d/e", "--json").json["paths"]
    assert [each["rule"]["line"] for each in told] == [3, 3]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("more", [[], ["-x", "d/e"], ["--follow-symlinks"]], ids=" ".join)
def test_what_is_listed_is_what_is_kept(more: list[str], place: Place, call: Call) -> None:
    (place.path / "ctx/fifo").unlink()
    everything = call("ls", "ctx", "--no-ignore", "--json", *set(more) & FOLLOWED).json["entries"]
    stdin = "\n".join(entry["path"] for entry in everything).encode()
    told = call("explain", "ctx", "-", "--json", *more, stdin=stdin).json["paths"]
    listed = call("ls", "ctx", "--json", *more).json["entries"]
    kept = [each["path"] for each in told if each["kept"]]
    assert kept == [entry["path"] for entry in listed]
    assert len(told) > len(kept)


# Names and patterns are data.


def test_each_path_is_one_line_that_does_nothing(place: Place, call: Call) -> None:
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


def test_paths_that_are_not_utf8(place: Place) -> None:
    for name in (b"\xff\xfe", b"\xed\xa0\x80", b"\xc3"):
        path = os.path.join(os.fsencode(place.path), b"ctx", name)
        with open(path, "wb"):
            pass
    ended = place.run("explain", "ctx", "-", "-x", "*", stdin=b"\xff\xfe\n\xed\xa0\x80\n\xc3")
    assert ended.out.decode().splitlines() == [
        f"excluded\t--exclude:1:*\t{shown}" for shown in (r"\xff\xfe", r"\xed\xa0\x80", r"\xc3")
    ]


@pytest.mark.parametrize("env", ONLY_ASCII, ids=lambda env: next(iter(env)))
def test_a_path_is_the_same_in_every_locale(env: dict[str, str], place: Place) -> None:
    place.write("ctx/é/ö", b"")
    place.write("ctx/.dockerignore", "?\n!?/ö\n".encode())
    paths = ["é", "é/ö", f"{place.path}/ctx/é"]
    stdin = "\n".join(paths).encode()
    told = place.run("explain", "ctx", *paths, "--json").out
    assert place.run("explain", "ctx", *paths, "--json", env=env).out == told
    assert place.run("explain", "ctx", "-", "--json", env=env, stdin=stdin).out == told
    ended = place.run("explain", "ctx", *paths, env=env)
    assert ended.code == 0
    assert ended.out.splitlines() == [
        rb"kept" + b"\t.dockerignore:1:?\t" + rb"\xe9" + b"\t(for what is kept in it)",
        rb"kept" + b"\t.dockerignore:2:!?/" + rb"\xf6" + b"\t" + rb"\xe9/\xf6",
        rb"kept" + b"\t.dockerignore:1:?\t" + rb"\xe9" + b"\t(for what is kept in it)",
    ]


# Streams.


def test_paths_may_come_from_a_file_or_a_socket(place: Place) -> None:
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


def test_many_paths_and_a_reader_that_leaves(place: Place) -> None:
    place.write("paths", b"".join(b"some/where/file-%d\n" % number for number in range(20_000)))
    with place.started("explain", "ctx", "-") as process:
        command = [*process.args]  # type: ignore[misc]
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" "$@" <paths | head -1', *command],
        cwd=place.path,
        env=place.environment(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"kept\tno pattern\tsome/where/file-0\t(does not exist)\n"


def test_a_context_that_may_not_be_read(place: Place) -> None:
    (place.path / "ctx").chmod(0)
    ended = place.run("explain", "ctx", "a", "--json", privileged=False)
    (place.path / "ctx").chmod(0o700)
    ended.told(3)
