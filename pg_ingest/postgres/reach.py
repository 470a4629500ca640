"""Whether anything answers at a host and port, before any login."""

from __future__ import annotations

import socket
from pathlib import Path

import psycopg

from pg_ingest.postgres.connection_faults import connection_fault


def probe(host: str, port: int, seconds: float) -> str:
    """Open and close a connection; returns the address that answered.

    A folder of Unix sockets works too. Raises SourceUnreachable.
    """
    try:
        if host.startswith("/"):
            return _probe_socket(str(Path(host) / f".s.PGSQL.{port}"), seconds)
        with socket.create_connection((host, port), timeout=seconds) as opened:
            return str(opened.getpeername()[0])
    except OSError as error:
        said = psycopg.OperationalError(str(error))
        raise connection_fault(said, host=host, port=port, user="", database="") from None


def _probe_socket(path: str, seconds: float) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        opened.settimeout(seconds)
        opened.connect(path)
    return path
