"""The administrator's function that shows a table's visibility map, and whether our role may execute it.

It runs with the rights of whoever makes it, who must be a superuser: `pageinspect` hands pages to nobody else.
What it tells of a table is which of its pages have been changed since a place in the log, and nothing of what
they hold; and only to those who may read at least one column of the table. Its search path is fixed, and every
name in it says where it belongs, so that a caller cannot slip other functions under it.
"""

from __future__ import annotations

from psycopg import sql

from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId

ARGUMENTS = "oid, pg_lsn, bigint, bigint"

_FUNCTION = """
SELECT has_schema_privilege(n.oid, 'usage') AND has_function_privilege(p.oid, 'execute')
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = %s AND p.proname = %s AND pg_catalog.oidvectortypes(p.proargtypes) = %s
"""


def obstacle(session: Session, function: TableId) -> str:
    """Why the function cannot be asked, a short sentence; "" where it can."""
    asked = (function.schema, function.name, ARGUMENTS)
    found = session.rows(_FUNCTION, asked, what=f"looking at function {function}")
    if not found:
        return f"there is no function {function}({ARGUMENTS})"
    ((allowed,),) = found
    return "" if allowed else f"user {session.role} may not execute {function}"


def create_function(function: TableId, role: str) -> str:
    """Statements for psql that make the function and let `role` execute it, where it is of use (14 and 15)."""
    named = sql.Identifier(function.schema, function.name)
    return (
        sql.SQL(_SCRIPT)
        .format(
            schema=sql.Identifier(function.schema),
            named=sql.Literal(named.as_string(None)),
            function=named,
            role=sql.Identifier(role),
        )
        .as_string(None)
    )


_SCRIPT = r"""SELECT current_setting('server_version_num')::int / 10000 IN (14, 15) AS is_of_use \gset
\if :is_of_use
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE EXTENSION IF NOT EXISTS pageinspect;
SELECT format($make$
  CREATE OR REPLACE FUNCTION %s(relation oid, since pg_lsn, first bigint, pages bigint)
  RETURNS TABLE (page bigint, bits bytea)
  LANGUAGE sql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $function$
    SELECT n, CASE WHEN (%I.page_header(r.raw)).lsn <= since THEN substr(r.raw, 25) END
    FROM generate_series(first, least(first + pages, pg_relation_size(relation, 'vm')
        / current_setting('block_size')::int8) - 1) AS n
    CROSS JOIN LATERAL (SELECT %I.get_raw_page(relation::regclass::text, 'vm', n) AS raw OFFSET 0) AS r
    WHERE has_any_column_privilege(session_user, relation, 'SELECT')
  $function$
$make$, {named}, n.nspname, n.nspname)
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pageinspect'
\gexec
REVOKE ALL ON FUNCTION {function}(oid, pg_lsn, bigint, bigint) FROM PUBLIC;
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT EXECUTE ON FUNCTION {function}(oid, pg_lsn, bigint, bigint) TO {role};
\endif"""
