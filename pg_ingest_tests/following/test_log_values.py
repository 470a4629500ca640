"""A value has the same form in the destination whether the snapshot or the log brought it, type by type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged
from pg_ingest_tests.servers import needs_system_server

LONG = "repeat('a long text, stored out of line é😀 ', 900)"

TYPES: dict[str, tuple[str, ...]] = {
    "boolean": ("true", "false"),
    "smallint": ("-32768", "32767"),
    "integer": ("-2147483648", "2147483647"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "oid": ("0", "4294967295"),
    "real": ("'NaN'", "'Infinity'", "'-0'", "1e-40", "3.4028235e38", "0.1"),
    "double precision": ("'NaN'", "'-Infinity'", "'-0'", "5e-324", "1.7976931348623157e308", "0.1"),
    "numeric": ("0", "-1.50", "12345678901234567890.123456789", "1e-12", "'NaN'", "'Infinity'"),
    "numeric(12,2)": ("0", "-9999999999.99", "1.5"),
    "numeric(38,10)": ("1234567890123456789012345678.0123456789",),
    "numeric(5,-2)": ("1234567", "-100"),
    "money": ("-12.34", "92233720368547758.07"),
    "text": ("''", "'NULL'", "'\\N'", "E'a\\tb\\r\\nc\\\\\"'''", "'ä€😀'", "' '", LONG),
    "varchar(20)": ("''", "'x '"),
    "char(5)": ("''", "'x'", "'abcde'"),
    '"char"': ("'c'", "''"),
    "name": ("'a name'",),
    "bytea": ("''", "'\\x00ff10'", "'\\x5c5c'", f"convert_to({LONG}, 'UTF8')"),
    "date": ("'2026-02-28'", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'"),
    "time": ("'00:00'", "'23:59:59.999999'", "'24:00'"),
    "time(0)": ("'12:34:56'",),
    "timetz": ("'12:00+02'", "'24:00-15:59'"),
    "timestamp": (
        "'2026-01-01 12:00:00.123456'",
        "'infinity'",
        "'-infinity'",
        "'0044-03-15 BC'",
        "'12345-01-01'",
    ),
    "timestamptz": (
        "'2026-03-29 02:30:00+02'",
        "'infinity'",
        "'-infinity'",
        "'0001-01-01 BC'",
        "'1883-11-18 12:00:00 America/New_York'",
    ),
    "interval": ("'1 year -2 mons 3 days 04:05:06.789'", "'-1 sec'", "'0'"),
    "uuid": ("'123e4567-e89b-12d3-a456-426614174000'",),
    "json": ('\'{"a":  1, "a": 2}\'', "'null'", "'[]'"),
    "jsonb": ('\'{"b": 1, "a": "\\u00e9"}\'', "'null'", "'1.10'"),
    "inet": ("'10.0.0.1/8'", "'::1'"),
    "cidr": ("'10.0.0.0/8'",),
    "macaddr": ("'08:00:2b:01:02:03'",),
    "bit(3)": ("b'101'",),
    "varbit": ("b''", "b'1011'"),
    "point": ("'(1.5,-2)'",),
    "box": ("'((0,0),(1,1))'",),
    "tsvector": ("'a:1 b:2'",),
    "tsquery": ("'a & b'",),
    "pg_lsn": ("'16/B374D848'",),
    "int4range": ("'[1,5)'", "'empty'", "'(,)'"),
    "numrange": ("'[1.50,2.0]'",),
    "tstzrange": ("'[2026-01-01 00:00+02,)'",),
    "int4multirange": ("'{[1,3),[5,7)}'", "'{}'"),
    "integer[]": ("'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,4}}'"),
    "text[]": ('\'{"a,b","\\"",NULL,"NULL",""}\'',),
    "numeric(10,2)[]": ("'{1.50,NULL}'",),
    "timestamptz[]": ("'{2026-01-01 00:00+02,infinity}'",),
    "bytea[]": ("array['\\x00ff'::bytea, null]",),
    "jsonb[]": ('array[\'{"a": "b,c"}\'::jsonb]',),
    "mood": ("'happy'", "'so so'"),
    "mood[]": ("'{happy,\"so so\"}'",),
    "positive": ("7",),
    "pair": ("row(1, 'a \"b\", c')", "row(null, '')"),
}

_OWN_TYPES = (
    "create type mood as enum ('happy', 'so so')",
    "create domain positive as numeric(8,3) check (value > 0)",
    "create type pair as (n int, t text)",
)

ROWS = max(map(len, TYPES.values())) + 1
"""The last row is all nulls."""


@pytest.fixture(params=["pgoutput", pytest.param("wal2json", marks=needs_system_server)])
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Following]:
    """Table v with a column a type, and a row for each of their values."""
    plugin: str = request.param
    name = "database" if plugin == "pgoutput" else "wal2json_database"
    database: Database = request.getfixturevalue(name)
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(TYPES))
    for statement in (*_OWN_TYPES, f"create table v (id int primary key, {columns})"):
        database.execute(statement)
    for row in range(ROWS):
        values = [
            f"({values[row]})::{kind}" if row < len(values) else "null"
            for kind, values in TYPES.items()
        ]
        database.execute(f"insert into v values ({row}, {', '.join(values)})")
    with following(database, tmp_path, plugin=plugin) as found:
        yield found


def stored(shop: Following, first: int) -> tuple[list[str], list[list[Any]]]:
    """Column types, and the rows from id `first` on, each value as DuckDB writes it and as Python has it."""
    with closing(duckdb.connect(str(shop.path), read_only=True)) as connection:
        names = [f"c{number}" for number in range(len(TYPES))]
        chosen = ", ".join(f"{name}, {name}::varchar" for name in names)
        rows = connection.execute(
            f"select {chosen} from shop.v where id between {first} and {first + 99} order by id"
        ).fetchall()
        types = connection.execute("describe shop.v").fetchall()
    return [row[1] for row in types], [list(map(repr, row)) for row in rows]


@pytest.mark.parametrize("reader", ["sql", "stream"])
def test_the_same_form_by_snapshot_insert_and_update(shop: Following, reader: str) -> None:
    shop.reader = reader
    table = logged("v")
    names = [f"c{number}" for number in range(len(TYPES))]
    shop.database.execute(f"insert into v select id + 200 from generate_series(0, {ROWS - 1}) id")
    shop.sync(table)
    types, by_snapshot = stored(shop, 0)
    assert len(by_snapshot) == ROWS
    listed = ", ".join(names)
    shop.database.execute(f"insert into v select id + 100, {listed} from v where id < 100")
    shop.database.execute(
        f"update v set ({listed}) = (select {listed} from v as o where o.id = v.id - 200)"
        " where id >= 200"
    )
    shop.sync(table)
    assert stored(shop, 100) == (types, by_snapshot)
    assert stored(shop, 200) == (types, by_snapshot)
    nulls = [name for name in by_snapshot[0] if name == "None"]
    assert nulls == []
    assert set(by_snapshot[-1]) == {"None"}


KEYS = (
    "real",
    "numeric",
    "char(5)",
    "date",
    "timestamptz",
    "interval",
    "inet",
    "int4range",
    "mood",
)


def test_the_same_key_by_snapshot_and_log(database: Database, tmp_path: Path) -> None:
    """What the log changes or deletes is found among what the snapshot stored, whatever the key's type."""
    tables = {kind: logged(f"k{number}") for number, kind in enumerate(KEYS)}
    database.execute(_OWN_TYPES[0])
    for kind, table in tables.items():
        name = table.table.name
        database.execute(f"create table {name} (k {kind} primary key, v int)")
        for value in TYPES[kind]:
            database.execute(f"insert into {name} values (({value})::{kind}, 1)")
    database.execute("alter table k1 replica identity full; alter table k4 replica identity full")
    with following(database, tmp_path) as shop:
        shop.sync(*tables.values())
        for table in tables.values():
            name = table.table.name
            database.execute(f"update {name} set v = 2")
            database.execute(
                f"delete from {name} where k = (select k from {name} order by k limit 1)"
            )
        applied = shop.sync(*tables.values())
        for kind, table in tables.items():
            report = applied[table.table.name].report
            assert report is not None
            counts, rows = report.counts, len(TYPES[kind])
            assert (counts.updated, counts.deleted, counts.total) == (rows - 1, 1, rows - 1), kind
