"""A table that another method has loaded joins the log with what differs, and nothing is lost or doubled."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pg_ingest.batch import LoadReport
from pg_ingest.config.method import Shape
from pg_ingest.config.selection import Replication
from pg_ingest.destinations.destination import StreamId
from pg_ingest.doctor.next_load import check_next_load
from pg_ingest.following import join_log
from pg_ingest.following.apply_log import apply_log
from pg_ingest.following.load_log import ApplySettings
from pg_ingest.loading.replicate import replicate
from pg_ingest.methods import key_ranges
from pg_ingest.postgres import row_versions
from pg_ingest.postgres.flushed import survives
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged
from pg_ingest_tests.methods.conftest import by_xmin, delta, differing

Make = Callable[..., Replication]

ROWS = 400

MADE = (
    "create table t (id int primary key, v text, n numeric(10,2));"
    f" insert into t select g, 'made', g from generate_series(1, {ROWS}) g"
)


@pytest.fixture(params=[by_xmin, delta, differing])
def before(request: pytest.FixtureRequest) -> Make:
    """Makes the replication by the method that comes before."""
    make: Make = request.param
    return make


@pytest.fixture
def shop(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Following]:
    monkeypatch.setattr(row_versions, "is_flushed", lambda *_: True)
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 20)
    with following(database, tmp_path) as found:
        yield found


def load(shop: Following, replication: Replication, max_rejected: int = 0) -> LoadReport:
    return replicate(
        shop.server, shop.destination, replication, shop.database.name, max_rejected=max_rejected
    )


def join(
    shop: Following,
    replication: Replication,
    *,
    reset: bool = False,
    max_rejected: int = 0,
    between: Callable[[], None] = lambda: None,
) -> tuple[LoadReport, list[str]]:
    """The first sync by the log, and what was said before all rows were read; `between` capture and join."""
    said: list[str] = []
    settings = ApplySettings(
        max_rejected,
        reset=[replication.table] if reset else [],
        say=lambda _, text: said.append(text),
    )
    capture = shop.capture(replication)
    between()
    (applied,) = apply_log(
        *(shop.server, shop.destination, shop.folder, capture, [replication], settings)
    )
    assert applied.error is None
    assert applied.report is not None
    return applied.report, said


def write(run: Callable[[str], Any], dice: random.Random, shift: int) -> None:
    """Inserts, updates, deletes and moved keys in a tenth of the table; the keys are ours by `shift`."""
    span = 40 * shift
    for _ in range(6):
        one, other = (dice.randrange(span + 1, span + 41) for _ in range(2))
        run(
            dice.choice(
                [
                    f"insert into t values ({one}, 'new', 1) on conflict (id) do update set v = 'again'",
                    f"update t set v = v || '.' where id between {one} and {other}",
                    f"delete from t where id = {one}",
                    f"delete from t where id = {other}; update t set id = {other} where id = {one}",
                    f"update t set id = {one} + 100000 where id = {one}"
                    f" and not exists (select from t where id = {one} + 100000)",
                ]
            )
        )


def check_marks(shop: Following) -> None:
    """Every row has its place in the log."""
    ((missing, kind),) = shop.rows(
        "select count(*) filter (_pgi_lsn is null), any_value(typeof(_pgi_lsn)) from shop.t"
    )
    assert (missing, kind) == (0, "BIGINT")


@pytest.mark.parametrize("seed", range(2))
def test_equal_whatever_is_written_meanwhile(
    shop: Following, before: Make, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first writer is open over the old sync, the others over the join: one ends in it, one after it."""
    dice = random.Random(seed)
    shop.database.execute(MADE)
    load(shop, before("t"))
    table = logged("t")
    opened = [shop.database.connect(autocommit=False) for _ in range(3)]
    try:
        write(opened[0].execute, dice, 1)
        write(shop.database.execute, dice, 0)
        load(shop, before("t"))
        opened[0].commit()
        write(shop.database.execute, dice, 4)

        def between() -> None:
            write(opened[1].execute, dice, 2)
            write(opened[2].execute, dice, 3)
            write(shop.database.execute, dice, 4)

        def stored(*args: Any, wait: Any = survives) -> None:
            write(shop.database.execute, dice, 5)
            opened[1].commit()
            write(shop.database.execute, dice, 2)
            wait(*args)

        monkeypatch.setattr(join_log, "survives", stored)
        monkeypatch.setattr(join_log, "SETTLE_SECONDS", 0.05)
        report, said = join(shop, table, between=between)
        assert said == []
        assert any("goes on from what" in note for note in report.notes)
        shop.check(table)
        write(opened[2].execute, dice, 3)
        opened[2].commit()
    finally:
        for one in opened:
            one.close()
    shop.sync(table)
    shop.check(table)
    check_marks(shop)
    for _ in range(2):
        write(shop.database.execute, dice, dice.randrange(6))
        shop.sync(table)
        shop.check(table)
    check_marks(shop)


