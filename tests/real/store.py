"""Run a real S3 server to try things on, until ^C.

Run as `python -m tests.real.store` (`make store`). It writes a presigned URL for an upload and one
for a download of the same object to files in `build/store`, and removes everything at the end.
"""

from __future__ import annotations

import argparse
import signal
import threading
from functools import partial
from pathlib import Path

from tests.support.seaweed import seaweed

KEY = "ctx.tar.gz"
EXPIRES = 12 * 3600  # seconds; a tutorial may be interrupted for a while

say = partial(print, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.real.store", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/store"), help="for the URLs")
    folder: Path = parser.parse_args().folder
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    urls = folder / "put-url", folder / "get-url"
    with seaweed() as server:
        folder.mkdir(parents=True, exist_ok=True)
        urls[0].write_text(server.presign_put(KEY, EXPIRES) + "\n")
        urls[1].write_text(server.presign_get(KEY, EXPIRES) + "\n")
        say(f"SeaweedFS is ready at {server.endpoint}, until ^C.")
        say(f"Upload URL: {urls[0]}, download URL: {urls[1]}")
        ended.wait()
        for url in urls:
            url.unlink(missing_ok=True)
    say("SeaweedFS is stopped.")


if __name__ == "__main__":
    main()
