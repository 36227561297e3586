"""What makes a context heavy, and the lines that drop it."""

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import e2b_upload
from e2b_upload.context.collect import Entry, EntryType, walk
from e2b_upload.context.dockerignore import Rule, Rules, read
from e2b_upload.context.root import Root
from e2b_upload.context.selection import Selection, read_rules
from e2b_upload.context.weight import Droppable, Largest, line_for
from e2b_upload.errors import SourceError
from e2b_upload.events import (
    Event,
    Finished,
    Heavy,
    LooksSecret,
    Started,
    Weight,
    ignore_events,
)
from tests.context.corpus import cases, excluded
from tests.support.trees import names

Tree: TypeAlias = Mapping[str, "int | Tree"]
"""Names, each with the bytes of a file or what is in a folder."""

NO_STAT = os.stat_result(range(10))


def entry(path: str, type_: EntryType = "file", size: int = 0) -> Entry:
    return Entry(path, type_, size, 0o644, None, NO_STAT)


def entries(tree: Tree, prefix: str = "") -> Iterator[Entry]:
    """Yield a tree as the walk does."""
    for name in sorted(tree):
        node = tree[name]
        if isinstance(node, int):
            yield entry(prefix + name, size=node)
        else:
            yield entry(prefix + name, "directory")
            yield from entries(node, f"{prefix}{name}/")


def ranked(ranking: Largest, tree: Tree) -> list[tuple[str, int]]:
    for one in entries(tree):
        ranking.add(one)
    return [(weight.path, weight.bytes) for weight in ranking.result()]


def total(node: int | Tree) -> int:
    return node if isinstance(node, int) else sum(map(total, node.values()))


def many(count: int, size: int) -> Tree:
    return {f"{number:05}": size for number in range(count)}


# What the classes say they compute, computed as it is said.

Item: TypeAlias = tuple[int, int, str]


def numbered(tree: Tree) -> dict[str, int]:
    return {one.path: -place for place, one in enumerate(entries(tree))}


def heaviest(count: int, items: list[Item]) -> list[Item]:
    return sorted(items, reverse=True)[:count]


def all_of(tree: Tree, places: dict[str, int], prefix: str = "") -> Iterator[Item]:
    for name, node in tree.items():
        if size := total(node):
            yield size, places[prefix + name], prefix + name
        if not isinstance(node, int):
            yield from all_of(node, places, f"{prefix}{name}/")


A_FEW = settings(max_examples=50, deadline=None)
_NAMES = st.sampled_from(["a", "b", "a-b", "c", "node_modules", ".git", "é"])
_SIZES = st.sampled_from([0, 1, 1, 2, 9, 10, 90, 100, 1000])
_TREES: st.SearchStrategy[Tree] = st.dictionaries(
    _NAMES,
    st.recursive(_SIZES, lambda inner: st.dictionaries(_NAMES, inner, max_size=7), max_leaves=20),
    max_size=6,
)


@given(_TREES, st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_the_largest_are_those_of_a_full_sort(tree: Tree, count: int) -> None:
    expected = heaviest(count, list(all_of(tree, numbered(tree))))
    assert ranked(Largest(count), tree) == [(path, size) for size, _, path in expected]


def test_equals_come_in_the_order_of_the_walk() -> None:
    tree: Tree = {"b": {"z": 10}, "b-c": 10, "a": 10, "c": 10}
    expected = [("a", 10), ("b", 10), ("b/z", 10), ("b-c", 10)]
    assert ranked(Largest(4), tree) == expected


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        # A wrapper gives way, and so does one in a wrapper.
        ({"app": {"data": many(50, 10), "main.py": 4}}, ["app/data"]),
        ({"a": {"b": {"c": many(9, 10)}}}, ["a/b/c"]),
        # Five heavy things and little else.
        ({"app": {"x": 100, "y": 100, "z": 100, "src": 4}}, ["app/x", "app/y", "app/z", "app/src"]),
        # So many that no few of them matter.
        ({"images": many(50, 10)}, ["images"]),
        # Installed packages in every part of a repository: the parts are not to be dropped.
        (
            {
                "packages": {
                    f"{number:02}": {"node_modules": many(9, 100 + number), "src": many(60, 10)}
                    for number in range(12)
                }
            },
            [f"packages/{number:02}/node_modules" for number in (11, 10, 9, 8, 7)],
        ),
        # A cache that hardly counts does not break up the folder that it lies in.
        ({"images": {**many(90, 10), "__pycache__": {"x.pyc": 50}}}, ["images"]),
        # What is spread over folders stays one, too.
        ({"src": {f"part{number}": many(9, 10) for number in range(9)}}, ["src"]),
        # What is in a folder of that kind is not looked at, whatever it is called.
        ({"node_modules": {"a": {".git": {"pack": 1000}}, "b": {"x": 1}}}, ["node_modules"]),
        ({".venv": {"lib": {"torch.so": 1000}}}, [".venv"]),
        # A file of that name is a file: a worktree's .git.
        ({"a": {".git": 30, "x": {"y": 1000}}}, ["a/x/y", "a/.git"]),
        # The folder of the context itself cannot be dropped.
        (many(7, 10), ["00000", "00001", "00002", "00003", "00004"]),
    ],
)
def test_what_it_would_help_to_drop(tree: Tree, expected: list[str]) -> None:
    assert [path for path, _ in ranked(Droppable(5), tree)] == expected


