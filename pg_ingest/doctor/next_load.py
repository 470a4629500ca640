"""Whether the next sync of a table reads all of it once, because another method has loaded what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pg_ingest.bookmark import Bookmark, goes_on, method_of
from pg_ingest.config.method import Method
from pg_ingest.config.model import IngestConfig
from pg_ingest.config.selection import Replication
from pg_ingest.destinations.connect import open_destination
from pg_ingest.destinations.destination import StreamId
from pg_ingest.doctor.finding import Finding, Test, warning
from pg_ingest.errors import PgIngestError
from pg_ingest.methods.taken_over import why_not
from pg_ingest.table import Table

Stored = Mapping[StreamId, Bookmark]


def stored_bookmarks(config: IngestConfig) -> Stored:
    """Of everything that is replicated; nothing where the destination cannot be read, which others tell."""
    try:
        found = open_destination(config.destination).status()
    except PgIngestError:
        return {}
    return {status.stream: status.bookmark for status in found}


def check_next_load(
    source: str,
    database: str,
    found: Sequence[tuple[Replication, Table]],
    stored: Stored,
    *,
    standby: bool = False,
) -> Iterator[Finding]:
    """A warning for each table whose method was changed and cannot go on; `full_table` never goes on."""
    for replication, table in found:
        stream = StreamId(source, database, table.id.schema, table.id.name)
        bookmark, method = stored.get(stream), replication.method
        if bookmark is None or method is Method.FULL_TABLE or method_of(bookmark) == method:
            continue
        reason = ""
        if goes_on(bookmark, method):
            logged = method is Method.LOG_BASED
            reason = why_not(replication, table, bookmark, standby=standby) if logged else ""
            if not reason:
                continue
        why = f" ({reason})" if reason else ""
        rows = f" (about {table.estimated_rows:,})" if table.estimated_rows > 0 else ""
        before = method_of(bookmark)
        yield warning(
            f"{source}/{database}/{table.id}",
            Test.NEXT_LOAD,
            f"the next sync reads all rows once{rows}: the stored ones were loaded by {before}, and"
            f" {method} cannot go on from there{why}. They stay visible until then",
            f"nothing, if that is meant; `method: {before}` goes on where it was",
        )
