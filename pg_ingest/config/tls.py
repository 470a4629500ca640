"""How a connection is encrypted, and whom it trusts."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from pg_ingest.config.paths import CertificatePath, LocalPath
from pg_ingest.config.problem import refuse
from pg_ingest.config.secret import Secret
from pg_ingest.config.strict import Strict

SYSTEM = "system"
"""libpq's word for the certificates that this machine trusts."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT_SCHEMA = {"type": "string", "pattern": "^[0-9A-Fa-f:]{64,95}$"}


class TlsMode(StrEnum):
    """libpq's `sslmode`."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"

    @property
    def insists(self) -> bool:
        """Whether a connection without TLS is out of the question."""
        return self in (TlsMode.REQUIRE, TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL)

    @property
    def verifies(self) -> bool:
        """Whether the server's certificate must be signed by somebody trusted."""
        return self in (TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL)


class TlsVersion(StrEnum):
    """The versions that PostgreSQL knows, by its names."""

    TLS_1_0 = "TLSv1"
    TLS_1_1 = "TLSv1.1"
    TLS_1_2 = "TLSv1.2"
    TLS_1_3 = "TLSv1.3"


def _fingerprints(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    found = tuple(str(each).replace(":", "").lower() for each in value)
    if not found or not all(_DIGEST.fullmatch(each) for each in found):
        raise refuse(
            "is no SHA-256 fingerprint",
            "write 64 hexadecimal digits, with or without colons, as"
            " `openssl x509 -noout -fingerprint -sha256 -in server.crt` prints them",
        )
    return found


Fingerprints = Annotated[
    tuple[str, ...],
    BeforeValidator(_fingerprints),
    WithJsonSchema(
        {"anyOf": [_FINGERPRINT_SCHEMA, {"type": "array", "items": _FINGERPRINT_SCHEMA}]}
    ),
]
"""SHA-256 fingerprints of certificates: 64 small hexadecimal digits each; the file may name one or several."""


class TlsConfig(Strict):
    """How the connection is encrypted and whom it trusts."""

    mode: TlsMode = Field(description="libpq's sslmode; verify-full is the safe one.")
    root_cert: CertificatePath | None = Field(
        default=None,
        description="File of trusted certificates, or `system` for those of the machine.",
    )
    client_cert: LocalPath | None = Field(default=None, description="Client certificate (PEM).")
    client_key: LocalPath | None = Field(
        default=None, description="Its private key: PEM or PKCS#8 DER, encrypted or not."
    )
    client_key_password: Secret | None = Field(
        default=None, description="Where the password of an encrypted key is kept."
    )
    min_version: TlsVersion = Field(
        default=TlsVersion.TLS_1_2, description="The oldest version of TLS that is spoken."
    )
    fingerprint: Fingerprints = Field(
        default=(),
        description="SHA-256 of the server's certificate; several while it is renewed.",
        json_schema_extra={"default": None},
    )
