"""Which pages of a table the method `xmin` need not read, because they have not changed since the last sync.

A sync looks at every row, although mostly few pages hold new ones. PostgreSQL knows which pages have been
quiet: VACUUM marks them in the visibility map. It is tempting to skip those that are marked *frozen*, since
VACUUM freezes only rows that are `vacuum_freeze_min_age` transactions old. **That loses rows, on every
version.** The age is a setting of whoever vacuums: `VACUUM (FREEZE)` and `SET vacuum_freeze_min_age = 0` freeze
what was committed a moment ago (and since 16 any VACUUM does, when it writes the page anyway). Nothing an
ordinary role can see tells of it: when such a VACUUM is cancelled, or skips pages, `relfrozenxid` stays
where it was, and no statistics count it (`test_what_frozen_pages_would_lose` shows the lost row). So the bit
"frozen" is never asked here, neither by `pg_visibility` nor otherwise, and there is no promise for the user
to keep.

What can be proved is when a mark was *made* (`postgres/visibility_map.py`): the map's page is stamped with the
place in the log where a mark on it was last made.

*Rule.* Before its snapshot `S` a sync notes how far the log is on disk, `L`. The next sync takes its snapshot
`T`, and then asks for the map. It skips a page that is marked visible to all, if the map's page is stamped `L`
or earlier.

*Claim.* A row version that `T` sees and `S` did not is on no page that is skipped. *Proof.* Let `p` be its
page. Its writer cleared the mark of `p` in the same critical section that put it there, before it committed, so
before `T` was taken, so before the map was asked. If `p` is marked then, VACUUM has marked it since. VACUUM
marks a page only when all versions on it are of transactions that have ended and are below the oldest one that
anybody runs. `S` did not see the writer end; so VACUUM made that mark after `S`, and wrote it to the log beyond
`L`, which was on disk before `S`. The map's page is stamped with that place or a later one, and `p` is read.

On a standby `L` is what was replayed before `S`; marks are replayed after the commits of what they stand for.

**A server that crashes** has everything up to `L` again, for it was on disk, and what it writes afterwards
is beyond `L`. A page of the map that was written in part is whole again after recovery: the first mark on it
after a checkpoint puts all of it into the log (`full_page_writes`); clearing is replayed with the change
itself. Where the past is another one (a restored backup, a promotion, another file of the table) all rows are
read anyway; see `outdated.why_everything`.

**What it saves.** Where VACUUM has not been since the last sync, all but the changed pages and those that are
not marked at all; where it has been, nothing of the 255 MB around. Autovacuum comes to a table when a fifth of
it has changed, so most syncs of a large table find few pages to read.

Not for partitioned tables (their pages are those of many tables), unlogged ones (their map is not in the log),
groups of rows, nor with a row filter that an index may serve better.
"""

from __future__ import annotations

from pg_ingest.config.selection import Replication
from pg_ingest.methods.changed_rows import Plan, Start
from pg_ingest.postgres import visibility_map
from pg_ingest.postgres.ranges import places_are_shown
from pg_ingest.postgres.row_versions import Either
from pg_ingest.postgres.select import SelectQuery
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.visibility_function import obstacle
from pg_ingest.postgres.visibility_map import pages_changed, rows_on_pages
from pg_ingest.table import RelationKind, Table, TableId

LEAST_PAGES = 1000
"""A smaller table (8 MB) is read whole in less time than it takes to ask."""

_WORTH = 0.8
"""Where more than this part of the pages must be read, the table is read from end to end."""

_SELECTIVE = 5
"""A row filter that leaves less than one row in so many may use an index."""

_WITH_A_MAP = frozenset({RelationKind.TABLE, RelationKind.MATERIALIZED_VIEW})


def why_not(session: Session, replication: Replication, table: Table) -> str:
    """Why all pages are read, though the configuration names a function: "" where they need not be.

    Raises what the session raises.
    """
    if replication.visibility_map is None:
        return "no `visibility_map` is configured"
    if not visibility_map.may_be_trusted(session):
        return "pages are skipped on PostgreSQL 14 and 15 only"
    if table.kind not in _WITH_A_MAP or table.unlogged:
        kind = "unlogged table" if table.unlogged else table.kind.value
        return f"of a {kind} no pages are skipped"
    if not places_are_shown(session, table):
        return f"user {session.role} may not read the column ctid of {table.id}"
    return obstacle(session, TableId.parse(replication.visibility_map))


def position(session: Session, replication: Replication, table: Table) -> str:
    """What a bookmark must remember so that the next sync may skip pages; "" where it may not.

    To be asked before the snapshot is taken.
    """
    return "" if why_not(session, replication, table) else visibility_map.position(session)


def changed_rows(
    session: Session, replication: Replication, plan: Plan, start: Start
) -> tuple[SelectQuery, str]:
    """The rows written since the bookmark, from as few pages as possible, and a note on how many these are.

    To be asked in the snapshot they are read in.
    """
    whole, old = plan.rows(Either(start.changed)), start.old
    if replication.visibility_map is None or old is None or not old.mapped or plan.grouped:
        return whole, ""
    if why_not(session, replication, plan.table) or _has_better(session, plan):
        return whole, ""
    function = TableId.parse(replication.visibility_map)
    pages = pages_changed(session, function, plan.table, old.mapped)
    if pages.total < LEAST_PAGES or pages.changed > _WORTH * pages.total:
        return whole, ""
    query = rows_on_pages(
        plan.table,
        plan.columns,
        pages.ranges,
        where=plan.where,
        bounds=[Either(start.changed)],
    )
    skipped = pages.total - pages.changed
    return (
        query,
        f"{skipped:,} of {pages.total:,} pages were skipped, unchanged since the last sync",
    )


def _has_better(session: Session, plan: Plan) -> bool:
    """Whether the row filter leaves so few rows that the server may find them by an index."""
    if plan.where is None:
        return False
    return session.explain(plan.rows()).rows * _SELECTIVE < plan.table.estimated_rows
