"""The columns that a Relation message names, as the catalogue knows them.

The message gives names, type oids and modifiers as they were when the changes happened. The catalogue
gives what belongs to these oids now: a dropped type is no longer there, and then its values stay texts.
A modifier that was not told is that of now, if the column still has this type. That is safe: what makes a
type narrower writes the table anew, and then it is read anew, so the modifier of now holds the values of then.
Whether a column is generated is what it is now, too: one that was is left out of what is stored.
`attnum` is that of the column which has the name now, 0 for one that has been renamed or dropped since.
"""

from __future__ import annotations

from pg_ingest.decode.messages import UNKNOWN_MODIFIER, Relation, RelationColumn
from pg_ingest.postgres import catalog_queries as queries
from pg_ingest.postgres.catalog_types import Types
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, PgType, TypeKind

_COLUMNS = """
SELECT c.name, coalesce(a.attnum, 0)::int, m.modifier, format_type(c.type, m.modifier), t.oid IS NOT NULL,
  {generated}
FROM unnest(%s::text[], %s::oid[], %s::int[]) WITH ORDINALITY AS c(name, type, modifier, place)
LEFT JOIN pg_attribute AS a
  ON a.attrelid = %s::oid AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_type AS t ON t.oid = c.type
CROSS JOIN LATERAL (SELECT CASE WHEN c.modifier <> %s THEN c.modifier
 WHEN a.atttypid = c.type THEN a.atttypmod ELSE -1 END) AS m(modifier)
ORDER BY c.place
"""


def logged_columns(session: Session, relation: Relation) -> tuple[Column, ...]:
    """One Column for each of the relation's, in its order."""
    oids = [column.type_oid for column in relation.columns]
    asked = (
        [column.name for column in relation.columns],
        oids,
        [column.modifier for column in relation.columns],
        relation.oid,
        UNKNOWN_MODIFIER,
    )
    what = f"looking up the columns of {relation.id}"
    generated = "coalesce(a.attgenerated <> '', false)"
    query = _COLUMNS.format(generated=generated if session.server_version >= 120000 else "false")
    found = session.rows(query, asked, what=what)
    types = Types(session.rows(queries.types_of(oids), what=what))
    return tuple(
        Column(
            *(name, attnum, _type(types, column, modifier, display, known=known)),
            generated=generated,
        )
        for column, (name, attnum, modifier, display, known, generated) in zip(
            relation.columns, found, strict=True
        )
    )


def _type(
    types: Types, column: RelationColumn, modifier: int, display: str, *, known: bool
) -> PgType:
    if known:
        return types.resolve(column.type_oid, modifier, display)
    return PgType(column.type_oid, "text", "pg_catalog", TypeKind.BASE, -1, "text")
