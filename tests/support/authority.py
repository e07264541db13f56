"""A test certificate authority: valid, expired, not yet valid, wrong-host and self-signed certificates."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import trustme

HOSTS = ("localhost", "127.0.0.1", "::1")


class Authority:
    """Issues TLS server contexts; ``ca_file`` is the CA that the client must trust."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca = trustme.CA()
        self.ca_file = str(directory / "ca.pem")
        self._ca.cert_pem.write_to_path(self.ca_file)

    def good(self) -> ssl.SSLContext:
        return self._issued(self._ca.issue_cert(*HOSTS))

    def expired(self) -> ssl.SSLContext:
        return self._issued(self._ca.issue_cert(*HOSTS, not_before=_days(-20), not_after=_days(-10)))

    def not_yet_valid(self) -> ssl.SSLContext:
        return self._issued(self._ca.issue_cert(*HOSTS, not_before=_days(10), not_after=_days(20)))

    def wrong_host(self) -> ssl.SSLContext:
        return self._issued(self._ca.issue_cert("elsewhere.example"))

    def stranger(self) -> ssl.SSLContext:
        """Return a valid certificate from an authority that the client does not know."""
        return self._issued(trustme.CA().issue_cert(*HOSTS))

    def self_signed(self) -> ssl.SSLContext:
        own = trustme.CA()
        path = self._directory / "own.pem"
        path.write_bytes(own.private_key_pem.bytes() + own.cert_pem.bytes())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _issued(self, certificate: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context


def _days(days: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
