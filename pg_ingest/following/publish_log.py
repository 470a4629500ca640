"""The publication of one database in step with its log-based tables; one bad table keeps nobody out.

Each table is followed under *terms*: what the configuration asks for (columns, row filter), and what of it the
publication does. Whatever changes them ends the following before it is changed, as a table that leaves does
(`changelog/followed.py`): so everything that is captured of a followed table was published under the same
terms.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pg_ingest.changelog.chosen import Chosen
from pg_ingest.changelog.followed import Followed
from pg_ingest.config.selection import Replication
from pg_ingest.errors import PermissionMissing, PgIngestError, SlotUnusable
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.publication import (
    Publication,
    keep_publication,
    read_publication,
)
from pg_ingest.postgres.publication_parts import (
    PARTS_VERSION,
    WHOLE,
    Narrowed,
    Part,
    add_part,
    harms_writes,
    read_narrowed,
    read_parts,
)
from pg_ingest.postgres.publishable import refusals
from pg_ingest.postgres.row_filter import check_row_filter, same_filter
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table, TableId


def unpublishable(
    session: Session,
    now: Publication | None,
    tables: Sequence[Table],
    replications: Mapping[TableId, Replication],
) -> dict[TableId, PgIngestError]:
    """Why some of the tables must not be in this publication (None: in one that we make)."""
    if now is None or now.ours:
        carried = frozenset() if now is None else now.tables
        return dict(refusals(session, tables, carried=carried))
    found: dict[TableId, PgIngestError] = {
        **refusals(session, tables, now.operations, carried=now.tables)
    }
    narrowed = read_narrowed(session, now.name)
    for table in tables:
        if table.id in narrowed and table.id not in found:
            try:
                replication = replications[table.id]
                _check_whole(session, now.name, replication, table, narrowed[table.id])
            except PgIngestError as error:
                found[table.id] = error
    return found


def _check_whole(
    session: Session, publication: str, replication: Replication, table: Table, narrowed: Narrowed
) -> None:
    """Raise SlotUnusable when changes of rows or columns that we want are not published."""
    wanted = chosen_of(replication)
    missing = [
        column.name
        for column in table.columns
        if not column.generated
        and wanted.keeps(column.name)
        and column.name not in narrowed.columns
    ]
    if missing:
        raise SlotUnusable(
            f"publication {publication} carries only a part of {table.id}",
            detail=f"it lacks its columns {', '.join(missing[:5])}; their changes would be missed without a"
            " word",
            hint="publish the whole table, or leave the columns out with `exclude_columns`",
        )
    theirs = narrowed.filter
    if theirs is None:
        return
    if replication.where is None or not same_filter(session, table, replication.where, theirs):
        raise SlotUnusable(
            f"publication {publication} carries only a part of {table.id}",
            detail=f"it has the row filter {theirs}; changes of other rows would be missed without a word",
            hint="write the same condition as this table's `where`, or publish the whole table",
        )


def chosen_of(replication: Replication) -> Chosen:
    """The columns that the configuration lets into the change log."""
    only = None if replication.columns is None else frozenset(replication.columns)
    return Chosen(only, frozenset(replication.exclude_columns))


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms tables are published now, and what is asked for.

    Attributes:
        published: the tables that are not published whole; filters as the server prints them.
        wanted: what should be published of each table, filters as the user wrote them.
        asked: what decides over it, in one text for each table; "" for a whole table and all operations.
    """

    published: Mapping[TableId, Part]
    wanted: Mapping[TableId, Part]
    asked: Mapping[TableId, str]

    def hold(self, session: Session, table: Table, entry: Followed) -> bool:
        """Whether a followed table is still published as it was, and need not be published otherwise."""
        part, wanted = self.published.get(table.id, WHOLE), self.wanted[table.id]
        if entry.asked != self.asked[table.id] or entry.filter != part.filter:
            return False
        if entry.listed is not (part.columns is not None):
            return False
        if entry.listed and part.columns != wanted.columns:
            return False
        return wanted == WHOLE or part == WHOLE or not harms_writes(session, table)

    def entry(self, table: Table, since: Lsn) -> Followed:
        """What is remembered of a table that is followed from here on."""
        part = self.published.get(table.id, WHOLE)
        listed = part.columns is not None
        return Followed(table.id, table.oid, since, self.asked[table.id], listed, part.filter)


