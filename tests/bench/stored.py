"""Build a 4 GiB context, PUT it to a real S3 server, and print what memory that took.

Run as `python -m tests.bench.stored [--mib N]`. The context is half random and half text, so that
both kinds of bytes pass through; it and the store's data lie in a scratch folder on disk, which is
removed. Exits with 1 where the peak is over 64 MiB or the stored bytes are not the archive.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.bench import timing
from tests.support.seaweed import seaweed

LIMIT_MIB = 64
PIECE = 1 << 20


def make_context(folder: Path, mib: int) -> None:
    """Write files of 64 MiB: random bytes and source code in turn."""
    text = (Path(__file__).read_bytes() * 4096)[:PIECE]
    for number in range(0, mib, 64):
        with open(folder / f"{number:05}.bin", "wb") as file:
            file.writelines(
                os.urandom(PIECE) if piece % 2 else text for piece in range(min(64, mib - number))
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=4096, help="size of the context (4096)")
    mib = parser.parse_args().mib
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as scratch, seaweed() as s3:
        context = Path(scratch, "ctx")
        context.mkdir()
        make_context(context, mib)
        done = timing.run(
            [sys.executable, "-m", "e2b_upload", "build", str(context), "--json"],
            E2B_UPLOAD_URL=s3.presign_put("context"),
        )
        archive = json.loads(done.printed)["archive"]
        stored = s3.digest("context")
    same = stored == archive["sha256"]
    print(
        f"{mib} MiB of content, {archive['bytes'] / PIECE:.0f} MiB of archive, "
        f"{done.wall:.1f} s: peak {done.peak_mib:.1f} MiB (limit {LIMIT_MIB}); "
        f"stored sha256 {'is' if same else 'IS NOT'} the archive's"
    )
    return 0 if same and done.peak_mib <= LIMIT_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
