"""Make docs/at-work.svg: a real build of this repository, caught while it uploads.

Run as `python -m docs.picture` (`make picture`). The store is a socket on loopback that reads
slowly, so that there is something to see; all figures are those of that build.
"""

import socket
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

import e2b_upload
from e2b_upload.cli.progress import _Bar, _columns, _summary
from e2b_upload.cli.report import Report
from e2b_upload.events import Event, Finished
from e2b_upload.events import Progress as Moved

HERE = Path(__file__).parent
CONTEXT = HERE.parent / ".venv"
BYTES_A_SECOND = 40e6
CAUGHT_AT_PERCENT = 62


def serve(listener: socket.socket) -> None:
    """Take one PUT at BYTES_A_SECOND."""
    connection, _ = listener.accept()
    with connection:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while left:
            left -= len(connection.recv(min(left, 1 << 18)))
            time.sleep((1 << 18) / BYTES_A_SECOND)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def main() -> None:
    """Build, and write the picture."""
    console = Console(record=True, width=88, force_terminal=True)
    console.print(Text('$ e2b-upload build ./ctx --url "$PRESIGNED_PUT_URL"', "bold"))
    bar = Progress(*_columns(), console=Console(width=88, force_terminal=True, quiet=True))
    show = _Bar(Report(), bar)
    shown = False

    def watch(event: Event) -> None:
        nonlocal shown
        show(event)
        if isinstance(event, Finished) and event.step != "put":
            console.print(_summary(event), markup=False, highlight=False)
        if isinstance(event, Moved) and event.step == "put" and not shown:
            task = bar.tasks[0]
            if task.percentage > CAUGHT_AT_PERCENT:
                shown = True
                console.print(bar.get_renderable())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        e2b_upload.build(
            CONTEXT, f"http://127.0.0.1:{port}/ctx.tar.gz", count_first=True, on_event=watch
        )
    (HERE / "at-work.svg").write_text(console.export_svg(title="e2b-upload"))


if __name__ == "__main__":
    main()
