"""The PUT: a whole build against the SDK's own, and the sending alone against curl."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import trustme

from tests.bench import contexts, timing
from tests.bench.bench import Bench
from tests.bench.peers import SDK, curl, missing, ours, sdk_upload
from tests.bench.results import Figure, Item, Note, row
from tests.bench.sink import Sink, Took, sink

OURS = "e2b-upload"


def measure(bench: Bench) -> Iterator[Item]:
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


def _build(
    server: Sink, context: Path, *options: str, **environment: str
) -> tuple[timing.Run, Took]:
    """Build into the sink; what arrived has to be the archive."""
    command = ours(str(context), "--no-ignore", *options)
    run = timing.run(command, E2B_UPLOAD_URL=server.url, **environment)
    took = server.took()
    assert took.bytes == json.loads(run.printed)["archive"]["bytes"]
    return replace(run, archive=took.bytes), took


def _whole(bench: Bench) -> Iterator[Item]:
    """Pack and PUT, all of the process."""
    context = bench.context("many")
    with sink() as server:

        def theirs() -> timing.Run:
            run = timing.run(sdk_upload(str(context), server.url))
            return replace(run, archive=server.took().bytes)

        def mine() -> timing.Run:
            return _build(server, context)[0]

        runs, own = timing.in_turn(theirs, mine, pairs=bench.size.pairs, slow=bench.size.slow)
    yield row("upload", "many", SDK.name, runs, own)
    yield row("upload", "many", OURS, own, own)
    yield Figure("upload/many", timing.ratio(runs, own))


def _sending(
    bench: Bench, scheme: str, context: Path, certificate: Path | None, authority: Path
) -> Iterator[Item]:
    """Time the PUT alone, as each program tells it, of bytes that do not compress."""
    ciphers: set[str] = set()
    with sink(certificate) as server:

        def theirs() -> timing.Run:
            run = timing.run(curl(str(context / "noise.bin"), server.url, str(authority)))
            took = server.took()
            ciphers.add(took.cipher)
            return replace(run, wall=float(run.printed), archive=took.bytes)

        def mine() -> timing.Run:
            plain, bundle = ("--compression", "none"), str(authority)
            run, took = _build(server, context, *plain, REQUESTS_CA_BUNDLE=bundle)
            ciphers.add(took.cipher)
            return replace(run, wall=json.loads(run.printed)["seconds"]["put"])

        runs, own = timing.in_turn(theirs, mine, pairs=bench.size.shorts)
    yield row("upload", f"PUT, {scheme}", "curl -T", runs, own, cpu=False)
    yield row("upload", f"PUT, {scheme}", OURS, own, own, cpu=False)
    mb_a_second = [
        f"{name} {statistics.median(run.archive / run.wall for run in sent) / 1e6:,.0f} MB/s"
        for name, sent in ((OURS, own), ("curl", runs))
    ]
    yield Note(" ".join([f"PUT, {scheme}:", *mb_a_second, *ciphers]).rstrip())
    # The archive is the file and a tar's few blocks: bytes count for the pair, not the time alone.
    yield Figure(f"upload/{scheme}", timing.ratio(runs, own) * own[-1].archive / runs[-1].archive)
