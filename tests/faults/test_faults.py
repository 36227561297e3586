"""Real processes meet the faults of the table."""

from __future__ import annotations

import random
import shlex
import shutil
import subprocess
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

import e2b_upload
from tests.cli.harness import AT_ANY_MOMENT, PATIENCE, SECRETS, Ended, until
from tests.faults.page import PAGE, with_table
from tests.faults.rows import ROWS
from tests.faults.setups import OLD, Tools, sha256

if TYPE_CHECKING:
    from tests.cli.harness import Place
    from tests.faults.rows import Row
    from tests.faults.setups import Site

pytestmark = pytest.mark.real

OWN_RETRIES = {"E2B_UPLOAD_RETRIES": ""}
"""The default, unless a row says otherwise."""


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_fault_has_the_result_of_the_table(
    row: Row, place: Place, request: pytest.FixtureRequest
) -> None:
    _skip_without(row.needs)
    _furnish(row, place)
    with row.setup(Tools(place=place, shared=request.getfixturevalue)) as site:
        ended = _run(row, site, place)
        stored = _stored(site, place, row)
        requests = site.requests
        first_body = [server.requests[0].body_bytes for server in site.servers[:1] if requests]
    assert ended.code == row.code, ended.err
    if row.code == 0:
        result = ended.json
        assert result["status"] == row.status
        attempts, verified = result["attempts"], result["verified"]
        assert result["archive"]["sha256"] == _packed(place, row)
    else:
        error = ended.told(row.code)
        assert row.says in error["message"], ended.err
        assert row.hint in error["hint"], ended.err
        attempts, verified = 0, None
        if "uploading" in ended.err:
            attempts = 1 + ended.err.count("retrying in") - row.waits_in_vain
    assert row.told in ended.err
    assert "Traceback" not in ended.err
    assert not any(secret in ended.err + ended.out.decode() for secret in SECRETS)
    if site.servers:
        assert requests == (row.attempts if row.requests is None else row.requests)
    if row.first_body is not None:
        assert max(first_body) <= row.first_body
    observed, expected = (attempts, verified, stored), (row.attempts, row.verified, row.stored)
    assert observed == expected, ended.err


def test_the_page_has_every_row(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--write-page", default=False):
        page = PAGE.read_text()
        assert page == with_table(page), "run `make faults`"
    assert len({row.name for row in ROWS}) == len(ROWS)


def _skip_without(program: str) -> None:
    if program and shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    if (
        program == "unshare"
        and subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("mounting is not permitted")


def _furnish(row: Row, place: Place) -> None:
    place.write("ctx/random", random.Random(1).randbytes(row.random_bytes))
    if row.zeros:
        with place.write("ctx/zeros", b"").open("r+b") as file:
            file.truncate(row.zeros)
    for name, content in row.files.items():
        place.write(name, content)


def _run(row: Row, site: Site, place: Place) -> Ended:
    """Run the command to its end; the setup sees its output, and a signal may interrupt it."""
    lines: list[str] = []
    interrupt = row.interrupt
    args = ["build", "ctx", "--url", site.url, "--json", "--mtime", "0", *shlex.split(row.options)]
    env = {**OWN_RETRIES, **site.env, **row.env, **(AT_ANY_MOMENT if interrupt else {})}
    with place.started(
        *args, sh=row.sh, python=row.python, privileged=row.privileged, env=env
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.close()
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            while line := process.stderr.readline().decode():
                lines.append(line)
                site.when_told(line)
                if interrupt and interrupt.words in line:
                    until(partial(interrupt.when, site))
                    process.send_signal(interrupt.signal)
                    interrupt = None
            out = process.stdout.read()
            process.wait(PATIENCE)
        finally:
            watchdog.cancel()
    return Ended(process.returncode, out, "".join(lines))


def _stored(site: Site, place: Place, row: Row) -> str:
    if site.stored is None:
        return ""
    stored = site.stored()
    if stored is None:
        return "nothing"
    if stored == sha256(OLD):
        return "old"
    return "new" if stored == _packed(place, row) else "something else"


def _packed(place: Place, row: Row) -> str:
    """Return the digest of the archive that must be stored."""
    archive = e2b_upload.pack(
        place.path / "ctx",
        place.path / "packed",
        mtime=0,
        compression="none" if "--compression none" in row.options else "default",
        allow_empty=True,
    )
    assert archive.sha256
    return archive.sha256
