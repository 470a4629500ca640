"""Tables of which our publication carries a part: some columns, or the rows that pass a filter.

What is left out never leaves the server. But a publication can break the *application's* writes: an UPDATE or
DELETE fails when its table is published with a filter over columns that are not in the replica identity, or
with a list that lacks a column of it. When that is so depends on versions, partitions, generated columns and
FULL. So the server itself is asked, in the transaction that adds the table: planning a DELETE makes the very
check that a DELETE would meet (`CheckCmdReplicaIdentity`, called by `CheckValidResultRel` in execMain.c when a
statement is prepared for execution, which EXPLAIN does). It deletes nothing. If it fails, nothing was
published. The server also refuses filters that are not immutable; then less is narrowed, and the rest is done
on our side.

A list has a price that its owner must know: the server refuses to drop or retype a listed column, and
to retype a column of the filter, while the table is published so. See docs/log_based.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from pg_ingest.errors import PassingFault, PermissionMissing, PersonMustAct, QueryRefused
from pg_ingest.postgres.select import relation, verbatim
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table, TableId

PARTS_VERSION = 150000
"""Publications know column lists and row filters from here on."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is published of a table: these columns, the rows that pass `filter`; None for all."""

    columns: frozenset[str] | None = None
    filter: str | None = None


WHOLE = Part()

_PARTS = """
SELECT n.nspname::text, c.relname::text, r.prattrs IS NOT NULL, pg_get_expr(r.prqual, r.prrelid), (
  SELECT coalesce(array_agg(a.attname::text), '{}') FROM pg_attribute AS a
  WHERE a.attrelid = c.oid AND a.attnum = ANY(r.prattrs::int2[])
)
FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid
JOIN pg_class AS c ON c.oid = r.prrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE p.pubname = %s AND (r.prattrs IS NOT NULL OR r.prqual IS NOT NULL)
"""


def read_parts(session: Session, publication: str) -> dict[TableId, Part]:
    """The tables that the publication names and does not carry whole; filters as the server prints them."""
    if session.server_version < PARTS_VERSION:
        return {}
    found = session.rows(_PARTS, (publication,), what=f"looking at publication {publication}")
    return {
        TableId(schema, name): Part(frozenset(columns) if listed else None, condition)
        for schema, name, listed, condition, columns in found
    }


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What is published of a table: these columns, and the rows that pass `filter`.

    `filter` is as the server prints it, None for no filter.
    """

    columns: frozenset[str]
    filter: str | None


def read_narrowed(session: Session, name: str) -> dict[TableId, Narrowed]:
    """The tables with what is published of them; empty before version 15, where it is always everything."""
    if session.server_version < PARTS_VERSION:
        return {}
    found = session.rows(
        "SELECT schemaname::text, tablename::text, attnames::text[], rowfilter"
        " FROM pg_publication_tables WHERE pubname = %s",
        (name,),
        what=f"looking at publication {name}",
    )
    return {TableId(s, t): Narrowed(frozenset(c), f) for s, t, c, f in found}


def add_part(session: Session, publication: str, table: Table, wanted: Part) -> None:
    """Add the table to our publication with as much of the narrowing as the server allows.

    `wanted.filter` must have passed `row_filter.check_row_filter`. Raises PermissionMissing and what else
    `faults` makes of a refusal to publish the table at all.
    """
    ruled = _has_rules(
        session, table
    )  # a rule may turn the DELETE that we ask about into something else
    for part in _attempts(wanted):
        if part != WHOLE and ruled:
            continue
        try:
            session.change(
                [_add(publication, table, part), *([_asked(table)] if part != WHOLE else [])],
                what=f"adding {table.id} to publication {publication}",
            )
        except PersonMustAct:
            if part == WHOLE:
                raise
        else:
            return


def harms_writes(session: Session, table: Table) -> bool:
    """Whether the server would refuse the application's DELETE because of what is published; False in doubt."""
    try:
        session.rows(_asked(table), what=f"looking at the publication of {table.id}")
    except QueryRefused:
        return True
    except (PassingFault, PermissionMissing):
        return False
    return False


def _attempts(wanted: Part) -> Iterator[Part]:
    tried = [wanted, Part(columns=wanted.columns), Part(filter=wanted.filter), WHOLE]
    return iter(dict.fromkeys(tried))


def _add(publication: str, table: Table, part: Part) -> sql.Composable:
    name = sql.Identifier(table.id.schema, table.id.name)
    added = sql.SQL("ALTER PUBLICATION {} ADD TABLE ONLY {}").format(
        sql.Identifier(publication), name
    )
    if part.columns is not None:
        listed = [c.name for c in table.columns if c.name in part.columns]
        names = sql.SQL(", ").join(map(sql.Identifier, listed))
        added = sql.SQL("{} ({})").format(added, names)
    if part.filter is not None:
        added = sql.SQL("{} WHERE (\n{}\n)").format(added, verbatim(part.filter))
    return added


def _asked(table: Table) -> sql.Composable:
    return sql.SQL("EXPLAIN DELETE FROM {}").format(relation(table))


def _has_rules(session: Session, table: Table) -> bool:
    ((ruled,),) = session.rows(
        "SELECT relhasrules FROM pg_class WHERE oid = %s",
        (table.oid,),
        what=f"looking at {table.id}",
    )
    return bool(ruled)
