"""What a method is asked to read."""

from __future__ import annotations

from dataclasses import dataclass

from pg_ingest.bookmark import Bookmark
from pg_ingest.config.selection import Replication
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table


@dataclass(frozen=True, slots=True)
class Request:
    """One reading of one table.

    Attributes:
        session: with the table's database.
        table: as it is now.
        bookmark: the destination's, None before the first load.
        reset: forget the bookmark and read everything.
        window: start and end of one time window (ISO 8601), for tables with `partition_by`.
        pieces: about how many statements it is read in, with a snapshot each; see `pieces.py`.
    """

    session: Session
    replication: Replication
    table: Table
    bookmark: Bookmark | None = None
    reset: bool = False
    window: tuple[str, str] | None = None
    pieces: int = 1

    @property
    def subject(self) -> tuple[Session, Replication, Table]:
        """Whom to ask, for what, of which table."""
        return self.session, self.replication, self.table

    @property
    def since(self) -> Bookmark | None:
        """The bookmark to go on from; None where everything is to be read."""
        return None if self.reset else self.bookmark
