"""What one source's role must be able to do, from the configuration and, if there is one, its catalogue.

With a catalogue every table is known by name. Without, the names in the configuration are, and patterns,
`select_all` and `exclude_columns` stay open: the script then lets the server itself say what they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pg_ingest.config.log import HeartbeatMode, Plugin
from pg_ingest.config.method import Method
from pg_ingest.config.model import IngestConfig, SourceConfig, is_pattern
from pg_ingest.config.selection import Replication, select
from pg_ingest.table import RelationKind, SourceCatalog, Table, TableId

_HIDDEN = {
    Method.FULL_TABLE: ("ctid",),
    Method.LOG_BASED: ("ctid",),
    Method.XMIN: ("ctid", "xmin", "tableoid"),
    Method.DELTA_SNAPSHOT: ("ctid", "xmin", "tableoid"),
    Method.SNAPSHOT_DIFF: ("ctid",),
}
"""Hidden columns that a method reads: `ctid` to read a table in ranges, `xmin` to find changed rows, `tableoid`
to read those of a partition."""

_PARTITIONS = ("tableoid", "xmin", "xmax", "cmin")
"""With the log, a partition that is attached with its rows is recognised by these."""


@dataclass(frozen=True, slots=True)
class TableNeed:
    """One table that must be readable.

    Attributes:
        columns: only these, hidden ones among them; None for all.
        logged: it is followed by the log.
        more: a pattern takes it, which will take tables to come as well.
    """

    table: TableId
    columns: tuple[str, ...] | None
    logged: bool
    more: bool = False


@dataclass(frozen=True, slots=True)
class OpenNeed:
    """Tables that only the server can name.

    Attributes:
        matching, but_not: regular expressions (PostgreSQL's) over `schema.table`; None: no condition.
        kinds: of `pg_class.relkind`.
        only, without: columns that are read, columns that are not; None and () for all.
        also: names that the row filter may read, of columns if there are such.
        hidden: hidden columns, where columns are chosen.
        logged, more: as of TableNeed.
    """

    matching: str | None
    but_not: str | None
    kinds: str
    only: tuple[str, ...] | None
    without: tuple[str, ...]
    also: tuple[str, ...]
    hidden: tuple[str, ...]
    logged: bool
    more: bool

    @property
    def restricted(self) -> bool:
        """Whether not all columns are read."""
        return self.only is not None or bool(self.without)


@dataclass(frozen=True, slots=True)
class DatabaseNeeds:
    """One database; `name` None stands for each that the patterns of `databases` fit."""

    name: str | None
    tables: tuple[TableNeed, ...]
    open: tuple[OpenNeed, ...]

    @property
    def logged(self) -> bool:
        """Whether any of its tables is followed by the log."""
        return any(t.logged for t in self.tables) or any(o.logged for o in self.open)

    @property
    def more(self) -> bool:
        """Whether tables that are made later will be taken too."""
        return any(t.more for t in self.tables) or any(o.more for o in self.open)


@dataclass(frozen=True, slots=True)
class Needs:
    """Everything the script is made from."""

    source: str
    settings: SourceConfig
    databases: tuple[DatabaseNeeds, ...]
    known: bool

    @property
    def logged(self) -> bool:
        """Whether any table is followed by the log."""
        return any(each.logged for each in self.databases)

    @property
    def publishes(self) -> bool:
        """Whether the plugin reads a publication."""
        return self.logged and self.settings.log.plugin is Plugin.PGOUTPUT

    @property
    def heartbeat(self) -> TableId | None:
        """The table that heartbeats are written to."""
        beat = self.settings.log.heartbeat
        if not self.logged or beat is None or beat.mode is not HeartbeatMode.TABLE:
            return None
        return TableId.parse(str(beat.table))


def needs_of(config: IngestConfig, source: str, catalog: SourceCatalog | None) -> Needs:
    """What the role of `source` needs. Raises ConfigError as `select`."""
    settings = config.sources[source]
    selection = select(config, source, catalog)
    if catalog is None:
        found: list[DatabaseNeeds] = [
            DatabaseNeeds(
                name,
                tuple(_named(settings, selection.replications)),
                tuple(_open(settings, selection.replications)),
            )
            for name in (settings.fixed_databases or (None,))
        ]
        return Needs(source, settings, tuple(found), known=False)
    known = []
    for name in selection.databases:
        database = catalog.database(name)
        if database is None:
            continue
        pairs = [(r, table) for r in selection.replications if (table := database.table(r.table))]
        tables = tuple(_described(settings, *pair) for pair in pairs)
        known.append(DatabaseNeeds(name, tables, ()))
    return Needs(source, settings, tuple(known), known=True)


def _described(settings: SourceConfig, replication: Replication, table: Table) -> TableNeed:
    logged = replication.method is Method.LOG_BASED
    more = str(table.id) not in settings.tables
    if replication.columns is None and not replication.exclude_columns:
        return TableNeed(table.id, None, logged, more)
    read = {
        column.name
        for column in table.columns
        if (replication.columns is None or column.name in replication.columns)
        and column.name not in replication.exclude_columns
    }
    read |= set(names_in(replication.where))
    names = [column.name for column in table.columns if column.name in read]
    hidden: tuple[str, ...] = ()
    if table.kind in (RelationKind.TABLE, RelationKind.PARTITIONED):
        hidden = hidden_columns(
            replication.method, partitioned=table.kind is RelationKind.PARTITIONED
        )
    return TableNeed(table.id, (*names, *hidden), logged, more)


def names_in(where: str | None) -> tuple[str, ...]:
    """What could be names of columns in a row filter: its words outside of texts, as the server folds them.

    Whoever filters by a column must be allowed to read it, also where it is not replicated.
    """
    outside = re.sub(r"'(?:[^']|'')*'", " ", where or "")
    quoted = [name.replace('""', '"') for name in re.findall(r'"((?:[^"]|"")+)"', outside)]
    words = re.findall(r"[^\W\d][\w$]*", re.sub(r'"(?:[^"]|"")+"', " ", outside))
    return tuple(dict.fromkeys((*quoted, *(word.lower() for word in words))))


def hidden_columns(method: Method, *, partitioned: bool) -> tuple[str, ...]:
    """Hidden columns that a method reads of a table; a grant of single columns must name them too."""
    more = _PARTITIONS if partitioned and method is Method.LOG_BASED else ()
    return tuple(dict.fromkeys((*_HIDDEN.get(method, ()), *more)))


def _named(settings: SourceConfig, replications: tuple[Replication, ...]) -> Iterator[TableNeed]:
    """Tables with a name and all their columns, in the one database there is."""
    if settings.fixed_databases is None or len(settings.databases) > 1:
        return
    for each in replications:
        if each.columns is None and not each.exclude_columns:
            yield TableNeed(each.table, None, each.method is Method.LOG_BASED)


def _open(settings: SourceConfig, replications: tuple[Replication, ...]) -> Iterator[OpenNeed]:
    """What is left: columns to be chosen, several databases, patterns and `select_all`."""
    named = {each.table for each in _named(settings, replications)}
    for each in replications:
        if each.table not in named:
            yield OpenNeed(
                _either([re.escape(str(each.table))]),
                None,
                "rpvmf",
                each.columns,
                each.exclude_columns,
                names_in(each.where),
                hidden_columns(each.method, partitioned=True),
                logged=each.method is Method.LOG_BASED,
                more=False,
            )
    taken = [re.escape(str(each.table)) for each in replications]
    patterns = [text for text in settings.tables if is_pattern(text)]
    for text in patterns:
        table = settings.tables[text]
        method = table.method or settings.method or Method.FULL_TABLE
        yield OpenNeed(
            _either([_translated(text)]),
            _either([*taken, *map(_translated, settings.exclude)]),
            "rpvm",
            table.columns,
            table.exclude_columns or (),
            names_in(table.where),
            hidden_columns(method, partitioned=True),
            logged=method is Method.LOG_BASED,
            more=True,
        )
    if settings.select_all:
        others = [*taken, *map(_translated, (*patterns, *settings.exclude))]
        logged = settings.method is Method.LOG_BASED
        yield OpenNeed(None, _either(others), "rp", None, (), (), (), logged, more=True)


def _either(expressions: list[str]) -> str | None:
    return f"^({'|'.join(expressions)})$" if expressions else None


def _translated(pattern: str) -> str:
    """A shell pattern as a regular expression that PostgreSQL reads."""
    pieces = re.findall(r"\[!?\]?[^\]]*\]|.", pattern, re.DOTALL)
    return "".join(_piece(piece) for piece in pieces)


def _piece(piece: str) -> str:
    if piece == "*":
        return ".*"
    if piece == "?":
        return "."
    if len(piece) > 1:
        inside = piece[1:-1].replace("\\", "\\\\")
        return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    return re.escape(piece)