# The line that drops a path


def drops(line: str, path: str) -> bool:
    """Whether a line of an ignore file excludes a path; all of the way that it is read."""
    return excluded(Rules(read(b"# before\n" + line.encode() + b"\n", ".dockerignore")), path)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a/b.txt", "a/b.txt"),
        ("with blank/in it", "with blank/in it"),
        (" a ", "?a?"),
        ("a / b", "a / b"),
        ("#a/#b", "?a/#b"),
        ("!a/!b", "?a/!b"),
        ("app/[id]/{x}.tsx", "app/?id?/?x?.tsx"),
        ("a*b?c\\d|e^f", "a?b?c?d?e?f"),
        ("a+(b).$c", "a+(b).$c"),
        ("new\nline\r", "new?line?"),
        ("\x1b[2J\t", "??2J?"),
        ("\ufeffbom", "?bom"),
        ("\u00a0a\u3000", "?a?"),
        ("\udcff\udcfe", "??"),
        ("~/-rf", "~/-rf"),
        ("é/\U0001f40b", "é/\U0001f40b"),
        ("\u202egnp", "?gnp"),
    ],
)
def test_the_line_of_a_path(path: str, line: str) -> None:
    assert line_for(path) == line
    assert line.isprintable()
    assert drops(line, path)
    assert drops(line, path + "/below")
    assert not drops(line, "other")


# Everything that means something to the reader or the matcher, beside a few plain letters.
_ODD = st.text(
    alphabet=st.sampled_from([*"ab.*?[]\\{}|^!#-+()$~ \n\r\t\v\x1c\x85\u00a0\u2028\ufeff\udcffé"]),
    min_size=1,
    max_size=5,
)
_ANY = names().map(os.fsdecode)
_ODD_PATHS = (
    st.lists(_ODD | _ANY, min_size=1, max_size=4)
    .filter(lambda parts: not {".", ".."} & {*parts})
    .map("/".join)
)


@given(_ODD_PATHS, _ODD_PATHS)
@A_FEW
def test_the_line_of_any_path_drops_it(path: str, below: str) -> None:
    line = line_for(path)
    assert drops(line, path)
    assert drops(line, f"{path}/{below}")


@pytest.mark.parametrize("step", [50, pytest.param(3, marks=pytest.mark.slow)])
def test_the_lines_work_after_any_other_lines(step: int) -> None:
    """On the contexts of the reference: each line drops its own path, and nothing else."""
    wrong = []
    for case in itertools.islice(cases(), 0, None, step):
        if not case.kept:
            continue
        text = case.ignore_file.encode()
        rules = Rules(read(text, ""))
        files = {path for path in case.tree if not path.endswith("/")}
        folders = {*case.kept} - files
        for path in {case.kept[0], case.kept[-1], *sorted(folders)[:1]}:
            line = line_for(path, is_directory=path in folders, rules=rules)
            after = Rules([*read(text, ""), Rule("", 0, line)])
            below = {one for one in case.kept if one == path or one.startswith(path + "/")}
            gone = {one for one in files.intersection(case.kept) if excluded(after, one)}
            if (gone != below & files) if "?" not in line else not gone >= below & files:
                wrong.append((case.ignore_file, path, line))
    assert not wrong, wrong[:3]