def test_rows_that_have_not_changed_are_neither_read_nor_written(
    shop: Following, before: Make
) -> None:
    shop.database.execute(MADE)
    load(shop, before("t"))
    stamps = shop.rows("select id, _pgi_synced_at::varchar from shop.t where id > 3")
    shop.database.execute("delete from t where id = 1; update t set v = 'x' where id = 2")
    report, said = join(shop, logged("t"))
    assert said == []
    assert any("goes on from what" in note for note in report.notes)
    assert (report.counts.inserted, report.counts.updated, report.counts.deleted) == (0, 1, 1)
    keys = ROWS if before is not differing else 0
    assert report.rows_read < keys + ROWS / 4
    assert report.bytes_read < 10 * ROWS
    shop.check(logged("t"))
    check_marks(shop)
    assert shop.rows("select id, _pgi_synced_at::varchar from shop.t where id > 3") == stamps
    ((marks, mark),) = shop.rows("select count(distinct _pgi_lsn), any_value(_pgi_lsn) from shop.t")
    assert (marks, mark) == (1, _joined(shop))
    shop.database.execute("update t set v = 'y' where id = 5")
    shop.sync(logged("t"))
    shop.check(logged("t"))


def _joined(shop: Following) -> int:
    high, low = shop.bookmark(logged("t")).joined_lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


FULL_LOADS: dict[str, tuple[str, dict[str, Any], str]] = {
    "shape": ("select", {"shape": Shape.SOFT_DELETE}, "shape is soft_delete"),
    "filter": ("select", {"where": "id % 2 = 0"}, "row filter"),
    "key": (
        "alter table t add unique (id, v); alter table t replica identity full;"
        " alter table t alter v set not null",
        {"key": ("id", "v")},
        "",
    ),
    "generated": (
        "alter table t add g int generated always as (id * 2) stored",
        {},
        "g: the log has no values of generated columns",
    ),
    "type": ("alter table t alter id type bigint", {}, ""),
}


@pytest.mark.parametrize("change", FULL_LOADS)
def test_all_rows_are_read_where_the_old_rows_are_not_those(
    shop: Following, before: Make, change: str
) -> None:
    statement, settings, reason = FULL_LOADS[change]
    shop.database.execute(MADE)
    load(shop, before("t"))
    shop.database.execute(statement)
    table = logged("t", **settings)
    report, said = join(shop, table)
    method = before("t").method
    assert len(said) == 1
    assert said[0].startswith(f"read anew: the method was {method} before")
    assert reason in said[0]
    assert report.rows_read == report.counts.total
    rows = "id, v, n"
    assert shop.rows(f"select {rows} from shop.t") == sorted(
        shop.database.rows(f"select {rows} from t where {table.where or 'true'}"), key=repr
    )


def test_a_reset_reads_all_rows(shop: Following, before: Make) -> None:
    shop.database.execute(MADE)
    load(shop, before("t"))
    report, said = join(shop, logged("t"), reset=True)
    assert (report.rows_read, said) == (ROWS, [])


def test_a_table_made_anew(shop: Following, before: Make) -> None:
    shop.database.execute(MADE)
    load(shop, before("t"))
    shop.database.execute("drop table t;" + MADE + "; update t set v = 'other' where id = 7")
    join(shop, logged("t"))
    shop.check(logged("t"))
    check_marks(shop)


