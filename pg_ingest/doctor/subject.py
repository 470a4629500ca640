"""One table of one database, with what was asked about all of them before."""

from __future__ import annotations

from dataclasses import dataclass

from pg_ingest.config.selection import Replication
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.table_facts import TableFacts
from pg_ingest.table import Table


@dataclass(frozen=True, slots=True)
class Subject:
    """One table of the session's database.

    Attributes:
        table: None when it does not exist there.
        facts: None with it.
    """

    session: Session
    replication: Replication
    provider: Provider
    table: Table | None
    facts: TableFacts | None

    @property
    def name(self) -> str:
        """`shop/app/public.orders`."""
        database = self.session.database
        return f"{self.replication.source}/{database}/{self.replication.table}"
