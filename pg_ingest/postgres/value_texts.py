"""What the text of stored values depends on besides themselves: labels of enums, attributes of composite types.

An enum's value is stored as a number, and a composite's without its type. `ALTER TYPE … RENAME VALUE`,
`ADD ATTRIBUTE` and `DROP ATTRIBUTE` write no row, give no table another file, are in no log, and yet rows
of old read otherwise from then on. So both are remembered beside what was read. More labels than before
change nothing.

Not seen are names that values are printed by (`regclass` and its like), other input and output functions, and
types of extensions.
"""

from __future__ import annotations

from collections.abc import Sequence

from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, PgType, TypeKind

_TEXTS = """
WITH RECURSIVE used (oid) AS (
  SELECT unnest(%s::oid[])
  UNION
  SELECT part.oid FROM used JOIN pg_catalog.pg_type AS t ON t.oid = used.oid CROSS JOIN LATERAL (
    SELECT t.typelem UNION ALL SELECT t.typbasetype
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
  ) AS part (oid) WHERE part.oid <> 0
)
SELECT 'label ' || e.oid || ' ' || e.enumlabel FROM used JOIN pg_catalog.pg_enum AS e ON e.enumtypid = used.oid
UNION ALL
SELECT 'attributes ' || t.oid || ' ' || coalesce(string_agg(a.attnum::text, ',' ORDER BY a.attnum), '')
FROM used JOIN pg_catalog.pg_type AS t ON t.oid = used.oid AND t.typtype = 'c'
LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY t.oid
ORDER BY 1
"""


def value_texts(session: Session, columns: Sequence[Column]) -> tuple[str, ...]:
    """One text for each label and each composite type behind the columns' types, as they are now.

    Nothing is asked where no column has such a type.
    """
    if not tells_by_name(columns):
        return ()
    oids = [column.type.oid for column in columns if _by_name(column.type)]
    found = session.rows(_TEXTS, [oids], what="looking at the labels of enums")
    return tuple(text for (text,) in found)


def tells_by_name(columns: Sequence[Column]) -> bool:
    """Whether a column has a type whose values are printed by something that can be altered."""
    return any(_by_name(column.type) for column in columns)


def _by_name(kind: PgType) -> bool:
    if kind.kind is TypeKind.ARRAY and kind.element is not None:
        return _by_name(kind.element)
    own_range = kind.kind is TypeKind.RANGE and kind.schema != "pg_catalog"
    return own_range or kind.kind in (TypeKind.ENUM, TypeKind.COMPOSITE)


def read_otherwise(before: Sequence[str], now: Sequence[str]) -> bool:
    """Whether values that were read before have another text now."""
    return not set(before) <= set(now)


OTHERWISE = (
    "a label of an enum was renamed, or a composite type altered: stored values read otherwise"
)
