"""A row's checksum is that of its values: of the texts that arrive, not of what PostgreSQL calls equal."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.checksum import row_checksum
from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for

SEED = 0x5EED_5EED_5EED
_numbers = itertools.count(1)

VALUES = {
    "bool": "t f",
    "smallint": "0 1 -1 32767 -32768",
    "int": "0 1 -1 5 -5 2147483647 -2147483648",
    "bigint": "0 1 -1 5 4294967296 4294967297 -4294967296 9007199254740992 9007199254740993"
    " 9223372036854775807 9223372036854775806 9223372036854774784 -9223372036854775808"
    " -9223372036854775807 4611686018427387903 4611686018427387904 9223372032559808511",
    "oid": "0 1 4294967295",
    "numeric(20,2)": "0 0.01 1 -1 10000 100000000 12345678.9 -12345678.9 NaN",
    "numeric": "0 0.0 1 1.0 1.00 -1 10000 NaN 1e2000",
    "float8": "0 -0 1 -1 NaN Infinity -Infinity 1e-300 0.1",
    "float4": "0 -0 1 NaN",
    "date": "2000-01-01 1999-12-31 2000-01-02 infinity -infinity 4713-01-01BC 5874897-12-31",
    "timestamp": "1970-01-01 2000-01-01 2000-01-01T00:01 2000-01-01T00:00:00.000001 infinity -infinity"
    " 2024-05-05T12:00:00.000001 2024-05-05T12:00:00.000002 4713-11-24BC 294276-12-31T23:59:59.999999"
    " 294276-12-31T23:59:59.999998 2024-05-05T13:11:34.967297",
    "timestamptz": "1970-01-01Z 1969-12-31T23:59:59.5Z 2000-01-01Z infinity -infinity 2024-05-05T12:00:00Z"
    " 2024-05-05T13:11:34.967296Z",
    "uuid": "00000000-0000-0000-0000-000000000000 00000000-0000-0000-0000-000000000001",
    "text": "|a|A|b|ab|NULL|null|,|(|é|é|a b",
    "varchar(9)": "|a|A|a | a",
    "char(4)": "|a| a|a.|b",
    "bpchar": "|a|a |a  ",
    "bytea": r"\x \x00 \x0000 \x61",
    "interval": "0 P1D PT24H P30D P1M P-1D",
    "jsonb": 'null {} [] 1 1.0 1.00 "1"',
    "json": '1|1 | 1|{"a":1}|{"a": 1}',
    "int[]": "{} {1} {1,2} {{1,2}} {NULL} [0:1]={1,2}",
    "text[]": '{} {a} {A} {NULL} {"NULL"} {a,b}',
    "inet": "10.0.0.1 10.0.0.1/24 ::1",
    "varbit": "|0|1|00|01",
    "time": "00:00 24:00 12:00",
    "timetz": "12:00+00 13:00+01",
    "int4range": "empty [1,2) [1,) (,)",
}


@pytest.fixture(scope="module")
def session(any_version: Cluster) -> Iterator[Session]:
    with server_for(any_version).session("postgres") as opened:
        yield opened


def checksums(session: Session, cluster: Cluster, columns: str, query: str) -> dict[str, set[int]]:
    """The texts of rows, as `ROW(…)` quotes them, and all checksums that such rows have."""
    database = Database("postgres", cluster.host, cluster.port, cluster.user)
    name = f"checksum{next(_numbers)}"
    database.execute(f"create table {name} ({columns})")
    try:
        database.execute(f"insert into {name} {query}")
        table = describe(session, TableId("public", name))
        found: dict[str, set[int]] = defaultdict(set)
        expression = row_checksum(table.columns, SEED, session.server_version).as_string(None)
        rows = session.rows(f"select (t.*)::text, {expression} from public.{name} t")  # type: ignore[arg-type]
        for text, checksum in rows:
            assert isinstance(checksum, int)
            found[text].add(checksum)
    finally:
        database.execute(f"drop table {name}")
    return found


def assert_told_apart(found: dict[str, set[int]]) -> None:
    assert all(len(sums) == 1 for sums in found.values())
    every = [next(iter(sums)) for sums in found.values()]
    assert len(set(every)) == len(every) > 2


def literals(kind: str) -> list[str]:
    given = VALUES[kind]
    return given.split("|") if "|" in given else given.split(" ")


@pytest.mark.parametrize("kind", VALUES)
def test_values_and_pairs_are_told_apart(session: Session, any_version: Cluster, kind: str) -> None:
    """All pairs of two columns: so also (0, 5) from (5, 0), and NULL from everything else."""
    quoted = ", ".join("('" + text.replace("'", "''") + "')" for text in literals(kind))
    values = f"(select v::{kind} as v from (values {quoted}) l(v) union all select null)"
    pairs = f"select x.v, y.v from {values} x, {values} y"
    found = checksums(session, any_version, f"a {kind}, b {kind}", f"{pairs} union all {pairs}")
    assert_told_apart(found)


def test_columns_of_many_types_beside_each_other(session: Session, any_version: Cluster) -> None:
    columns = (
        "a int, b numeric(9,2), c numeric(5,1), d float8, e text, f char(3), g date, h timestamp,"
        " i uuid, j json, k bool, l int8"
    )
    each = [
        "(values (0), (5), (null)) a",
        "(values (0), ('NaN'::numeric), (-5), (5)) b",
        "(values (0), ('NaN'::numeric), (5)) c",
        "(values (0::float8), ('-0')) d",
        "(values (''), (null)) e",
        "(values (''), (null)) f",
        "(values (date '2000-01-01'), (null)) g",
        "(values (timestamp '1970-01-01'), (null)) h",
        "(values (null::uuid)) i",
        "(values ('1'::json), (null)) j",
        "(values (true), (false), (null)) k",
        "(values (0), (4294967296), (1)) l",
    ]
    assert_told_apart(checksums(session, any_version, columns, f"select * from {', '.join(each)}"))


def test_domains_and_enums(session: Session, any_version: Cluster) -> None:
    database = Database("postgres", any_version.host, any_version.port, any_version.user)
    database.execute(
        "create domain whole as bigint; create domain price as numeric(9,2); create domain code as char(4);"
        " create type mood as enum ('sad', 'glad')"
    )
    try:
        found = checksums(
            session,
            any_version,
            "a whole, b price, c code, d mood, e bigint[]",
            "select * from (values (1), (4294967296), (null)) a, (values (1.5), (-1.5), (null)) b,"
            " (values ('x'), (null)) c, (values ('sad'::mood), ('glad'), (null)) d,"
            " (values ('{1}'::bigint[]), (null)) e",
        )
    finally:
        database.execute("drop domain whole, price, code; drop type mood")
    assert_told_apart(found)


def test_very_wide_tables(session: Session, any_version: Cluster) -> None:
    """Many columns, and a change of any one of them: the first, one in the middle, the last."""
    names = [f"c{number}" for number in range(400)]
    rows = [
        f"select {', '.join('1::int8' if name == chosen else 'null::int8' for name in names)}"
        for chosen in ("", "c0", "c31", "c32", "c200", "c399")
    ]
    declared = ", ".join(f"{name} bigint" for name in names)
    assert_told_apart(checksums(session, any_version, declared, " union all ".join(rows)))
