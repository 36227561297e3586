"""Why a path is part of a context or not: the walk's own answer, and the rule behind it."""

import os
import socket
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import e2b_upload
from e2b_upload import Decision, UsageError
from e2b_upload.context.dockerignore import DockerPattern, read
from tests.support.trees import File, Folder, Node, Symlink, make, trees

A_LITTLE = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def explained(context: Path | str, *paths: str, **options: Any) -> list[Decision]:
    return list(e2b_upload.explain(context, paths, **options))


def one(context: Path | str, path: str, **options: Any) -> Decision:
    (decision,) = explained(context, path, **options)
    return decision


def rule_of(decision: Decision) -> tuple[int, str] | None:
    return (decision.rule.line, decision.rule.text) if decision.rule else None


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "ctx"
    make({b"a.log": File(), b"d/e/f": File(), b"d/g": File(), b"h": File()}, folder_at(folder))
    (folder / ".dockerignore").write_text("# logs\n*.log\n\nd\n!d/e/f\n")
    return folder


def folder_at(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("path", "kept", "rule", "matched"),
    [
        ("h", True, None, None),
        ("a.log", False, (2, "*.log"), "a.log"),
        ("d/g", False, (4, "d"), "d"),
        ("d/e/f", True, (5, "!d/e/f"), "d/e/f"),
        ("d", True, (4, "d"), "d"),  # comes along
        ("d/e", True, (4, "d"), "d"),
        ("d/none", False, (4, "d"), "d"),
        ("d/e/f/none", True, (5, "!d/e/f"), "d/e/f"),
        ("none.log", False, (2, "*.log"), "none.log"),
        ("none/none.log", True, None, None),
        (".dockerignore", True, None, None),
        (".", True, None, None),
    ],
)
def test_each_path_has_the_rule_that_decided(
    path: str, *, kept: bool, rule: tuple[int, str] | None, matched: str | None, context: Path
) -> None:
    decision = one(context, path)
    assert (decision.path, decision.kept) == (path, kept)
    assert (rule_of(decision), decision.matched) == (rule, matched)
    assert decision.exists == ("none" not in path)
    assert decision.comes_along == (path in {"d", "d/e"})
    assert decision.rule is None or decision.rule.source == ".dockerignore"


def test_rules_have_the_source_that_was_named(context: Path) -> None:
    (context.parent / "other").write_text("\nh\n")
    name = os.fspath(context.parent / "other")
    options = {"ignore_file": name, "exclude": ["x", " d "]}
    h, d, log = explained(context, "h", "d/g", "a.log", **options)
    assert h.rule is not None
    assert (h.rule.source, h.rule.line, h.rule.text) == (name, 2, "h")
    assert d.rule is not None
    assert (d.rule.source, d.rule.line, d.rule.text) == ("--exclude", 2, "d")
    assert log.rule is None
    assert log.kept
    (kept,) = explained(context, "a.log", no_ignore=True)
    assert (kept.kept, kept.rule) == (True, None)


@pytest.mark.parametrize(
    "ways",
    [
        ["d/g", "./d/g", "d//g", "d/./g", "d/g/", "d/e/../g", ".//d/g//", "none/../d/g"],
        [".", "./", "d/..", ".//"],
    ],
    ids=" ".join,
)
def test_a_path_has_many_spellings(ways: list[str], context: Path) -> None:
    first, *others = explained(context, *ways)
    assert others == [first] * len(others)


def test_a_path_may_be_absolute(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = context.parent / "link"
    elsewhere.symlink_to(context)
    monkeypatch.chdir(context)
    for root in (context, elsewhere, "../link", "."):
        for named in (context, elsewhere):
            for path in ("d/g", "none", "d/none/none"):
                assert one(root, f"{named}/{path}") == one(context, path), (root, named)
            assert one(root, f"/{named}/d//g/").path == "d/g"
            assert [one(root, f"{named}{end}").path for end in ("", "/", "/.")] == ["."] * 3


def test_an_absolute_path_keeps_the_links_on_its_way(context: Path) -> None:
    (context / "loop").symlink_to(".")
    (context / ".dockerignore").write_text("loop\n")
    decision = one(context, f"{context}/loop/loop/h")
    assert (decision.path, decision.kept, decision.matched) == ("loop/loop/h", False, "loop")


@pytest.mark.parametrize("path", ["..", "../ctx/h", "d/../..", "/", "../ctx-2/h", "{context}-2/h"])
def test_a_path_outside_the_context_is_a_usage_error(path: str, context: Path) -> None:
    folder_at(context.parent / "ctx-2")
    with pytest.raises(UsageError, match="lies outside of the context") as error:
        explained(context, "h", path.replace("{context}", str(context)))
    assert error.value.hint


def test_wrong_arguments_are_usage_errors(context: Path) -> None:
    for where, path, options in (
        ("none", "a", {}),
        (context, "a", {"exclude": ["["]}),
        (context, "", {}),
        (context, "a\0b", {}),
    ):
        with pytest.raises(UsageError) as error:
            explained(where, path, **options)
        assert error.value.hint


def test_a_path_that_the_system_cannot_open(context: Path) -> None:
    for path in ("n" * 300, "/".join(["n" * 200] * 60), "h/below/a/file"):
        decision = one(context, path)
        assert (decision.path, decision.kept, decision.exists) == (path, True, False)


def test_what_cannot_be_archived_is_not_kept(context: Path) -> None:
    os.mkfifo(context / "fifo")
    (context / "to-fifo").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(context / "socket"))
        fifo, sock, link = explained(context, "fifo", "socket", "to-fifo")
        assert (fifo.kept, fifo.unfit, fifo.rule) == (False, "FIFO", None)
        assert (sock.kept, sock.unfit) == (False, "socket")
        assert (link.kept, link.unfit) == (True, None)
        assert one(context, "to-fifo", follow_symlinks=True).unfit == "FIFO"
    if os.geteuid() == 0:
        os.mknod(context / "null", 0o20600, os.makedev(1, 3))
        assert one(context, "null").unfit == "device"


