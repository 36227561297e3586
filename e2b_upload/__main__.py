"""``python -m e2b_upload``, and what the console script calls."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_STOPPED = (
    '{{"status": "failed", "error": {{"kind": "interrupted", "message": "stopped by {name}", '
    '"hint": "", "exit_code": {code}, "http_status": null, "code": null, "request_id": null}}}}\n'
)


def main() -> NoReturn:
    """Run the command line on this process's arguments and streams, and exit."""
    # Importing it takes a tenth of a second, in which a signal can come, too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    from e2b_upload.cli import main as command_line  # noqa: PLC0415  (what the above is for)

    command_line.main()


def _end(signum: int, frame: FrameType | None) -> None:
    """End at once: nothing is begun yet."""
    del frame
    code, name = 128 + signum, signal.Signals(signum).name
    try:
        if "--json" in sys.argv:
            os.write(1, _STOPPED.format(name=name, code=code).encode())
        os.write(2, f"error: stopped by {name}\n".encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
