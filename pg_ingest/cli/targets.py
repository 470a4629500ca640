"""Which tables a command is about: `shop`, `shop/public/orders`, `public.orders`, `public.o*`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import click

from pg_ingest.config.problem import did_you_mean
from pg_ingest.config.selection import Replication, Selection

Chosen = dict[str, tuple[Replication, ...]]


def choose(selections: Mapping[str, Selection], names: Sequence[str]) -> Chosen:
    """The replications that the names mean, by source; all of them without a name.

    Raises click.UsageError for a name that means nothing.
    """
    everything = {source: found.replications for source, found in selections.items()}
    if not names:
        return everything
    picked: dict[str, dict[tuple[str, str, str], Replication]] = {}
    for name in names:
        matches = [r for found in everything.values() for r in found if means(name, r)]
        if not matches and name not in everything:
            raise click.UsageError(_unknown(name, everything))
        for replication in matches:
            picked.setdefault(replication.source, {})[replication.asset_key] = replication
    return {source: tuple(tables.values()) for source, tables in picked.items()}


def means(name: str, replication: Replication) -> bool:
    """Whether the name is the table's source, its asset key or its `schema.table`, or a pattern."""
    source, schema, table = replication.asset_key
    spellings = (source, f"{source}/{schema}/{table}", f"{source}.{schema}.{table}")
    return any(fnmatchcase(one, name) for one in (*spellings, f"{schema}.{table}"))


def _unknown(name: str, everything: Mapping[str, tuple[Replication, ...]]) -> str:
    tables = [str(r.table) for found in everything.values() for r in found]
    hint = did_you_mean(name, [*everything, *tables])
    if not hint.startswith("did"):
        hint = "name a source, schema.table or source/schema/table; `pg-ingest discover` lists them"
    return f"{name} is neither a source nor a replicated table; {hint}"


def check_databases(selections: Mapping[str, Selection], wanted: Sequence[str]) -> None:
    """Raise click.UsageError for a database that no source has."""
    known = {database for found in selections.values() for database in found.databases}
    for name in wanted:
        if name not in known:
            raise click.UsageError(
                f"no source has the database {name}; {did_you_mean(name, known)}"
            )