def kept(folder: Path) -> list[str]:
    return [one.path for one in e2b_upload.collect(folder)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", "src"),
        ("*\n!src\n", "src"),
        # Its own name would not do: it is excluded, and `!src/app` comes after each `*`.
        ("*\n!src/app\n", "src/**"),
        ("src\n!src/app\n", "src/**"),
    ],
)
def test_a_folder_that_is_kept_for_what_is_in_it(lines: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "src/app").mkdir(parents=True)
    (tmp_path / "src/app/x").write_bytes(b"x" * 100)
    (tmp_path / ".dockerignore").write_text(lines)
    root = Root(tmp_path)
    rules = read_rules(root, Selection())
    largest = Largest(9, rules)
    for one in walk(root, rules, on_event=ignore_events):
        assert isinstance(one, Entry)
        largest.add(one)
    (line,) = [weight.pattern for weight in largest.result() if weight.path == "src"]
    assert line == expected
    (tmp_path / ".dockerignore").write_text(f"{lines}{line}\n")
    assert {*kept(tmp_path)} <= {".dockerignore"}


# In a build


def heavy(events: list[Event]) -> Heavy:
    (found,) = (event for event in events if isinstance(event, Heavy))
    return found


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "ctx"
    for path, size in {
        "node_modules/a/x.js": 4000,
        "data/[id] ": 3000,
        "gone/x": 90_000,
        "main.py": 20,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x" * size)
    (folder / ".dockerignore").write_bytes(b"gone\n")
    os.link(folder / "data/[id] ", folder / "data/z")
    return folder


def test_a_heavy_context_is_explained(context: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    archive = e2b_upload.pack(
        context, tmp_path / "a", warn_size=7000, count_first=True, on_event=events.append
    )
    told = heavy(events)
    assert (told.content_bytes, told.limit) == (archive.content_bytes, 7000)
    assert told.largest[:2] == (
        Weight(path="node_modules", bytes=4000, is_directory=True, pattern="node_modules"),
        Weight(path="data/[id] ", bytes=3000, is_directory=False, pattern="data/?id??"),
    )
    assert len(told.largest) == 2, "the rest is next to nothing"
    assert events.index(told) > max(
        number
        for number, event in enumerate(events)
        if isinstance(event, Finished) and event.step == "pack"
    )
    assert "put" not in {event.step for event in events if isinstance(event, Started)}


def test_the_lines_of_a_heavy_context_drop_what_they_are_for(context: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    e2b_upload.pack(context, tmp_path / "a", warn_size=0, on_event=events.append)
    with (context / ".dockerignore").open("a") as file:
        file.writelines(f"{weight.pattern}\n" for weight in heavy(events).largest)
    # data/z is the same file, under a name of its own.
    assert kept(context) == [".dockerignore", "data", "data/z", "main.py"]


def test_a_light_context_is_not_explained(context: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    archive = e2b_upload.pack(context, tmp_path / "a", warn_size=None, on_event=events.append)
    content = archive.content_bytes
    e2b_upload.pack(context, tmp_path / "b", warn_size=content, on_event=events.append)
    assert not [event for event in events if isinstance(event, Heavy)]
    assert e2b_upload.pack(context, tmp_path / "b", warn_size=1).sha256 == archive.sha256


def test_a_heavy_context_that_cannot_be_packed_is_told_as_a_failure_only(
    context: Path, tmp_path: Path
) -> None:
    def shrink(event: Event) -> None:
        events.append(event)
        if isinstance(event, LooksSecret):  # it comes between the look at a file and its packing
            os.truncate(context / "id_rsa", 1)

    events: list[Event] = []
    (context / "id_rsa").write_bytes(b"a key")
    with pytest.raises(SourceError, match="id_rsa changed"):
        e2b_upload.pack(context, tmp_path / "a", warn_size=1, on_event=shrink)
    assert not [event for event in events if isinstance(event, Heavy)]
