"""What is copied, against the real SDK's `from_dockerfile`."""

import os
import sys
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2b_upload.e2b.dockerfile import MAX_FILE_BYTES, copies, read_dockerfile
from e2b_upload.errors import UsageError
from tests.e2b.judge import sdk_copies

EXAMPLES: Final = settings(deadline=None, max_examples=400)


def agree(text: str) -> list[tuple[str, str]] | None:
    """Return what both say is copied, or None where both refuse."""
    theirs = sdk_copies(text)
    try:
        ours = [(copy.src, copy.dest) for copy in copies(text)]
    except UsageError:
        ours = None
    assert ours == (None if isinstance(theirs, Exception) else theirs)
    return ours


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("", []),
        ("COPY . /app", [(".", "/app")]),
        ("copy a b c /d/", [("a", "/d/"), ("b", "/d/"), ("c", "/d/")]),
        ("COPY a /a\nRUN make\nADD b/*.py c /b", [("a", "/a"), ("b/*.py", "/b"), ("c", "/b")]),
        ('COPY ["a", "b c", "/d"]', [("a", "/d"), ("b c", "/d")]),
        ('COPY ["$A", "/d"]', [("$A", "/d")]),
        ('COPY ["a", /d', [("[a,", "/d")]),
        ("COPY \"a b\" 'c  d' e\\ f /g", [("a b", "/g"), ("c  d", "/g"), ("e f", "/g")]),
        ("COPY a\\\\b \\$c /d", [("a\\b", "/d"), ("$c", "/d")]),
        (
            "ENV A=x\nCOPY $A ${A} ${A:-y}/$B /$A",
            [("$A", "/$A"), ("${A}", "/$A"), ("${A:-y}/$B", "/$A")],
        ),
        ("COPY --chown=a:b --chmod=0755 a /d", [("a", "/d")]),
        ("ARG M=6\nENV N=${M}44\nCOPY --chmod=$N a /d", [("a", "/d")]),
        ("COPY --link --parents --exclude=x --exclude=y a /d", [("a", "/d")]),
        ("ADD --keep-git-dir=true --checksum=x --unpack=false a /d", [("a", "/d")]),
        ("ADD git@host:a /d", [("git@host:a", "/d")]),
        ("COPY https://host/a /d", [("https://host/a", "/d")]),
        ("COPY <<EOF /a\nx $A ${B:-c} $(ls)\nEOF\nCOPY b /c", [("b", "/c")]),
        ("COPY a <<-'E F' b /c/\n\t${\n\tE F\n", [("a", "/c/"), ("b", "/c/")]),
        ("RUN <<EOF\nCOPY a /b\nEOF", []),
        ("COPY a \\\n# comment\n\n  b \\\n  /c\r\n", [("a", "/c"), ("b", "/c")]),
        ("COPY \u00e9 /\U0001f40b", [("\u00e9", "/\U0001f40b")]),
        ('HEALTHCHECK --interval=1s CMD x\nONBUILD COPY a /b\nSHELL ["x"]\nLABEL --x=y', []),
        ("#COPY a /b\n  # COPY c /d", []),
    ],
)
def test_what_is_copied(lines: str, found: list[tuple[str, str]]) -> None:
    assert agree(f"FROM x\n{lines}\n") == found


