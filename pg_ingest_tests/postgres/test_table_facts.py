"""Which columns may have values out of line, by the server's own rules."""

from __future__ import annotations

import pytest

from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.table_facts import table_facts
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for


def toasted(database: Database) -> tuple[str, ...]:
    with server_for(database).session(database.name) as session:
        table = describe(session, TableId("public", "t"))
        return table_facts(session, [table])[table.id].toasted


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("n numeric(10,2), v varchar(20)", ()),
        ("n numeric(10,2), v varchar(5), c char(5), t text", ("t",)),
        ("n numeric(29,2), m numeric(30,2), x numeric, b bytea", ("m", "x", "b")),
        ("v varchar(9000), w varchar(6), u varchar(5)", ("v", "w")),
        ("j jsonb, i int, d timestamptz", ("j",)),
    ],
)
def test_small_values_never_leave_their_row(
    database: Database, columns: str, expected: tuple[str, ...]
) -> None:
    database.execute(f"create table t ({columns})")
    assert toasted(database) == expected


def test_what_the_server_moves_out_is_what_is_told(database: Database) -> None:
    """A row of very many small values is too wide, and still none of them can be moved."""
    names = [f"n{number}" for number in range(250)]
    database.execute(f"create table t (big text, {', '.join(f'{n} numeric(29,0)' for n in names)})")
    wide = ", ".join(["repeat('x', 100000)", *("12345678901234567890123456789" for _ in names)])
    database.execute(f"insert into t values ({wide})")
    assert toasted(database) == ("big",)