# Whatever the tree and the patterns.

_PART = st.sampled_from(["a", "b", "ab", "?", "*", "a*", "*b", "[ab]", "**", "**a", "b**"])
_PATTERN = st.lists(_PART, min_size=1, max_size=3).map("/".join)
_NAMES = st.sampled_from([b"a", b"b", b"ab"])
_TARGETS = st.sampled_from([b"a", b"b", b"../a", b"a/b", b"..", b".", b"none"])


@st.composite
def small_trees(draw: st.DrawFn) -> dict[bytes, Node]:
    """Trees of few names, which patterns are likely to meet."""
    nodes = st.just(File()) | st.just(Folder()) | _TARGETS.map(Symlink)
    paths = st.lists(_NAMES, min_size=1, max_size=4).map(b"/".join)
    tree: dict[bytes, Node] = {}
    for path, node in draw(st.dictionaries(paths, nodes, max_size=8)).items():
        above = [path[:i] for i, char in enumerate(path) if char == ord("/")]
        if any(isinstance(tree.get(each), File | Symlink) for each in above):
            continue
        if not isinstance(node, Folder) and any(each.startswith(path + b"/") for each in tree):
            continue
        tree[path] = node
    return tree


@st.composite
def contexts(draw: st.DrawFn) -> tuple[dict[bytes, Node], list[str], bool]:
    """Trees, patterns that are made for them, and whether to follow links."""
    tree = draw(small_trees() | trees(max_size=8))
    there = [os.fsdecode(path) for path in tree if b"\n" not in path] or ["a"]
    pattern = _PATTERN | st.sampled_from(there)
    lines = st.lists(st.tuples(st.sampled_from(["", "", "!"]), pattern).map("".join), max_size=6)
    return tree, draw(lines), draw(st.booleans())


@contextmanager
def made(tree: dict[bytes, Node], lines: Iterable[str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        context = folder_at(Path(folder) / "ctx")
        make(tree, context)
        text = "\n".join(lines)
        (context / ".dockerignore").write_bytes(text.encode("utf-8", "surrogateescape"))
        yield context


def judged(patterns: Sequence[DockerPattern], path: str) -> tuple[bool, int, str | None]:
    """Return whether a path is excluded, the last pattern that says so, and what that matched.

    As the reference does it: through all parents, pattern by pattern.
    """
    parts = path.split("/")
    ways = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    excluded, above = False, set[int]()
    for way in ways:
        excluded, covering, above = False, above, set()
        for i, pattern in enumerate(patterns):
            tried = pattern.include != excluded
            if i in covering or (tried and pattern.match_file(way)):
                excluded = bool(pattern.include)
                above.add(i)
    hits = {
        i: next(filter(pattern.match_file, ways), None)
        for i, pattern in enumerate(patterns)
        if pattern.include == excluded
    }
    last = max((i for i, way in hits.items() if way), default=-1)
    return excluded, last, hits.get(last)


@example(({b"a/b": File()}, ["a", "!a/b", "a"], False))
@example(({b"a/b": File()}, ["a", "a"], False))
@example(({b"a/b/ab": File()}, ["a", "!a/b/ab", "a", "a/b"], True))
@given(made_of=contexts())
@A_LITTLE
def test_it_says_what_the_walk_does(made_of: tuple[dict[bytes, Node], list[str], bool]) -> None:
    tree, lines, follow_symlinks = made_of
    with made(tree, lines) as context:
        follow: dict[str, Any] = {"follow_symlinks": follow_symlinks}
        try:
            kept = {entry.path for entry in e2b_upload.collect(context, **follow)}
        except UsageError:  # a name that is not a valid pattern
            with pytest.raises(UsageError):
                explained(context, "a", **follow)
            return
        everything = [e.path for e in e2b_upload.collect(context, no_ignore=True, **follow)]
        decisions = explained(context, *everything, **follow)
        assert {decision.path for decision in decisions if decision.kept} == kept
        text = (context / ".dockerignore").read_bytes()
        patterns = [DockerPattern(rule) for rule in read(text, ".dockerignore")]
        for decision in decisions:
            excluded, last, matched = judged(patterns, decision.path)
            assert decision.exists
            assert decision.rule == (patterns[last].rule if last >= 0 else None)
            assert decision.matched == matched
            assert decision.comes_along == (excluded and decision.kept)
            assert excluded or decision.kept


@given(made_of=contexts(), name=st.lists(_NAMES, min_size=1, max_size=4).map(b"/".join))
@A_LITTLE
def test_what_it_says_of_a_missing_path_comes_true(
    made_of: tuple[dict[bytes, Node], list[str], bool], name: bytes
) -> None:
    tree, lines, _ = made_of
    path = name.decode()
    above = [name[:i] for i, char in enumerate(name) if char == ord("/")]
    with made(tree, lines) as context, suppress(UsageError):
        before = one(context, path)
        if before.exists or any(isinstance(tree.get(p), File | Symlink) for p in above):
            return
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_bytes(b"")
        after = one(context, path)
        assert (after.kept, after.rule, after.exists) == (before.kept, before.rule, True)
        assert before.kept == (path in {entry.path for entry in e2b_upload.collect(context)})
