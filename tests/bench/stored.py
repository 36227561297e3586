"""Build a context of 4 GiB, upload it to a real S3 server, and report time and memory.

Run as `python -m tests.bench.stored [--mib N]` (`make stored`). Half of the context is random. It
exits with 1 if the peak is over 64 MiB or if the stored bytes are not the archive.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.bench.commands import ours
from tests.bench.contexts import MIB, big
from tests.bench.processes import run
from tests.bench.targets import TARGETS
from tests.support.seaweed import seaweed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, default=4096, help="size of the context (4096)")
    mib, limit = parser.parse_args().mib, TARGETS["memory/sparse"].limit
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as scratch, seaweed() as s3:
        context = Path(scratch, "ctx")
        for part in range(0, mib, 64):
            folder = context / str(part)
            folder.mkdir(parents=True)
            big(folder, min(64, mib - part) * MIB)
        done = run(ours(str(context)), E2B_UPLOAD_URL=s3.presign_put("context"))
        archive = json.loads(done.output)["archive"]
        same = s3.digest("context") == archive["sha256"]
    print(
        f"{mib} MiB of content, {archive['bytes'] / MIB:.0f} MiB of archive, "
        f"{done.wall:.1f} s: peak {done.peak_mib:.1f} MiB (limit {limit:g}); "
        f"the stored object {'is' if same else 'IS NOT'} the archive"
    )
    return 0 if same and done.peak_mib <= limit else 1


if __name__ == "__main__":
    sys.exit(main())
