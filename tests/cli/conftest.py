import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TextIO, TypeAlias

import pytest
from typer.main import get_command

from e2b_upload.cli.main import run
from tests.cli.cases import Case
from tests.cli.harness import KEY, QUERY, Ended, Place, words
from tests.support.rawserver import RawServer, raw_server, tls_context

_COMMAND = cache(get_command)  # Typer takes longer to build it than most commands to run

Call: TypeAlias = Callable[..., Ended]
RunCase: TypeAlias = Callable[..., Ended]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a directory to work in, and check that no temporary files are left in it."""
    place = Place.furnish(tmp_path)
    yield place
    assert place.left_behind() == []


@pytest.fixture
def call(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Call:
    """Run the command line in this process."""

    def call(*args: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Ended:
        with monkeypatch.context() as patch, _standard_input(stdin) as file:
            patch.chdir(place.path)
            patch.setattr("e2b_upload.cli.main.get_command", _COMMAND, raising=False)
            patch.setattr(sys, "stdin", file)
            environment = place.environment(env)
            for name in os.environ.keys() - environment.keys():
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            capfdbinary.readouterr()
            code = run(list(args))
        out, err = capfdbinary.readouterr()
        return Ended(code, out, err.decode())

    return call


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """Give a port that refuses connections, and that no other process can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def run_case(place: Place, call: Call, refusing_port: int) -> RunCase:
    """Run a row of cases.py, in this process or with `runner`, with more arguments."""

    def run_case(
        case: Case,
        *more: str,
        runner: Callable[..., Ended] = call,
        env: Mapping[str, str] | None = None,
        **options: object,
    ) -> Ended:
        with _server(case, place) as server:
            values = {
                "url": f"{server.url}/bucket/key?{QUERY}",
                "port": str(server.port),
                "refusing": f"127.0.0.1:{refusing_port}",
                "query": QUERY,
                "key": KEY,
                "api": server.url,
                "ca": str(place.path / "ca.pem"),
            }
            for name, content in case.files.items():
                place.write(name, content.format(**values).encode())
            given = {name: value.format(**values) for name, value in case.env.items()}
            if case.stdin:
                options["stdin"] = case.stdin.format(**values).encode()
            command, *args = words(case.command, **values)
            return runner(command, *more, *args, env=given | dict(env or {}), **options)

    return run_case


@contextmanager
def _standard_input(content: bytes) -> Iterator[TextIO]:
    """Make it the content of descriptor 0, and give a new `sys.stdin`."""
    with tempfile.TemporaryFile() as file, open(0, closefd=False) as stream:
        file.write(content)
        file.seek(0)
        before = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            yield stream
        finally:
            os.dup2(before, 0)
            os.close(before)


@contextmanager
def _server(case: Case, place: Place) -> Iterator[RawServer]:
    context = None
    if case.tls:
        context, authority = tls_context()
        place.write("ca.pem", authority)
    with raw_server(*case.scripts, tls=context) as server:
        yield server
