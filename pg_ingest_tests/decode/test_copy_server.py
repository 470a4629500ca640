"""What a real server prints as csv, in the shapes that csv readers stumble over."""

from __future__ import annotations

import io
from collections.abc import Sequence

from pg_ingest.batch import Batch
from pg_ingest.decode.copy_csv import read_copy_csv
from pg_ingest.demo.cluster import Cluster
from pg_ingest.table import Column
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.decode.conftest import Oracle
from pg_ingest_tests.decode.making import column


def copied(oracle: Oracle, query: str, columns: Sequence[Column]) -> list[Batch]:
    with oracle.connection.cursor() as cursor, cursor.copy(f"copy ({query}) to stdout csv") as copy:
        data = b"".join(copy)
    batches = list(read_copy_csv(io.BytesIO(data), columns))
    assert sum(batch.size for batch in batches) == len(data)
    return batches


def test_a_column_of_nulls_and_almost_nulls(oracle: Oracle) -> None:
    values = (
        "(null), (''), ('NULL'), ('\\.'), ('\\N'), (null), (' '), (E'\\r\\n'), (E'\\n'), (null)"
    )
    batches = copied(oracle, f"values {values}", [column("text")])
    expected = [None, "", "NULL", "\\.", "\\N", None, " ", "\r\n", "\n", None]
    assert [value for batch in batches for value in batch.rows.column(0).to_pylist()] == expected


def test_rows_without_columns_are_counted(oracle: Oracle) -> None:
    [batch] = copied(oracle, "select from generate_series(1, 7)", [])
    assert (batch.rows.num_rows, batch.rows.num_columns) == (7, 0)


def test_no_rows(oracle: Oracle) -> None:
    assert copied(oracle, "select 1 where false", [column("int4")]) == []


def test_a_value_of_twenty_megabytes(oracle: Oracle) -> None:
    wide = r"select n, case n when 2 then repeat(E'a\"b\r\nc\\', 3000000) else 'x' end from "
    batches = copied(
        oracle, wide + "generate_series(1, 3) n", [column("int4"), column("text", "v")]
    )
    values = [value for batch in batches for value in batch.rows.column(1).to_pylist()]
    assert values == ["x", 'a"b\r\nc\\' * 3_000_000, "x"]


def test_bytes_of_an_sql_ascii_database(cluster: Cluster) -> None:
    admin = Database("postgres", cluster.host, cluster.port, cluster.user)
    admin.execute("drop database if exists ascii")
    admin.execute("create database ascii template template0 encoding 'SQL_ASCII' locale 'C'")
    try:
        plain = Database("ascii", cluster.host, cluster.port, cluster.user)
        with plain.connect(client_encoding="SQL_ASCII") as connection:
            connection.execute(rb"create table t as values (1, E'caf\351'), (2, E'caf\303\251')")
            oracle = Oracle(connection)
            columns = [column("int4", "n"), column("text", "v")]
            [batch] = copied(oracle, "select * from t", columns)
    finally:
        admin.execute("drop database ascii with (force)")
    assert batch.rows.to_pylist() == [{"n": 2, "v": "café"}]
    assert batch.rejected is not None
    assert batch.rejected.to_pylist() == [
        {"column": "v", "reason": "not valid UTF-8", "row": '{"n":"1","v":"\\\\x636166e9"}'}
    ]
