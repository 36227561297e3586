"""The sections of the benchmark. Each yields rows for the tables and figures for the targets."""

import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

import trustme

from tests.bench import contexts
from tests.bench.bench import CONTEXTS, GIB, Bench
from tests.bench.commands import (
    BARE_TYPER,
    COLLECTS,
    PACKERS,
    SDK,
    Packer,
    curl,
    missing,
    ours,
    ours_packing,
    sdk_build,
    sdk_upload,
)
from tests.bench.processes import FEWEST_PAIRS, Run, in_turn, ratio, run
from tests.bench.report import Figure, Item, Note, Point, row
from tests.bench.sink import Sink, Upload, sink
from tests.bench.targets import TARGETS
from tests.support.e2b import standin
from tests.support.seaweed import seaweed

OURS = "e2b-upload"
DEFAULT, SMALL = ours_packing("default"), ours_packing("small")
# Many patterns, as ignore files have them, which match next to nothing in the contexts, so that
# the same files are collected with and without them.
PATTERNS = Path(__file__).with_name("patterns.dockerignore")
KEPT = 1000  # files beside the excluded ones
SPARSE_FROM = 4 * GIB  # larger files would be read from the disk, not from memory


def pack_once(packer: Packer, context: Path) -> Run:
    """Pack once and note the size of the archive, which is removed if it has a name."""
    archive = context.with_name("archive")
    done = run(packer.command(str(context), str(archive)))
    if done.output:
        return done._replace(archive=json.loads(done.output)["archive"]["bytes"])
    size = archive.stat().st_size
    os.unlink(archive)  # the next packer must not spend time on it
    return done._replace(archive=size)


def pack(bench: Bench) -> Iterator[Item]:
    """Compare packers on the same contexts."""
    for packer in PACKERS:
        if packer.missing:
            yield Note(f"{packer.name} is not measured, missing: {packer.missing}")
    for name in CONTEXTS:
        left_out = [each.name for each in PACKERS if f"{name}/{each.key}" not in bench.size.ways]
        if left_out:
            yield Note(f"{name}: left out at this size: {', '.join(left_out)}")
        yield from _compare(bench, name)


def _compare(bench: Bench, name: str) -> Iterator[Item]:
    context = bench.context(name)
    own: list[Run] = []
    for packer in PACKERS:
        if packer.missing or f"{name}/{packer.key}" not in bench.size.ways:
            continue
        small = packer is SDK and f"small/{name}/wall" in TARGETS
        packers = (packer, DEFAULT, *([SMALL] if small else []))
        theirs, mine, *smaller = in_turn(
            *(partial(pack_once, each, context) for each in packers),
            pairs=bench.size.pairs,
            slow=bench.size.slow,
        )
        own += mine
        yield row("pack", name, packer.name, theirs, mine)
        key = f"pack/{name}/{packer.key}"
        if key in TARGETS:
            yield Figure(key, ratio(theirs, mine))
        for smallest in smaller:
            yield row("pack", name, SMALL.name, smallest, mine)
            yield Figure(f"small/{name}/wall", ratio(theirs, smallest))
            yield Figure(f"small/{name}/bytes", smallest[-1].archive / theirs[-1].archive)
    if own:
        yield row("pack", name, DEFAULT.name, own, own)
        held = json.loads(own[-1].output)["archive"]
        yield Note(
            f"{name}: {held['files']:,} files of {held['content_bytes'] / 1e6:,.0f} MB in"
            f" {held['directories']:,} folders, {held['hardlinks']:,} hard links"
        )


def levels(bench: Bench) -> Iterator[Item]:
    """Measure what each level costs, and what it saves on a link."""
    packers = [ours_packing(level) for level in ("fast", "default", "small", "none")]
    for name in ("many", "mixed"):
        context = bench.context(name)
        runs = in_turn(*(partial(pack_once, each, context) for each in packers), pairs=FEWEST_PAIRS)
        for packer, done in zip(packers, runs, strict=True):
            yield row("levels", name, packer.key, done, runs[1])


def upload(bench: Bench) -> Iterator[Item]:
    """Compare a whole build with the SDK's, and the PUT alone with curl's."""
    if SDK.missing:
        yield Note(f"the SDK's upload is not measured, missing: {SDK.missing}")
    else:
        yield from _whole(bench)
    if absent := missing("curl"):
        yield Note(f"curl -T is not measured, missing: {absent}")
        return
    certificate, authority = bench.scratch / "server.pem", bench.scratch / "authority.pem"
    trusted = trustme.CA()
    trusted.cert_pem.write_to_path(str(authority))
    trusted.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with bench.made(lambda folder: contexts.noise(folder / "noise.bin", bench.size.put)) as context:
        contexts.read_all(context)
        for scheme, key in (("http", None), ("https", certificate)):
            yield from _sending(bench, scheme, context, key, authority)


