"""Creates the TLS context of every client connection."""

from __future__ import annotations

import ssl


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a context that checks the certificate and the host name.

    Args:
        ca_file: File with the certificate authorities to trust instead of the system's. Without it, the variables
            ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, which OpenSSL reads, can replace the system's authorities.

    Raises:
        OSError: ``ca_file`` cannot be read.
    """
    # Not ssl.create_default_context(), which writes the session keys to the file that SSLKEYLOGFILE names.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_file)
    return context
