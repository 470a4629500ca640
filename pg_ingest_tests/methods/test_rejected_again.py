"""Rows that could not be stored arrive well later: their entries in `_pgi.rejected` go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from pg_ingest.config.selection import Replication
from pg_ingest.config.table_config import PartitionBy
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import following, logged
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, full, keyed

KINDS = {
    "int": ["1", "2", "3"],
    "text": ["'it''s'", "'a\"b/c~d'", "''"],
    "uuid": ["gen_random_uuid()"] * 3,
    "timestamptz": ["'2024-02-29 12:00:00.5+02'", "'infinity'", "'0044-03-15 00:00:00+00 BC'"],
    "numeric(10,2)": ["1.50", "-0.25", "2"],
    "bool": ["true", "false", "null"],
}


def rejected(path: Path) -> int:
    with closing(duckdb.connect(str(path), read_only=True)) as connection:
        found = connection.execute("select count(*) from _pgi.rejected").fetchone()
        assert found is not None
        return int(found[0])


@pytest.fixture(params=["key_based", "xmin", "delta_snapshot", "snapshot_diff"])
def table(request: pytest.FixtureRequest) -> Replication:
    makes: dict[str, Callable[..., Replication]] = {
        "key_based": lambda name: keyed(name, "changed"),
        "xmin": by_xmin,
        "delta_snapshot": delta,
        "snapshot_diff": differing,
    }
    return makes[request.param]("t")


def spoil(database: Database, *ids: int) -> None:
    for number in ids:
        database.execute("update t set n = 'NaN', changed = default where id = %s", number)


def mend(database: Database, *ids: int) -> None:
    for number in ids:
        database.execute("update t set n = 1, changed = default where id = %s", number)


def test_entries_of_rows_that_became_good_go(pair: Pair, table: Replication) -> None:
    pair.database.execute(
        "create sequence s; create table t (id int primary key, n numeric(10,2),"
        " changed bigint default nextval('s'))"
    )
    pair.database.execute("insert into t select i, i from generate_series(1, 9) i")
    pair.sync(table)
    spoil(pair.database, 2, 3, 4)
    pair.sync(table, max_rejected=9)
    assert rejected(pair.path) == 3
    mend(pair.database, 2)
    spoil(pair.database, 3, 5)
    pair.sync(table, max_rejected=9)
    assert rejected(pair.path) == 3  # 3 once, with its newest version; 4; 5
    pair.sync(table, max_rejected=9)
    assert rejected(pair.path) == 3
    mend(pair.database, 3, 4, 5)
    pair.sync(table, max_rejected=9)
    assert rejected(pair.path) == 0
    assert pair.stored(table) == pair.source("select * from t")


def test_rows_that_are_gone_are_no_longer_rejected(pair: Pair) -> None:
    table = delta("t")
    pair.database.execute("create table t (id int primary key, n numeric(10,2))")
    pair.database.execute("insert into t values (1, 1), (2, 'NaN'), (3, 'NaN')")
    pair.sync(table, max_rejected=9)
    pair.database.execute("delete from t where id = 2")
    pair.sync(table, max_rejected=9)
    assert rejected(pair.path) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_many_types_are_recognised(pair: Pair, kind: str) -> None:
    table = by_xmin("t", key=("k", "/~\"'k"))
    pair.database.execute(f'create table t (nr int, k {kind}, "/~""\'k" {kind}, n numeric(10,2))')
    for nr, value in enumerate(KINDS[kind], start=1):
        pair.database.execute(f"insert into t values ({nr}, {value}, {value}, 'NaN')")
    pair.sync(table, max_rejected=9)
    assert rejected(pair.path) == 3
    pair.database.execute("update t set n = 1 where nr < 3")
    pair.sync(table, max_rejected=9)
    assert rejected(pair.path) == 1


def test_a_window_forgets_its_own(pair: Pair) -> None:
    by_day = PartitionBy.model_validate({"column": "at", "every": "day", "start": "2024-01-01"})
    table = full("t", partition_by=by_day)
    pair.database.execute("create table t (at date, n numeric(10,2))")
    pair.database.execute("insert into t values ('2024-01-01', 'NaN'), ('2024-01-02', 'NaN')")
    first, second = ((f"2024-01-0{day}T00:00:00", f"2024-01-0{day + 1}T00:00:00") for day in (1, 2))
    for window in (first, second):
        pair.sync(table, window=window, max_rejected=9)
    pair.database.execute("update t set n = 1")
    pair.sync(table, window=first, max_rejected=9)
    assert rejected(pair.path) == 1


@pytest.mark.parametrize("mended", ["update t set n = 1", "delete from t", "truncate t"])
def test_the_log_answers_its_entries(database: Database, tmp_path: Path, mended: str) -> None:
    database.execute("create table t (id int primary key, n numeric(10,2))")
    database.execute("insert into t values (1, 1), (2, 'NaN')")
    with following(database, tmp_path) as found:
        found.sync(logged("t"), max_rejected=9)
        database.execute("update t set n = 'NaN' where id = 1")
        found.sync(logged("t"), max_rejected=9)
        assert rejected(found.path) == 2
        database.execute(mended)
        found.sync(logged("t"), max_rejected=9)
        assert rejected(found.path) == 0
        found.check(logged("t"))