def test_a_destination_that_lost_the_table(shop: Following, before: Make) -> None:
    shop.database.execute(MADE)
    load(shop, before("t"))
    with duckdb.connect(str(shop.path)) as connection:
        connection.execute("drop table shop.t")
    report, said = join(shop, logged("t"))
    assert len(said) == 1
    assert report.rows_read >= ROWS
    shop.check(logged("t"))


def test_columns_that_came_and_went(shop: Following) -> None:
    shop.database.execute(MADE)
    load(shop, delta("t"))
    shop.database.execute("alter table t drop n; update t set v = 'z' where id = 3")
    table = logged("t", exclude_columns=("v",))
    _, said = join(shop, table)
    assert said == []
    assert [row[0] for row in shop.rows("select column_name from (describe shop.t)")] == [
        "_pgi_lsn",
        "_pgi_synced_at",
        "id",
        "n",
    ]
    shop.database.execute("alter table t add w int default 5; delete from t where id = 4")
    shop.sync(table)
    assert shop.rows("select id, w from shop.t") == sorted(
        shop.database.rows("select id, w from t"), key=repr
    )


def test_the_row_filter_goes_on(shop: Following, before: Make) -> None:
    shop.database.execute(MADE)
    where = "id % 2 = 0 and v <> 'out'"
    load(shop, before("t", where=where))
    shop.database.execute("alter table t replica identity full")
    shop.database.execute(
        "update t set v = 'out' where id = 8; update t set id = 1000 where id = 9"
    )
    table = logged("t", where=where)
    _, said = join(shop, table)
    assert said == []
    assert shop.stored("t") == shop.source("t", where)
    shop.database.execute("update t set v = 'in' where id = 8; delete from t where id = 10")
    shop.sync(table)
    assert shop.stored("t") == shop.source("t", where)


def test_rows_that_cannot_be_stored(shop: Following, before: Make) -> None:
    shop.database.execute(MADE)
    shop.database.execute("update t set n = 'NaN' where id = 1")
    load(shop, before("t"), max_rejected=9)
    shop.database.execute("update t set n = 'NaN' where id = 2")
    _, said = join(shop, logged("t"), max_rejected=9)
    assert said == []
    assert shop.stored("t") == shop.source("t", "n <> 'NaN'")
    assert shop.rows("select count(*) from _pgi.rejected") == [(2,)]
    shop.database.execute("update t set n = 1 where id < 3")
    shop.sync(logged("t"))
    shop.check(logged("t"))
    assert shop.rows("select count(*) from _pgi.rejected") == [(0,)]


def test_partitions(shop: Following, before: Make) -> None:
    shop.database.execute(
        "create table t (id int primary key, v text) partition by range (id);"
        " create table t1 partition of t for values from (0) to (100);"
        " create table t2 partition of t for values from (100) to (200);"
        " insert into t select g, 'made' from generate_series(1, 199) g"
    )
    load(shop, before("t"))
    shop.database.execute(
        "alter table t detach partition t2;"
        " create table t3 (id int primary key, v text);"
        " insert into t3 select g, 'came' from generate_series(200, 210) g;"
        " alter table t attach partition t3 for values from (200) to (300)"
    )
    _, said = join(shop, logged("t"))
    assert said == []
    shop.check(logged("t"))
    shop.database.execute("delete from t where id in (5, 205); update t set v = 'x' where id = 50")
    shop.sync(logged("t"))
    shop.check(logged("t"))


def test_check_foretells_it(shop: Following, before: Make) -> None:
    shop.database.execute(MADE)
    load(shop, before("t"))
    capture = shop.capture(logged("t"))
    stored = {one.stream: one.bookmark for one in shop.destination.status()}
    stream = StreamId("shop", shop.database.name, "public", "t")
    assert list(stored) == [stream]

    def told(replication: Replication, **options: bool) -> list[str]:
        found = [(replication, capture.tables[replication.table])]
        findings = check_next_load("shop", shop.database.name, found, stored, **options)
        return [one.fact for one in findings]

    assert told(logged("t")) == []
    (soft,) = told(logged("t", shape=Shape.SOFT_DELETE))
    assert "its shape is soft_delete now" in soft
    (standby,) = told(logged("t"), standby=True)
    assert "the source is a standby" in standby
