"""Which relations of the catalogue the names and patterns of a source choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pg_ingest.config.model import SourceConfig, TableConfig, is_pattern
from pg_ingest.config.patterns import Patterns
from pg_ingest.config.problem import Path, Problem, nearest
from pg_ingest.table import RelationKind, SourceCatalog, Table, TableId

Relations = Mapping[str, Sequence[tuple[str, Table]]]
"""By `schema.table`: each database that has the relation, and the relation there."""

_DISCOVER = "run `pg-ingest discover` when the source has changed"
_BY_PATTERN = frozenset(
    {
        RelationKind.TABLE,
        RelationKind.PARTITIONED,
        RelationKind.VIEW,
        RelationKind.MATERIALIZED_VIEW,
    }
)
_BY_SELECT_ALL = frozenset({RelationKind.TABLE, RelationKind.PARTITIONED})


@dataclass(frozen=True, slots=True)
class Chosen:
    """One relation that was chosen. `path`: the setting that did; `found`: it in each database."""

    id: TableId
    settings: TableConfig
    path: Path
    found: tuple[tuple[str, Table], ...]


def relations_of(catalog: SourceCatalog | None, databases: Sequence[str]) -> Relations:
    """The relations of these databases, in order of schema and name."""
    relations: dict[TableId, list[tuple[str, Table]]] = {}
    for entry in catalog.databases if catalog is not None else ():
        if entry.database in databases:
            for table in entry.tables:
                relations.setdefault(table.id, []).append((entry.database, table))
    return {str(table_id): relations[table_id] for table_id in sorted(relations)}


def choose(
    name: str, source: SourceConfig, relations: Relations, *, known: bool
) -> tuple[list[Chosen], list[Problem], list[str]]:
    """The chosen relations in order, problems, and warnings.

    Args:
        known: there is a catalogue, so what it lacks does not exist.
    """
    path: Path = ("sources", name)
    exact = {key for key in source.tables if key in relations or not is_pattern(key)}
    patterns = [key for key in source.tables if key not in exact]
    if not known:
        chosen = [_named(source, key, path, ()) for key in sorted(exact)]
        return chosen, [], _without_catalogue(name, source, patterns)
    problems = _unknown(source, exact, patterns, relations, path)
    chosen = [_named(source, key, path, relations[key]) for key in exact if key in relations]
    matched = _by_pattern(source, patterns, exact, relations, path)
    warnings = [
        f"{name}: {choice.id} has no columns and is left out"
        for choice in matched
        if not _has_columns(choice)
    ]
    chosen += filter(_has_columns, matched)
    return sorted(chosen, key=lambda choice: choice.id), problems, warnings


def _has_columns(choice: Chosen) -> bool:
    return any(table.columns for _, table in choice.found)


def _named(
    source: SourceConfig, key: str, path: Path, found: Sequence[tuple[str, Table]]
) -> Chosen:
    table_id = found[0][1].id if found else TableId.parse(key)
    return Chosen(table_id, source.tables[key], (*path, "tables", key), tuple(found))


def _without_catalogue(name: str, source: SourceConfig, patterns: Sequence[str]) -> list[str]:
    if not patterns and not source.select_all:
        return []
    what = "select_all" if source.select_all else ", ".join(patterns)
    return [
        f"{name}: {what} selects nothing yet, because the source was never discovered; "
        "run `pg-ingest discover`"
    ]


def _by_pattern(
    source: SourceConfig,
    patterns: Sequence[str],
    exact: set[str],
    relations: Relations,
    path: Path,
) -> list[Chosen]:
    wanted, excluded = Patterns(patterns), Patterns(source.exclude)
    chosen: list[Chosen] = []
    for key, found in relations.items():
        if key in exact or excluded.matches(key) or key == _heartbeat(source):
            continue
        best = wanted.best(key) if _offered(found, _BY_PATTERN) else None
        if best is not None:
            place, settings = (*path, "tables", best), source.tables[best]
        elif source.select_all and _offered(found, _BY_SELECT_ALL):
            place, settings = (*path, "select_all"), TableConfig()
        else:
            continue
        chosen.append(Chosen(found[0][1].id, settings, place, tuple(found)))
    return chosen


def _heartbeat(source: SourceConfig) -> str | None:
    """The table that we write to ourselves: no pattern means it, or each capture would find a change."""
    beat = source.log.heartbeat
    return None if beat is None else beat.table


def _offered(found: Sequence[tuple[str, Table]], kinds: frozenset[RelationKind]) -> bool:
    """Whether a pattern may choose it: of these kinds, and no partition (its root has its rows)."""
    return any(table.kind in kinds and table.partition_root is None for _, table in found)


def _unknown(
    source: SourceConfig,
    exact: set[str],
    patterns: Sequence[str],
    relations: Relations,
    path: Path,
) -> list[Problem]:
    """Names and patterns that nothing in the catalogue fits."""
    names = list(relations)
    near = _Near()
    offered = [key for key, found in relations.items() if _offered(found, _BY_PATTERN)]
    problems = [
        Problem((*path, "tables", key), "no such table or view was discovered", near(key, names))
        for key in sorted(exact)
        if key not in relations
    ]
    problems += [
        Problem((*path, "tables", text), "the pattern matches no table", near(text, offered))
        for text in Patterns(patterns).unmatched(offered)
    ]
    problems += [
        Problem(
            (*path, "exclude", source.exclude.index(text)),
            "matches no table" if is_pattern(text) else "no such table or view was discovered",
            near(text, names),
            text,
        )
        for text in Patterns(source.exclude).unmatched(names)
    ]
    return problems


class _Near:
    """Remedies with the nearest names, for the first ten: comparing all would take minutes."""

    def __init__(self) -> None:
        self._left = 10

    def __call__(self, text: str, names: Sequence[str]) -> str:
        if not names:
            return f"nothing was discovered; {_DISCOVER}"
        self._left -= 1
        close = nearest(text, names, 3) if self._left >= 0 else []
        if close:
            return f"did you mean {' or '.join(close)}? Else {_DISCOVER}"
        some = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
        return f"discovered are {some}; {_DISCOVER}"
