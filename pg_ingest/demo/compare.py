"""Is the destination's table the source's table? Row by row, and without our own decoder.

Both sides are written as text, value by value. The source's text comes from `psql` (its `COPY`), is read
by DuckDB's CSV reader and, where the two systems write one value in two ways (`1` and `1.0` for a
double), put into a canonical form by DuckDB's own casts. The destination's text comes from DuckDB's
casts. Nothing of `pg_ingest` that reads, decodes or writes rows takes part.

The two sides are compared as multisets of whole rows: a changed row is one row that is missing and one
that is surplus, a row that arrived twice is one surplus, and tables without a key need nothing special.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb

from pg_ingest.demo.programs import Programs
from pg_ingest.destinations.duckdb.statement import Sql, identifier, joined, literal, sql
from pg_ingest.table import TableId


class Canonical(NamedTuple):
    """SQL for one column of a type; `{}` is the column. DuckDB yields VARCHAR for both sides."""

    postgres: str = "{}"
    source: str = "{}"
    destination: str = "{}::varchar"


_CANONICAL: dict[str, Canonical] = {
    "boolean": Canonical(source="({} = 't')::varchar"),
    "bytea": Canonical(
        postgres="encode({}, 'hex')", source="upper({})", destination="hex({}::blob)"
    ),
    "double precision": Canonical(source="{}::double::varchar"),
    "text[]": Canonical(
        postgres="array_to_json({})",
        source="from_json({}, '[\"varchar\"]')::varchar",
        destination="{}::varchar[]::varchar",
    ),
    # microseconds since 1970 are the same in every time zone
    "timestamp with time zone": Canonical(
        postgres="(extract(epoch from {}) * 1000000)::bigint", destination="epoch_us({})::varchar"
    ),
    "timestamp without time zone": Canonical(
        postgres="(extract(epoch from {}) * 1000000)::bigint", destination="epoch_us({})::varchar"
    ),
}
"""By `format_type` without modifier; every other type is written alike by both systems."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing one table found.

    Attributes:
        rows: rows of the source.
        missing: rows of the source that the destination lacks.
        surplus: rows of the destination that the source lacks.
    """

    rows: int
    missing: int
    surplus: int

    @property
    def equal(self) -> bool:
        """Whether both tables hold the same rows, each the same number of times."""
        return not (self.missing or self.surplus)


def compare(
    programs: Programs, table: TableId, warehouse: Path, target: TableId, *, soft: bool = False
) -> Comparison:
    """Compare a source table, which must be at rest, with `target` in the DuckDB file `warehouse`.

    Args:
        soft: the destination keeps deleted rows, marked; those are not compared.

    Raises:
        duckdb.Error: the destination's table, or a column of it, is not there.
    """
    columns = _columns(programs, table)
    with TemporaryDirectory() as folder, duckdb.connect() as connection:
        csv = Path(folder) / "source.csv"
        programs.export(_source_query(table, columns), csv)
        connection.execute("set timezone = 'UTC'")
        connection.execute(
            sql("attach {file} as warehouse (read_only)", file=literal(str(warehouse)))
        )
        sides = {
            "source_side": _source_side(csv, columns),
            "destination_side": _destination_side(target, columns, soft=soft),
        }
        for name, query in sides.items():
            connection.execute(
                sql("create temp table {name} as {query}", name=identifier(name), query=query)
            )
        return _count(connection)


def _columns(programs: Programs, table: TableId) -> list[tuple[str, Canonical]]:
    query = sql(
        "select attname, format_type(atttypid, null) from pg_attribute"
        " where attrelid = {name}::regclass and attnum > 0 and not attisdropped order by attnum",
        name=literal(identifier(table.schema, table.name)),
    )
    lines = [line.split("|") for line in programs.psql("-c", query).splitlines()]
    return [(name, _CANONICAL.get(kind, Canonical())) for name, kind in lines]


def _source_query(table: TableId, columns: list[tuple[str, Canonical]]) -> Sql:
    return sql(
        "select {values} from {table}",
        values=joined(_filled(form.postgres, name) for name, form in columns),
        table=identifier(table.schema, table.name),
    )


def _source_side(csv: Path, columns: list[tuple[str, Canonical]]) -> Sql:
    return sql(
        "select {values} from read_csv({csv}, columns = {{{names}}},"
        " auto_detect = false, header = false, delim = ',', quote = '\"', escape = '\"',"
        " nullstr = '\\N', allow_quoted_nulls = false, parallel = false)",
        values=joined(_filled(form.source, name) for name, form in columns),
        csv=literal(str(csv)),
        names=joined(sql("{name}: 'VARCHAR'", name=literal(name)) for name, _ in columns),
    )


def _destination_side(target: TableId, columns: list[tuple[str, Canonical]], *, soft: bool) -> Sql:
    return sql(
        "select {values} from {table} where {live}",
        live=sql("{mark} is null", mark=identifier("_pgi_deleted_at")) if soft else sql("true"),
        values=joined(_filled(form.destination, name) for name, form in columns),
        table=identifier("warehouse", target.schema, target.name),
    )


def _filled(template: str, column: str) -> Sql:
    return Sql(template.format(identifier(column)))


def _count(connection: duckdb.DuckDBPyConnection) -> Comparison:
    found = connection.execute(
        """
        select (select count(*) from source_side),
               (select count(*) from (from source_side except all from destination_side)),
               (select count(*) from (from destination_side except all from source_side))
        """
    ).fetchone()
    assert found is not None
    return Comparison(*found)
