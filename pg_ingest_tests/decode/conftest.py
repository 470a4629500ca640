"""The server as the oracle: what it stores, copies and says about values."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from pg_ingest.decode.copy_csv import read_copy_csv
from pg_ingest.demo.cluster import Cluster
from pg_ingest.table import Column, PgType, TypeKind
from pg_ingest_tests.decode.making import column

PINNED = {
    "datestyle": "ISO, YMD",
    "timezone": "UTC",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "client_encoding": "UTF8",
}
KINDS = {
    "b": TypeKind.BASE,
    "e": TypeKind.ENUM,
    "r": TypeKind.RANGE,
    "m": TypeKind.MULTIRANGE,
    "c": TypeKind.COMPOSITE,
}


@dataclass(frozen=True)
class Answer:
    """Stored values: decoded by us, rendered by the server; of rejected ones, only renderings."""

    of: PgType
    decoded: pa.Array
    rendered: list[Any]
    rejected: list[Any]


@dataclass(frozen=True)
class Oracle:
    """One connection with the session settings every reader pins."""

    connection: psycopg.Connection[Any]

    def rows(self, query: str | sql.Composable, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, parameters or None).fetchall()  # type: ignore[arg-type]

    def type_of(self, oid: int, modifier: int = -1) -> PgType:
        query = (
            "select oid, typname, typnamespace::regnamespace::text, typtype, typelem, typdelim,"
            " typsubscript::text from pg_type where oid = %s"
        )
        [(oid, name, schema, typtype, element, delimiter, subscript)] = self.rows(query, oid)
        if element and subscript == "array_subscript_handler":
            kind, of = TypeKind.ARRAY, self.type_of(element, modifier)
        else:
            kind, of = KINDS.get(typtype, TypeKind.BASE), None
        return PgType(oid, name, schema, kind, modifier, name, of, delimiter)

    def ask(self, declared: str, values: Sequence[Any], given: str, rendering: str) -> Answer:
        """Store `given` (an expression of %s) for each value in a column `v` of type `declared`."""
        self.connection.execute("drop table if exists pg_temp.stored")
        self.connection.execute(f"create temp table stored (n int, v {declared})")
        with self.connection.cursor() as cursor:
            insert = f"insert into stored values (%s, {given})"
            cursor.executemany(insert, list(enumerate(values)))
        [(oid, modifier)] = self.rows(
            "select atttypid, atttypmod from pg_attribute"
            " where attrelid = 'pg_temp.stored'::regclass and attname = 'v'"
        )
        rendered = self.rows(f"select n, {rendering} from stored order by n")
        of = self.type_of(oid, modifier)
        return _compared(of, rendered, self._copied(column(of, "v")))

    def _copied(self, of: Column) -> pa.RecordBatch:
        statement = "copy (select n, v from stored order by n) to stdout csv"
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            data = b"".join(copy)
        [batch] = read_copy_csv(io.BytesIO(data), [column("int4", "n"), of])
        assert batch.size == len(data)
        return batch.rows


def _compared(of: PgType, rendered: list[tuple[Any, ...]], rows: pa.RecordBatch) -> Answer:
    kept = set(rows.column("n").to_pylist())
    return Answer(
        of=of,
        decoded=rows.column("v"),
        rendered=[value for n, value in rendered if n in kept],
        rejected=[value for n, value in rendered if n not in kept],
    )


@pytest.fixture(scope="module")
def oracle(cluster: Cluster) -> Iterator[Oracle]:
    options = " ".join(f"-c {name}={value.replace(' ', '')}" for name, value in PINNED.items())
    with psycopg.connect(
        host=cluster.host,
        port=cluster.port,
        user=cluster.user,
        dbname="postgres",
        autocommit=True,
        options=options,
        prepare_threshold=None,
    ) as connection:
        yield Oracle(connection)
