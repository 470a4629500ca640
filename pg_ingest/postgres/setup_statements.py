"""The SQL by which an administrator gives our role what it needs, for psql.

Where only the server can name the tables, a query writes the statements and psql's `\\gexec` runs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from pg_ingest.config.needs import DatabaseNeeds, OpenNeed, TableNeed
from pg_ingest.postgres.privileges import grant_bypass, grant_columns, grant_table, grant_usage

_GEXEC = sql.SQL("\\gexec")
_TABLES = sql.SQL(
    "pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
)


def role_is_new(role: str) -> str:
    """Set psql's variable `is_new` to whether there is no such role."""
    return _text(
        "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {role}) AS is_new \\gset",
        role=sql.Literal(role),
    )


def create_role(role: str) -> str:
    """A role that may log in and nothing else."""
    return _text("CREATE ROLE {role} LOGIN;", role=sql.Identifier(role))


def read_grants(needs: DatabaseNeeds, role: str) -> Iterator[str]:
    """USAGE on the schemas and SELECT on the tables."""
    for schema in sorted({each.table.schema for each in needs.tables}):
        yield grant_usage(schema, role)
    for table in needs.tables:
        if table.columns is None:
            yield grant_table(table.table, role)
        else:
            yield grant_columns(table.table, table.columns, role)
    for one in needs.open:
        yield _text(_USAGE, role=sql.Literal(role), tables=_TABLES, chosen=_chosen(one))
        yield _text(
            _SELECT,
            role=sql.Literal(role),
            tables=_TABLES,
            chosen=_chosen(one),
            columns=_columns(one),
        )


_USAGE = """SELECT DISTINCT format('GRANT USAGE ON SCHEMA %I TO %I;', n.nspname, {role})
FROM {tables}
WHERE {chosen}
{gexec}"""

_SELECT = """SELECT format('GRANT SELECT%s ON %I.%I TO %I;', {columns}, n.nspname, c.relname, {role})
FROM {tables}
WHERE {chosen}
ORDER BY 1
{gexec}"""


def selected(needs: DatabaseNeeds) -> str:
    """A view of the tables that the configuration selects, for the statements below."""
    every: list[TableNeed | OpenNeed] = [*needs.tables, *needs.open]
    return _text(
        _SELECTED,
        any=_any_of(every),
        logged=_any_of([each for each in every if each.logged]),
        more=_any_of([each for each in every if each.more]),
    )


_SELECTED = """CREATE OR REPLACE TEMPORARY VIEW pg_ingest_selected AS
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relowner, c.relrowsecurity,
  {logged} AS logged,
  {more} AS by_pattern
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE {any};"""


def future_grants(role: str) -> str:
    """SELECT on tables to come, for every owner of tables that a pattern takes."""
    return _text(_FUTURE, role=sql.Literal(role))


_FUTURE = """SELECT DISTINCT format(
  'ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON TABLES TO %I;',
  pg_get_userbyid(relowner), nspname, {role})
FROM pg_temp.pg_ingest_selected WHERE by_pattern AND pg_get_userbyid(relowner) <> {role}
{gexec}"""


def row_security(role: str) -> str:
    """BYPASSRLS, only if a table needs it."""
    return _text(_ROW_SECURITY, bypass=sql.Literal(grant_bypass(role)))


_ROW_SECURITY = """SELECT {bypass}
WHERE EXISTS (SELECT FROM pg_temp.pg_ingest_selected WHERE relrowsecurity)
{gexec}"""


def _any_of(needs: Sequence[TableNeed | OpenNeed]) -> sql.Composable:
    """A condition over `c` and `n`: these tables."""
    tables = [each.table for each in needs if isinstance(each, TableNeed)]
    conditions: list[sql.Composable] = []
    if tables:
        pairs = [_pair(each.schema, each.name) for each in tables]
        listed = sql.SQL(", ").join(pairs)
        conditions.append(sql.SQL("(n.nspname, c.relname) IN ({})").format(listed))
    conditions += [
        sql.SQL("({})").format(_chosen(each)) for each in needs if isinstance(each, OpenNeed)
    ]
    if not conditions:
        return sql.SQL("false")
    return sql.SQL("({})").format(sql.SQL("\n  OR ").join(conditions))


def _pair(schema: str, name: str) -> sql.Composed:
    return sql.SQL("({}, {})").format(sql.Literal(schema), sql.Literal(name))


def _chosen(need: OpenNeed) -> sql.Composable:
    """A condition over `c` and `n`."""
    kinds = sql.SQL(", ").join(map(sql.Literal, need.kinds))
    parts: list[sql.Composable] = [
        sql.SQL(
            "c.relkind IN ({}) AND NOT c.relispartition AND c.relpersistence <> 't'"
            "\n  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
        ).format(kinds)
    ]
    if need.matching is not None:
        matching = sql.Literal(need.matching)
        parts.append(sql.SQL("n.nspname || '.' || c.relname ~ {}").format(matching))
    if need.but_not is not None:
        but_not = sql.Literal(need.but_not)
        parts.append(sql.SQL("n.nspname || '.' || c.relname !~ {}").format(but_not))
    return sql.SQL("\n  AND ").join(parts)


