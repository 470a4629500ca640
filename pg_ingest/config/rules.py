"""What several keys mean together, as far as it can be judged without a catalogue.

Each function looks at one thing and yields all problems it sees; `find_problems` asks all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pg_ingest.config.method import Method
from pg_ingest.config.model import IngestConfig, SourceConfig, is_pattern
from pg_ingest.config.naming import DATABASE
from pg_ingest.config.problem import Path, Problem
from pg_ingest.config.ssh import ssh_problems
from pg_ingest.config.table_rules import keys_of, name_problems, settings_problems
from pg_ingest.config.targets import Target, collisions, targets_of
from pg_ingest.config.tls_rules import tls_problems
from pg_ingest.table import TableId

_SOURCE_NAME = re.compile(r"[A-Za-z0-9_]+")
_SEVERAL_SLOTS = "one slot belongs to one database"


def find_problems(config: IngestConfig) -> list[Problem]:
    """All problems of the configuration that no single key shows."""
    problems = [*_sources(config)]
    for name, source in config.sources.items():
        path: Path = ("sources", name)
        problems += [*_source(source, path), *_log(source, path), *tls_problems(source, path)]
        if source.ssh is not None:
            problems += ssh_problems(source.ssh, (*path, "ssh"))
        for key, table in source.tables.items():
            place = (*path, "tables", key)
            problems += [
                *name_problems(source, key, place),
                *settings_problems(source, table, place),
            ]
    problems += collisions(_exact_targets(config))
    return problems


def _exact_targets(config: IngestConfig) -> Iterator[Target]:
    for name, source in config.sources.items():
        for key in source.tables:
            schema, _, table = key.partition(".")
            if schema and table and not is_pattern(key):
                yield from targets_of(
                    name, source, TableId.parse(key), source.fixed_databases or (DATABASE,)
                )


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
    if source.select_all and source.method is None:
        yield Problem(
            (*path, "select_all"),
            "select_all needs a method of the source",
            "write `method: log_based` or `method: full_table` beside it: it holds for every table",
            about=keys_of(path, "method"),
        )
    if source.select_all and source.method is Method.KEY_BASED:
        yield Problem(
            (*path, "select_all"),
            "select_all cannot know the replication key of each table",
            "write patterns below `tables:` with a replication_key, or another method here",
            about=keys_of(path, "method"),
        )
    if not source.select_all and not source.tables:
        yield Problem(
            path,
            "selects no table",
            "name tables or patterns below `tables:`, or write `select_all: true` and a method",
            about=keys_of(path, "select_all", "tables"),
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
            about=keys_of(path, "databases"),
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
            about=keys_of((*path, "log", "heartbeat"), "table", "mode"),
        )
    elif beat.table is not None and not all(beat.table.partition(".")):
        yield Problem(
            (*path, "log", "heartbeat", "table"),
            "is not schema.table",
            f"write public.{beat.table.strip('.')}",
            beat.table,
        )
