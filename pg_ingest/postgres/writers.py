"""Who is writing to tables just now.

A transaction that changes rows holds a lock on the table until it has ended *and* its end can be seen by
new snapshots (`CommitTransaction` in src/backend/access/transam/xact.c: ProcArrayEndTransaction comes
before the locks are released). So a transaction that was listed and whose lock is gone is in every
snapshot taken from now on, if it committed.

`pg_locks` shows a prepared transaction under a virtual id of its own (`-1/…`), given at PREPARE, so it is
never recognised as one that was listed. Therefore every prepared one counts, whenever it came.

The lock modes: writing rows takes RowExclusiveLock; TRUNCATE and rewriting take AccessExclusiveLock, and
what lies between may write in extensions. ShareUpdateExclusiveLock and ShareLock are those of VACUUM, ANALYZE,
and index builds, which write no rows.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from pg_ingest.errors import SourceBusy
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table, TableId

POLL_SECONDS = 0.05

_HOLDERS = """
WITH RECURSIVE tree (root, oid) AS (
  SELECT oid, oid FROM unnest(%s::oid[]) AS wanted (oid)
  UNION
  SELECT tree.root, i.inhrelid FROM tree JOIN pg_catalog.pg_inherits AS i ON i.inhparent = tree.oid
)
SELECT tree.root::int8, l.virtualtransaction, l.pid
FROM pg_catalog.pg_locks AS l JOIN tree ON tree.oid = l.relation
WHERE l.locktype = 'relation' AND l.granted
  AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
"""

Holders = Mapping[int, Mapping[str, int | None]]
"""By table oid: virtual transaction id to process id, None for a prepared transaction."""


def _writers(session: Session, oids: Collection[int]) -> Holders:
    found: dict[int, dict[str, int | None]] = {oid: {} for oid in oids}
    for root, transaction, pid in session.rows(
        _HOLDERS, (list(oids),), what="listing who writes to tables"
    ):
        found[root][transaction] = pid
    return found


def wait_for_writers(
    session: Session, tables: Collection[Table], seconds: float
) -> dict[TableId, SourceBusy]:
    """Wait until all transactions that are writing to the tables (or their partitions) now have ended.

    Returns the tables where one had not ended after `seconds`, with the error that says which. Those that
    begin to write meanwhile are not waited for.
    """
    if not tables:
        return {}
    by_oid = {table.oid: table for table in tables}
    left = _writers(session, by_oid)
    until = time.monotonic() + seconds
    while any(left.values()) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        left = _still(left, _writers(session, by_oid))
    return {
        by_oid[oid].id: _busy(by_oid[oid].id, holders, seconds)
        for oid, holders in left.items()
        if holders
    }


def _still(before: Holders, now: Holders) -> Holders:
    return {
        oid: {
            transaction: pid
            for transaction, pid in holders.items()
            if transaction in before[oid] or pid is None
        }
        for oid, holders in now.items()
    }


def _busy(table: TableId, holders: Mapping[str, int | None], seconds: float) -> SourceBusy:
    names = [f"process {pid}" if pid else f"prepared ({name})" for name, pid in holders.items()]
    return SourceBusy(
        f"{table} cannot join the log yet: a transaction that wrote to it before has not ended",
        detail=f"{', '.join(sorted(names)[:5])}, waited {seconds:g} s",
        hint="it is tried again; end the transaction if it was forgotten, or raise `limits.lock_timeout`",
    )
