"""Who vouches for a host that is asked over HTTPS: the same as over wss, where an administrator names them."""

from __future__ import annotations

import os


def authorities() -> str | bool:
    """The file or directory that the environment names, as ``requests`` takes it; ``True``: those it comes with. It
    looks there itself only where it may use the environment's proxies and passwords as well, which it may not."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
