"""Where tables go, and which of them would meet in one name.

DuckDB (like most stores) does not distinguish upper and lower case in names, so neither does this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pg_ingest.config.model import SourceConfig
from pg_ingest.config.naming import DATABASE, fill, name_fault
from pg_ingest.config.problem import Path, Problem


@dataclass(frozen=True, slots=True)
class Target:
    """One table of one database, and the name it gets. `path`: the setting that selected it."""

    source: str
    table: str
    schema_name: str
    table_name: str
    path: Path
    default_naming: bool


def template_of(source_name: str, source: SourceConfig, table: str) -> tuple[str, str]:
    """Destination schema and table of `schema.table`, with `{database}` still open."""
    schema, _, name = table.partition(".")
    values = {"source": source_name, "schema": schema, "table": name}
    return fill(source.naming.schema_, values), fill(source.naming.table, values)


def targets_of(
    source_name: str,
    source: SourceConfig,
    table: str,
    databases: Sequence[str],
    path: Path | None = None,
) -> Iterator[Target]:
    """The targets of a table over the databases: one, unless the names hold `{database}`."""
    schema, name = template_of(source_name, source, table)
    place = path or ("sources", source_name, "tables", table)
    default = "schema" not in {part.strip("{}") for part in _placeholders(source)}
    varied = DATABASE in source.naming.schema_ or DATABASE in source.naming.table
    for database in databases if varied else databases[:1] or (DATABASE,):
        yield Target(
            source_name,
            table,
            schema.replace(DATABASE, database),
            name.replace(DATABASE, database),
            place,
            default,
        )


def _placeholders(source: SourceConfig) -> list[str]:
    text = source.naming.schema_ + source.naming.table
    return [word for word in ("{schema}",) if word in text]


def collisions(targets: Iterable[Target]) -> list[Problem]:
    """A problem for each impossible name and for each table that meets an earlier one."""
    problems: list[Problem] = []
    first: dict[tuple[str, str], Target] = {}
    for target in targets:
        fault = name_fault(target.schema_name, target.table_name)
        if fault:
            remedy = f"choose other names below sources.{target.source}.naming"
            problems.append(Problem(target.path, fault, remedy, target.table, about=("naming",)))
        key = (target.schema_name.casefold(), target.table_name.casefold())
        other = first.setdefault(key, target)
        if (other.source, other.table) != (target.source, target.table):
            problems.append(_meeting(other, target))
    return list(dict.fromkeys(problems))


def _meeting(other: Target, target: Target) -> Problem:
    name = f"{target.schema_name}.{target.table_name}"
    if other.source != target.source:
        whose, remedy = f"{other.table} of the source {other.source}", "put {source} into naming"
    else:
        whose = other.table
        remedy = 'tell them apart: `naming: {schema: "{source}_{schema}"}`'
        if not target.default_naming:
            remedy = "put {source}, {database}, {schema} and {table} into naming, or exclude one"
    return Problem(
        target.path,
        f"{target.table} would be stored under the same name as {whose}",
        remedy,
        name,
        about=("naming",),
    )
