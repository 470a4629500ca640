"""Which transactions are running, as every role may see it.

`pg_locks` shows each backend's exclusive lock on its own virtual transaction id, from before the first
command of a transaction can compute anything until after the transaction's end can be seen by others
(`StartTransaction`, `CommitTransaction` in src/backend/access/transam/xact.c). `pg_stat_activity` hides
the start of other roles' transactions; the database and the user of a backend it shows to everyone, which
is enough to leave out those that cannot write here: other databases' backends and the vacuum's workers. Our
own sessions that read other tables just now are left out too: they are read-only, and of this very role.

A transaction that has been PREPAREd gives its virtual id up, but only after it stands in
`pg_prepared_xacts`. So ask for running transactions first and for prepared ones after: one of the two
questions sees it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pg_ingest.postgres.session import Session

_RUNNING = """
SELECT l.virtualtransaction, min(l.pid)
FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.granted AND l.virtualxid = l.virtualtransaction
  AND l.pid <> pg_catalog.pg_backend_pid()
  AND (a.datid IS NULL OR (a.usesysid IS NOT NULL AND a.datname = pg_catalog.current_database()))
  AND (a.usename = current_user AND left(a.application_name, 10) = 'pg_ingest/'
    AND right(a.application_name, 5) = '/sync') IS NOT TRUE
GROUP BY l.virtualtransaction
"""

_PREPARED = """
SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()
"""


def running_transactions(session: Session) -> Mapping[str, int]:
    """Virtual ids (`3/1524`) of the transactions that run in this database, with their process ids.

    The session's own is not among them. On a standby the primary's transactions are not either.
    """
    return dict(session.rows(_RUNNING, what="listing running transactions"))


def still_running(session: Session, transactions: Collection[str]) -> Mapping[str, int]:
    """Those of `transactions` that have not ended (or been prepared), with their process ids."""
    if not transactions:
        return {}
    running = running_transactions(session)
    return {name: running[name] for name in transactions if name in running}


def prepared_transactions(session: Session) -> int:
    """How many transactions of this database are prepared and neither committed nor rolled back."""
    ((count,),) = session.rows(_PREPARED, what="listing prepared transactions")
    return int(count)
