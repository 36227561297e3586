"""One build: run it, and judge its result and what it leaves behind."""

import asyncio
import hashlib
import os
import random
import re
import subprocess
import tarfile
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import e2b_upload
from e2b_upload.events import Event, Progress, Retrying
from tests.cli.harness import AT_ANY_MOMENT, LIMITED, PATIENCE, Ended, Place, until
from tests.soak.faults import FAULTS, STALL_TIMEOUT, Site
from tests.soak.plans import MAX_TIME, RAISED, STOPPED, Plan
from tests.soak.stores import DIALECTS, Store
from tests.support.rawserver import early, raw_server
from tests.transfer.common import leaked

_PROBABLY: Final = "probably this archive"
# What a failure must not say while the store holds an object.
_DENIED: Final = re.compile(
    r"(not|never|nothing)( (is|was|were|been|has been))? (stored|uploaded|there)"
    r"|missing|does not exist|no such|no object",
    re.IGNORECASE,
)


class CallbackError(Exception):
    """What the callback raises."""


@dataclass
class Result:
    """The result of a build; `wrong` says what must not be so."""

    code: int
    attempts: int | None = None
    verified: str | None = None
    present: bool = False
    sha256: str | None = None
    words: str = ""
    message: str = ""
    wrong: list[str] = field(default_factory=list)
    connections: int = 0


class Builds:
    """Runs builds, one in each thread that calls it.

    Args:
        contexts: the directory of `make_contexts`.
        stores: by their names.
        seed: of all plans.
    """

    def __init__(self, contexts: Path, stores: dict[str, Store], seed: int) -> None:
        self.contexts = contexts
        self.stores = stores
        self.seed = seed
        self._lock = threading.Lock()
        self._archives: dict[tuple[str, str], str] = {}

    def run(self, plan: Plan) -> Result:
        with tempfile.TemporaryDirectory(prefix=f"soak-{plan.number}-") as folder:
            try:
                return _Build(plan, Place.furnish(Path(folder)), self).run()
            except Exception:  # noqa: BLE001  (a process that hangs, a server that fails)
                return Result(1, wrong=[traceback.format_exc()])

    def is_same(self, plan: Plan, sha256: str) -> bool:
        """Return True if every archive of a context has had these bytes."""
        with self._lock:
            return self._archives.setdefault((plan.context, plan.compression), sha256) == sha256


