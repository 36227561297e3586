"""nginx in front of SeaweedFS rejects what AWS rejects and SeaweedFS accepts."""

from __future__ import annotations

import shutil
import socket
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.servers import LOOPBACK, MissingError, free_ports, listening, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL_BYTES: Final = 64 * 1024

# One process, which dies with the tests: the workers of a killed master would live on. All paths
# are relative to its folder, so it needs no privileges.
_CONFIG: Final = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type application/xml;
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_set_header Host $http_host;
    client_max_body_size 0;
    server {{
        listen {loopback}:{at.port};
        if ($http_transfer_encoding) {{
            return 501 "<Error><Code>NotImplemented</Code></Error>";
        }}
        if ($http_authorization) {{
            return 400 "<Error><Code>InvalidArgument</Code></Error>";
        }}
        location / {{ proxy_pass http://{loopback}:{store}; }}
    }}
    server {{
        listen {loopback}:{at.small};
        client_max_body_size {small_bytes};
        location / {{ proxy_pass http://{loopback}:{store}; }}
    }}
    server {{
        listen {loopback}:{at.orphan};
        location / {{ proxy_pass http://{loopback}:{nobody}; }}
    }}
}}
"""


class Nginx(NamedTuple):
    """The ports of a running nginx.

    Attributes:
        port: as strict as AWS.
        small: accepts objects of up to `SMALL_BYTES`.
        orphan: has no store behind it.
    """

    port: int
    small: int
    orphan: int


@contextmanager
def nginx(store: int) -> Iterator[Nginx]:
    """Run nginx in front of the store on this port.

    Raises:
        MissingError: nginx is not installed.
    """
    # Debian installs it where only root looks for programs.
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise MissingError("there is no nginx")
    with TemporaryDirectory(prefix="nginx-") as folder, socket.socket() as taken:
        taken.bind((LOOPBACK, 0))  # it does not listen, so nobody can connect
        at = Nginx(*free_ports(3))
        nobody = taken.getsockname()[1]
        text = _CONFIG.format(
            loopback=LOOPBACK, store=store, nobody=nobody, at=at, small_bytes=SMALL_BYTES
        )
        Path(folder, "nginx.conf").write_text(text)
        command = [program, "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
        with serving(command, Path(folder), partial(listening, *at)):
            yield at