@pytest.mark.parametrize(
    "text",
    [
        "# escape=`\nFROM x\nCOPY a `\n b\\c /d\n",
        "\ufeffFROM x\nCOPY a /d",
        "ARG A=1\nfrom --platform=$A x:$A As y\nCOPY a /d\r\n",
        '# syntax=docker/dockerfile:1\n#check=skip=all\n\nFROM x\nCOPY a /d\nCMD ["a"]',
        "FROM x\nADD a /d\nCMD a\nENTRYPOINT b",
    ],
)
def test_dockerfiles_as_they_come(text: str) -> None:
    assert agree(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COPY a /b", "D: it has no FROM"),
        ("FROM x\nCOPY a /b\nFROM y", "D:3: it has several stages, and one is supported"),
        ("COPY a /b\nFROM x", "D:1: COPY comes before FROM"),
        ("FROM x y", "D:1: FROM takes an image, and may give it a name by AS"),
        ("FROM x\n\nCOPY --from=y a /b", "D:3: COPY --from is not supported"),
        ("FROM x\nCOPY a", "D:2: COPY takes a source and a destination"),
        ("FROM x\nCOPY /a /b", "D:2: the source /a is absolute"),
        ("FROM x\nCOPY a ../b /c", "D:2: the source ../b leads out of the context"),
        ("FROM x\nADD https://host/a /b", "D:2: ADD of a URL is not supported: https://host/a"),
        ("FROM x\nCOPY a <<EOF\nEOF", "D:2: COPY has a heredoc for a destination"),
        ('FROM x\nCOPY ["<<EOF", "/b"]', "D:2: the heredoc EOF has no content"),
        ("FROM x\nCOPY <<EOF /b\n${a:-\nEOF", "D:2: a ${ is not closed"),
        ("FROM x\nCOPY <<EOF /b\n${}\nEOF", "D:2: a ${ names no variable"),
        ("FROM x\nCOPY <<EOF /b\n", "D:2: unterminated heredoc"),
        ("FROM x\nCOPY --chmod=u+x a /b", "D:2: --chmod=u+x: write an octal mode such as 0755"),
        (
            "FROM x\nARG M=9\nCOPY --chmod=$M a /b",
            "D:3: --chmod=$M, which comes to 9: write an octal mode such as 0755",
        ),
        ("FROM x\nCOPY --chown a /b", "D:2: the flag --chown has no value"),
        ("FROM x\nCOPY --link=x a /b", "D:2: --link is true or false, not x"),
        ("FROM x\nCOPY --chown=a --chown=b a /b", "D:2: the flag --chown is given twice"),
        ("FROM x\nCOPY --\x1b[2J a /b", "D:2: COPY knows no flag --\\x1b[2J"),
        ("FROM x\nRUN", "D:2: RUN takes an argument"),
        ("FROM x\nARG =a", "D:2: ARG sets a variable without a name"),
        ("FROM x\nWORKDIR", "D:2: WORKDIR takes one argument"),
        ("FROM x\nFROB", "D:2: unknown instruction: FROB"),
        ("# escape=x\nFROM x", "D:1: invalid escape token 'x' does not match ` or \\"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    assert agree(text) is None
    with pytest.raises(UsageError) as raised:
        copies(text, source="D")
    assert raised.value.message == message
    assert raised.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "FROM x\nCOPY 'a /b",
        "FROM x\nENV A=${B:?no}\nCOPY a /b",
        "FROM x\nUSER ${a",
        "FROM x\nCOPY " + "${a:-" * 5000 + "}" * 5000 + " /b",
        "FROM x\nCOPY " + "[" * 100_000 + " /b",
        "FROM x\nCOPY <<EOF /b\n" + "${a:-" * 5000 + "}" * 5000 + "\nEOF",
        'FROM x\nCOPY ["a", 1]',
    ],
    ids=["quote", "unset", "brace", "deep words", "deep JSON", "deep heredoc", "number"],
)
def test_what_the_parser_does_not_take_is_refused_with_its_line(text: str) -> None:
    assert agree(text) is None
    with pytest.raises(UsageError, match=r"^Dockerfile(:[23])?: "):
        copies(text)


