"""What a key-based reading goes by: its plan, and how much of an old bookmark still holds for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pg_ingest.bookmark import Bookmark, KeyBasedBookmark, Marks, Partition, method_of
from pg_ingest.config.selection import Replication
from pg_ingest.errors import BookmarkUnusable
from pg_ingest.methods.altered import marks_now, values_changed
from pg_ingest.methods.columns import chosen_columns, key_columns
from pg_ingest.methods.partitions import came_with_rows
from pg_ingest.methods.replication_key import followed_key
from pg_ingest.postgres.row_versions import server_of
from pg_ingest.postgres.select import Condition, SelectQuery, select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.value_texts import (
    OTHERWISE,
    read_otherwise,
    tells_by_name,
    value_texts,
)
from pg_ingest.table import Column, Table


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read, settled before any row is."""

    table: Table
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    followed: Column
    where: str | None
    texts: tuple[str, ...]
    marks: Marks | None
    server: str

    @property
    def unproven_key(self) -> tuple[str, ...]:
        """The key, where only the configuration says that it is unique."""
        unique = frozenset(self.table.primary_key)
        return () if unique and unique <= frozenset(self.key) else self.key

    def begin(self) -> KeyBasedBookmark:
        """The bookmark before the first row."""
        names = tuple(column.name for column in self.columns)
        kind = self.followed.type.display
        return KeyBasedBookmark(
            *(self.followed.name, kind, None, (), names, self.where, self.key),
            texts=self.texts,
            marks=self.marks,
            server=self.server,
        )

    def query(self, *conditions: Condition) -> SelectQuery:
        """The rows that meet all conditions."""
        return select_rows(self.table, self.columns, where=self.where, bounds=conditions)


def planned(session: Session, replication: Replication, table: Table) -> Plan:
    """What to read; raises MethodUnavailable, ConfigError, PermissionMissing, SourceTableChanged."""
    columns = chosen_columns(session, replication, table)
    key = key_columns(replication, table, columns)
    followed = followed_key(session, replication, table, columns)
    texts, marks = value_texts(session, columns), marks_now(session, table, columns)
    facts = texts, marks, server_of(session)
    return Plan(table, columns, key, followed, replication.where, *facts)


def continued(bookmark: Bookmark | None, plan: Plan, notes: list[str]) -> KeyBasedBookmark | None:
    """The bookmark to go on from, None to begin anew; raise BookmarkUnusable where neither is safe."""
    if bookmark is None:
        return None
    if not isinstance(bookmark, KeyBasedBookmark):
        notes.append(f"all rows are read once: it was loaded by {method_of(bookmark)} before")
        return None
    expected = plan.begin()
    if (bookmark.column, bookmark.type) != (expected.column, expected.type):
        raise BookmarkUnusable(
            f"{plan.table.id}: the replication key is another one than before",
            detail=f"the bookmark follows {bookmark.column} ({bookmark.type}),"
            f" now it is {expected.column} ({expected.type})",
            hint=f"`pg-ingest reset {plan.table.id}` reads all rows again and replaces the stored ones",
        )
    if bookmark.key != expected.key:
        raise BookmarkUnusable(
            f"{plan.table.id}: rows are identified by other columns than before",
            detail=f"the key was ({', '.join(bookmark.key)}), now it is ({', '.join(expected.key)})",
            hint=f"`pg-ingest reset {plan.table.id}` reads all rows again and replaces the stored ones",
        )
    key = [column for column in plan.columns if column.name in plan.key]
    if tells_by_name(key) and read_otherwise(bookmark.texts, expected.texts):
        notes.append(f"all rows are read again and take the place of the stored ones: {OTHERWISE}")
        return None
    if bookmark.where != expected.where:
        notes.append(
            "all rows are read again and replace the stored ones: the row filter is another one"
        )
        return None
    if bookmark.server and expected.server and bookmark.server != expected.server:
        notes.append(
            "all rows are read again: this is another server, or it was promoted or restored, and may give out"
            " keys that were read before"
        )
        return replace(bookmark, position=None, pending=())
    return bookmark


def reads_more(
    session: Session,
    old: KeyBasedBookmark,
    plan: Plan,
    partitions: Sequence[Partition],
    notes: list[str],
) -> bool:
    """Whether rows below the position must be read again, for what they had not been read for."""
    new = [column.name for column in plan.columns if column.name not in old.columns]
    if new:
        notes.append(f"all rows are read again for the new columns {', '.join(new)}")
    altered = values_changed(old.marks, old.columns, plan.marks, plan.columns)
    if altered:
        notes.append(f"all rows are read again: {altered}")
    otherwise = read_otherwise(old.texts, plan.texts)
    if otherwise:
        notes.append(f"all rows are read again: {OTHERWISE}")
    known = partitions if old.partitions is None else old.partitions
    came = came_with_rows(session, plan.table, known, partitions)
    if came:
        notes.append(f"all rows are read again for partitions {came}")
    return bool(new or altered or otherwise or came)
