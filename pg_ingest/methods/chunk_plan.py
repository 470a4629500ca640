"""How a large table is cut into chunks, or why it cannot be."""

from __future__ import annotations

import math

from pg_ingest.config.selection import Replication
from pg_ingest.errors import MethodUnavailable
from pg_ingest.methods.all_rows import LARGE
from pg_ingest.methods.chunks import Beginning, Plan
from pg_ingest.methods.shape import logged
from pg_ingest.postgres.keys import ranks
from pg_ingest.postgres.ranges import Values, key_ranges, ranges_between
from pg_ingest.postgres.row_versions import server_of
from pg_ingest.postgres.select import select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.storage import files_of
from pg_ingest.table import RelationKind, Table

OLDEST_VERSION = 100000
"""Older servers name the functions for WAL positions otherwise; they are read in one pass."""


def expected_rows(
    session: Session, replication: Replication, table: Table, beginning: Beginning
) -> int:
    """About how many rows there are to read; raises QueryRefused, PermissionMissing."""
    query = select_rows(table, beginning.columns, where=replication.where)
    estimate = session.explain(query)
    hint = replication.split_hints.rows
    return estimate.rows if hint is None else hint


def planned(
    session: Session,
    replication: Replication,
    table: Table,
    beginning: Beginning,
    notes: list[str],
) -> Plan | None:
    """How to cut the table, None where one pass is as good or the only way; `notes` takes why it is that.

    Raises MethodUnavailable for a `split_key` that cannot be one.
    """
    split = _split(replication, table, beginning)
    rows = expected_rows(session, replication, table, beginning)
    limits = session.limits
    if rows < LARGE * limits.chunk_rows and not replication.split_hints.bounds:
        return None
    reason = _why_not(session, table, beginning, split)
    if reason:
        notes.append(f"{rows:,} rows or so are read in one snapshot, not in chunks: {reason}")
        return None
    count = min(limits.chunks_per_table, math.ceil(rows / limits.chunk_rows))
    columns = [table.column(name) for name in split]
    if replication.split_hints.bounds:
        ranges = ranges_between(columns, _hinted(session, replication, table, split))
    else:
        ranges = key_ranges(session, table, columns, count)
    if len(ranges) < 2:
        return None
    compares = beginning.look is not None
    files = {} if compares else files_of(session, table)
    start = beginning.position()
    if start is None:
        notes.append(
            "read in one snapshot, not in chunks: a transaction that runs holds the position"
        )
        return None
    return Plan(
        start=start,
        split=split,
        bounds=tuple(each.lower for each in ranges if each.lower is not None),
        rows=rows,
        oid=table.oid,
        server="" if compares else server_of(session),
        settings=beginning.settings,
        columns=logged(beginning.columns),
        key=beginning.key,
        files=tuple(sorted(files.items())),
    )


def _why_not(session: Session, table: Table, beginning: Beginning, split: tuple[str, ...]) -> str:
    """Why the table cannot be cut into chunks; empty where it can."""
    if session.server_version < OLDEST_VERSION:
        return "the server is older than PostgreSQL 10"
    if table.kind not in _WITH_CHUNKS:
        return f"it is a {table.kind}, and chunks need an index on the key"
    if not beginning.key:
        return "no key tells its rows apart"
    key = ", ".join(beginning.key)
    return "" if split else f"the server does not keep any column of ({key}) unique and NOT NULL"


_WITH_CHUNKS = frozenset({RelationKind.TABLE, RelationKind.PARTITIONED})


def _split(replication: Replication, table: Table, beginning: Beginning) -> tuple[str, ...]:
    """The columns to cut by; () where there are none that will do."""
    if table.kind not in _WITH_CHUNKS:
        return ()
    ordered = {*table.primary_key, *table.identity_columns}
    good = {column.name for column in table.columns if not column.nullable} & ordered
    wanted = replication.split_key or beginning.key
    wrong = [name for name in wanted if name not in beginning.key or name not in good]
    if not wrong:
        return wanted
    if replication.split_key:
        raise MethodUnavailable(
            f"{table.id} cannot be cut into chunks by {', '.join(wrong)}",
            detail=f"rows are identified by ({', '.join(beginning.key)}); a column that may change while the"
            " row stays, or that may be NULL, would lose rows between the chunks",
            hint="name columns of the key in `split_key`, or remove it",
        )
    return tuple(name for name in beginning.key if name not in wrong)


def _hinted(
    session: Session, replication: Replication, table: Table, split: tuple[str, ...]
) -> list[Values]:
    bounds = replication.split_hints.bounds
    if len(split) != 1:
        raise MethodUnavailable(
            f"{replication.table}: `split_hints.bounds` are values of one column",
            detail=f"`split_key` has {len(split)}",
            hint="name one column in `split_key`, or remove the bounds",
        )
    place = ranks(session, table, table.column(split[0]), {*bounds})
    if len(bounds) > 1 and [place[value] for value in bounds] != [*range(1, len(bounds) + 1)]:
        raise MethodUnavailable(
            f"{table.id}: `split_hints.bounds` do not ascend as {split[0]} orders its values",
            detail=f"there are {len(bounds)}",
            hint="write each value once, in the order in which the server sorts them",
        )
    return [(value,) for value in bounds]
