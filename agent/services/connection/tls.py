"""Describes certificate errors, with a remedy for each."""

from __future__ import annotations

import os
import ssl

# The codes X509_V_ERR_... of OpenSSL (openssl-verification-options(1)). The trusted authorities are those of the
# system, or those in the file that SSL_CERT_FILE names.
NOT_YET_VALID, EXPIRED, SELF_SIGNED, PRIVATE_ROOT, HOST_MISMATCH, IP_MISMATCH = 9, 10, 18, 19, 62, 64
_NO_ISSUER = (20, 21)

_OWN_AUTHORITY = (
    "put the certificate of its authority into /usr/local/share/ca-certificates and run sudo update-ca-certificates, or"
    " name the file in SSL_CERT_FILE"
)
_REASONS = {
    NOT_YET_VALID: "its certificate is not yet valid: check the clock of this machine",
    EXPIRED: "its certificate has expired: the service must renew it, or the clock of this machine is wrong",
    SELF_SIGNED: f"its certificate is self-signed, so the key is not sent: for a server of your own {_OWN_AUTHORITY}",
    PRIVATE_ROOT: (
        "its certificate comes from a private, self-signed authority, so the key is not sent: for an authority that you"
        f" trust {_OWN_AUTHORITY}"
    ),
    HOST_MISMATCH: "its certificate is for another host, so the key is not sent: check url",
    IP_MISMATCH: "its certificate is for another host, so the key is not sent: check url",
    **dict.fromkeys(
        _NO_ISSUER,
        "its certificate is from an unknown authority, so the key is not sent: install the authorities of the system"
        " (sudo apt install ca-certificates); a login page or a proxy in between may also present such a certificate",
    ),
}


def describe_certificate_error(error: ssl.SSLCertVerificationError) -> str:
    """Return why a certificate is not trusted, and the remedy, as a clause after "cannot be trusted"."""
    if error.verify_code in (SELF_SIGNED, PRIVATE_ROOT, *_NO_ISSUER) and (problem := ca_file_problem()):
        return problem
    return _REASONS.get(error.verify_code, "its certificate is invalid, so the key is not sent")


def is_certificate_error_permanent(error: ssl.SSLCertVerificationError) -> bool:
    """Return whether a retry is useless.

    A certificate that is not yet valid is temporary: the clock may be wrong after the start until it is set.
    """
    return error.verify_code != NOT_YET_VALID


def ca_file_problem() -> str | None:
    """Return why the file in ``SSL_CERT_FILE`` cannot be used, and the remedy.

    The check is necessary because OpenSSL ignores an unusable file without an error. Returns ``None`` if the file can
    be used or the variable is not set.
    """
    path = os.environ.get("SSL_CERT_FILE")
    if not path:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return f"the file that SSL_CERT_FILE names ({path}) contains no certificate in PEM form: correct or unset it"
    except OSError as error:
        return f"the file that SSL_CERT_FILE names ({path}) cannot be read ({error.strerror}): correct or unset it"
    return None
