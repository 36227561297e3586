"""The CA certificates to trust: a bundle that is named, else the system's store, else certifi."""

from __future__ import annotations

import os
import ssl
import sys

from requests.utils import DEFAULT_CA_BUNDLE_PATH  # certifi's
from urllib3.util.ssl_ import create_urllib3_context

from e2b_upload.errors import UsageError, printable
from e2b_upload.transfer.redaction import redact

BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_FILE, _DIRECTORY = "SSL_CERT_FILE", "SSL_CERT_DIR"
_VERIFIES_ITSELF = ("darwin", "win32")


def make_context() -> ssl.SSLContext:
    """Return a context that verifies certificates by exactly one source.

    The first of these that exists:

    1. the file or directory that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names,
    2. the system's trust store, as OpenSSL finds it with SSL_CERT_FILE and SSL_CERT_DIR,
    3. certifi, if the system has no store, as in a container without ca-certificates.

    Raises:
        UsageError: one of the variables names something without certificates.
    """
    for name in BUNDLES:
        if os.environ.get(name):
            return _load(create_urllib3_context(), name)
    import truststore  # noqa: PLC0415  (5 ms that a bundle does not need)

    system = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    system.hostname_checks_common_name = False
    if sys.platform in _VERIFIES_ITSELF:
        for name in filter(os.environ.get, (_FILE, _DIRECTORY)):
            _load(system, name)
        return system
    # Elsewhere truststore loads files, each time it begins TLS, into an ordinary context: take it
    # out, for it tells what it holds, and loading takes some 50 ms.
    unused = system.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    context = unused.context
    count = context.cert_store_stats()["x509"]
    file = os.environ.get(_FILE)
    if file and not (count and os.path.isfile(file)):
        _load(context, _FILE)  # OpenSSL ignores a file that is missing or empty
    if os.environ.get(_DIRECTORY):
        _load(context, _DIRECTORY)  # Python takes no list of directories, OpenSSL does
    elif not count and not file and not _has_hashed_certificates():
        context = create_urllib3_context()
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


def _load(context: ssl.SSLContext, name: str) -> ssl.SSLContext:
    """Load what a variable names: a file, or directories of files that are named by hashes."""
    path = os.environ[name]
    try:
        if any(map(os.path.isdir, path.split(os.pathsep))):
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        why = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(
            printable(f"cannot load the CA certificates in {redact(path)} ({name}): {why}"),
            hint=f"Set {name} to CA certificates in PEM format, or unset it.",
        ) from None
    return context


def _has_hashed_certificates() -> bool:
    """Whether OpenSSL's own directory, from which it loads nothing in advance, holds any."""
    directory = ssl.get_default_verify_paths().capath or ""
    return bool(directory) and any(name.endswith(".0") for name in os.listdir(directory))
