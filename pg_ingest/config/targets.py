"""Where tables go, and which of them would meet in one name.

DuckDB (like most stores) does not distinguish upper and lower case in names, so neither does this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pg_ingest.config.model import NamingConfig, SourceConfig
from pg_ingest.config.naming import DATABASE, fill, name_fault
from pg_ingest.config.problem import Path, Problem
from pg_ingest.table import TableId


@dataclass(frozen=True, slots=True)
class Target:
    """One table of one database, and the name it gets. `path`: the setting that selected it."""

    source: str
    table: TableId
    schema_name: str
    table_name: str
    path: Path
    naming: NamingConfig


def template_of(source_name: str, source: SourceConfig, table: TableId) -> tuple[str, str]:
    """Schema and table in the destination, with `{database}` still open."""
    values = {"source": source_name, "schema": table.schema, "table": table.name}
    return fill(source.naming.schema_, values), fill(source.naming.table, values)


def targets_of(
    source_name: str,
    source: SourceConfig,
    table: TableId,
    databases: Sequence[str],
    path: Path | None = None,
) -> Iterator[Target]:
    """The targets of a table over the databases: one, unless the names hold `{database}`."""
    schema, name = template_of(source_name, source, table)
    place = path or ("sources", source_name, "tables", str(table))
    varied = DATABASE in source.naming.schema_ or DATABASE in source.naming.table
    for database in databases if varied else databases[:1] or (DATABASE,):
        yield Target(
            source_name,
            table,
            schema.replace(DATABASE, database),
            name.replace(DATABASE, database),
            place,
            source.naming,
        )


def collisions(targets: Iterable[Target]) -> list[Problem]:
    """A problem for each impossible name and for each table that meets an earlier one."""
    problems: list[Problem] = []
    first: dict[tuple[str, str], Target] = {}
    for target in targets:
        fault = name_fault(target.schema_name, target.table_name)
        if fault is None and DATABASE in str(target.table):
            fault = f"the name of a table may not hold {DATABASE}"
        if fault:
            remedy = f"choose other names below sources.{target.source}.naming, or exclude it"
            problems.append(
                Problem(
                    target.path,
                    fault,
                    remedy,
                    str(target.table),
                    about=_naming(target),
                )
            )
        key = (target.schema_name.casefold(), target.table_name.casefold())
        other = first.setdefault(key, target)
        if (other.source, other.table) != (target.source, target.table):
            problems.append(_meeting(other, target))
    return list(dict.fromkeys(problems))


def _meeting(other: Target, target: Target) -> Problem:
    whose = str(other.table)
    if other.source != target.source:
        whose += f" of {other.source}"
    return Problem(
        target.path,
        f"{target.table} would be stored under the same name as {whose}",
        _tell_apart(other, target),
        f"{target.schema_name}.{target.table_name}",
        about=_naming(target),
    )


def _tell_apart(other: Target, target: Target) -> str:
    used = target.naming.schema_ + target.naming.table
    if other.source != target.source and "{source}" not in used:
        return f'write `naming: {{schema: "{{source}}"}}` below sources.{target.source}'
    ours, others = target.table, other.table
    if "{schema}" not in used and ours.schema.casefold() != others.schema.casefold():
        return f'write `naming: {{schema: "{{source}}_{{schema}}"}}` below sources.{target.source}'
    if "{table}" not in used and ours.name.casefold() != others.name.casefold():
        return f'write `naming: {{table: "{{table}}"}}` below sources.{target.source}'
    return (
        "upper and lower case are one name there: choose other names below naming, or exclude one"
    )


def _naming(target: Target) -> tuple[Path, ...]:
    return (("sources", target.source, "naming"),)
