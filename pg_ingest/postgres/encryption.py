"""What a connection negotiated, as libpq itself says.

The server's own word (`pg_stat_ssl`) would not do: a pooler or proxy in between ends the encryption that we
have, and what the server sees is another one. psycopg offers no call for it, but hands out the address of
libpq's structure for exactly this (`PGconn.pgconn_ptr`); the functions of libpq and of the OpenSSL below it
are looked up in the library that the driver has loaded, so it is the same one whatever else is installed.

Sources: https://www.postgresql.org/docs/current/libpq-status.html (PQsslAttribute, PQsslStruct);
https://www.psycopg.org/psycopg3/docs/api/pq.html (pgconn_ptr);
https://docs.openssl.org/3.0/man3/SSL_get_peer_certificate/ (SSL_get1_peer_certificate, from 3.0 on).
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from psycopg import pq

from pg_ingest.config.tls import TlsMode
from pg_ingest.errors import ConfigError

_POINTER = "pgconn_ptr"
"""psycopg's protocol class leaves it out, its classes have it."""

_IMPLEMENTATIONS = {"binary": "psycopg_binary._psycopg", "c": "psycopg_c._psycopg"}


@dataclass(frozen=True, slots=True)
class Encryption:
    """An encrypted connection.

    Attributes:
        version, cipher: as OpenSSL names them: `TLSv1.3`, `TLS_AES_256_GCM_SHA384`.
        fingerprint: SHA-256 of the certificate that the server showed, 64 hexadecimal digits.
        mode: what was verified: nothing with REQUIRE and the weaker ones, the authority with VERIFY_CA, the
            authority and the name with VERIFY_FULL.
        pinned: the fingerprint is one that the configuration names.
    """

    version: str
    cipher: str
    fingerprint: str
    mode: TlsMode
    pinned: bool

    @property
    def verified(self) -> bool:
        """Whether it is certain who the server is."""
        return self.pinned or self.mode.verifies

    def text(self) -> str:
        """One line for people."""
        if self.pinned:
            known = "the server's certificate is the pinned one"
        elif self.mode is TlsMode.VERIFY_FULL:
            known = "the server's certificate and its name are verified"
        elif self.mode is TlsMode.VERIFY_CA:
            known = "the server's certificate is verified, its name is not"
        else:
            known = "the server's certificate is not verified"
        return f"{self.version}, {self.cipher}; {known} (SHA-256 {self.fingerprint})"


def encryption_of(
    pgconn: pq.abc.PGconn, mode: TlsMode, pins: tuple[str, ...] = ()
) -> Encryption | None:
    """What an open connection negotiated, None for plain text."""
    if not pgconn.ssl_in_use:
        return None
    shown = shown_certificate(pgconn)
    fingerprint = "" if shown is None else fingerprint_of(shown)
    return Encryption(
        version=_attribute(pgconn, "protocol"),
        cipher=_attribute(pgconn, "cipher"),
        fingerprint=fingerprint,
        mode=mode,
        pinned=fingerprint in pins,
    )


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a certificate in DER, 64 small hexadecimal digits."""
    return hashlib.sha256(certificate).hexdigest()


def shown_certificate(pgconn: pq.abc.PGconn) -> bytes | None:
    """The certificate that the server has shown, DER; None as long as it has not.

    Raises ConfigError when the driver's libpq does not let us see it.
    """
    library = _library()
    handle = library.PQsslStruct(_address(pgconn), b"OpenSSL")
    if not handle:
        return None
    certificate = library.peer_certificate(handle)
    if not certificate:
        return None
    try:
        content = ctypes.POINTER(ctypes.c_ubyte)()
        size = library.i2d_X509(certificate, ctypes.byref(content))
        try:
            return ctypes.string_at(content, size) if size > 0 else None
        finally:
            library.CRYPTO_free(content, None, 0)
    finally:
        library.X509_free(certificate)


def _attribute(pgconn: pq.abc.PGconn, name: str) -> str:
    value = _library().PQsslAttribute(_address(pgconn), name.encode())
    return value.decode() if value else "unknown"


def _address(pgconn: pq.abc.PGconn) -> ctypes.c_void_p:
    found: int | None = getattr(pgconn, _POINTER)
    return ctypes.c_void_p(found)


@cache
def _library() -> Any:
    """The driver's libpq and OpenSSL: a lookup through a library also finds what it was linked with."""
    library: Any = ctypes.CDLL(_driver())
    pointer = ctypes.c_void_p
    try:
        modern = hasattr(library, "SSL_get1_peer_certificate")
        library.peer_certificate = library[
            "SSL_get1_peer_certificate" if modern else "SSL_get_peer_certificate"
        ]
        shapes = {
            "PQsslStruct": (pointer, [pointer, ctypes.c_char_p]),
            "PQsslAttribute": (ctypes.c_char_p, [pointer, ctypes.c_char_p]),
            "peer_certificate": (pointer, [pointer]),
            "i2d_X509": (ctypes.c_int, [pointer, pointer]),
            "X509_free": (None, [pointer]),
            "CRYPTO_free": (None, [pointer, ctypes.c_char_p, ctypes.c_int]),
        }
        for name, (result, arguments) in shapes.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise ConfigError(
            "the certificate of a server cannot be looked at with this build of psycopg",
            detail=f"its libpq ({pq.__impl__}) has no OpenSSL to ask: {error}",
            hint='pip install "psycopg[binary]"',
        ) from None
    return library


def _driver() -> str:
    module = _IMPLEMENTATIONS.get(pq.__impl__)
    if module is not None:
        return str(importlib.import_module(module).__file__)
    return str(importlib.import_module("psycopg.pq._pq_ctypes").pq._name)
