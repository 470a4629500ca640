"""The pages of a table that have not changed since a position in the log, told by its visibility map.

The map has two bits for each page of a table: all its rows are visible to everybody; all are frozen. A writer
clears them in the same moment in which it changes the page, VACUUM sets them. So a page whose bit is set *and
has been set since before a position* has no row version from after it. The bits alone do not say since when;
the page of the map on which they stand does. Whoever sets a bit writes that to the log and stamps the map's
page with the place (`visibilitymap_set` in src/backend/access/heap/visibilitymap.c); clearing stamps nothing.
Hence: **a bit that is set, on a page of the map that is not stamped later than the position, was set before
it and has not been cleared since.** One page of the map covers 32,672 pages of the table, 255 MB; where VACUUM
has been since, all of these are read.

Ordinary roles cannot read the stamp. `pg_visibility` gives the bits only, `pageinspect` gives a page to
superusers only. So an administrator makes a function with their own rights (SECURITY DEFINER), which shows the
map of any table and nothing of its rows, and grants it (`visibility_function.py`). Bits and stamp come
from one copy of the page, which the server makes under the page's lock.

**Only on 14 and 15** (`may_be_trusted`). Older servers cannot read ranges of pages. From 17 on the map
itself may be stale: an incremental backup that is put back brings bits with it that had been cleared, and the
minor versions that mend this (2026) stamp the map's page with every clearing, so that nothing would be left to
skip. On 16 VACUUM sets the bits on new rows as soon as it meets them; the stamp would show it, but nothing
else would: there is no second line of defence. See `methods/unchanged_pages.py` for what is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from psycopg import sql

from pg_ingest.postgres.ranges import PageRange
from pg_ingest.postgres.select import Condition, SelectQuery, select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, Table, TableId

_FIRST, _PAST_LAST = 140000, 160000

_Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
_Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]
_NOTHING: _Numbers = np.empty(0, np.int64)

_HEADER, _PER_BYTE = 24, 4
"""A page of the map begins with its header (`SizeOfPageHeaderData`); each byte then tells of four pages."""

_AT_ONCE = 256
"""Pages of the map in one answer: 2 MB, 64 GB of table."""

_GAP = 64
"""Unchanged pages between two changed ones that are read along: half a megabyte is read as fast as skipped."""

MOST_RANGES = 5000
"""Ranges of pages in one SELECT, at most."""

_BEYOND = "(4294967295,0)"
"""Above the place of every row."""


def may_be_trusted(session: Session) -> bool:
    """Whether the map of this server says what its pages hold, and ranges of pages can be read."""
    return _FIRST <= session.server_version < _PAST_LAST


def position(session: Session) -> str:
    """How far the log is on disk (on a standby: replayed); for the snapshot that is taken next."""
    end = "pg_last_wal_replay_lsn()" if session.is_standby else "pg_current_wal_flush_lsn()"
    query = f"SELECT coalesce(pg_catalog.{end}, '0/0')::text"
    ((lsn,),) = session.rows(query, what="looking at the end of the log")
    return str(lsn)


@dataclass(frozen=True, slots=True)
class Pages:
    """Which pages of a table must be read.

    Attributes:
        ranges: in ascending order; the last one has no end.
        changed, total: how many pages are in them, and in the table.
    """

    ranges: tuple[PageRange, ...]
    changed: int
    total: int


def pages_changed(session: Session, function: TableId, table: Table, since: str) -> Pages:
    """The pages that may hold row versions from after `since`; ask it under a snapshot, read them in it.

    Raises what the session raises, PermissionMissing where the function may not be executed.
    """
    total, covered = _sizes(session, table)
    first, end = _NOTHING, _NOTHING
    begin = 0
    for bits in _maps(session, function, table, since):
        changed = np.ones(covered, np.bool_) if bits is None else ~_visible(bits)
        begins, ends = _runs(changed[: max(total - begin, 0)])
        first, end = _joined(np.append(first, begins + begin), np.append(end, ends + begin))
        begin += covered
    first, end = _joined(np.append(first, min(begin, total)), np.append(end, total))
    ranges = [PageRange(int(a), int(b)) for a, b in zip(first, end, strict=True)]
    ranges[-1] = replace(ranges[-1], end=None)
    return Pages(tuple(ranges), int((end - first).sum()), total)


def _sizes(session: Session, table: Table) -> tuple[int, int]:
    """Pages of the table, and of how many of them one page of the map tells."""
    query = "SELECT pg_catalog.pg_relation_size(%s::oid), pg_catalog.current_setting('block_size')"
    ((size, block),) = session.rows(query, [table.oid], what=f"looking at {table.id}")
    return int(size or 0) // int(block), (int(block) - _HEADER) * _PER_BYTE


def _maps(session: Session, function: TableId, table: Table, since: str) -> Iterator[bytes | None]:
    """The pages of the map in order, None for one that is stamped later."""
    asked = sql.SQL("SELECT bits FROM {}({}::oid, {}::pg_lsn, {}, {}) ORDER BY page")
    named = sql.Identifier(function.schema, function.name)
    begin, more = 0, True
    while more:
        query = asked.format(named, table.oid, since, begin, _AT_ONCE)
        found = session.rows(query, what=f"reading the visibility map of {table.id}")
        yield from (bits for (bits,) in found)
        begin, more = begin + _AT_ONCE, len(found) == _AT_ONCE


def _visible(bits: bytes) -> _Flags:
    """The first bit of each pair, the lowest pair of a byte first."""
    each = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return each[::2].astype(np.bool_)


def _runs(flags: _Flags) -> tuple[_Numbers, _Numbers]:
    """Where unbroken rows of True begin and end."""
    edges = np.diff(flags.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def _joined(first: _Numbers, end: _Numbers) -> tuple[_Numbers, _Numbers]:
    """The ranges without the gaps that are too small; only the largest stay where there would be too many."""
    gaps = first[1:] - end[:-1]
    least = np.sort(gaps)[-MOST_RANGES] if len(gaps) >= MOST_RANGES else 0
    apart = gaps > max(int(least), _GAP)
    edge = np.ones(min(len(first), 1), np.bool_)
    return first[np.append(edge, apart)], end[np.append(apart, edge)]


def rows_on_pages(
    table: Table,
    columns: Sequence[Column],
    pages: Sequence[PageRange],
    *,
    where: str | None,
    bounds: Sequence[Condition],
) -> SelectQuery:
    """As `select_rows`, of these pages only: the server goes from range to range (`Tid Range Scan`)."""
    here = (_InRange(), *bounds)
    inner = select_rows(table, columns, where=where, bounds=here)
    statement = sql.SQL(
        "SELECT _pgi_rows.* FROM unnest({}::tid[], {}::tid[]) AS _pgi_pages (first, past)"
        " CROSS JOIN LATERAL ({} OFFSET 0) AS _pgi_rows"
    ).format(
        [f"({each.first},0)" for each in pages],
        [_BEYOND if each.end is None else f"({each.end},0)" for each in pages],
        inner.statement,
    )
    return replace(inner, statement=statement)


@dataclass(frozen=True, slots=True)
class _InRange:
    """On the pages of the range that stands beside the table."""

    def predicate(self) -> sql.Composable:
        return sql.SQL("ctid >= _pgi_pages.first AND ctid < _pgi_pages.past")