class _Build:
    def __init__(self, plan: Plan, place: Place, builds: Builds) -> None:
        self._plan = plan
        self._place = place
        self._builds = builds
        self._store = builds.stores[plan.store]
        self._key = f"soak/{builds.seed}/{plan.number}"
        self._kept = place.path / "kept"
        self._reached = threading.Event()
        self._site = Site(
            *(self._store, DIALECTS[plan.dialect]),
            silent=plan.expect == "silence",
            reached=self._reached.set,
        )
        self._headers = dict(self._site.dialect.headers)
        if plan.condition == "header":
            self._headers["If-None-Match"] = "*"
        self._context = builds.contexts / plan.context
        self._events: list[str] = []
        if plan.trouble == "file changes":
            self._context = place.path / "ctx"
            chance = random.Random(plan.number)
            for name in "abc":
                place.write(f"ctx/{name}", chance.randbytes(5 << 20))

    def run(self) -> Result:
        plan, site = self._plan, self._site
        faults = [(FAULTS[name], where) for name, where in (*plan.faults, ("none", 0.0))]
        if plan.script:
            faults = [plan.script]
        scripts = [script for fault, where in faults for script in fault.scripts(site, where)]
        if plan.expect == "417":
            refuse = early(417)
            scripts.insert(0, partial(site.count, lambda *args: refuse(args[2]), 0.0))
        with raw_server(*scripts) as server:
            url = self._store.presign(server.url, self._key, site.dialect)
            site.secret = re.split("[=&]", url)[-1]
            result = self._process(url) if plan.client == "process" else self._library(url)
        result.connections = site.connections
        result.wrong += self._judge(result)
        return result

    def _judge(self, result: Result) -> Iterator[str]:
        plan = self._plan
        if result.code not in plan.codes:
            yield f"exit code {result.code}, not one of {sorted(plan.codes)}: {result.words}"
        elif plan.trouble == "none" and result.connections != plan.outcome.connections:
            yield f"{result.connections} requests, not {plan.outcome.connections}"
        elif result.code == 0 and result.attempts != plan.outcome.attempts:
            yield f"it reports {result.attempts} attempts, not {plan.outcome.attempts}"
        stored = self._store.sha256(self._key)
        judge = self._judge_success if result.code == 0 else self._judge_failure
        yield from judge(result, stored)
        hidden = [name for name in os.listdir(self._place.path) if name.startswith(".")]
        if left := self._place.left_behind() + hidden:
            yield f"it left {left} behind"
        if plan.keep:
            yield from self._judge_kept(result)
        if leaked(self._site.secret, "\n".join([result.words, *self._events])):
            yield f"the secret of the URL is shown: {result.words}"

    def _judge_success(self, result: Result, stored: str | None) -> Iterator[str]:
        plan = self._plan
        if result.sha256 is None or stored != result.sha256:
            yield f"success, but {stored} is stored, and the archive is {result.sha256}"
        if result.present is not plan.outcome.present:
            yield f"present is {result.present}, not {plan.outcome.present}"
        verified = None if result.present else self._site.dialect.verified
        if result.verified != verified:
            yield f"verified by {result.verified}, not by {verified}"
        changed = plan.trouble == "file changes"
        if not changed and not self._builds.is_same(plan, result.sha256 or ""):
            yield "the archive differs from an earlier one of the same files"

    def _judge_failure(self, result: Result, stored: str | None) -> Iterator[str]:
        if stored and (denied := _DENIED.search(result.message)):
            yield f"an object is stored, and the failure says '{denied[0]}': {result.message}"
        probably = self._plan.outcome.probably
        if result.code == 6 and probably is not None and (_PROBABLY in result.message) != probably:
            yield f"'{_PROBABLY}' should be {probably}: {result.message}"

    def _judge_kept(self, result: Result) -> Iterator[str]:
        """Check the file of `-o`: it exists once it is complete, whatever the upload did."""
        if not self._kept.exists():
            if result.code in {0, 5, 6}:
                yield "the archive was not kept"
            return
        with tarfile.open(self._kept) as tar:
            if not tar.getnames():
                yield "the archive that was kept is empty"
        sha256 = hashlib.sha256(self._kept.read_bytes()).hexdigest()
        if result.sha256 and sha256 != result.sha256:
            yield "the file that was kept is not the archive"

    # Through the library

    def _library(self, url: str) -> Result:
        plan = self._plan
        options: dict[str, Any] = {
            "headers": self._headers,
            "retries": plan.retries,
            "if_absent": plan.condition == "if_absent",
            "stall_timeout": STALL_TIMEOUT,
            "compression": plan.compression,
            "threads": plan.threads,
            "spool_dir": self._place.path / "spool",
            "on_event": self._on_event,
        }
        if plan.keep:
            options["output"] = self._kept
        if plan.trouble == "time is up":
            options["max_time"] = MAX_TIME
        elif plan.trouble == "spool folder missing":
            options["spool_dir"] = self._place.path / "no"
        elif plan.trouble == "output full":
            options["output"] = "/dev/full"
        try:
            if plan.client == "async":
                receipt = asyncio.run(self._asynchronous(url, options))
            else:
                receipt = e2b_upload.build(self._context, url, **options)
        except e2b_upload.UploadError as error:
            words = [*traceback.format_exception(error), error.hint, error.code, error.request_id]
            message = f"{error.message}\n{error.hint}"
            return Result(error.exit_code, words="\n".join(filter(None, words)), message=message)
        except CallbackError:
            return Result(RAISED)
        except asyncio.CancelledError:
            return Result(STOPPED)
        except Exception:  # noqa: BLE001  (any other error is a violation)
            return Result(1, words=traceback.format_exc())
        return Result(
            *(0, receipt.attempts, receipt.verified, receipt.status == "present"),
            receipt.archive.sha256,
            words=repr(receipt),
        )

    async def _asynchronous(self, url: str, options: dict[str, Any]) -> e2b_upload.Receipt:
        task = asyncio.create_task(e2b_upload.build_async(self._context, url, **options))
        if self._plan.trouble == "stopped":
            await asyncio.to_thread(self._reached.wait, PATIENCE)
            task.cancel()
        return await task

    def _on_event(self, event: Event) -> None:
        self._events.append(repr(event))
        plan = self._plan
        match event:
            case Progress(step="pack", done=done) if done and plan.trouble == "file changes":
                for name in "abc":
                    with (self._place.path / "ctx" / name).open("ab") as file:
                        file.write(b"x")
            case Retrying() if plan.moment == "waiting":
                self._reached.set()
        if plan.trouble == "callback raises" and len(self._events) > 1 + plan.at * 8:
            raise CallbackError

    # As a process

    def _process(self, url: str) -> Result:
        plan = self._plan
        args = ["build", str(self._context), "--url", "-", "--json", "--progress", "none"]
        args += ["--retries", str(plan.retries), "--stall-timeout", str(STALL_TIMEOUT)]
        args += ["--compression", plan.compression, "--threads", str(plan.threads)]
        args += ["--spool-dir", "spool"]
        if plan.condition == "if_absent":
            args += ["--if-absent"]
        for name, value in self._headers.items():
            args += ["-H", f"{name}: {value}"]
        if plan.keep:
            args += ["-o", str(self._kept)]
        if plan.trouble == "time is up":
            args += ["--max-time", str(MAX_TIME)]
        if plan.trouble == "stopped":
            ended = self._stopped(url, args)
        else:
            sh = LIMITED if plan.trouble == "spool full" else ""
            ended = self._place.run(*args, sh=sh, stdin=url.encode())
        text = ended.out.decode(errors="replace")
        result = Result(ended.code, words=f"{text}{ended.err}")
        try:
            output = ended.json
        except (AssertionError, ValueError):
            result.wrong.append(f"standard output is not one object: {result.words}")
            return result
        if ended.code == 0:
            archive = output["archive"]
            result.attempts, result.verified = output["attempts"], output["verified"]
            result.sha256, result.present = archive["sha256"], output["status"] == "present"
        else:
            result.message = f"{output['error']['message']}\n{output['error']['hint']}"
            if output["error"]["exit_code"] != ended.code:
                result.wrong.append(f"it ended with {ended.code}, but reports {text}")
        return result

    def _stopped(self, url: str, args: Sequence[str]) -> Ended:
        """Send a signal at the planned moment."""
        plan, place = self._plan, self._place
        if plan.moment == "spooling":
            # A file that takes very long to pack, so that the signal comes first.
            args = [str(place.path / "ctx") if arg == str(self._context) else arg for arg in args]
            place.sparse("ctx/sparse")
        with (
            tempfile.TemporaryFile() as err,
            place.started(*args, env=AT_ANY_MOMENT, stderr=err.fileno()) as process,
        ):
            assert process.stdin
            process.stdin.write(url.encode())
            process.stdin.close()
            process.stdin = None
            until(partial(self._is_there, process, err))
            process.send_signal(plan.signal)
            out, _ = process.communicate(timeout=PATIENCE)
            err.seek(0)
            return Ended(process.returncode, out or b"", err.read().decode())

    def _is_there(self, process: subprocess.Popen[bytes], err: IO[bytes]) -> bool:
        if process.poll() is not None:
            return True  # too early; the exit code will be wrong
        if self._plan.moment == "sending":
            return self._reached.is_set()
        if self._plan.moment == "waiting":
            return b"retrying" in os.pread(err.fileno(), 1 << 16, 0)
        spool = str(self._place.path / "spool")
        return any(target.startswith(spool) for target in open_files(process.pid).values())


def open_files(pid: int | str) -> dict[int, str]:
    """Return the descriptors of a process and what they refer to."""
    found = {}
    with suppress(FileNotFoundError):  # it has ended
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found
