"""Text becomes rules, a path an answer."""

import os
import posixpath
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e2b_upload.context.dockerignore import (
    MAX_LINE_BYTES,
    Rule,
    Rules,
    read,
)
from e2b_upload.errors import UsageError
from tests.context.corpus import excluded

FILE = "ctx/.dockerignore"


def rules(text: str) -> Rules:
    return Rules(read(text.encode("utf-8", "surrogateescape"), FILE))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a\nb", [(1, "a"), (2, "b")]),
        ("a\r\nb\r\n", [(1, "a"), (2, "b")]),
        ("a\r\r\n", [(1, "a")]),  # one \r is dropped, the other trimmed as white space
        ("a\rb\n", [(1, "a\rb")]),
        ("\ufeffa\n\ufeffb", [(1, "a"), (2, "\ufeffb")]),
        ("\ufeff# comment\na", [(2, "a")]),
        ("#a\n #a\n", [(2, "#a")]),
        ("\n \n\u00a0\na", [(4, "a")]),
        ("\u00a0 a\u3000\n", [(1, "a")]),
        ("\x1ca\n", [(1, "\x1ca")]),  # white space to Python, not to Go
    ],
)
def test_lines(text: str, lines: list[tuple[int, str]]) -> None:
    assert [(rule.line, rule.text) for rule in read(text.encode(), FILE)] == lines


@pytest.mark.parametrize(
    ("text", "gone", "stays"),
    [
        ("foo", ["foo", "foo/x"], ["x/foo", "foobar", "Foo"]),
        ("/foo/", ["foo"], ["x/foo"]),
        ("x/../foo", ["foo"], ["x"]),
        ("foo /", ["foo"], []),
        (".", [], ["a", ".a"]),
        ("../a", [], ["a", "../b"]),
        ("*.py", ["a.py", ".py"], ["d/x.py", "a.pyc"]),
        ("*/*", ["a/b", "a/b/c"], ["a"]),
        ("a?c", ["abc"], ["a/c", "ac"]),
        ("**/a", ["a", "x/a", "x/y/a"], ["ba"]),
        ("a/**", ["a/b", "a/b/c"], ["a"]),
        ("**a", ["a", "ba", "x/ba"], ["ab"]),
        ("a**b", ["ab", "ax/b"], ["axb"]),
        ("[^a]", ["b"], ["a", "bb"]),
        ("[!a]", ["!", "a"], ["b"]),
        (r"\*", ["*"], ["a"]),
        (r"\d", ["7"], ["d"]),
        ("*|", ["a", "a/b"], []),
        ("a.b", ["a.b"], ["axb"]),
        ("a+(b)*", ["a+(b)c"], ["aa"]),
        ("é?", ["éü"], ["é"]),
        ("a\n!a/b", ["a", "a/c"], ["a/b", "a/b/c"]),
        ("a\n!a/b\na", ["a", "a/c"], ["a/b"]),  # the last line is not tried on a
        ("*\n!*.py", ["a", "d"], ["x.py"]),
        ("/!a\n", [], ["a", "!a"]),
        ("a\n! a", [], ["a"]),
        ("a\n!!a", ["a"], ["!a"]),
    ],
)
def test_what_matches(text: str, gone: list[str], stays: list[str]) -> None:
    parsed = rules(text)
    assert [path for path in gone if not excluded(parsed, path)] == []
    assert [path for path in stays if excluded(parsed, path)] == []


@pytest.mark.parametrize("bad", ["!", "!/", "[", "a[]", "[^]", "[a-]", "a\\"])
def test_an_invalid_pattern_is_named(bad: str) -> None:
    with pytest.raises(UsageError) as error:
        rules(f"# one\ngood\n{bad}\n")
    assert FILE in error.value.message
    assert "line 3" in error.value.message
    assert f"'{bad.strip()}'" in error.value.message
    assert error.value.hint


@pytest.mark.parametrize("bad", ["[b-a]", "*{2}{3}", "a{1001}*", "*\\C", "*\\8"])
def test_what_go_rejects_as_a_regular_expression_is_rejected(bad: str) -> None:
    with pytest.raises(UsageError, match="line 1"):
        rules(bad)


def test_an_exclude_option_is_named_by_its_position() -> None:
    with pytest.raises(UsageError, match=r"--exclude \(option 2\).*'\['"):
        Rules([Rule("--exclude", 1, "a"), Rule("--exclude", 2, "[")])


def test_a_line_as_long_as_docker_reads_and_one_byte_more() -> None:
    assert [rule.line for rule in read(b"a" * MAX_LINE_BYTES + b"\n", FILE)] == [1]
    with pytest.raises(UsageError, match="line 2"):
        list(read(b"b\n" + b"a" * (MAX_LINE_BYTES + 1), FILE))


