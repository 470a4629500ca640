"""Connecting to a server whose certificate is pinned by its SHA-256 fingerprint.

libpq knows no pinning, and three ways around that were tried or thought through:

- *The certificate as its own root* (`sslrootcert`, `verify-ca`). OpenSSL takes a certificate that somebody else
  has signed as an anchor only with X509_V_FLAG_PARTIAL_CHAIN, which libpq does not set: refused, in its trusted
  form (`BEGIN TRUSTED CERTIFICATE`) too. It works for self-signed certificates only.
- *Looking first*, over a connection of our own, and connecting with libpq then. Who sits in between can let the
  first through and answer the second.
- *Looking afterwards*, at the finished connection. Too late: the password has been sent.

So the very connection is looked at between two steps of its making. `PQconnectPoll` returns after each step of
the TLS handshake, and once more between its end and the first packet (fe-connect.c: CONNECTION_SSL_STARTUP ends
with CONNECTION_MADE and PGRES_POLLING_WRITING). After each step we compare the certificate that OpenSSL has
been shown; with a wrong one we hang up, and the server has learnt nothing, not even a user's name. That it
owns the certificate is proved by the handshake, which OpenSSL does whatever the mode. Where the name stands for
several addresses, each attempt has its own handshake and is looked at in the same way. The mode is at least
`require`, so libpq never goes on in plain text; a connection that ended without TLS would be refused here too.

A cancel request is a connection of its own, which libpq encrypts, but nobody compares: what it carries is good
for cancelling this one query, nothing else.
"""

from __future__ import annotations

import selectors
import time
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from pg_ingest.errors import LoginFailed
from pg_ingest.postgres.encryption import fingerprint_of, shown_certificate

_STEP = {
    pq.PollingStatus.READING: selectors.EVENT_READ,
    pq.PollingStatus.WRITING: selectors.EVENT_WRITE,
}


def connect_pinned(
    pins: tuple[str, ...], timeout: float, parameters: dict[str, Any]
) -> psycopg.Connection[Any]:
    """A connection with a server that shows one of these certificates.

    Args:
        pins: SHA-256 fingerprints, small hexadecimal digits.
        timeout: seconds until it must stand.
        parameters: for libpq.

    Raises LoginFailed for another certificate, psycopg.OperationalError as `psycopg.connect` does.
    """
    host = str(parameters.get("host", ""))
    pgconn = pq.PGconn.connect_start(make_conninfo("", **parameters).encode())
    try:
        _establish(pgconn, pins, host, time.monotonic() + timeout)
    except BaseException as error:
        if not isinstance(error, psycopg.OperationalError) or error.pgconn is None:
            pgconn.finish()
        raise
    pgconn.nonblocking = 1
    return psycopg.Connection(pgconn)


def _establish(pgconn: pq.abc.PGconn, pins: tuple[str, ...], host: str, deadline: float) -> None:
    while True:
        if pgconn.status == pq.ConnStatus.BAD:
            raise _failed(pgconn)
        step = pq.PollingStatus(pgconn.connect_poll())
        seen = _compared(pgconn, pins, host)
        if step == pq.PollingStatus.OK:
            if not seen:
                raise LoginFailed(f"the connection with {host} is not encrypted", hint=_HINT)
            return
        if step not in _STEP:
            raise _failed(pgconn)
        if not _wait(pgconn.socket, _STEP[step], deadline):
            raise psycopg.errors.ConnectionTimeout("connection timeout expired")


def _compared(pgconn: pq.abc.PGconn, pins: tuple[str, ...], host: str) -> bool:
    """Whether a certificate has been shown; raise LoginFailed unless it is a pinned one."""
    shown = shown_certificate(pgconn) if pgconn.ssl_in_use else None
    if shown is None:
        return False
    fingerprint = fingerprint_of(shown)
    if fingerprint not in pins:
        raise LoginFailed(
            f"the server on {host} shows another certificate than the pinned one",
            detail=f"SHA-256 of what it shows: {fingerprint}; pinned: {', '.join(pins)}",
            hint=_HINT,
        )
    return True


_HINT = (
    "nothing was sent to it; if its certificate was renewed (ask who runs it), write the new fingerprint"
    " into `tls.fingerprint`, which takes a list"
)


def _wait(socket: int, event: int, deadline: float) -> bool:
    """Whether the socket became ready in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(socket, event)
        return bool(selector.select(max(0.0, deadline - time.monotonic())))


def _failed(pgconn: pq.abc.PGconn) -> psycopg.OperationalError:
    return psycopg.OperationalError(
        f"connection failed: {pgconn.get_error_message()}", pgconn=pgconn
    )
