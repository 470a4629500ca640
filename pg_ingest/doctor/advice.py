"""Which method suits each table, beside the one that the configuration names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pg_ingest.config.selection import Replication
from pg_ingest.doctor.finding import Finding, Test, failed, passed
from pg_ingest.errors import PgIngestError
from pg_ingest.methods.advised import advised
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table


def check_methods(
    session: Session, found: Sequence[tuple[Replication, Table]]
) -> Iterator[Finding]:
    """One finding a table; another method than the advised one is no failure, so all of them pass."""
    try:
        advice = advised(session, found)
    except PgIngestError as error:
        yield failed(f"{session.source}/{session.database}", Test.METHOD, error)
        return
    for (replication, table), one in zip(found, advice, strict=True):
        subject = f"{session.source}/{session.database}/{table.id}"
        yield passed(subject, Test.METHOD, one.beside(replication.method.value))
