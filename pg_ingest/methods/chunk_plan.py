"""How a large table is cut into chunks, or why it cannot be."""

from __future__ import annotations

import math
from collections.abc import Collection

from pg_ingest.config.selection import Replication
from pg_ingest.errors import MethodUnavailable
from pg_ingest.methods.all_rows import LARGE
from pg_ingest.methods.chunks import Beginning, Plan
from pg_ingest.methods.shape import logged
from pg_ingest.postgres.keys import ranks
from pg_ingest.postgres.ranges import Values, key_ranges, leading_columns, ranges_between
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
    split, lacking = _split(session, replication, table, beginning)
    rows = expected_rows(session, replication, table, beginning)
    limits = session.limits
    if rows < LARGE * limits.chunk_rows and not replication.split_hints.bounds:
        return None
    reason = _why_not(session, table, beginning) or lacking
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


_WITH_CHUNKS = frozenset({RelationKind.TABLE, RelationKind.PARTITIONED})


def _why_not(session: Session, table: Table, beginning: Beginning) -> str:
    """Why the table cannot be cut into chunks, whatever its key is; empty where it can."""
    if session.server_version < OLDEST_VERSION:
        return "the server is older than PostgreSQL 10"
    if table.kind not in _WITH_CHUNKS:
        return f"it is a {table.kind}, and no index says which rows are in a range"
    return beginning.whole or ("" if beginning.key else "no key tells its rows apart")


def _split(
    session: Session, replication: Replication, table: Table, beginning: Beginning
) -> tuple[tuple[str, ...], str]:
    """The columns to cut by, the first of which an index begins with; or () and why there are none."""
    key = beginning.key
    good = {column.name for column in table.columns if not column.nullable} & set(key)
    if replication.split_key:
        _check_split_key(table, beginning, replication.split_key, good)
        return replication.split_key, ""
    ordered = [name for name in key if name in good]
    if not ordered:
        return (), f"each of ({', '.join(key)}) may be NULL"
    leading = leading_columns(session, table)
    first = next((name for name in ordered if name in leading), None)
    if first is None:
        return (
            (),
            f"no index begins with one of ({', '.join(ordered)}); make one, or name a `split_key`",
        )
    return (first, *(name for name in ordered if name != first)), ""


def _check_split_key(
    table: Table, beginning: Beginning, wanted: tuple[str, ...], good: Collection[str]
) -> None:
    wrong = [name for name in wanted if name not in good]
    if wrong and beginning.key and table.kind in _WITH_CHUNKS:
        raise MethodUnavailable(
            f"{table.id} cannot be cut into chunks by {', '.join(wrong)}",
            detail=f"rows are identified by ({', '.join(beginning.key)}); a column that may change while the"
            " row stays, or that may be NULL, would lose rows between the chunks",
            hint="name columns of the key in `split_key`, or remove it",
        )


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
