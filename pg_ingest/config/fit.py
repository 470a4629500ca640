"""Whether a chosen relation can be replicated as it is configured, judged by the catalogue.

A replication key must be able to say "later": its values must be comparable and grow with time.
Integers, numerics, dates and timestamps are taken as they are; texts and UUIDs only grow when the
application makes them so (ULID, UUID version 7), hence a warning; what PostgreSQL cannot order, or
orders by something else than time (booleans, JSON, bytes, floats with NaN, times of day, arrays), is
refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pg_ingest.config.choice import Chosen
from pg_ingest.config.method import Method
from pg_ingest.config.model import SourceConfig, TableConfig
from pg_ingest.config.naming import RESERVED_PREFIX
from pg_ingest.config.problem import Problem, nearest
from pg_ingest.config.table_rules import needed_columns
from pg_ingest.table import PgType, RelationKind, Table, TypeKind

_GROWING = frozenset({"int2", "int4", "int8", "numeric", "date", "timestamp", "timestamptz"})
_MAY_GROW = frozenset({"text", "varchar", "bpchar", "uuid"})
_MOMENTS = frozenset({"date", "timestamp", "timestamptz"})
_BY_ROW_VERSION = frozenset({Method.XMIN, Method.DELTA_SNAPSHOT})
_NEED_KEY = _BY_ROW_VERSION | {Method.KEY_BASED}
_VIEWS = frozenset({RelationKind.VIEW, RelationKind.MATERIALIZED_VIEW})


def judge(source: SourceConfig, choice: Chosen) -> tuple[list[Problem], list[str]]:
    """Problems and warnings of one chosen relation; none when no catalogue knows it."""
    problems: list[Problem] = []
    warnings: list[str] = []
    whole = len(choice.found)
    counts: dict[Problem, int] = {}
    for _, table in choice.found:
        found, more = _judge_one(source, choice, table)
        warnings += more
        for problem in found:
            counts[problem] = counts.get(problem, 0) + 1
    for problem, count in counts.items():
        if count == whole:
            problems.append(problem)
        else:
            warnings.append(f"in {count} of {whole} databases {problem.text()}")
    return problems, list(dict.fromkeys(warnings))


def _judge_one(
    source: SourceConfig, choice: Chosen, table: Table
) -> tuple[list[Problem], list[str]]:
    method = choice.settings.method or source.method
    unknown = list(_unknown_columns(choice, table))
    problems = [*unknown, *_kind(choice, table, method), *_reserved(choice, table)]
    warnings: list[str] = []
    if not unknown:
        problems += _keys(choice, table, method)
        problems += _window(choice, table)
        growth, warnings = _growth(choice, table)
        problems += growth
    return problems, warnings


def _unknown_columns(choice: Chosen, table: Table) -> Iterator[Problem]:
    names = [column.name for column in table.columns]
    settings = choice.settings
    lists = [
        ("columns", settings.columns or ()),
        ("exclude_columns", settings.exclude_columns or ()),
    ]
    for what, wanted in (*lists, *needed_columns(settings)):
        for name in wanted:
            if name not in names:
                close = nearest(name, names, 3)
                near = f"did you mean {' or '.join(close)}?" if close else f"it has {_some(names)}"
                place = (*choice.path, what)
                yield Problem(place, f"{table.id} has no column {name}", near)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")


def _kind(choice: Chosen, table: Table, method: Method | None) -> Iterator[Problem]:
    by_log = method is Method.LOG_BASED
    if by_log and (table.kind in _VIEWS or table.kind is RelationKind.FOREIGN):
        yield Problem(
            choice.path,
            f"{table.id} is a {table.kind}, which writes no log",
            "write `method: full_table` or `method: key_based` for it, or exclude it",
        )
    versioned = method in _BY_ROW_VERSION
    if versioned and table.kind in (RelationKind.VIEW, RelationKind.FOREIGN):
        yield Problem(
            choice.path,
            f"{table.id} is a {table.kind}, whose rows do not say which transaction wrote them",
            "write `method: full_table` or `method: key_based` for it, or exclude it",
        )


def _reserved(choice: Chosen, table: Table) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for name in arriving(choice.settings, table):
        if name.casefold().startswith(RESERVED_PREFIX):
            yield Problem(
                choice.path,
                f"{table.id} has the column {name}, and names that start with "
                f"{RESERVED_PREFIX} are reserved",
                f"leave it out: `exclude_columns: [{name}]`",
            )
        twin = first.setdefault(name.casefold(), name)
        if twin != name:
            yield Problem(
                choice.path,
                f"{table.id} has the columns {twin} and {name}, one name in the destination",
                f"leave one out: `exclude_columns: [{name}]`",
            )
    if not first:
        yield Problem(choice.path, f"no column of {table.id} is left", "leave out fewer columns")


def arriving(settings: TableConfig, table: Table) -> list[str]:
    """The columns of the table that the settings take, in the table's order."""
    names = [column.name for column in table.columns]
    if settings.columns is not None:
        return [name for name in names if name in settings.columns]
    return [name for name in names if name not in (settings.exclude_columns or ())]


def _keys(choice: Chosen, table: Table, method: Method | None) -> Iterator[Problem]:
    settings = choice.settings
    declared = bool(settings.key or settings.row_identifier_key or settings.update_key)
    if method is None or method is Method.FULL_TABLE or declared:
        return
    if method in _NEED_KEY and not table.primary_key:
        what = "view" if table.kind in _VIEWS else "table without a primary key"
        yield Problem(
            choice.path,
            f"{table.id} is a {what}, and {method} needs a key",
            "name the columns that identify a row: `key: [id]`, or write `method: full_table`",
        )
    here = set(arriving(choice.settings, table))
    missing = [name for name in table.primary_key if name not in here]
    if missing:
        yield Problem(
            choice.path,
            f"{', '.join(missing)} of the primary key of {table.id} is left out",
            "add it to columns, or take it from exclude_columns",
        )


def _growth(choice: Chosen, table: Table) -> tuple[list[Problem], list[str]]:
    name = choice.settings.replication_key
    if name is None:
        return [], []
    column_type = table.column(name).type
    base = column_type.kind is TypeKind.BASE
    if base and column_type.name in _GROWING:
        return [], []
    if base and column_type.name in _MAY_GROW:
        return [], [
            f"{choice.path[1]}: {table.id}: the replication key {name} is {column_type.display}: "
            "only values that grow with time (ULID, UUID version 7) are found by it"
        ]
    return [
        Problem(
            (*choice.path, "replication_key"),
            f"{table.id}.{name} is {column_type.display}, which cannot say what is newer",
            "name an integer, numeric, date or timestamp column, or write `method: full_table`",
        )
    ], []


def _window(choice: Chosen, table: Table) -> Iterator[Problem]:
    window = choice.settings.partition_by
    if window is None:
        return
    column_type: PgType = table.column(window.column).type
    if column_type.kind is not TypeKind.BASE or column_type.name not in _MOMENTS:
        yield Problem(
            (*choice.path, "partition_by", "column"),
            f"{table.id}.{window.column} is {column_type.display}, not a date or timestamp",
            "name a date or timestamp column, or remove partition_by",
        )
