"""Which method suits each table, beside the one that the configuration names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pg_ingest.config.method import Method
from pg_ingest.config.selection import Replication
from pg_ingest.doctor.finding import Finding, Test, failed, passed
from pg_ingest.errors import PgIngestError
from pg_ingest.methods.advice import Advice, advise
from pg_ingest.postgres.activity import read_activity
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot_creation import check_server, may_replicate
from pg_ingest.table import Table


def check_methods(
    session: Session, found: Sequence[tuple[Replication, Table]]
) -> Iterator[Finding]:
    """One finding a table; another method than the advised one is no failure, so all of them pass."""
    if not found:
        return
    try:
        activity = read_activity(session, [table for _, table in found])
        no_log = _no_log(session)
    except PgIngestError as error:
        yield failed(f"{session.source}/{session.database}", Test.METHOD, error)
        return
    for replication, table in found:
        followed = replication.method is Method.LOG_BASED
        advice = advise(
            table,
            key=replication.key,
            no_log="" if followed else no_log,
            activity=activity.get(table.id),
        )
        subject = f"{session.source}/{session.database}/{table.id}"
        yield passed(subject, Test.METHOD, _told(replication, advice))


def _told(replication: Replication, advice: Advice) -> str:
    own = replication.method
    if advice.recommended is own:
        return f"{own}, as advised: {advice.why}"
    others = "; ".join(f"no {method}: {why}" for method, why in sorted(advice.impossible.items()))
    words = f"{own}; {advice.recommended} may suit it better: {advice.why}"
    return f"{words} ({others})" if others else words


def _no_log(session: Session) -> str:
    """Why no table can be followed by the log, "" where they can."""
    try:
        check_server(session)
    except PgIngestError as error:
        return error.message
    return "" if may_replicate(session) else f"user {session.role} may not read the log"
