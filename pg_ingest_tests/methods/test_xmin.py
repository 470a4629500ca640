"""Rows found by the transaction that wrote them: what is read, and when all is read again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pg_ingest.bookmark import XminBookmark, dump, load
from pg_ingest.errors import ConfigError, MethodUnavailable, PermissionMissing
from pg_ingest.methods.outdated import FURTHEST, why_everything
from pg_ingest.postgres import row_versions
from pg_ingest_tests.methods.conftest import Pair, by_xmin, full, keyed

pytestmark = pytest.mark.usefixtures("flushed_at_once")
BY_XMIN = by_xmin("t")
FILLED = (
    "create table t (id int primary key, v text);"
    " insert into t select g, 'a' from generate_series(1, 100) g"
)


def mark(pair: Pair) -> XminBookmark:
    bookmark = pair.bookmark(BY_XMIN)
    assert isinstance(bookmark, XminBookmark)
    return bookmark


def again(pair: Pair, reason: str) -> None:
    """The next sync reads everything, says why, and the one after it nothing."""
    report = pair.sync(BY_XMIN)
    assert report.phase == "snapshot"
    assert reason in report.notes[0]
    assert pair.stored(BY_XMIN) == pair.source("select * from t")
    assert pair.sync(BY_XMIN).rows_read == 0


def test_only_new_and_changed_rows_travel(pair: Pair) -> None:
    pair.database.execute(FILLED)
    assert pair.sync(BY_XMIN).phase == "snapshot"
    assert pair.sync(BY_XMIN).rows_read == 0
    pair.database.execute("update t set v = 'b' where id < 4; insert into t values (200, 'n')")
    report = pair.sync(BY_XMIN)
    assert (report.phase, report.rows_read) == ("incremental", 4)
    assert (report.counts.inserted, report.counts.updated) == (1, 3)
    assert pair.stored(BY_XMIN) == pair.source("select * from t")
    assert report.position_to == str(mark(pair).xmin)
    assert load(dump(mark(pair))) == mark(pair)


def test_deletes_stay_until_a_reset(pair: Pair) -> None:
    pair.database.execute(FILLED)
    pair.sync(BY_XMIN)
    pair.database.execute("delete from t where id > 50")
    assert pair.sync(BY_XMIN).counts.total == 100
    assert pair.sync(BY_XMIN, reset=True).counts.total == 50


def test_a_late_commit_with_savepoints(pair: Pair) -> None:
    pair.database.execute(FILLED)
    with pair.database.connect() as late, pair.database.connect() as prepared:
        late.execute("begin; insert into t values (201, 'x'); savepoint s")
        late.execute("insert into t values (202, 'x'); release s; savepoint r")
        prepared.execute("begin; insert into t values (204, 'x'); prepare transaction 'xmin_late'")
        late.execute(
            "insert into t values (203, 'gone'); rollback to r; insert into t values (203, 'x')"
        )
        pair.database.execute("update t set v = 'b' where id = 1")
        pair.sync(BY_XMIN)
        report = pair.sync(BY_XMIN)
        assert report.rows_read == 1
        assert not report.counts.changed
        assert "the position waits for transaction" in report.notes[0]
        late.execute("commit")
    pair.sync(BY_XMIN)
    pair.database.execute("commit prepared 'xmin_late'")
    pair.sync(BY_XMIN)
    assert pair.stored(BY_XMIN) == pair.source("select * from t")
    assert pair.sync(BY_XMIN).rows_read == 0


@pytest.mark.parametrize("statement", ["vacuum freeze t", "select * from t for update"])
def test_what_writes_no_row(pair: Pair, statement: str) -> None:
    pair.database.execute(FILLED)
    pair.sync(BY_XMIN)
    pair.database.execute("insert into t values (200, 'n')")
    pair.database.execute(statement)
    assert pair.sync(BY_XMIN).rows_read == 1
    pair.database.execute(statement)
    assert pair.sync(BY_XMIN).rows_read == 0


@pytest.mark.parametrize(
    "statement",
    [
        "vacuum full t",
        "cluster t using t_pkey",
        "alter table t alter v type varchar(7) using v || 'z'",
        "begin; truncate t; insert into t values (1, 'z'); commit",
        "drop table t; create table t (id int primary key, v text); insert into t values (1, 'z')",
    ],
)
def test_a_rewritten_table_is_read_again(pair: Pair, statement: str) -> None:
    pair.database.execute(FILLED)
    pair.sync(BY_XMIN)
    for one in statement.split("; ") if "begin" not in statement else [statement]:
        pair.database.execute(one)
    again(pair, "has another file")


def test_a_table_made_and_filled_by_copy_freeze(pair: Pair) -> None:
    pair.database.execute(FILLED)
    pair.sync(BY_XMIN)
    with pair.database.connect() as writer:
        writer.execute("begin; truncate t")
        with writer.cursor().copy("copy t from stdin (freeze)") as rows:
            rows.write("7\tq\n")
        writer.execute("commit")
    again(pair, "has another file")


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("alter table t add w int default 7", "w"),
        ("alter table t rename v to w", "w"),
        ("alter table t drop v; alter table t add v text default 'new'", "v"),
        ("alter table t alter v type varchar", "v"),
    ],
)
def test_columns_that_show_something_else(pair: Pair, statement: str, names: str) -> None:
    pair.database.execute(FILLED)
    pair.sync(BY_XMIN)
    pair.database.execute(statement)
    again(pair, f"columns are new or of another kind: {names}")


def test_a_dropped_column_changes_nothing(pair: Pair) -> None:
    pair.database.execute(FILLED)
    pair.sync(BY_XMIN)
    pair.database.execute("alter table t drop v; insert into t values (200)")
    report = pair.sync(BY_XMIN)
    assert report.rows_read == 1
    assert "kept here: v" in " ".join(report.notes)


def test_another_expression_of_a_virtual_column(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key, d int generated always as (id * 2) virtual);"
        " insert into t values (1), (2)"
    )
    pair.sync(BY_XMIN)
    pair.database.execute("alter table t alter d set expression as (id * 3)")
    again(pair, "columns are new or of another kind: d")


def test_another_filter_key_or_method(pair: Pair) -> None:
    pair.database.execute(FILLED)
    pair.sync(BY_XMIN)
    less = by_xmin("t", where="id > 90")
    report = pair.sync(less)
    assert "row filter" in report.notes[0]
    assert report.counts.total == 10
    report = pair.sync(by_xmin("t", where="id > 90", key=("id", "v")))
    assert "recognised by (id, v), before by (id)" in report.notes[0]
    pair.sync(full("t"))
    assert "loaded by full_table before" in pair.sync(BY_XMIN).notes[0]
    assert "loaded by xmin before" in pair.sync(keyed("t", "id")).notes[0]


def test_partitions_that_come_and_go(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key, v text) partition by range (id);"
        " create table t1 partition of t for values from (0) to (100);"
        " create table older (id int primary key, v text);"
        " insert into t values (1, 'a'); insert into older values (101, 'o'), (102, 'o')"
    )
    pair.sync(BY_XMIN)
    pair.database.execute(
        "alter table t attach partition older for values from (100) to (200);"
        " create table t3 partition of t for values from (200) to (300); insert into t values (201, 'n')"
    )
    report = pair.sync(BY_XMIN)
    assert (report.phase, report.rows_read) == ("incremental", 3)
    assert "partitions read whole" in report.notes[0]
    assert pair.stored(BY_XMIN) == pair.source("select * from t")
    pair.database.execute("update t set id = 203 where id = 1")
    assert pair.sync(BY_XMIN).counts.inserted == 1
    pair.database.execute("alter table t detach partition older")
    report = pair.sync(BY_XMIN)
    assert "detached or dropped: 1" in report.notes[0]
    assert report.counts.total == 5
    pair.database.execute(
        "insert into older values (103, 'o');"
        " alter table t attach partition older for values from (100) to (200)"
    )
    assert pair.sync(BY_XMIN).rows_read == 3


def test_a_partition_that_is_attached_with_partitions_of_its_own(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key) partition by range (id);"
        " create table branch (id int primary key) partition by range (id);"
        " create table leaf partition of branch for values from (0) to (50);"
        " insert into leaf values (1), (2)"
    )
    pair.sync(BY_XMIN)
    pair.database.execute("alter table t attach partition branch for values from (0) to (100)")
    assert pair.sync(BY_XMIN).rows_read == 2


def test_a_materialized_view_with_a_key(pair: Pair) -> None:
    pair.database.execute(
        f"{FILLED}; create materialized view m as select * from t; create unique index on m (id)"
    )
    seen = by_xmin("m", key=("id",))
    pair.sync(seen)
    pair.database.execute("update t set v = 'b' where id = 1")
    pair.database.execute("refresh materialized view concurrently m")
    assert pair.sync(seen).rows_read == 1
    pair.database.execute("refresh materialized view m")
    assert "another file" in pair.sync(seen).notes[0]


@pytest.mark.parametrize(
    "statement",
    [
        "create view t as select 1 as id",
        "create extension if not exists postgres_fdw schema pg_catalog;"
        " create server if not exists elsewhere foreign data wrapper postgres_fdw;"
        " create table t (id int) partition by range (id);"
        " create foreign table f partition of t for values from (1) to (9) server elsewhere",
    ],
)
def test_relations_whose_rows_name_no_writer(pair: Pair, statement: str) -> None:
    pair.database.execute(statement)
    with pytest.raises(MethodUnavailable, match="do not say which transaction"):
        pair.sync(by_xmin("t", key=("id",)))


def test_a_table_without_a_key_and_a_window(pair: Pair) -> None:
    pair.database.execute("create table t (id int)")
    with pytest.raises(MethodUnavailable, match="no primary key"):
        pair.sync(BY_XMIN)
    with pytest.raises(ConfigError, match="not in windows"):
        pair.sync(BY_XMIN, window=("2024-01-01", "2024-01-02"))


def test_the_hidden_column_must_be_granted(pair: Pair) -> None:
    role = f"{pair.database.name}_reader"
    pair.database.execute(
        f"{FILLED}; create role {role} login; grant select (id, v) on t to {role}"
    )
    try:
        with pytest.raises(PermissionMissing) as refused:
            pair.sync(BY_XMIN, user=role)
        assert f'GRANT SELECT ("xmin") ON "public"."t" TO "{role}"' in refused.value.hint
        pair.database.execute(f"grant select (xmin) on t to {role}")
        pair.sync(BY_XMIN, user=role)
        pair.database.execute("insert into t values (200, 'n')")
        assert pair.sync(BY_XMIN, user=role).rows_read == 1
    finally:
        pair.database.execute(f"drop owned by {role}; drop role {role}")


def test_the_hidden_columns_of_a_partitioned_table(pair: Pair) -> None:
    role = f"{pair.database.name}_reader"
    pair.database.execute(
        "create table t (id int primary key) partition by range (id);"
        f" create role {role} login; grant select (id) on t to {role}"
    )
    try:
        with pytest.raises(PermissionMissing) as refused:
            pair.sync(BY_XMIN, user=role)
        assert 'GRANT SELECT ("xmin", "tableoid")' in refused.value.hint
    finally:
        pair.database.execute(f"drop owned by {role}; drop role {role}")


def test_odd_names(pair: Pair, tmp_path: Path) -> None:
    pair.database.execute(
        """create table "T %s ""x" ("Id {}" int, "a'b" text, primary key ("a'b", "Id {}"))"""
    )
    odd = by_xmin('T %s "x', where="\"a'b\" <> '%' -- every row")
    pair.sync(odd)
    pair.database.execute("""insert into "T %s ""x" values (1, 'v''%s')""")
    assert pair.sync(odd).rows_read == 1


OLD = XminBookmark(1000, 1005, "7/00000001/5", "f", (), (), ("id",))


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (OLD, ""),
        (replace(OLD, xmin=1001, xmax=999 + FURTHEST), ""),
        (replace(OLD, xmin=1001, xmax=1000 + FURTHEST), "2,147,483,648 transaction ids"),
        (replace(OLD, xmin=900, xmax=1004), "the transaction counter went back from 1005 to 1004"),
        (replace(OLD, server="8/00000001/5"), "another server"),
        (replace(OLD, server="7/00000002/5"), "promoted or restored"),
        (replace(OLD, server="7/00000001/6"), "dropped and made anew"),
        (replace(OLD, server=""), ""),
    ],
)
def test_when_everything_is_read(now: XminBookmark, reason: str) -> None:
    found = why_everything(OLD, now)
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_role_that_may_not_ask_which_server_it_is(pair: Pair) -> None:
    role = f"{pair.database.name}_blind"
    pair.database.execute(f"{FILLED}; create role {role} login; grant select on t to {role}")
    functions = "function pg_control_system(), pg_control_checkpoint()"
    pair.database.execute(f"revoke execute on {functions} from public")
    try:
        with pair.server(role).session(pair.database.name) as session:
            assert row_versions.server_of(session) == ""
            assert row_versions.durable_id(session) == 0
        pair.sync(BY_XMIN, user=role)
        assert pair.sync(BY_XMIN, user=role).rows_read == 0
    finally:
        pair.database.execute(
            f"grant execute on {functions} to public; drop owned by {role}; drop role {role}"
        )
