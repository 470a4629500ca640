"""The demo's verdict is only worth something if it can be "no"."""

from pathlib import Path

import duckdb
import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest.demo.compare import Comparison, compare
from pg_ingest.demo.programs import Programs
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database

THINGS = TableId("public", "things")
COPIED = TableId("shop", "things")

SOURCE = r"""
create table things (
    id int, name text, amount numeric(12,2), seen timestamptz, tags text[], body bytea,
    ratio double precision, ok boolean, doc jsonb, made date
);
insert into things values
    (1, 'plain', 1.50, '2026-01-01 00:00:00.5+00', '{a,"b,c",null,""}', '\x00ff', 1, true,
     '{"a": "½"}', '2026-02-03'),
    (2, '', -3.00, '1969-12-31 23:59:59+00', '{}', '', 0.1, false, '[]', null),
    (3, null, null, null, null, null, null, null, null, null),
    (4, E'two\nlines, "quoted" \\ and \\N', 0, now(), '{x}', null, 1e300, null, '1', null),
    (5, '\N', 0, now(), '{x}', null, -0.000001, null, 'null', null),
    (5, '\N', 0, now(), '{x}', null, -0.000001, null, 'null', null);
"""

DESTINATION = """
create schema shop;
create table shop.things (
    id int, name text, amount decimal(12,2), seen timestamptz, tags text[], body blob,
    ratio double, ok boolean, doc json, made date, _pgi_synced_at timestamptz
);
"""


@pytest.fixture
def programs(cluster: Cluster, database: Database) -> Programs:
    programs = Programs(
        cluster.binaries, database.host, database.port, database.user, database.name
    )
    programs.psql("-c", SOURCE)
    return programs


@pytest.fixture
def warehouse(database: Database, programs: Programs, tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    rows = database.rows("select * from things")
    with duckdb.connect(path) as connection:
        connection.execute(DESTINATION)
        values = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now()"
        texts = database.rows("select doc::text from things")
        for row, (doc,) in zip(rows, texts, strict=True):
            connection.execute(
                f"insert into shop.things values ({values})", [*row[:8], doc, *row[9:]]
            )
    return path


def change(warehouse: Path, statement: str) -> None:
    with duckdb.connect(warehouse) as connection:
        connection.execute(statement)


def test_equal_tables_are_equal(programs: Programs, warehouse: Path) -> None:
    found = compare(programs, THINGS, warehouse, COPIED)
    assert found == Comparison(rows=6, missing=0, surplus=0)
    assert found.equal


@pytest.mark.parametrize(
    "statement",
    [
        "update shop.things set name = 'changed' where id = 1",
        "update shop.things set name = null where id = 2",
        "update shop.things set name = '' where id = 3",
        "update shop.things set seen = seen + interval 1 microsecond where id = 1",
        "update shop.things set tags = ['a', 'b', 'c', null, ''] where id = 1",
        "update shop.things set body = null where id = 2",
        "update shop.things set ratio = 0.10000000000000002 where id = 2",
        "update shop.things set doc = null where rowid = (select max(rowid) from shop.things)",
        "update shop.things set ok = false where id = 1",
        "update shop.things set amount = 1.51 where id = 1",
    ],
)
def test_a_changed_row_is_found(programs: Programs, warehouse: Path, statement: str) -> None:
    change(warehouse, statement)
    found = compare(programs, THINGS, warehouse, COPIED)
    assert found == Comparison(rows=6, missing=1, surplus=1)
    assert not found.equal


def test_a_missing_row_is_found(programs: Programs, warehouse: Path) -> None:
    change(warehouse, "delete from shop.things where id = 3")
    found = compare(programs, THINGS, warehouse, COPIED)
    assert found == Comparison(rows=6, missing=1, surplus=0)
    assert not found.equal


def test_a_doubled_row_is_found(programs: Programs, warehouse: Path) -> None:
    change(warehouse, "insert into shop.things select * from shop.things where id = 4")
    found = compare(programs, THINGS, warehouse, COPIED)
    assert found == Comparison(rows=6, missing=0, surplus=1)
    assert not found.equal


def test_one_of_two_equal_rows_is_missed(programs: Programs, warehouse: Path) -> None:
    change(warehouse, "delete from shop.things where rowid = (select max(rowid) from shop.things)")
    assert compare(programs, THINGS, warehouse, COPIED).missing == 1


def test_marked_rows_do_not_count_where_deletes_are_kept(
    programs: Programs, warehouse: Path
) -> None:
    change(warehouse, "alter table shop.things add column _pgi_deleted_at timestamptz")
    change(
        warehouse,
        "insert into shop.things select * replace (now() as _pgi_deleted_at) from shop.things",
    )
    assert compare(programs, THINGS, warehouse, COPIED, soft=True).equal
    assert compare(programs, THINGS, warehouse, COPIED).surplus == 6
    change(warehouse, "update shop.things set _pgi_deleted_at = now() where id = 1")
    assert compare(programs, THINGS, warehouse, COPIED, soft=True).missing == 1


def test_a_table_that_is_not_there_is_no_equal_table(programs: Programs, warehouse: Path) -> None:
    change(warehouse, "drop table shop.things")
    with pytest.raises(duckdb.Error, match="things"):
        compare(programs, THINGS, warehouse, COPIED)
