"""The shell recipes of docs/how-to/scripts.md, each run against a real store."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

from e2b_upload.errors import printable
from tests.recipes.workplace import KEPT, OBJECT, PROGRAMS, RECIPES, names
from tests.support.rawserver import answer, raw_server, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.recipes.workplace import Ran, Workplace
    from tests.support.rawserver import Script
    from tests.support.seaweed import Seaweed

pytestmark = pytest.mark.real

PRESIGN = ("cat", "url")
"""Faster than a command that signs; test_presign.py runs those."""
EXPIRED = "X-Amz-Date=20200101T000000Z&X-Amz-Expires=60&X-Amz-Signature=0"
ONCE = {"E2B_UPLOAD_RETRIES": "0"}
ODD = [
    *("-x", "#c", "!d", "-C", " front", "end ", "\ttab", "tab\t", "\u00a0", "nbsp\u00a0"),
    *("new\nline", "\nline", "line\n", "a\\nb", "\\", "[ab]*", "\x1b[2J", "\u202e"),
    *("\udcff", "\u00e4\udcff "),
]
"""Names that are hard to write as a pattern or on one line. Git accepts all of them."""


def test_shellcheck_accepts_all_scripts() -> None:
    scripts = [*RECIPES.rglob("*.sh")]
    assert len(scripts) == 8
    command = [str(PROGRAMS / "shellcheck"), *map(str, scripts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def one_by_one(place: Workplace, *urls: str) -> tuple[str, str]:
    """Return a command that prints another one of the URLs each time."""
    place.write("urls", "".join(f"{url}\n" for url in urls))
    place.write("next_url.sh", "head -n 1 urls\nsed -i 1d urls\n")
    return ("sh", "next_url.sh")


def test_upload_reports_what_is_stored(place: Workplace, bucket: Seaweed) -> None:
    ran = place.run("sh", "upload.sh", "./ctx", *PRESIGN)
    assert ran.code == 0, ran.err
    assert ran.out == f"stored 4 files as {bucket.digest(OBJECT)}, verified by md5\n"
    assert names(bucket.get(OBJECT)) == KEPT


@pytest.mark.parametrize(
    ("script", "code", "told"),
    [
        (answer(503), 5, "try again later"),
        (answer(403), 6, "request another URL (403)"),
        (
            answer(403, b"<Error><Code>AccessDenied</Code></Error>"),
            *(6, "request another URL (AccessDenied)"),
        ),
        (
            answer(403, b"<Error><Code>a\x1b[2J\xc2\x9b##[error]Denied</Code></Error>"),
            *(6, "request another URL (a?x1b?2J?x9b???error?Denied)"),
        ),
    ],
)
def test_upload_distinguishes_failures_of_the_store(
    place: Workplace, script: Script, code: int, told: str
) -> None:
    with raw_server(script) as server:
        ran = place.run("sh", "upload.sh", "./ctx", "echo", f"{server.url}/k?a=b", env=ONCE)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.splitlines()[-1] == told


@pytest.mark.parametrize(
    ("context", "presign", "code", "told"),
    [
        ("./odd", PRESIGN, 3, "check the files: nothing was sent"),
        ("./nowhere", PRESIGN, 2, "Name the folder that holds the files to send."),
        ("./ctx", ["false"], 2, "Was the variable set? Pass a URL."),
        (
            *("./ctx", ["echo", f"http://127.0.0.1/k?{EXPIRED}"]),
            *(6, "request another URL (not sent)"),
        ),
    ],
)
def test_upload_distinguishes_other_failures(
    place: Workplace, context: str, presign: Sequence[str], code: int, told: str
) -> None:
    (place.path / "odd/.dockerignore").mkdir(parents=True)
    ran = place.run("sh", "upload.sh", context, *presign)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.splitlines()[-1].strip() == told


@pytest.mark.parametrize("first", ["expired", "refused", "unavailable"])
def test_fresh_url_packs_once_and_asks_for_another_url(
    place: Workplace, bucket: Seaweed, first: str
) -> None:
    status = 503 if first == "unavailable" else 403
    with raw_server(answer(status)) as server:
        query = EXPIRED if first == "expired" else "X-Amz-Signature=0"
        urls = one_by_one(place, f"{server.url}/k?{query}", bucket.presign_put(OBJECT))
        ran = place.run("sh", "fresh_url.sh", "./ctx", *urls, env=ONCE)
        assert len(server.requests) == (first != "expired")
    assert ran.code == 0, ran.err
    assert "the upload with the first URL failed\n" in ran.err
    assert "second" not in ran.err
    assert ran.err.count("packing") == 1
    assert names(bucket.get(OBJECT)) == KEPT


def test_fresh_url_tries_three_urls_if_another_one_may_help(place: Workplace) -> None:
    with raw_server(answer(403)) as server:
        urls = one_by_one(place, *[f"{server.url}/k?X-Amz-Signature=0"] * 4)
        ran = place.run("sh", "fresh_url.sh", "./ctx", *urls)
        assert len(server.requests) == 3
    assert ran.code == 6
    assert "the upload with the third URL failed\n" in ran.err
    ran = place.run("sh", "fresh_url.sh", "./ctx", "false")
    assert ran.code == 2
    assert "URL failed" not in ran.err


def test_fresh_url_cleans_up_when_it_is_stopped(place: Workplace) -> None:
    with raw_server(silent()) as server:
        command = ["sh", "fresh_url.sh", "./ctx", "echo", f"{server.url}/k?X-Amz-Signature=0"]
        with subprocess.Popen(
            command,
            cwd=place.path,
            env=place.env,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while not server.requests:
                assert process.poll() is None
                time.sleep(0.01)
            assert place.left_behind()
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(30) == 143


def test_if_changed_uploads_only_what_changed(place: Workplace, bucket: Seaweed) -> None:
    command = ("sh", "if_changed.sh", "./ctx", "ctx.sha256", *PRESIGN)
    with raw_server(answer(403)) as server:  # only what arrived is remembered
        assert place.run(*command[:4], "echo", f"{server.url}/k?X-Amz-Signature=0").code == 6
    assert place.run(*command[:2], "./nowhere", *command[3:]).code == 2
    assert not (place.path / "ctx.sha256").exists()
    assert place.run(*command).code == 0
    first = bucket.digest(OBJECT)
    assert (place.path / "ctx.sha256").read_text() == f"{first}\n"

    os.utime(place.path / "ctx/main.py", (1, 2_000_000_000))  # as in another clone
    bucket.put(OBJECT, b"untouched")
    ran = place.run(*command)
    assert (ran.code, ran.out) == (0, "nothing changed\n")
    assert bucket.get(OBJECT) == b"untouched"

    place.write("ctx/main.py", "print(1)\n")
    assert place.run(*command).code == 0
    assert bucket.digest(OBJECT) != first
    assert (place.path / "ctx.sha256").read_text() == f"{bucket.digest(OBJECT)}\n"


def git(place: Workplace, *args: str, of: str = "ctx") -> None:
    env = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_ALLOW_PROTOCOL": "file"}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "nobody", f"GIT_{who}_EMAIL": "nobody@example.com"}
    ran = place.run("git", "-C", of, *args, env=env)
    assert ran.code == 0, ran.err


def tracked(place: Workplace) -> None:
    """Track everything that is in the context so far."""
    git(place, "init", "--quiet")
    git(place, "add", ".")


def tracked_only(place: Workplace) -> Ran:
    return place.run("bash", "tracked_only.sh", "./ctx", *PRESIGN)


def test_tracked_only_leaves_out_untracked_files(place: Workplace, bucket: Seaweed) -> None:
    place.write("ctx/a.txt", "matched by [ab]*.txt\n")
    for name in ODD:
        place.write(f"ctx/src/{name}", "tracked\n")
    tracked(place)
    for name in ("note.txt", "[ab]*.txt", "dist/all.txt", "src/big.tmp"):
        place.write(f"ctx/{name}", "untracked\n")
    for name in ODD:
        place.write(f"ctx/{name}", "untracked\n")
        place.write(f"ctx/{name}folder{name}/{name}", "untracked\n")
    ran = tracked_only(place)
    assert ran.code == 0, ran.err
    sent = sorted([*KEPT, "a.txt", *(f"src/{name}" for name in ODD)])
    assert sorted(names(bucket.get(OBJECT))) == sent


def test_tracked_only_sends_files_as_they_are_and_none_through_a_link(
    place: Workplace, bucket: Seaweed
) -> None:
    """Nor a deleted one; an untracked ignore file counts."""
    place.write("ctx/moved/file", "tracked\n")
    place.write("ctx/gone", "tracked\n")
    (place.path / "ctx/link").symlink_to("main.py")
    (place.path / "ctx/.dockerignore").rename(place.path / "ignored")
    tracked(place)
    (place.path / "ignored").rename(place.path / "ctx/.dockerignore")
    (place.path / "ctx/gone").unlink()
    (place.path / "ctx/moved").rename(place.path / "elsewhere")
    (place.path / "ctx/moved").symlink_to("../elsewhere")
    place.write("ctx/main.py", "changed\n").chmod(0o775)
    ran = tracked_only(place)
    assert ran.code == 0, ran.err
    with tarfile.open(fileobj=io.BytesIO(bucket.get(OBJECT))) as tar:
        assert tar.getnames() == ["link", *KEPT[1:]]
        assert tar.getmember("link").linkname == "main.py"
        assert tar.getmember("main.py").mode == 0o775
        main = tar.extractfile("main.py")
        assert main is not None
        assert main.read() == b"changed\n"


def repository(place: Workplace, name: str) -> None:
    """Create a repository with a file in a commit, and an untracked one."""
    place.write(f"{name}/file", "tracked\n")
    git(place, "init", "--quiet", of=name)
    git(place, "add", ".", of=name)
    git(place, "commit", "--quiet", "--message", "one", of=name)
    place.write(f"{name}/.env", "untracked\n")


def test_tracked_only_includes_submodules(place: Workplace, bucket: Seaweed) -> None:
    repository(place, "other")
    tracked(place)
    for name in ("sub", "src/empty"):
        git(place, "submodule", "--quiet", "add", "../other", name)
    git(place, "submodule", "--quiet", "deinit", "--force", "src/empty")
    place.write("ctx/sub/.env", "untracked\n")
    repository(place, "ctx/own")
    ran = tracked_only(place)
    assert ran.code == 0, ran.err
    sent = {*KEPT, ".gitmodules", "src/empty", "sub", "sub/file"}
    assert sorted(names(bucket.get(OBJECT))) == sorted(sent)


def test_tracked_only_sends_nothing_if_git_cannot_list_everything(
    place: Workplace, bucket: Seaweed
) -> None:
    bucket.put(OBJECT, b"untouched")
    assert tracked_only(place).code == 128  # not a repository
    git(place, "init", "--quiet")
    repository(place, "ctx/::own\x1b")
    git(place, "add", ".")
    ran = tracked_only(place)
    assert ran.code == 1
    assert "own" in ran.err
    assert ran.err.startswith("Git tracks nothing in ")
    assert "\x1b" not in ran.err
    assert bucket.get(OBJECT) == b"untouched"


def test_unpack_unpacks_what_would_be_sent(place: Workplace) -> None:
    ran = place.run("bash", "unpack.sh", "./ctx", "./seen/here")
    assert ran.code == 0, ran.err
    seen = place.path / "seen/here"
    assert sorted(str(path.relative_to(seen)) for path in seen.rglob("*")) == KEPT
    for name in KEPT:
        if (seen / name).is_file():
            assert (seen / name).read_bytes() == (place.path / "ctx" / name).read_bytes()
    assert place.run("bash", "unpack.sh", "./nowhere", "./seen/there").code


def test_largest_lists_and_fails_above_the_limit(place: Workplace) -> None:
    ran = place.run("sh", "largest.sh", "./ctx", "200000")
    assert ran.code == 0, ran.err
    assert " 100.0 kB   99%  src/big.bin\n" in ran.out
    assert "noise" not in ran.out
    for limit, code in (("100016", 0), ("9" * 30, 0), ("0" * 30 + "100016", 0), ("0" * 30, 1)):
        assert place.run("sh", "largest.sh", "./ctx", limit).code == code
    ran = place.run("sh", "largest.sh", "./ctx", "100015")
    assert ran.code == 1
    assert ran.err.endswith("\n100016 bytes would be sent, but only 100015 are allowed\n")
    assert place.run("sh", "largest.sh", "./nowhere", "1").code == 2
    place.write("ctx/a\x1b[2J\n9 GB   99%  forged\u202e\x9b", "x")
    ran = place.run("sh", "largest.sh", "./ctx", "200000")
    assert r"a\x1b[2J\n9 GB   99%  forged\u202e\x9b" in ran.out


@pytest.mark.parametrize("limit", ["1MB", "", "-1", "1.5", " 1", "1\n2", "\u0661", "--help"])
def test_largest_rejects_what_is_not_a_number_of_bytes(place: Workplace, limit: str) -> None:
    ran = place.run("sh", "largest.sh", "./ctx", limit)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "the limit must be a number of bytes, such as 100000000\n"


def test_left_out_names_tracked_files_that_are_not_sent(place: Workplace) -> None:
    assert place.run("bash", "left_out.sh", "./ctx").code == 128  # not a repository
    git(place, "init", "--quiet")
    ran = place.run("bash", "left_out.sh", "./ctx")
    assert (ran.code, ran.log) == (0, "")  # nothing is tracked yet
    git(place, "add", ".")
    place.write("ctx/untracked.log", "x\n")
    ran = place.run("bash", "left_out.sh", "./ctx")
    assert (ran.code, ran.out) == (0, ".dockerignore:1:*.log: noise.log\n"), ran.err
    place.write("ctx/.dockerignore", "src\n")
    (place.path / "ctx/src/a b.txt").unlink()
    ran = place.run("bash", "left_out.sh", "./ctx")
    assert ran.out.splitlines() == [
        ".dockerignore:1:src: src/a b.txt (by its folder src; does not exist)",
        ".dockerignore:1:src: src/big.bin (by its folder src)",
    ]
    place.write("ctx/.dockerignore", "[\n")
    ran = place.run("bash", "left_out.sh", "./ctx")
    assert ran.code
    assert "does not parse" in ran.err


def test_left_out_names_files_with_any_name(place: Workplace) -> None:
    for name in ("-", "--json", '"', *ODD):
        place.write(f"ctx/{name}", "x\n")
        place.write(f"ctx/src/{name}", "x\n")
    tracked(place)
    place.write("ctx/.dockerignore", "*\n!src\n")
    ran = place.run("bash", "left_out.sh", "./ctx")
    assert ran.code == 0, ran.err
    known = [".dockerignore", "main.py", "noise.log", "-", "--json", '"', *ODD]
    told = [f".dockerignore:1:*: {printable(name)}\n" for name in known]
    assert sorted(ran.out.splitlines(keepends=True)) == sorted(told)


@pytest.mark.parametrize(
    "command",
    [
        "sh upload.sh -ctx cat url",
        "sh fresh_url.sh -ctx cat url",
        "sh if_changed.sh -ctx --last cat url",
        "bash tracked_only.sh -ctx cat url",
        "bash unpack.sh -ctx -seen",
        "sh largest.sh -ctx 200000",
        "bash left_out.sh -ctx",
    ],
)
def test_a_name_that_looks_like_an_option_is_a_name(
    place: Workplace, bucket: Seaweed, command: str
) -> None:
    tracked(place)
    place.write("ctx/.dockerignore", "*.log\n.git\n")
    (place.path / "ctx").rename(place.path / "-ctx")
    bucket.put(OBJECT, b"untouched")
    ran = place.run(*command.split())
    assert ran.code == 0, ran.err
    if "url" in command:
        assert names(bucket.get(OBJECT)) == KEPT
    if "if_changed" in command:
        assert place.run(*command.split()).out == "nothing changed\n"
    assert ("big.bin" in ran.out) == ("largest" in command)
    assert ("noise.log" in ran.out) == ("left_out" in command)
    assert (place.path / "-seen/main.py").exists() == ("unpack" in command)


def test_no_process_has_the_url_among_its_arguments(place: Workplace) -> None:
    git(place, "init", "--quiet")
    stand_in = '#!/bin/sh\necho "$@" >>commands\ncat >/dev/null\necho "{}"\n'
    place.write("bin/e2b-upload", stand_in).chmod(0o755)
    env = {"PATH": f"{place.path}/bin:{place.env['PATH']}"}
    for script in ("upload.sh", "fresh_url.sh", "if_changed.sh ctx.sha256", "tracked_only.sh"):
        name, *more = script.split()
        ran = place.run("bash", name, "./ctx", *more, *PRESIGN, env=env)
        assert ran.code == 0, ran.err
        assert "Signature" not in ran.log
    commands = (place.path / "commands").read_text()
    assert commands.count("\n") == 6
    assert "Signature" not in commands
