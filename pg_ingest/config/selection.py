"""Which tables of a source are replicated, how, and to where: pure, from configuration and catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pg_ingest.config.choice import Chosen, choose, relations_of
from pg_ingest.config.fit import judge
from pg_ingest.config.large_tables import NO_HINTS, SplitHints
from pg_ingest.config.method import Method, Shape
from pg_ingest.config.model import IngestConfig, PartitionBy, SourceConfig, is_pattern
from pg_ingest.config.naming import DATABASE
from pg_ingest.config.patterns import Patterns
from pg_ingest.config.problem import Problem, did_you_mean, raise_problems
from pg_ingest.config.targets import Target, collisions, targets_of, template_of
from pg_ingest.config.yaml_text import lines_of
from pg_ingest.errors import ConfigError
from pg_ingest.table import SourceCatalog, TableId


@dataclass(frozen=True, slots=True)
class Replication:
    """One source table, settled: how it is read and where it goes.

    Attributes:
        target_schema, target_table: names in the destination; `{database}` is still open in them,
            use `target_for`.
        shared: several databases write into one destination table.
        key: the declared key (`key` or `row_identifier_key`); () means the primary key.
        columns: only these, None for all but `exclude_columns`.
        replicate_deletes: for delta_snapshot: rows that are gone at the source go.
        update_key: for delta_snapshot: rows with the same values are replaced together; () is none.
        split_key, split_hints: how a large table is cut into chunks; () means by its key.
        visibility_map: for xmin: the administrator's function that tells which pages have not changed.
    """

    source: str
    table: TableId
    method: Method
    target_schema: str
    target_table: str
    shared: bool = False
    key: tuple[str, ...] = ()
    replication_key: str | None = None
    columns: tuple[str, ...] | None = None
    exclude_columns: tuple[str, ...] = ()
    where: str | None = None
    partition_by: PartitionBy | None = None
    shape: Shape = Shape.LIVE
    split_key: tuple[str, ...] = ()
    split_hints: SplitHints = NO_HINTS
    replicate_deletes: bool = True
    update_key: tuple[str, ...] = ()
    visibility_map: str | None = None

    @property
    def asset_key(self) -> tuple[str, str, str]:
        """Source, schema, table."""
        return self.source, self.table.schema, self.table.name

    def left_out(self, names: Iterable[str]) -> frozenset[str]:
        """The columns that are not wanted, of those with these names."""
        wanted = frozenset(names if self.columns is None else self.columns)
        return (frozenset(names) - wanted) | frozenset(self.exclude_columns)

    def target_for(self, database: str) -> tuple[str, str]:
        """Schema and table in the destination for the rows of that database."""
        return (
            self.target_schema.replace(DATABASE, database),
            self.target_table.replace(DATABASE, database),
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """What one source replicates.

    Attributes:
        replications: in order of schema and table.
        databases: the known ones: as configured, or those of the catalogue that fit the patterns.
        dynamic_databases: databases are given by patterns, so there may be more tomorrow.
        warnings: for people.
    """

    replications: tuple[Replication, ...]
    databases: tuple[str, ...]
    dynamic_databases: bool
    warnings: tuple[str, ...] = ()


def select(config: IngestConfig, source: str, catalog: SourceCatalog | None) -> Selection:
    """The tables of one source.

    Tables named exactly need no catalogue; patterns and `select_all` without one select nothing and
    give a warning.

    Raises:
        ConfigError: what the configuration wants does not fit the catalogue: all problems are listed.
    """
    return select_sources(config, {source: catalog})[source]


def select_sources(
    config: IngestConfig, catalogs: Mapping[str, SourceCatalog | None]
) -> dict[str, Selection]:
    """The tables of several sources at once, so that names meeting across them are found too.

    Raises:
        ConfigError: as `select`, for all of them together.
    """
    problems: list[Problem] = []
    targets: list[Target] = []
    selections: dict[str, Selection] = {}
    for name, catalog in catalogs.items():
        selections[name], wrong, goals = _select(name, _source(config, name), catalog)
        problems += wrong
        targets += goals
    _raise(config, [*problems, *collisions(targets)])
    return selections


def _select(
    name: str, source: SourceConfig, catalog: SourceCatalog | None
) -> tuple[Selection, list[Problem], list[Target]]:
    """The tables of one source, what is wrong with them, and where they would go."""
    databases, warnings = _databases(name, source, catalog)
    relations = relations_of(catalog, databases)
    chosen, problems, more = choose(name, source, relations, known=catalog is not None)
    warnings += more
    targets: list[Target] = []
    for choice in chosen:
        found, more = judge(source, choice)
        problems += found
        warnings += more
        targets += targets_of(name, source, choice.id, databases or (DATABASE,), choice.path)
    replications = tuple(_replication(name, source, choice) for choice in chosen)
    dynamic = source.fixed_databases is None
    return Selection(replications, databases, dynamic, tuple(warnings)), problems, targets


def _raise(config: IngestConfig, problems: list[Problem]) -> None:
    """Raise the problems with the lines of the file, which is read again only for this."""
    headline = "the configuration, compared with what was discovered,"
    name = config.file.name if config.file else "configuration"
    if problems:
        raise_problems(name, problems, lines_of(config.file), headline)


def _source(config: IngestConfig, name: str) -> SourceConfig:
    if name not in config.sources:
        raise ConfigError(f"there is no source {name}", hint=did_you_mean(name, config.sources))
    return config.sources[name]


def _databases(
    name: str, source: SourceConfig, catalog: SourceCatalog | None
) -> tuple[tuple[str, ...], list[str]]:
    """The known databases, and warnings about unknown ones."""
    known = [] if catalog is None else [entry.database for entry in catalog.databases]
    fixed = source.fixed_databases
    again = f"run `pg-ingest discover` for {name}"
    if fixed is not None:
        missing = [database for database in fixed if catalog is not None and database not in known]
        return fixed, [
            f"{name}: the database {each} was not discovered; {again}" for each in missing
        ]
    named = [database for database in source.databases if not is_pattern(database)]
    patterns = Patterns(source.databases)
    fitting = [database for database in known if patterns.matches(database)]
    found = tuple(dict.fromkeys(each for each in (*named, *fitting)))
    lonely = patterns.unmatched(known) if catalog is not None else []
    return found, [f"{name}: no discovered database fits {each}; {again}" for each in lonely]


def _replication(name: str, source: SourceConfig, choice: Chosen) -> Replication:
    schema, table = template_of(name, source, choice.id)
    several = source.fixed_databases is None or len(source.databases) > 1
    settings, method = choice.settings, choice.settings.method or source.method
    if method is None:
        raise AssertionError("a table without a method has not been refused")
    return Replication(
        source=name,
        table=choice.id,
        method=method,
        target_schema=schema,
        target_table=table,
        shared=several and DATABASE not in schema + table,
        key=settings.key or settings.row_identifier_key or (),
        replication_key=settings.replication_key,
        columns=settings.columns,
        exclude_columns=settings.exclude_columns or (),
        where=settings.where,
        partition_by=settings.partition_by,
        shape=settings.shape,
        split_key=settings.split_key or (),
        split_hints=settings.split_hints,
        replicate_deletes=settings.replicate_deletes is not False,
        update_key=settings.update_key or (),
        visibility_map=source.visibility_map if method is Method.XMIN else None,
    )