def _columns(need: OpenNeed) -> sql.Composable:
    """An expression: the list of columns in parentheses, empty for all."""
    if not need.restricted:
        return sql.Literal("")
    test: sql.Composable = sql.SQL("")
    if need.only is not None:
        wanted = _literals((*need.only, *need.also))
        test = sql.SQL(" AND a.attname IN ({})").format(wanted)
    elif without := [name for name in need.without if name not in need.also]:
        test = sql.SQL(" AND a.attname NOT IN ({})").format(_literals(without))
    hidden = sql.Literal("".join(f", {name}" for name in need.hidden))
    return sql.SQL(_COLUMNS).format(test=test, hidden=hidden)


_COLUMNS = """(
  SELECT ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
    || CASE WHEN c.relkind IN ('r', 'p') THEN {hidden} ELSE '' END || ')'
  FROM pg_catalog.pg_attribute AS a
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped{test})"""


def _literals(values: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Literal, values))


def publication(name: str) -> Iterator[str]:
    """An empty publication if there is none, and then each table that may safely be in it."""
    named = sql.Literal(name)
    yield _text(_CREATE, name=named)
    yield _JUDGED
    yield _text(_ADD, name=named)
    yield _LEFT_OUT


_CREATE = """SELECT format('CREATE PUBLICATION %I WITH (publish = %L%s);', {name},
  'insert, update, delete' || CASE WHEN v.number >= 110000 THEN ', truncate' ELSE '' END,
  CASE WHEN v.number >= 130000 THEN ', publish_via_partition_root = true' ELSE '' END)
FROM (SELECT current_setting('server_version_num')::int) AS v (number)
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = {name})
{gexec}"""

_JUDGED = """CREATE OR REPLACE TEMPORARY VIEW pg_ingest_judged AS
WITH RECURSIVE wanted AS (
  SELECT * FROM pg_temp.pg_ingest_selected WHERE logged AND relpersistence = 'p'
    AND (relkind = 'r' OR relkind = 'p' AND current_setting('server_version_num')::int >= 130000)
), tree (root, oid) AS (
  SELECT oid, oid FROM wanted
  UNION ALL
  SELECT tree.root, i.inhrelid FROM tree JOIN pg_catalog.pg_inherits AS i ON i.inhparent = tree.oid
  JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'p'
)
SELECT wanted.nspname, wanted.relname, EXISTS (
  SELECT FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.oid AND c.relkind = 'r'
  WHERE tree.root = wanted.oid AND (c.relreplident <> 'f' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_index AS x WHERE x.indrelid = c.oid AND x.indisvalid AND x.indimmediate
      AND (c.relreplident = 'd' AND x.indisprimary OR c.relreplident = 'i' AND x.indisreplident)
  ) OR current_setting('server_version_num')::int >= 180000 AND EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND NOT a.attisdropped AND to_json(a) ->> 'attgenerated' <> ''
      AND (c.relreplident = 'f' OR EXISTS (
        SELECT FROM pg_catalog.pg_index AS x WHERE x.indrelid = c.oid AND a.attnum = ANY(x.indkey)
          AND (c.relreplident = 'd' AND x.indisprimary OR c.relreplident = 'i' AND x.indisreplident)
      ))
  ))
) AS blind, EXISTS (
  SELECT FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.oid AND c.relkind = 'p'
  WHERE tree.root = wanted.oid AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_index AS x WHERE x.indrelid = c.oid AND x.indisprimary AND x.indimmediate
  )
) AS risky
FROM wanted;"""

_ADD = """SELECT format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I;', {name}, w.nspname, w.relname)
FROM pg_temp.pg_ingest_judged AS w
WHERE NOT w.blind AND NOT w.risky AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_publication_tables AS t
  WHERE t.pubname = {name} AND t.schemaname = w.nspname AND t.tablename = w.relname)
ORDER BY 1
{gexec}"""

_LEFT_OUT = """SELECT format('%I.%I', nspname, relname) AS "not published by this script",
  CASE WHEN blind THEN 'no usable replica identity'
  ELSE 'partitioned without a primary key: new partitions would have no replica identity' END AS "why"
FROM pg_temp.pg_ingest_judged WHERE blind OR risky ORDER BY 1;"""


def make_slot(name: str, plugin: str) -> str:
    """Make the slot if there is none."""
    return _text(_SLOT, name=sql.Literal(name), plugin=sql.Literal(plugin))


_SLOT = """SELECT pg_create_logical_replication_slot({name}, {plugin})
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = {name});"""


def _text(template: str, **parts: sql.Composable) -> str:
    return sql.SQL(template).format(gexec=_GEXEC, **parts).as_string(None)
