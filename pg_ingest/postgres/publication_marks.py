"""Whether a publication carried a table all the time, or only carries it again.

`ALTER PUBLICATION … DROP TABLE`, some changes, `ADD TABLE`: afterwards everything looks as before, and the
changes in between are not in the log. Nor are those made while it carried other operations, had another name or
did not exist. But each membership is a row of the catalogue with an oid of its own, and what alters the
publication itself writes its row anew, by which it gets another `xmin`; adding and dropping tables does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import LiteralString

from pg_ingest.postgres.session import Session

_MARKS: LiteralString = """
WITH line (start, oid) AS (SELECT t, t FROM unnest(%s::oid[]) AS t {ancestors})
SELECT line.start::int8, p.oid || '.' || p.xmin::text || '.' || coalesce(string_agg(m.oid::text, '.'
  ORDER BY m.oid), '')
FROM line CROSS JOIN pg_catalog.pg_publication AS p
JOIN pg_catalog.pg_class AS c ON c.oid = line.oid
LEFT JOIN (
  SELECT r.oid, r.prpubid AS publication, r.prrelid AS member FROM pg_catalog.pg_publication_rel AS r {schemas}
) AS m ON m.publication = p.oid AND m.member IN (line.oid, c.relnamespace)
WHERE p.pubname = %s GROUP BY line.start, p.oid, p.xmin::text
"""

_ANCESTORS: LiteralString = """
  UNION SELECT t, a.relid::oid FROM unnest(%s::oid[]) AS t, pg_catalog.pg_partition_ancestors(t) AS a (relid)
"""

_SCHEMAS: LiteralString = """
  UNION ALL SELECT n.oid, n.pnpubid, n.pnnspid FROM pg_catalog.pg_publication_namespace AS n
"""

_ANCESTORS_SINCE = 120000
_SCHEMAS_SINCE = 150000


def publication_marks(session: Session, name: str, oids: Collection[int]) -> Mapping[int, str]:
    """By the tables' oids: another text when the publication may not have carried all changes meanwhile.

    Nothing without the publication.
    """
    if not oids:
        return {}
    asked: list[object] = [list(oids)]
    ancestors: LiteralString = ""
    if session.server_version >= _ANCESTORS_SINCE:
        asked.append(list(oids))
        ancestors = _ANCESTORS
    schemas: LiteralString = _SCHEMAS if session.server_version >= _SCHEMAS_SINCE else ""
    query = _MARKS.format(ancestors=ancestors, schemas=schemas)
    return dict(session.rows(query, [*asked, name], what=f"looking at publication {name}"))
