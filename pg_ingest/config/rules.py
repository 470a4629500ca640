"""What several keys mean together, as far as it can be judged without a catalogue.

Each function looks at one thing and yields all problems it sees; `find_problems` asks all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pg_ingest.config import available
from pg_ingest.config.method import Method, Shape
from pg_ingest.config.model import IngestConfig, SourceConfig, TableConfig, TlsMode, is_pattern
from pg_ingest.config.naming import DATABASE, RESERVED_PREFIX
from pg_ingest.config.patterns import Patterns
from pg_ingest.config.problem import Path, Problem, nearest
from pg_ingest.config.targets import Target, collisions, targets_of

_SOURCE_NAME = re.compile(r"[A-Za-z0-9_]+")
_SEVERAL_SLOTS = "one slot belongs to one database"


def find_problems(config: IngestConfig) -> list[Problem]:
    """All problems of the configuration that no single key shows."""
    problems = [*_sources(config)]
    for name, source in config.sources.items():
        path: Path = ("sources", name)
        problems += [*_source(source, path), *_log(source, path), *_tls(source, path)]
        for key, table in source.tables.items():
            place = (*path, "tables", key)
            problems += [*_table_name(source, key, place), *_table(source, table, place)]
    problems += collisions(_exact_targets(config))
    return problems


def _exact_targets(config: IngestConfig) -> Iterator[Target]:
    for name, source in config.sources.items():
        for key in source.tables:
            if not is_pattern(key) and "." in key.strip("."):
                yield from targets_of(name, source, key, source.fixed_databases or (DATABASE,))


def _sources(config: IngestConfig) -> Iterator[Problem]:
    if not config.sources:
        yield Problem(
            ("sources",),
            "names no source",
            "write at least one source below `sources:`",
            about=(("sources",),),
        )
    folded: dict[str, str] = {}
    for name in config.sources:
        path = ("sources", name)
        if not _SOURCE_NAME.fullmatch(name):
            better = re.sub(r"[^A-Za-z0-9_]+", "_", name) or "shop"
            yield Problem(
                path,
                "is not a name for a source: only A-Z, a-z, 0-9 and _ can stand in asset keys",
                f"write {better}",
            )
        twin = folded.setdefault(name.casefold(), name)
        if twin != name:
            yield Problem(
                path, f"differs from the source {twin} only in case", "rename one of them"
            )


def _source(source: SourceConfig, path: Path) -> Iterator[Problem]:
    if source.method is not None:
        yield from _method_available(source.method, (*path, "method"))
    if source.select_all and source.method is None:
        yield Problem(
            (*path, "select_all"),
            "select_all needs a method of the source",
            f"write {_whole_source_methods()} beside it: it holds for every table",
            about=_keys(path, "method"),
        )
    if source.select_all and source.method is Method.KEY_BASED:
        yield Problem(
            (*path, "select_all"),
            "select_all cannot know the replication key of each table",
            "write patterns below `tables:` with a replication_key, or another method here",
            about=_keys(path, "method"),
        )
    if not source.select_all and not source.tables:
        yield Problem(
            path,
            "selects no table",
            "name tables or patterns below `tables:`, or write `select_all: true` and a method",
            about=_keys(path, "select_all", "tables"),
        )
    for at, name in enumerate(source.exclude):
        if not is_pattern(name) and "." not in name:
            place = (*path, "exclude", at)
            yield Problem(place, "is neither schema.table nor a pattern", f"write public.{name}")


def _log(source: SourceConfig, path: Path) -> Iterator[Problem]:
    several = source.fixed_databases is None or len(source.databases) > 1
    if several and DATABASE not in source.log.slot:
        yield Problem(
            (*path, "log", "slot"),
            f"is one name for several databases, but {_SEVERAL_SLOTS}",
            "put {database} into it: pg_ingest_{database}",
            source.log.slot,
            about=_keys(path, "databases"),
        )
    beat = source.log.heartbeat
    if beat is None:
        return
    if beat.seconds < 1:
        place = (*path, "log", "heartbeat", "every")
        yield Problem(place, "is too short", "write 1s or more")
    if (beat.mode.value == "table") != (beat.table is not None):
        yield Problem(
            (*path, "log", "heartbeat"),
            "table and mode do not fit together",
            "write `mode: table` with a table, or `mode: message` without one",
            about=_keys((*path, "log", "heartbeat"), "table", "mode"),
        )


def _tls(source: SourceConfig, path: Path) -> Iterator[Problem]:
    tls = source.tls
    if tls is None:
        return
    if (tls.client_cert is None) != (tls.client_key is None):
        yield Problem(
            (*path, "tls"),
            "has only one of client_cert and client_key",
            "give both, or none",
            about=_keys((*path, "tls"), "client_cert", "client_key"),
        )
    given = [key for key in ("root_cert", "client_cert", "client_key") if getattr(tls, key)]
    if tls.mode is TlsMode.DISABLE and given:
        yield Problem(
            (*path, "tls", "mode"),
            f"is disable, which makes no use of {', '.join(given)}",
            "write verify-full, or remove the certificates",
            about=_keys((*path, "tls"), *given),
        )


def _method_available(method: Method, path: Path) -> Iterator[Problem]:
    if method not in available.AVAILABLE_METHODS:
        remedy = available.available(sorted(available.AVAILABLE_METHODS))
        yield Problem(path, available.not_yet(f"the method {method}"), remedy)


def _table_name(source: SourceConfig, key: str, path: Path) -> Iterator[Problem]:
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
            about=_keys(path[:2], "exclude"),
        )


def _table(source: SourceConfig, table: TableConfig, path: Path) -> Iterator[Problem]:
    method = table.method or source.method
    if table.method is not None:
        yield from _method_available(table.method, (*path, "method"))
    if method is None:
        yield Problem(
            path,
            "has no method",
            "write `method: full_table` here, or a method for the whole source",
            about=_method_keys(table, path),
        )
    else:
        yield from _fits_method(method, table, path)
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
    if method is not Method.FULL_TABLE and table.partition_by is not None:
        yield Problem(
            (*path, "partition_by"),
            f"has no meaning with the method {method}",
            "write `method: full_table`, or remove it",
            about=_method_keys(table, path),
        )


def _shape(method: Method, table: TableConfig, path: Path) -> Iterator[Problem]:
    shape = table.shape
    place = (*path, "shape")
    if shape not in available.AVAILABLE_SHAPES:
        remedy = available.available(sorted(available.AVAILABLE_SHAPES))
        yield Problem(place, available.not_yet(f"the shape {shape}"), remedy)
    elif shape is not Shape.LIVE and method is not Method.LOG_BASED:
        yield Problem(
            place,
            f"the shape {shape} needs to see deletes, which {method} does not",
            "write `method: log_based`, or `shape: live`",
            about=_method_keys(table, path),
        )


def _columns(table: TableConfig, path: Path) -> Iterator[Problem]:
    if table.columns is not None and table.exclude_columns is not None:
        yield Problem(
            (*path, "exclude_columns"),
            "stands beside columns",
            "keep one: columns names what comes, exclude_columns what does not",
            about=_keys(path, "columns"),
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
                about=_keys(path, "columns", "exclude_columns"),
            )


def needed_columns(table: TableConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The settings that name columns which must arrive, and the columns."""
    if table.key is not None:
        yield "key", table.key
    if table.replication_key is not None:
        yield "replication_key", (table.replication_key,)
    if table.partition_by is not None:
        yield "partition_by", (table.partition_by.column,)


def _comes(table: TableConfig, column: str) -> bool:
    if table.columns is not None:
        return column in table.columns
    return column not in (table.exclude_columns or ())


def _keys(path: Path, *keys: str) -> tuple[Path, ...]:
    return tuple((*path, key) for key in keys)


def _method_keys(table: TableConfig, path: Path) -> tuple[Path, ...]:
    """Where the method that holds for the table stands, or would."""
    return (
        _keys(path, "method") if table.method else _keys(path, "method") + _keys(path[:2], "method")
    )


def _whole_source_methods() -> str:
    methods = (Method.LOG_BASED, Method.FULL_TABLE)
    return " or ".join(
        f"`method: {each}`" for each in methods if each in available.AVAILABLE_METHODS
    )
