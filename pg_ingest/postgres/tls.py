"""The configuration's `tls` in libpq's words.

Two of libpq's habits are not passed on. It *asks on the terminal* for the password of an encrypted key when it
was given none: a run would hang, so it always gets a text, which only an encrypted key makes use of. And
`system` means to it what its OpenSSL was compiled with: in psycopg's wheel that is a folder which exists
nowhere, so the file of trusted certificates is looked for here.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from pg_ingest.config.model import SourceConfig
from pg_ingest.config.password import RdsIam
from pg_ingest.config.tls import SYSTEM, TlsConfig, TlsMode
from pg_ingest.errors import ConfigError
from pg_ingest.postgres.client_key import key_for_libpq

NO_KEY_PASSWORD = "no password is configured"
"""What libpq gets instead of nothing; longer than nothing is all that matters."""

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL, Amazon Linux
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, the BSDs
)


def tls_mode(config: SourceConfig) -> TlsMode:
    """The mode that holds: the configured one, else `require`, else `prefer` for this very machine."""
    if config.tls is not None:
        return config.tls.mode
    if isinstance(config.password, RdsIam):
        return TlsMode.REQUIRE
    return TlsMode.PREFER if is_local(config.host) else TlsMode.REQUIRE


def is_local(host: str) -> bool:
    """Whether the way to `host` never leaves this machine (loopback or a socket's folder)."""
    return host in ("", "localhost", "::1") or host.startswith(("/", "@", "127."))


def tls_parameters(config: SourceConfig) -> dict[str, Any]:
    """libpq's parameters; raise ConfigError when a file or the key's password is missing."""
    mode = tls_mode(config)
    tls = config.tls or TlsConfig(mode=mode)
    chosen = {"sslmode": mode.value, "ssl_min_protocol_version": tls.min_version.value}
    if (
        mode.insists
    ):  # else libpq would take Kerberos' encryption where it can, and TLS would not be asked for
        chosen["gssencmode"] = "disable"
    if tls.root_cert is not None:
        chosen["sslrootcert"] = str(root_certificates(tls.root_cert))
    if tls.client_cert is not None:
        if not tls.client_cert.is_file():  # libpq would go on without one
            raise ConfigError(
                f"the client certificate {tls.client_cert} is not there",
                hint="check `tls.client_cert` of this source",
            )
        chosen["sslcert"] = str(tls.client_cert)
    if tls.client_key is not None:
        secret = tls.client_key_password
        chosen["sslkey"] = str(key_for_libpq(tls.client_key))
        chosen["sslpassword"] = secret.reveal() if secret is not None else NO_KEY_PASSWORD
    return chosen


def root_certificates(configured: Path) -> Path:
    """The file of trusted certificates; for `system` the machine's, which $SSL_CERT_FILE may name.

    Raises ConfigError when there is none.
    """
    if str(configured) != SYSTEM:
        return configured
    known = ssl.get_default_verify_paths().cafile
    for path in (known, *_BUNDLES):
        if path and Path(path).is_file():
            return Path(path)
    raise ConfigError(
        "this machine has no file of trusted certificates",
        detail=f"looked for {', '.join(_BUNDLES)}",
        hint="install the package ca-certificates, or name a file: `tls: {root_cert: …}`",
    )
