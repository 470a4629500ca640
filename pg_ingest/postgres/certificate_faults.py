"""Why a server's certificate was not taken: libpq says only "certificate verify failed".

So after such a failure the handshake is made once more with Python's own OpenSSL, which tells the reason. That
second look explains and decides nothing: when it finds nothing wrong, libpq's words stand.

A client asks for TLS by a packet of eight bytes, to which the server answers `S`
(https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL).
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
from typing import Any

from pg_ingest.config.model import SourceConfig
from pg_ingest.config.tls import TlsMode
from pg_ingest.errors import LoginFailed
from pg_ingest.postgres.tls import tls_mode

_SSL_REQUEST = struct.pack("!II", 8, 80877103)

_EXPIRED, _NOT_YET = 10, 9
_UNKNOWN = (2, 18, 19, 20, 21, 27)
"""X509_V_ERR_…: see `man verify` of OpenSSL."""


def certificate_fault(config: SourceConfig, parameters: dict[str, Any]) -> LoginFailed | None:
    """What is wrong with the certificate that the server shows, None when that cannot be told."""
    mode, roots = tls_mode(config), parameters.get("sslrootcert")
    if not mode.verifies or roots is None:
        return None
    address = str(parameters.get("hostaddr", config.host)), config.port
    if "port" in parameters:
        address = address[0], int(parameters["port"])
    try:
        context = ssl.create_default_context(cafile=roots)
        # as lenient as libpq: from Python 3.13 on the default is stricter about old certificates
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", ssl.VerifyFlags(0))
        context.check_hostname = mode is TlsMode.VERIFY_FULL
        _handshake(context, address, config)
    except ssl.SSLCertVerificationError as error:
        shown = _shown(address, config)
        return _told(error, config, f"{error.verify_message}{shown}")
    except (OSError, ValueError):
        return None
    return None


def _handshake(
    context: ssl.SSLContext, address: tuple[str, int], config: SourceConfig
) -> bytes | None:
    """Begin TLS as libpq does, and end there; the server's certificate in DER."""
    with socket.create_connection(address, timeout=config.limits.connect_timeout) as plain:
        plain.sendall(_SSL_REQUEST)
        if plain.recv(1) != b"S":
            return None
        with context.wrap_socket(plain, server_hostname=config.host) as wrapped:
            return wrapped.getpeercert(binary_form=True)


def _shown(address: tuple[str, int], config: SourceConfig) -> str:
    """The fingerprint of what the server shows, as a piece of the detail."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        content = _handshake(context, address, config)
    except (OSError, ValueError):
        return ""
    return f"; SHA-256 of what it shows: {hashlib.sha256(content).hexdigest()}" if content else ""


def _told(error: ssl.SSLCertVerificationError, config: SourceConfig, detail: str) -> LoginFailed:
    host, code = config.host, error.verify_code
    if code in (_EXPIRED, _NOT_YET):
        what = "has expired" if code == _EXPIRED else "is not valid yet"
        return LoginFailed(
            f"the certificate of {host}, or one of those that signed it, {what}",
            detail=detail,
            hint="renew it at the server (and look at the clock of this machine)",
        )
    if code in _UNKNOWN:
        return LoginFailed(
            f"the certificate of {host} is signed by nobody whom `tls.root_cert` trusts",
            detail=detail,
            hint="put the certificate of its authority into root_cert, with those in between if the server"
            " does not send its chain (RDS: the bundle of all regions), or pin what it shows:"
            " `tls: {mode: require, fingerprint: …}`",
        )
    return LoginFailed(
        f"the certificate of {host} is not accepted",
        detail=detail,
        hint="check `tls` of this source, and that `host` is a name in the server's certificate",
    )
