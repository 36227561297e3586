"""The targets, with input from Hypothesis and from the corpus."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2b_upload import Receipt, UnavailableError
from tests.fuzz import targets
from tests.fuzz.targets import CORPUS, TARGETS, corpus

_FEW = {"answer_head": 150, "tree": 60}

_PATTERNS = st.lists(st.text("ab*?/\\[]!-^.#{}|+() é\udcff", max_size=12), max_size=6).map(
    lambda lines: "\n".join(lines).encode("utf-8", "surrogateescape")
)
_PATHS = st.lists(st.text("ab/. é\udcff", max_size=10), max_size=6).map(
    lambda paths: b"".join(b"\0" + p.encode("utf-8", "surrogateescape") for p in paths)
)
_SCHEMES = st.sampled_from(["http://", "https://", "HTTP://", "//", "", " http://", "ftp://"])
_HOSTS = st.sampled_from(["h.example", "[::1]", "127.0.0.1:1", "a..b", "[", "h:99999", "u@h", "ü"])
_URLS = st.builds(
    lambda scheme, host, path, around: f"{scheme}{host}/{path}\0{around}".encode(
        "utf-8", "surrogateescape"
    ),
    *(_SCHEMES, _HOSTS, st.text("a/.%2eé#&;\t\n\\@?=", max_size=10)),
    st.text("a=&?#@/:%\"'<> \0\n", max_size=8),
)
_HEADER = st.builds(
    lambda name, value: name.encode() + b":" + value,
    st.text("aZ-: é\n", max_size=6)
    | st.sampled_from(["Host", "X-Amz-Meta", "Content-MD5", "Expect", "Cookie", "Connection"]),
    st.binary(max_size=12),
)
_WHOLE = (
    b'HTTP/1.1 200 OK\r\nETag: "%s"\r\nx-amz-request-id: 1\r\nContent-Length: 0\r\n\r\n'
    b"HTTP/1.1 503 Slow\r\nRetry-After: 1\r\nContent-Length: 9\r\n\r\n<Code>x</"
    % targets._DIGESTS["md5"].hex().encode()
)
_DAMAGED = st.builds(
    lambda start, end, at, put: (_WHOLE[:at] + put + _WHOLE[at:])[start:end],
    *(st.sampled_from([0, 0, 0, 81]), st.integers(0, 300), st.integers(0, 200)),
    st.binary(max_size=4),
)
_NUMBERS = st.integers(-(10**30), 10**30) | st.floats() | st.sampled_from(["", "0", "\u0663", "x"])
_DATES = st.datetimes().map("{:%a, %d %b %Y %H:%M:%S} GMT".format)

# Input that gets further than random bytes.
STRATEGIES = {
    "ignore_file": st.builds(bytes.__add__, _PATTERNS, _PATHS),
    "url": _URLS,
    "headers": st.lists(_HEADER, max_size=4).map(b"\0".join),
    "answer": _DAMAGED,
    "retry_after": st.tuples(_NUMBERS | _DATES, _DATES | st.just("")).map(
        lambda pair: "\0".join(map(str, pair)).encode()
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _stage() -> Iterator[None]:
    with targets.stage():
        yield


@pytest.mark.parametrize("name", TARGETS)
def test_random_input(name: str) -> None:
    strategy = STRATEGIES.get(name, st.binary(max_size=400)) | st.binary(max_size=200)

    @settings(
        deadline=None,
        max_examples=_FEW.get(name, 200),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(strategy)
    def play(data: bytes) -> None:
        TARGETS[name](data)

    play()


@pytest.mark.parametrize(
    "path", [pytest.param((n, p), id=f"{n}/{p.name}") for n in TARGETS for p in corpus(n)]
)
def test_corpus(path: tuple[str, Path]) -> None:
    name, file = path
    TARGETS[name](file.read_bytes())


def test_the_corpus_has_every_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == TARGETS.keys()


def test_the_stage_uses_the_whole_answer() -> None:
    whole = b"HTTP/1.1 200 OK\r\n\r\n"
    assert isinstance(targets._stage.put_and_hear(whole), Receipt)
    assert targets._stage.head.startswith(b"PUT /bucket/key?")
    assert isinstance(targets._stage.put_and_hear(whole[:-2]), UnavailableError)
