"""What the settings of one table mean together, and with those of its source."""

from __future__ import annotations

from collections.abc import Iterator

from pg_ingest.config.available import LATER_SHAPES, available, not_yet, offered
from pg_ingest.config.method import Method, Shape
from pg_ingest.config.model import SourceConfig, TableConfig, is_pattern
from pg_ingest.config.naming import RESERVED_PREFIX
from pg_ingest.config.patterns import Patterns
from pg_ingest.config.problem import Path, Problem, nearest


def name_problems(source: SourceConfig, key: str, path: Path) -> Iterator[Problem]:
    if is_pattern(key):
        return
    schema, dot, name = key.partition(".")
    if not (schema and dot and name):
        near = nearest(key, [other.partition(".")[2] for other in source.tables if "." in other])
        example = f"public.{key.strip('.')}" if not near else f"public.{near[0]}"
        yield Problem(path, "is neither schema.table nor a pattern", f"write {example}")
        return
    excluded = Patterns(source.exclude).best(key)
    if excluded is not None:
        yield Problem(
            path,
            f"is named here and excluded by {excluded}",
            "remove it here, or make exclude narrower",
            about=keys_of(path[:2], "exclude"),
        )


def settings_problems(source: SourceConfig, table: TableConfig, path: Path) -> Iterator[Problem]:
    method = table.method or source.method
    if method is None:
        yield Problem(
            path,
            "has no method",
            "write `method: full_table` here, or a method for the whole source",
            about=_method_keys(table, path),
        )
    else:
        yield from _fits_method(method, table, path)
        yield from _delta(method, table, path)
        yield from _shape(method, table, path)
    yield from _columns(table, path)
    window = table.partition_by
    if window is not None and window.end is not None and window.end <= window.start:
        place = (*path, "partition_by", "end")
        yield Problem(place, "is not after start", "write a later end, or remove it")


def _fits_method(method: Method, table: TableConfig, path: Path) -> Iterator[Problem]:
    if method is Method.KEY_BASED and table.replication_key is None:
        yield Problem(
            path,
            "is key_based without a replication_key",
            "name a column that grows with every insert and update: `replication_key: updated_at`",
            about=(*_method_keys(table, path), (*path, "replication_key")),
        )
    if method is not Method.KEY_BASED and table.replication_key is not None:
        yield Problem(
            (*path, "replication_key"),
            f"has no meaning with the method {method}",
            "write `method: key_based`, or remove it",
            table.replication_key,
            about=_method_keys(table, path),
        )
    if method is Method.FULL_TABLE and table.split_key is not None:
        yield Problem(
            (*path, "split_key"),
            "has no meaning with the method full_table, which reads ranges of pages",
            "remove it, or take a method that finds changes",
            about=_method_keys(table, path),
        )
    if table.split_hints.bounds and table.split_key is None:
        yield Problem(
            (*path, "split_hints", "bounds"),
            "are values of no column",
            "name the column they are of: `split_key: [...]`",
            about=keys_of(path, "split_key"),
        )
    if method is not Method.FULL_TABLE and table.partition_by is not None:
        yield Problem(
            (*path, "partition_by"),
            f"has no meaning with the method {method}",
            "write `method: full_table`, or remove it",
            about=_method_keys(table, path),
        )


def _delta(method: Method, table: TableConfig, path: Path) -> Iterator[Problem]:
    """The keys that only delta_snapshot has."""
    for key in ("replicate_deletes", "row_identifier_key", "update_key"):
        if method is not Method.DELTA_SNAPSHOT and getattr(table, key) is not None:
            yield Problem(
                (*path, key),
                f"has no meaning with the method {method}",
                "write `method: delta_snapshot`, or remove it"
                + (" and write `key`" if key == "row_identifier_key" else ""),
                about=_method_keys(table, path),
            )
    if table.key is not None and table.row_identifier_key is not None:
        yield Problem(
            (*path, "row_identifier_key"),
            "stands beside key, which says the same",
            "keep one of them",
            about=keys_of(path, "key"),
        )
    if table.update_key is not None and (table.key or table.row_identifier_key):
        yield Problem(
            (*path, "update_key"),
            "stands beside a key that identifies each row",
            "remove it: it is for tables in which nothing is unique",
            about=keys_of(path, "key", "row_identifier_key"),
        )


def _shape(method: Method, table: TableConfig, path: Path) -> Iterator[Problem]:
    shape = table.shape
    place = (*path, "shape")
    if shape in LATER_SHAPES:
        yield Problem(place, not_yet(f"the shape {shape}"), available(offered(Shape)))
    elif shape is not Shape.LIVE and method is not Method.LOG_BASED:
        yield Problem(
            place,
            f"the shape {shape} is made from the log, which {method} does not read",
            "write `method: log_based`, or `shape: live`",
            about=_method_keys(table, path),
        )


def _columns(table: TableConfig, path: Path) -> Iterator[Problem]:
    if table.columns is not None and table.exclude_columns is not None:
        yield Problem(
            (*path, "exclude_columns"),
            "stands beside columns",
            "keep one: columns names what comes, exclude_columns what does not",
            about=keys_of(path, "columns"),
        )
        return
    reserved = [name for name in table.columns or () if name.casefold().startswith(RESERVED_PREFIX)]
    if reserved:
        yield Problem(
            (*path, "columns"),
            f"names that start with {RESERVED_PREFIX} are reserved in the destination",
            "leave them out",
            ", ".join(reserved),
        )
    for what, names in needed_columns(table):
        missing = [name for name in names if not _comes(table, name)]
        if missing:
            yield Problem(
                (*path, what),
                "needs a column that is left out",
                "add it to columns, or take it from exclude_columns",
                ", ".join(missing),
                about=keys_of(path, "columns", "exclude_columns"),
            )


def needed_columns(table: TableConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The settings that name columns which must arrive, and the columns."""
    if table.key is not None:
        yield "key", table.key
    if table.row_identifier_key is not None:
        yield "row_identifier_key", table.row_identifier_key
    if table.update_key is not None:
        yield "update_key", table.update_key
    if table.replication_key is not None:
        yield "replication_key", (table.replication_key,)
    if table.split_key is not None:
        yield "split_key", table.split_key
    if table.partition_by is not None:
        yield "partition_by", (table.partition_by.column,)


def _comes(table: TableConfig, column: str) -> bool:
    if table.columns is not None:
        return column in table.columns
    return column not in (table.exclude_columns or ())


def keys_of(path: Path, *keys: str) -> tuple[Path, ...]:
    return tuple((*path, key) for key in keys)


def _method_keys(table: TableConfig, path: Path) -> tuple[Path, ...]:
    """Where the method that holds for the table stands, or would."""
    return (
        keys_of(path, "method")
        if table.method
        else keys_of(path, "method") + keys_of(path[:2], "method")
    )