def _build(server: Sink, context: Path, *options: str, **environment: str) -> tuple[Run, Upload]:
    """Build into the sink, and check that the archive arrived."""
    command = ours(str(context), "--no-ignore", *options)
    done = run(command, E2B_UPLOAD_URL=server.url, **environment)
    arrived = server.upload()
    assert arrived.bytes == json.loads(done.output)["archive"]["bytes"]
    return done._replace(archive=arrived.bytes), arrived


def _whole(bench: Bench) -> Iterator[Item]:
    context = bench.context("many")
    with sink() as server:

        def theirs() -> Run:
            done = run(sdk_upload(str(context), server.url))
            return done._replace(archive=server.upload().bytes)

        def mine() -> Run:
            return _build(server, context)[0]

        runs, own = in_turn(theirs, mine, pairs=bench.size.pairs, slow=bench.size.slow)
    yield row("upload", "many", SDK.name, runs, own)
    yield row("upload", "many", OURS, own, own)
    yield Figure("upload/many", ratio(runs, own))


def _sending(
    bench: Bench, scheme: str, context: Path, certificate: Path | None, authority: Path
) -> Iterator[Item]:
    """Compare the PUT alone, as each program reports it, of bytes that do not compress."""
    ciphers: set[str] = set()
    with sink(certificate) as server:

        def theirs() -> Run:
            done = run(curl(str(context / "noise.bin"), server.url, str(authority)))
            arrived = server.upload()
            ciphers.add(arrived.cipher)
            return done._replace(wall=float(done.output), archive=arrived.bytes)

        def mine() -> Run:
            plain, bundle = ("--compression", "none"), str(authority)
            done, arrived = _build(server, context, *plain, REQUESTS_CA_BUNDLE=bundle)
            ciphers.add(arrived.cipher)
            return done._replace(wall=json.loads(done.output)["seconds"]["put"])

        runs, own = in_turn(theirs, mine, pairs=bench.size.shorts)
    yield row("upload", f"PUT, {scheme}", "curl -T", runs, own, cpu=False)
    yield row("upload", f"PUT, {scheme}", OURS, own, own, cpu=False)
    speeds = [
        f"{name} {statistics.median(each.archive / each.wall for each in sent) / 1e6:,.0f} MB/s"
        for name, sent in ((OURS, own), ("curl", runs))
    ]
    yield Note(" ".join([f"PUT, {scheme}:", *speeds, *ciphers]).rstrip())
    # The archive is a little larger than the file, so bytes per second are compared.
    yield Figure(f"upload/{scheme}", ratio(runs, own) * own[-1].archive / runs[-1].archive)


def memory(bench: Bench) -> Iterator[Item]:
    """Measure the peak of a build, which must not grow with its context."""
    files, size = bench.size.empty, bench.size.sparse
    for key, words, recipe in (
        ("files", f"{files:,} empty files", partial(contexts.empty, files=files)),
        ("sparse", f"one sparse file of {size >> 30} GiB", partial(contexts.sparse, size=size)),
        ("tiny", "one tiny file", partial(contexts.big, size=2)),
    ):
        with bench.made(recipe) as context:
            done = run(ours(str(context), "--dry-run"))
        yield row("memory", words, OURS, [done], [done])
        yield Figure(f"memory/{key}", done.peak_mib)


def collect(bench: Bench) -> Iterator[Item]:
    """Measure ignoring: excluded files cost nothing, and many patterns little more than none."""
    left_out, context = bench.size.excluded, f"{KEPT:,} files"

    def recipe(folder: Path) -> None:
        for name in ("with", "without"):
            (folder / name).mkdir()
            contexts.many(folder / name, KEPT)
            (folder / name / ".dockerignore").write_text("0000\n")
        contexts.empty(folder / "with", left_out, a_folder=left_out)

    with bench.made(recipe) as folder:
        commands = (ours(str(folder / name), "--dry-run") for name in ("with", "without"))
        heavy, light = in_turn(*(partial(run, each) for each in commands), pairs=bench.size.shorts)
    yield row("collect", context, f"and {left_out:,} excluded", heavy, light)
    yield row("collect", context, "alone", light, light)
    yield Figure("collect/excluded", ratio(heavy, light))

    collecting = [sys.executable, "-c", COLLECTS, str(bench.context("many"))]
    heavy, light = in_turn(
        *(partial(run, [*collecting, str(path)]) for path in (PATTERNS, os.devnull)),
        pairs=bench.size.pairs,
    )
    patterns = len(PATTERNS.read_text(encoding="utf-8").splitlines())
    found, total = int(heavy[-1].output), int(light[-1].output)
    yield row("collect", "many, collecting alone", f"{patterns} patterns", heavy, light)
    yield row("collect", "many, collecting alone", "no pattern", light, light)
    yield Figure("collect/patterns", ratio(heavy, light))
    yield Note(f"the {patterns} patterns exclude {total - found:,} of {total:,} entries")