WORDS: Final = [
    *("a", "b/c", ".", "*.py", "/app", "$A", "${A}", "${A:-x}", "${A:?no}", "${A", "${A/x/y}"),
    *("${}", '"a b"', "'a b'", "a\\ b", '"a', "\\", "`", "<<EOF", "<<-EOF", '<<"EOF"', "3<<EOF"),
    *("<<", "http://x/y", "../x", "/abs", "--", "--chown=a:b", "--chmod=755", "--chmod=$M"),
    *("--chmod=9", "--from=x", "--link", "--link=x", "--exclude=a", "--bogus", "--checksum=x"),
    *("--mount=x", '["a","b"]', '["a","b c","/d"]', "[1]", "[", "#x", "A=1", "M=755", "M=$A"),
    *("=x", "as", "AS", "${A#x}", "${A:#x}", "$", "\\$A", "a\\", "\u00e9", "\ufeff"),
]
INSTRUCTIONS: Final = [
    *("COPY", "COPY", "COPY", "ADD", "ADD", "add", "RUN", "ENV", "ARG", "WORKDIR", "USER", "CMD"),
    *("ENTRYPOINT", "LABEL", "HEALTHCHECK", "ONBUILD", "VOLUME", "BOGUS"),
]
BODIES: Final = [
    *("x", "$A", "${A}", "${A", "${:x}", "\\$", "\\", "\t${A/b/c}", "${A:/x}", "${A//b}", "EOF"),
    *("EOF", "\tEOF", "$(ls)", "${A:-${B}}", "${A:-${B}", "`", "${\u00b2}"),
]
plain = st.lists(st.sampled_from(["a", "b/c", "*.py", "."]), min_size=1, max_size=3)
wild = st.lists(st.sampled_from(WORDS), max_size=4)


@st.composite
def lines(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(INSTRUCTIONS))
    words = draw(wild)
    if name.upper() in {"COPY", "ADD"} and draw(st.booleans()):
        words = [*draw(st.lists(st.sampled_from(WORDS), max_size=1)), *draw(plain), "/app"]
    elif name in {"ENV", "ARG"}:
        words = [draw(st.sampled_from(["A=1", "M=755", "M=$A", "A", "A b", 'M="7"55']))]
    gap = draw(st.sampled_from([" ", " ", "\t", "  ", " \\\n ", " \\\n# c\n ", " `\n "]))
    line = gap.join([name, *words]) + draw(st.sampled_from(["\n", "\n", "\r\n", " \n"]))
    if "<<" in line:
        body = draw(st.lists(st.sampled_from(BODIES), max_size=4))
        line += "".join(f"{each}\n" for each in [*body, "EOF"])
    return line


dockerfiles = st.tuples(
    st.sampled_from(["", "", "", "# escape=`\n", "ARG A=1\n", "# c\n\n", "COPY a b\n"]),
    st.sampled_from(["FROM x\n", "FROM x\n", "FROM x\n", "from --platform=a x AS y\n", ""]),
    st.lists(lines(), max_size=4).map("".join),
).map("".join)


@pytest.mark.slow
@given(dockerfiles)
@EXAMPLES
def test_any_dockerfile_copies_what_the_sdk_copies(text: str) -> None:
    agree(text)


@pytest.mark.slow
@given(
    st.lists(st.sampled_from([*"${}/:-+?#%\\a1_ \t\n`@*'\"<", "${a:-", "${a/", "//"]), max_size=12)
)
@EXAMPLES
def test_any_heredoc_is_taken_as_the_sdk_takes_it(text: list[str]) -> None:
    agree(f"FROM x\nCOPY <<EOF /a\n{''.join(text)}\nEOF\nCOPY b /c\n")


def test_a_file_is_read_as_the_sdk_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_bytes(b"\xef\xbb\xbfFROM x\rCOPY a /b\r\nCOPY \xc3\xa9 /d")
    text = read_dockerfile(path)
    assert [(copy.src, copy.dest) for copy in copies(text)] == sdk_copies(os.fspath(path))
    assert sdk_copies(os.fspath(path)) == [("a", "/b"), ("\u00e9", "/d")]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file"),
        (b"FROM \xff", "is not UTF-8"),
        (b" " * (MAX_FILE_BYTES + 1), "is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read(content: bytes | None, why: str, tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=why):
        read_dockerfile(path)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "e2b_dockerfile_utils", None)
    with pytest.raises(UsageError) as raised:
        copies("FROM x")
    assert "e2b-upload[e2b]" in raised.value.hint