def test_bytes_that_are_not_utf8() -> None:
    # Go compares a plain pattern byte by byte, and reads each such byte as U+FFFD in a wildcard's.
    exact = Rules(read(b"a\xff\n", FILE))
    assert excluded(exact, "a\udcff")
    assert not excluded(exact, "a\udcfe")
    wild = Rules(read(b"?\n", FILE))
    assert excluded(wild, "\udcff")
    assert not excluded(wild, "\udcff\udcfe")
    assert excluded(Rules(read("[\ufffd]\n".encode(), FILE)), "\udcfe")
    assert excluded(Rules(read(b"**\x80\n", FILE)), "x/\udc80")


@pytest.mark.timeout(60)
def test_a_hostile_pattern_takes_no_exponential_time() -> None:
    hostile = rules("**a**a**a**a**a**a**a**a**a**b\n" + "*a" * 200 + "b\n")
    path = "a" * 20_000
    assert not excluded(hostile, path)
    assert excluded(hostile, path + "b")


def test_more_patterns_than_one_pass_holds() -> None:
    lines = "".join(f"**/pattern{number}/*.x\n" for number in range(6000))
    many = rules(lines + "!a/pattern7/y.x\n")
    assert len(many._passes) > 1, "else this test proves nothing"
    for number in (0, 7, 5999):
        assert excluded(many, f"a/pattern{number}/a.x")
        assert not excluded(many, f"a/pattern{number}/a.y")
    assert not excluded(many, "a/pattern7/y.x")


def test_an_answer_that_the_pass_gives_up_on_comes_from_the_patterns_one_by_one() -> None:
    parsed = rules("a*\n!ab*\n")
    ((_, one_pass),) = parsed._passes
    one_pass._set = type("GivenUp", (), {"Match": staticmethod(lambda _: None)})
    assert excluded(parsed, "ac")
    assert not excluded(parsed, "abc")
    assert not excluded(parsed, "b")


# Few letters, so that patterns and paths meet; all that has a meaning is among the others.
_LETTERS = st.sampled_from(
    [*"ab*?[]^!-\\/.{}|+$() ", "**", "**/", "/**", "é", "\ufeff", "\udcff", "\n"]
)
A_FEW = settings(max_examples=50, deadline=None)
_PATTERNS = st.lists(st.lists(_LETTERS, max_size=8).map("".join), max_size=5)
_PATHS = st.lists(
    st.text(alphabet=[*"abé. ", "\udcff"], min_size=1, max_size=3), min_size=1, max_size=4
).map("/".join)


def _parsed(lines: list[str]) -> Rules | None:
    try:
        return Rules(Rule(FILE, number, line) for number, line in _stripped(lines))
    except UsageError:
        return None


def _stripped(lines: list[str]) -> Iterator[tuple[int, str]]:
    yield from ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())


@given(_PATTERNS, _PATHS)
@example(["a", "!a/b", "a"], "a/b")
@example(["a"], "./a")
@A_FEW
def test_all_patterns_in_one_pass_agree_with_each_alone(lines: list[str], path: str) -> None:
    if (parsed := _parsed(lines)) is None:
        return
    alone = [i for i, pattern in enumerate(parsed.patterns) if pattern.match_file(path)]
    assert parsed.decide_file(path) == max(alone, default=-1)
    decided, _ = parsed.decide(path)
    assert parsed.excludes(decided) == parsed.excludes(parsed.decide_file(path))


@given(_PATTERNS, _PATHS, _PATHS)
@A_FEW
def test_what_is_kept_below_an_excluded_directory_was_announced(
    lines: list[str], directory: str, below: str
) -> None:
    parsed = _parsed(lines)
    if parsed is None or not excluded(parsed, directory):
        return
    if not excluded(parsed, posixpath.join(directory, below)):
        parts = below.split("/")
        above = [posixpath.join(directory, *parts[:depth]) for depth in range(len(parts))]
        hidden = [path for path in above if excluded(parsed, path)]
        assert all(parsed.may_keep_below(path) for path in hidden)


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.binary().map(os.fsdecode))
@A_FEW
def test_any_text_is_rules_or_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        excluded(rules(text), "a/b")


@pytest.mark.parametrize(
    ("exception", "reached", "out_of_reach"),
    [
        ("!a/b/c", ["a", "a/b"], ["a/b/c", "a/x", "ab"]),
        ("!a/*.py", ["a", "a/b"], ["b", "ab"]),
        ("!**/keep", ["a", "x/y"], []),
        ("!a/b**", ["a", "a/b", "a/bc"], ["a/c", "b"]),
        (r"!a\b", ["a", "c"], []),
    ],
)
def test_how_far_an_exception_reaches(
    exception: str, reached: list[str], out_of_reach: list[str]
) -> None:
    parsed = rules(f"**\n{exception}\n")
    assert [path for path in reached if not parsed.may_keep_below(path)] == []
    assert [path for path in out_of_reach if parsed.may_keep_below(path)] == []
