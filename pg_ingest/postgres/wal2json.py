"""The plugin wal2json: which relations it lists, and what the catalogue says of those.

It has no publication: what is listed is a matter of each reading, by the relations' *names*. A partition is
listed under its own name. So before each reading the catalogue is asked which relations store the rows of
the followed tables; and because a relation that was renamed for a while wrote under a name that nobody listed,
each table has a *mark* that changes with every renaming, and with its partitions (`Tree.mark`). A table whose
mark has changed is not followed any more (`capture_log`): it joins anew and is read anew.

A renaming is seen by the row of `pg_type` for the table's row type: RENAME, SET SCHEMA and OWNER TO write it
anew, other ALTERs do not. A schema that is renamed and gets its name back in between is not seen.

An update or delete of a relation without a usable replica identity is left out of the log, with a warning.
The warning is listened for, so that it cannot be missed even when the identity was gone for a moment only.

Facts: wal2json.c of 2.5 and 2.6 (options, warnings, escapes of `add-tables`); tablecmds.c, RenameTypeInternal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pg_ingest.config.log import Plugin
from pg_ingest.decode.messages import (
    UNKNOWN_MODIFIER,
    Decoded,
    Integers,
    JsonColumn,
    Layout,
    Messages,
    Relation,
    RelationColumn,
    State,
)
from pg_ingest.decode.wal2json.blocks import Listed
from pg_ingest.decode.wal2json.decode import decode
from pg_ingest.decode.wal2json.headers import begins, commits
from pg_ingest.errors import QueryRefused
from pg_ingest.postgres.session import Session
from pg_ingest.table import ReplicaIdentity, TableId

_OPTIONS = {
    "format-version": "2",
    "include-xids": "true",
    "include-lsn": "true",
    "include-types": "false",
    "include-type-oids": "true",
    "include-column-positions": "true",
    "add-msg-prefixes": "pg_ingest",
}
_AS_STRING = {"numeric-data-types-as-string": "true"}

_MOST_NAMES = 200
"""The plugin compares each change with every name; beyond this whole schemas are listed instead."""

_NOBODY = "pg_catalog.pg_class"
"""Listed when no table is: an empty list means all, and no change of this one is ever told."""

_UNKNOWN_OPTION = "sqlstate 22023"

_PROBE = """SELECT 1 FROM pg_catalog.pg_logical_slot_peek_changes(%s, '0/1', 1,
 'format-version', '2', 'numeric-data-types-as-string', 'true')"""

_TREES = """
WITH RECURSIVE tree (root, oid, attached) AS (
  SELECT c.oid, c.oid, '' FROM pg_class AS c WHERE c.oid = ANY(%s::oid[])
  UNION ALL
  SELECT tree.root, i.inhrelid, i.xmin::text FROM tree
  JOIN pg_inherits AS i ON i.inhparent = tree.oid
  JOIN pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'p'
)
SELECT tree.root::int8, c.oid::int8, n.nspname::text, c.relname::text, c.relreplident::text, c.relkind = 'r',
  t.xmin::text || '.' || tree.attached,
  (SELECT json_agg(json_build_array(a.attnum, a.attname, a.atttypid::int8, {generated}) ORDER BY a.attnum)
   FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text,
  (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_index AS x
   JOIN pg_attribute AS a ON a.attrelid = x.indrelid
    AND a.attnum = ANY((x.indkey::int2[])[0:x.indnkeyatts - 1])
   WHERE x.indrelid = c.oid AND x.indisvalid AND x.indimmediate
    AND (c.relreplident = 'd' AND x.indisprimary OR c.relreplident = 'i' AND x.indisreplident))
FROM tree JOIN pg_class AS c ON c.oid = tree.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_type AS t ON t.oid = c.reltype
ORDER BY tree.root, c.oid
"""

_IDENTITIES = {
    "d": ReplicaIdentity.DEFAULT,
    "n": ReplicaIdentity.NOTHING,
    "f": ReplicaIdentity.FULL,
    "i": ReplicaIdentity.INDEX,
}


@dataclass(frozen=True, slots=True)
class Member:
    """A relation as it is now: a table, a partition, or what stands between."""

    oid: int
    id: TableId
    identity: ReplicaIdentity
    stores_rows: bool
    mark: str
    columns: tuple[JsonColumn, ...]
    generated: frozenset[int]
    key: tuple[str, ...]

    @property
    def layout(self) -> Layout:
        """What messages of it list, as far as the catalogue knows now."""
        full = self.identity is ReplicaIdentity.FULL
        names = tuple(column.name for column in self.columns)
        return Layout(self.columns, names if full else self.key)


@dataclass(frozen=True, slots=True)
class Tree:
    """A followed table, and with a partitioned one all that is below it."""

    root: Member
    members: tuple[Member, ...]

    @property
    def mark(self) -> str:
        """Another text after a renaming, and when partitions came or went."""
        facts = [(each.oid, str(each.id), each.mark) for each in self.members]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def read_trees(session: Session, oids: Collection[int]) -> dict[int, Tree]:
    """The relations of these tables (and partitioned tables), by the tables' oids."""
    generated = "a.attgenerated <> ''" if session.server_version >= 120000 else "false"
    members: dict[int, list[Member]] = {}
    rows = session.rows(
        _TREES.format(generated=generated), (list(oids),), what="looking up what the log lists"
    )
    for root, oid, schema, name, identity, stores_rows, mark, columns, key in rows:
        listed = json.loads(columns or "[]")
        member = Member(
            oid=oid,
            id=TableId(schema, name),
            identity=_IDENTITIES[identity],
            stores_rows=stores_rows,
            mark=mark,
            columns=tuple(JsonColumn(number, column, kind) for number, column, kind, _ in listed),
            generated=frozenset(number for number, _, _, is_generated in listed if is_generated),
            key=tuple(key or ()),
        )
        members.setdefault(root, []).append(member)
    return {
        root: Tree(next(each for each in below if each.oid == root), tuple(below))
        for root, below in members.items()
    }


@dataclass(frozen=True, slots=True)
class Wal2Json:
    """See `plugin.LogPlugin`; `says_all`: it has and uses `numeric-data-types-as-string`."""

    listed: Mapping[TableId, Listed]
    known: State
    says_all: bool
    name: Plugin = Plugin.WAL2JSON
    textual: bool = True
    _roots: Mapping[str, int] = field(default_factory=dict)
    _silent: set[int] = field(default_factory=set)

    @property
    def options(self) -> Mapping[str, str]:
        """See LogPlugin."""
        chosen = {**_OPTIONS, "add-tables": _add_tables(self.listed)}
        return {**chosen, **_AS_STRING} if self.says_all else chosen

    def begin(self) -> State:
        """The layouts that were known after the last capture, brought up to the catalogue's."""
        return self.known

    def decode(self, messages: Messages, state: State) -> Decoded:
        """See `decode.wal2json`."""
        return decode(messages, state, self.listed, says_all=self.says_all)

    def begins(self, messages: Messages) -> tuple[Integers, Integers]:
        """See LogPlugin."""
        return begins(messages)

    def commits(self, messages: Messages) -> Integers:
        """See LogPlugin."""
        return commits(messages)

    def heard(self, notice: str) -> None:
        """Remember the table of `no tuple identifier for UPDATE in table "public"."t"` and the like."""
        about, _, name = notice.partition(" in table ")
        if about.startswith(("no tuple ", "no old tuple ")) and name in self._roots:
            self._silent.add(self._roots[name])

    def unclear(self) -> frozenset[int]:
        """See LogPlugin."""
        found = frozenset(self._silent)
        self._silent.clear()
        return found


def says_all(session: Session, slot: str) -> bool:
    """Whether the server's wal2json can tell NaN from NULL (2.6 and newer); the slot stays where it is.

    Raises what `faults` makes of a failure.
    """
    try:
        session.rows(_PROBE, (slot,), what=f"asking what slot {slot} can tell")
    except QueryRefused as error:
        if _UNKNOWN_OPTION not in error.detail:
            raise
        return False
    return True


def wal2json(
    trees: Mapping[int, Tree], layouts: Mapping[int, Layout], *, says_all: bool
) -> Wal2Json:
    """The plugin for one capture of these tables; `layouts` are those known after the last one."""
    listed: dict[TableId, Listed] = {}
    known: dict[int, Layout] = {}
    relations: dict[int, Relation] = {}
    for tree in trees.values():
        root = tree.root
        order = tuple(c.name for c in root.columns if c.position not in root.generated)
        relations[root.oid] = _relation(root)
        for member in tree.members:
            listed[member.id] = Listed(
                oid=member.oid,
                root=root.oid,
                id=root.id,
                order=order,
                generated=member.generated,
                live=frozenset(column.position for column in member.columns),
                identity=member.identity,
            )
            known[member.oid] = _renewed(layouts.get(member.oid), member)
    state = State(MappingProxyType(relations), None, MappingProxyType(known))
    roots = {f'"{each.schema}"."{each.name}"': listed[each].root for each in listed}
    return Wal2Json(listed, state, says_all, _roots=roots)


def _relation(root: Member) -> Relation:
    key = frozenset(root.layout.identity)
    columns = tuple(
        RelationColumn(each.name, each.type_oid, UNKNOWN_MODIFIER, each.name in key)
        for each in root.columns
        if each.position not in root.generated
    )
    return Relation(root.oid, root.id, root.identity, columns)


def _renewed(known: Layout | None, member: Member) -> Layout:
    """The known columns with the names and types of now; those that came since will show themselves.

    A column that is gone is kept for what was logged before, unless whole old rows list what there is.
    What a message leaves out may have got another type meanwhile. With the type of now the change of type is
    seen at once, and the table read anew if its values changed.
    """
    if known is None:
        return member.layout
    now = {column.position: column for column in member.columns}
    names = {column.name for column in member.columns}
    columns = tuple(
        now.get(column.position, column)
        for column in known.columns
        if column.position in now or not (column.name in names or member.layout.whole)
    )
    left = {column.name for column in columns}
    return Layout(columns, tuple(name for name in member.layout.identity if name in left))


def _add_tables(listed: Mapping[TableId, Listed]) -> str:
    if not listed:
        return _NOBODY
    if len(listed) <= _MOST_NAMES:
        names = [f"{_escaped(each.schema)}.{_escaped(each.name)}" for each in sorted(listed)]
        return ",".join(names)
    schemas = sorted({table.schema for table in listed})
    if len(schemas) <= _MOST_NAMES:
        return ",".join(f"{_escaped(schema)}.*" for schema in schemas)
    return "*.*"


def _escaped(name: str) -> str:
    """With a backslash before everything that the plugin might take for something else."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"\\{c}" for c in name)