def terms_of(
    session: Session,
    now: Publication | None,
    tables: Collection[Table],
    replications: Mapping[TableId, Replication],
) -> Terms:
    """The terms before the publication is brought in step."""
    ours = now is None or (now.ours and not now.all_tables)
    narrow = ours and session.log.narrow and session.server_version >= PARTS_VERSION
    missing = () if now is None else now.missing_operations
    published: dict[TableId, Part] = {}
    if now is not None and ours:
        published = read_parts(session, now.name)
    elif now is not None:
        found = read_narrowed(session, now.name)
        published = {t: Part(filter=part.filter) for t, part in found.items() if part.filter}
    wanted = {t.id: _wanted(t, replications[t.id]) if narrow else WHOLE for t in tables}
    asked = {t.id: _asked(replications[t.id], missing, narrow=narrow) for t in tables}
    return Terms(published, wanted, asked)


def terms_of_whole(tables: Collection[Table], replications: Mapping[TableId, Replication]) -> Terms:
    """The terms of tables whose changes all come, without a publication."""
    asked = {table.id: _asked(replications[table.id], (), narrow=False) for table in tables}
    return Terms({}, dict.fromkeys(asked, WHOLE), asked)


def _wanted(table: Table, replication: Replication) -> Part:
    chosen = chosen_of(replication)
    names = [column.name for column in table.columns if not column.generated]
    columns = None if chosen == Chosen() else frozenset(filter(chosen.keeps, names))
    return Part(columns or None, replication.where)


def _asked(replication: Replication, missing: Sequence[str], *, narrow: bool) -> str:
    parts = {
        "columns": replication.columns,
        "exclude_columns": replication.exclude_columns or None,
        "where": replication.where,
    }
    facts = {name: part for name, part in parts.items() if part is not None}
    if facts and narrow:
        facts["narrow"] = "yes"
    if missing:
        facts["without"] = tuple(missing)
    return json.dumps(facts) if facts else ""


def invalid_filters(
    session: Session, tables: Collection[Table], replications: Mapping[TableId, Replication]
) -> dict[TableId, PgIngestError]:
    """The tables whose row filter cannot hold in the log, and why."""
    found: dict[TableId, PgIngestError] = {}
    for table in tables:
        replication = replications[table.id]
        if replication.where is None:
            continue
        chosen = chosen_of(replication)
        columns = [c for c in table.columns if chosen.keeps(c.name) and not c.generated]
        try:
            check_row_filter(session, table, columns, replication.where)
        except PgIngestError as error:
            found[table.id] = error
    return found


def publish(
    session: Session,
    name: str,
    now: Publication | None,
    good: Mapping[TableId, Table],
    terms: Terms,
    kept: Collection[TableId] = (),
) -> tuple[Publication, dict[TableId, PgIngestError]]:
    """Keep the publication, and tell which of the tables it cannot carry, and why.

    `kept` are published under terms that hold. Raises PermissionMissing when we may not make it at all.
    """
    if now is not None and not (now.ours and not now.all_tables):
        return now, _lacking(session, now, good)
    apart = {
        table: good[table]
        for table in sorted(good)
        if table not in kept and (terms.wanted[table] != WHOLE or table in terms.published)
    }
    whole = {table: good[table] for table in good if table not in apart}
    refused: dict[TableId, PgIngestError] = {}
    try:
        found = keep_publication(session, name, list(whole.values()))
    except PermissionMissing:
        if now is None:
            raise
        found, refused = _one_by_one(session, now, whole)
    for table in apart.values():
        try:
            add_part(session, name, table, terms.wanted[table.id])
        except PgIngestError as error:
            refused[table.id] = error
    return (read_publication(session, name) or found) if apart else found, refused


def _lacking(
    session: Session, now: Publication, good: Mapping[TableId, Table]
) -> dict[TableId, PgIngestError]:
    found: dict[TableId, PgIngestError] = {}
    for table in good.values():
        try:
            keep_publication(session, now.name, [table])
        except SlotUnusable as error:
            found[table.id] = error
    return found


def _one_by_one(
    session: Session, now: Publication, good: Mapping[TableId, Table]
) -> tuple[Publication, dict[TableId, PgIngestError]]:
    refused: dict[TableId, PgIngestError] = {}
    kept = {table: good[table] for table in good if table in now.tables}
    result = keep_publication(session, now.name, list(kept.values()))
    for table in (good[each] for each in good if each not in kept):
        try:
            result = keep_publication(session, now.name, [*kept.values(), table])
            kept[table.id] = table
        except PermissionMissing as error:
            refused[table.id] = error
    return result, refused