def start(bench: Bench) -> Iterator[Item]:
    """Compare the start of the command line with that of its libraries alone."""
    python, program = [sys.executable, "-c"], [sys.executable, "-m", "e2b_upload"]
    bare = ("a bare Typer program, --help", [*python, BARE_TYPER, "--help"])
    imports = ("import typer, requests", [*python, "import typer, requests"])
    with bench.made(partial(contexts.big, size=4096)) as context:
        for key, words, own, (name, compared) in (
            ("help", "--help", [*program, "--help"], bare),
            ("build-help", "build --help", [*program, "build", "--help"], bare),
            ("build", "build of 4 KiB", ours(str(context), "--dry-run"), imports),
        ):
            mine, theirs = in_turn(
                partial(run, own), partial(run, compared), pairs=bench.size.starts
            )
            yield row("start", words, OURS, mine, theirs)
            yield row("start", words, name, theirs, theirs)
            yield Figure(f"start/{key}", ratio(mine, theirs))


def e2b(bench: Bench) -> Iterator[Item]:
    """Compare a build by E2B's SDK alone with one whose files we uploaded before.

    It uses a fake E2B API and a real S3 server on loopback. Each build is of a new template,
    so that there is something to upload.
    """
    if SDK.missing:
        yield Note(f"a build by the SDK is not measured, missing: {SDK.missing}")
        return
    context = str(bench.context("many"))
    names = (f"bench-{number}" for number in count())
    both_words = "e2b-upload, then the SDK"
    uploads: list[float] = []
    with seaweed() as s3, standin(s3) as api:
        own = {"E2B_API_KEY": api.key, "E2B_API_URL": api.url}

        def alone() -> Run:
            before = len(api.puts)
            done = run(sdk_build(context, next(names)), **own)
            assert len(api.puts) == before + 1
            return done._replace(archive=api.puts[-1].size)

        def both() -> Run:
            name, before = next(names), len(api.puts)
            options = ("--template", name, "--create", "--copy", ".:/app", "--secrets", "off")
            first = run(ours(context, *options), **own)
            second = run(sdk_build(context, name), **own)
            assert len(api.puts) == before + 1  # ours: the SDK found it
            uploads.append(first.wall)
            return Run(
                wall=first.wall + second.wall,
                cpu=first.cpu + second.cpu,
                peak_mib=max(first.peak_mib, second.peak_mib),
                archive=api.puts[-1].size,
            )

        runs, mine = in_turn(alone, both, pairs=bench.size.pairs, slow=bench.size.slow)
    yield row("e2b", "many", f"{SDK.name} alone", runs, mine)
    yield row("e2b", "many", both_words, mine, mine)
    yield Note(f"of {both_words}: e2b-upload took {min(uploads):.2f} s at its best")
    yield Figure("e2b/many", ratio(runs, mine))


def scale(bench: Bench) -> Iterator[Item]:
    """Measure what a build costs with more files, and with more bytes in one file."""
    for files in bench.size.files:
        yield _point(bench, "files", files, partial(contexts.empty, files=files))
    for size in bench.size.bytes:
        recipe = contexts.sparse if size >= SPARSE_FROM else contexts.big
        yield _point(bench, "bytes", size, partial(recipe, size=size))


def _point(
    bench: Bench,
    of: Literal["files", "bytes"],
    amount: int,
    recipe: Callable[[Path], None],
) -> Point:
    with bench.made(recipe) as context:
        [runs] = in_turn(partial(run, ours(str(context), "--dry-run")), pairs=FEWEST_PAIRS)
    wall, peak = statistics.median(each.wall for each in runs), max(each.peak_mib for each in runs)
    return Point(of, amount, of == "bytes" and amount >= SPARSE_FROM, wall, peak)


SECTIONS: dict[str, Callable[[Bench], Iterator[Item]]] = {
    each.__name__: each for each in (pack, upload, memory, collect, start, e2b, scale, levels)
}
LONG = {"scale", "levels"}
"""These run only if they are named."""
