"""What rows hold in a column that was added without rewriting them.

Source: `atthasmissing` and `attmissingval` in https://www.postgresql.org/docs/current/catalog-pg-attribute.html
(from version 11; before, a default always rewrote the table).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pg_ingest.postgres.session import Session

_MISSING = """
SELECT attnum::int, (attmissingval::text::text[])[1] FROM pg_catalog.pg_attribute
WHERE attrelid = %s::oid AND attnum = ANY(%s::int2[]) AND atthasmissing AND NOT attisdropped
"""


def missing_values(
    session: Session, relation_oid: int, attnums: Sequence[int]
) -> Mapping[int, str]:
    """attnum → the text of the value that rows from before the column have; absent where it is NULL."""
    if not attnums or session.server_version < 110000:
        return {}
    what = "looking up the values of added columns"
    return dict(session.rows(_MISSING, (relation_oid, list(attnums)), what=what))
