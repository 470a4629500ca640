"""What the doctor asks about many tables at once, beside what the catalogue tells."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pg_ingest.postgres.session import Session
from pg_ingest.table import Table, TableId


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One relation as our role sees it.

    Attributes:
        rows_hidden: row-level security would hide rows from our role.
        toasted: columns whose values may be stored out of line.
        usage: our role may look into the schema.
        hidden_closed: hidden columns (`ctid`, `xmin`, …) of a table that our role may not read.
    """

    rows_hidden: bool
    toasted: tuple[str, ...]
    usage: bool
    hidden_closed: tuple[str, ...]


_SMALL = """CASE a.atttypid
  WHEN 'numeric'::regtype THEN a.atttypmod >= 4 AND ((a.atttypmod - 4) >> 16 & 65535) <= 29
  WHEN 'varchar'::regtype THEN a.atttypmod BETWEEN 4 AND 9
  WHEN 'bpchar'::regtype THEN a.atttypmod BETWEEN 4 AND 9
  ELSE false END"""
"""A declared size of at most 24 bytes, which are never moved out: a pointer to them would be as large.

Source: `toast_tuple_find_biggest_attribute` in toast_helper.c; `numeric_maximum_size` in numeric.c. A table
none of whose rows can have 2 kB has no place out of line at all (`needs_toast_table` in toasting.c).
"""

_FACTS = """
SELECT c.oid::int8,
  c.relrowsecurity AND row_security_active(c.oid),
  array(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attstorage <> 'p'
    AND (c.relkind = 'p' OR c.relkind = 'r' AND c.reltoastrelid <> 0) AND NOT {small} ORDER BY a.attnum),
  has_schema_privilege(c.relnamespace, 'usage'),
  array(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum < 0 AND NOT has_column_privilege(c.oid, a.attnum, 'select'))
FROM pg_catalog.pg_class AS c WHERE c.oid = ANY(%s::oid[])
"""


def table_facts(session: Session, tables: Collection[Table]) -> dict[TableId, TableFacts]:
    """The facts by table, asked in one query; a table that is gone is missing."""
    query = _FACTS.replace("{small}", _SMALL)
    if session.server_version < 90500:
        query = query.replace("c.relrowsecurity AND row_security_active(c.oid)", "false")
    rows = session.rows(
        query, ([table.oid for table in tables],), what="looking at the tables' rights"
    )
    by_oid = {table.oid: table.id for table in tables}
    return {
        by_oid[oid]: TableFacts(hidden, tuple(toasted), usage, tuple(closed))
        for oid, hidden, toasted, usage, closed in rows
    }


def closed_schemas(session: Session, tables: Collection[Table]) -> list[str]:
    """The schemas of the tables that our role may not look into."""
    rows = session.rows(
        "SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s)"
        " AND NOT has_schema_privilege(oid, 'usage') ORDER BY 1",
        (sorted({table.id.schema for table in tables}),),
        what="looking at schemas",
    )
    return [schema for (schema,) in rows]


_FUTURE = """
SELECT DISTINCT pg_get_userbyid(c.relowner)::text, n.nspname::text
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY(%s::oid[]) AND NOT pg_has_role(c.relowner, 'usage') AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_roles AS r
  WHERE r.rolname = 'pg_read_all_data' AND pg_has_role(r.oid, 'usage')
) AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_default_acl AS d CROSS JOIN LATERAL aclexplode(d.defaclacl) AS x
  WHERE d.defaclrole = c.relowner AND d.defaclobjtype = 'r' AND d.defaclnamespace IN (n.oid, 0)
    AND x.privilege_type = 'SELECT'
    AND CASE WHEN x.grantee = 0 THEN true ELSE pg_has_role(x.grantee, 'usage') END
)
ORDER BY 1, 2
"""


def closed_futures(session: Session, tables: Collection[Table]) -> list[tuple[str, str]]:
    """Owner and schema of the tables where a new table of that owner would not be readable by us."""
    rows = session.rows(
        _FUTURE, ([table.oid for table in tables],), what="looking at default privileges"
    )
    return [(owner, schema) for owner, schema in rows]


def may_publish(session: Session, tables: Collection[Table]) -> bool:
    """Whether our role may make a publication of these tables: CREATE, and ownership of each."""
    ((may,),) = session.rows(
        "SELECT has_database_privilege(current_database(), 'create') AND NOT EXISTS ("
        " SELECT FROM pg_catalog.pg_class WHERE oid = ANY(%s::oid[])"
        " AND NOT pg_has_role(relowner, 'usage'))",
        ([table.oid for table in tables],),
        what="looking at who may publish",
    )
    return bool(may)
