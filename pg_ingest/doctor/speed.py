"""How fast rows come from the server: a sample that is thrown away."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pg_ingest.doctor.finding import Finding, Test, passed, skipped, warning
from pg_ingest.errors import PgIngestError
from pg_ingest.postgres.select import SelectQuery, select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.speed import filling_rows
from pg_ingest.table import Column, Table

SLOW = 5_000_000
"""Bytes a second under which a warning is given: the bound that users of this field know."""

SAMPLE_BYTES = 32_000_000
SAMPLE_SECONDS = 3.0

_BLOCK = 1 << 20

_ALMOST = 0.8
"""Of the allowed rate: then it is our own limit that slows it down."""


def check_speed(session: Session, tables: Sequence[tuple[Table, tuple[Column, ...]]]) -> Finding:
    """Bytes a second over a few seconds: from the largest table, or from made up rows if all are small."""
    subject = f"{session.source}/{session.database}"
    table, columns = max(tables, key=lambda pair: pair[0].estimated_bytes, default=(None, ()))
    if table is not None and table.estimated_bytes >= SAMPLE_BYTES:
        query, what = select_rows(table, columns), str(table.id)
    else:
        query, what = filling_rows(SAMPLE_BYTES), "made up rows"
    try:
        read, seconds = _measure(session, query)
    except PgIngestError as error:
        return skipped(subject, Test.SPEED, f"because the sample failed: {error.message}")
    rate = read / seconds
    fact = f"{rate / 1e6:,.1f} MB/s ({read / 1e6:,.1f} MB of {what} in {seconds:.1f} s)"
    if rate >= SLOW:
        return passed(subject, Test.SPEED, fact)
    allowed = session.limits.max_rate
    if allowed is not None and rate >= _ALMOST * allowed:
        return passed(subject, Test.SPEED, f"{fact}, as fast as `limits.max_rate` allows")
    return warning(
        subject,
        Test.SPEED,
        f"{fact}, less than {SLOW / 1e6:.0f} MB/s",
        "run it nearer to the server (same region and network), without a tunnel or proxy in between;"
        " `fetch_rows` and the method change nothing about it",
    )


def _measure(session: Session, query: SelectQuery) -> tuple[int, float]:
    """Bytes read and seconds taken; the statement is cancelled when it was enough."""
    began, read = time.monotonic(), 0
    with session.copy(query) as stream:
        while read < SAMPLE_BYTES and time.monotonic() - began < SAMPLE_SECONDS:
            block = stream.read(_BLOCK)
            if not block:
                break
            read += len(block)
        seconds = time.monotonic() - began
    return read, max(seconds, 1e-6)
