"""nginx before SeaweedFS: refuses what AWS refuses and SeaweedFS does not."""

from __future__ import annotations

import shutil
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from tests.support.servers import LOOPBACK, MissingError, free_ports, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL_BYTES: Final = 64 * 1024
"""What the one that takes small objects only takes."""

# One process, which dies with the tests: the workers of a master that is killed live on. All paths
# are in the folder that it runs in, so it needs no privileges.
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
    server {{
        listen {loopback}:{port};
        client_max_body_size 0;
        if ($http_transfer_encoding) {{
            return 501 "<Error><Code>NotImplemented</Code></Error>";
        }}
        if ($http_authorization) {{
            return 400 "<Error><Code>InvalidArgument</Code></Error>";
        }}
        location / {{ proxy_pass http://{loopback}:{store}; }}
    }}
    server {{
        listen {loopback}:{small};
        client_max_body_size {small_bytes};
        location / {{ proxy_pass http://{loopback}:{store}; }}
    }}
    server {{
        listen {loopback}:{orphan};
        client_max_body_size 0;
        location / {{ proxy_pass http://{loopback}:{nobody}; }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """Its three ports.

    Attributes:
        port: where it is as strict as AWS.
        small: where it takes small objects only.
        orphan: where there is no store behind it.
    """

    port: int
    small: int
    orphan: int


@contextmanager
def nginx(store: int) -> Iterator[Nginx]:
    """Run it before the store on that port.

    Raises:
        MissingError: there is no nginx here.
    """
    # Debian has it where only root looks for programs.
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise MissingError("there is no nginx")
    with TemporaryDirectory(prefix="nginx-") as folder, socket.socket() as taken:
        taken.bind((LOOPBACK, 0))  # and refuses to connect
        at = Nginx(*free_ports(3))
        text = _CONFIG.format(
            loopback=LOOPBACK,
            store=store,
            nobody=taken.getsockname()[1],
            port=at.port,
            small=at.small,
            orphan=at.orphan,
            small_bytes=SMALL_BYTES,
        )
        Path(folder, "nginx.conf").write_text(text)
        command = [program, "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
        with serving(command, Path(folder), [at.port, at.small, at.orphan], {}):
            yield at
