"""Following tables through wal2json: what the plugin does not say is read, noticed or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.config.method import Shape
from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import MethodUnavailable, SlotUnusable
from pg_ingest.following import capture_log as capturing
from pg_ingest.methods import log_steps
from pg_ingest.postgres.wal2json import says_all
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged
from pg_ingest_tests.servers import needs_system_server

pytestmark = needs_system_server

T = logged("t")


@pytest.fixture
def shop(wal2json_database: Database, tmp_path: Path) -> Iterator[Following]:
    with following(wal2json_database, tmp_path, plugin="wal2json") as found:
        yield found


@pytest.fixture(params=["sql", "stream"])
def both(shop: Following, request: pytest.FixtureRequest) -> Following:
    """The same with each reader."""
    shop.reader = request.param
    return shop


def run(shop: Following, *statements: str) -> str:
    """Run them, sync table t; the phase, once source and destination are equal."""
    for statement in statements:
        shop.database.execute(statement)
    report = shop.sync(T)["t"].report
    check(shop)
    return "" if report is None else report.phase


def check(shop: Following, where: str = "true") -> None:
    """Source and destination are equal, however each writes its numbers."""
    columns = shop.database.rows(_COLUMNS)
    names = ", ".join(f'"{name}"::varchar' for (name,) in columns)
    stored = shop.rows(f"select {names} from shop.t where {where}")
    assert _read(stored) == _read(shop.database.rows(f"select {names} from t"))


_COLUMNS = """
select attname from pg_attribute where attrelid = 't'::regclass and attnum > 0
and not attisdropped and attgenerated = '' order by attnum
"""


def _read(rows: list[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    return sorted(tuple(map(_number, row)) for row in rows)


def _number(text: str | None) -> str:
    try:
        return repr(float(text or "None"))
    except ValueError:
        return repr(text)


@pytest.fixture
def before_2_6(shop: Following) -> Following:
    """The same; skipped where the server's wal2json is new enough to tell NaN from NULL."""
    shop.database.rows("select pg_create_logical_replication_slot(%s, 'wal2json')", shop.slot)
    with shop.server.session(shop.database.name) as session:
        if says_all(session, shop.slot):
            pytest.skip("this wal2json has numeric-data-types-as-string")
    return shop


NUMBERS = (
    "create table t (id int primary key, x float8, y real, z numeric, w numeric(9,2) not null)"
)


def test_nan_and_infinities_are_read_from_the_row(both: Following) -> None:
    run(both, NUMBERS, "insert into t values (1, 'NaN', null, 'Infinity', 1)")
    assert (
        run(
            both,
            "insert into t values (2, '-Infinity', 'NaN', null, 2), (3, null, null, '-Infinity', 3)",
            "update t set x = null, y = 'Infinity', z = 'NaN' where id = 1",
            "insert into t values (4, 1.5, 2.5, 3.5, 4), (5, 'NaN', 0, 0, 5)",
            "update t set id = 50 where id = 5",
            "delete from t where id = 3",
        )
        == "changes"
    )


@pytest.mark.parametrize("shape", [Shape.LIVE, Shape.SOFT_DELETE])
def test_a_row_that_changes_before_it_is_read_again(
    shop: Following, shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between capture and apply: changed, gone, moved to another key, its key taken by another row."""
    table = logged("t", shape=shape)
    shop.database.execute("create table t (id int primary key, x float8, big text)")
    shop.database.execute("alter table t alter big set storage external")
    shop.database.execute(
        "insert into t select n, n, repeat('b', 3000) from generate_series(1, 9) n"
    )
    monkeypatch.setattr(log_steps, "STEP_ROWS", 3)
    shop.sync(table)
    shop.database.execute("update t set x = 'NaN'")
    shop.database.execute("insert into t values (10, 'Infinity', 'new'), (11, null, 'new')")
    capture = shop.capture(table)
    meanwhile = (
        "update t set x = 7 where id = 1",
        "delete from t where id in (2, 10)",
        "update t set id = 30 where id = 3",
        "delete from t where id = 4",
        "insert into t values (4, '-Infinity', 'again')",
        "update t set big = big || 'x', x = null where id = 5",
    )
    for statement in meanwhile:
        shop.database.execute(statement)
    applied = shop.apply(capture, table)["t"]
    assert applied.error is None
    shop.database.execute("update t set x = x + 1 where id = 6")
    shop.sync(table)
    check(shop, "_pgi_deleted_at is null" if shape is Shape.SOFT_DELETE else "true")


def test_many_rows_are_read_again_in_pieces(
    shop: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pg_ingest.postgres.sent_rows.REQUEST_BYTES", 100)
    shop.database.execute(
        'create table t (k text collate "C", "n %s" numeric(3,1), x float8, primary key (k, "n %s"))'
    )
    run(shop)
    phase = run(
        shop,
        "insert into t select 'k,\"{}\\' || n, n / 10.0, nullif(n % 3, 0) from generate_series(1, 50) n",
        "insert into t values ('é', 1, 'NaN'), ('', 2, 'Infinity')",
    )
    assert phase == "changes"


@pytest.mark.parametrize(
    "table",
    [
        "create table t (id int, x float8); alter table t replica identity full",
        "create table t (id int, x numeric(5,2), y int); alter table t replica identity full",
    ],
)
def test_without_a_key_null_must_be_null(before_2_6: Following, table: str) -> None:
    before_2_6.database.execute(table)
    (error,) = before_2_6.capture(T).failures.values()
    assert isinstance(error, MethodUnavailable)
    assert "x" in error.detail
    assert "y" not in error.detail.partition(":")[0]
    before_2_6.database.execute("create domain d as float8")
    before_2_6.database.execute("alter table t alter x type d")
    run(before_2_6, "insert into t values (1, 'NaN'), (1, 'NaN'), (2, null)")
    assert (
        run(before_2_6, "delete from t where id = 2", "insert into t values (1, 'NaN')")
        == "changes"
    )


def test_nan_where_null_is_not_allowed_means_reading_anew_without_a_key(
    before_2_6: Following,
) -> None:
    before_2_6.database.execute("create table t (id int, x float8 not null)")
    before_2_6.database.execute("alter table t replica identity full")
    assert run(before_2_6, "insert into t values (1, 1)") == "snapshot"
    assert run(before_2_6, "insert into t values (1, 1), (2, 2)") == "changes"
    assert run(before_2_6, "insert into t values (3, 'NaN')") == "snapshot"


def test_a_table_without_identity_is_refused(shop: Following) -> None:
    shop.database.execute("create table t (id int)")
    (error,) = shop.capture(T).failures.values()
    assert "no usable replica identity" in str(error)
    assert "left out" in error.detail or "leave every UPDATE" in error.detail


def test_updates_while_the_identity_was_gone_are_noticed(both: Following) -> None:
    run(both, "create table t (id int primary key, v text)", "insert into t values (1, 'a')")
    phase = run(
        both,
        "alter table t replica identity nothing",
        "update t set v = 'b'",
        "alter table t replica identity default",
        "insert into t values (2, 'c')",
    )
    assert phase == "snapshot"
    assert run(both, "update t set v = 'd'") == "changes"


@pytest.mark.parametrize(
    "away",
    [
        ("alter table t rename to u", "u", "alter table u rename to t"),
        (
            "create schema s; alter table t set schema s",
            "s.t",
            "alter table s.t set schema public",
        ),
    ],
)
def test_changes_under_another_name_are_not_missed(
    shop: Following, away: tuple[str, str, str]
) -> None:
    there, name, back = away
    run(shop, "create table t (id int primary key, v text)", "insert into t values (1, 'a')")
    assert run(shop, there, f"update {name} set v = 'b'", back) == "snapshot"
    assert run(shop, "update t set v = 'c'") == "changes"


def test_another_table_of_that_name(shop: Following) -> None:
    run(shop, "create table t (id int primary key, v text)", "insert into t values (1, 'a')")
    phase = run(
        shop,
        "update t set v = 'b'",
        "alter table t rename to old",
        "create table t (id int primary key, v text)",
        "insert into t values (7, 'new')",
        "update old set v = 'c'",
    )
    assert phase == "snapshot"


ALTERED = (
    "update t set v = 'before' where id = 1; alter table t add x text;"
    " update t set x = 'x' where id = 2; insert into t values (5, 'w', 5, 'b', 'y')",
    "delete from t where id = 3; alter table t add d date not null default '2024-02-29';"
    " update t set n = 9 where id = 1",
    "update t set n = 7 where id = 1; alter table t rename v to title;"
    " update t set n = 8 where id = 2",
    "alter table t rename id to nr; delete from t where nr = 2;"
    " update t set title = 'z' where nr = 1",
    "alter table t drop column title; update t set n = 8 where nr = 1;"
    " insert into t (nr, n, big) values (6, 6, 'c')",
    "alter table t add g int generated always as (n * 2) stored",
    "update t set n = 10 where nr = 1; alter table t alter big type varchar",
    "update t set n = 11; delete from t where nr = 5",
)


@pytest.mark.parametrize("key", ["primary key", ""], ids=["key", "no_key"])
def test_columns_that_change(shop: Following, key: str) -> None:
    run(
        shop,
        f"create table t (id int {key}, v varchar(10), n int, big text)",
        "alter table t alter big set storage external",
        *(() if key else ("alter table t replica identity full",)),
        "insert into t select i, 'v' || i, i, repeat('b', 3000) from generate_series(1, 4) i",
    )
    phases = [run(shop, *statements.split("; ")) for statements in ALTERED]
    assert phases[:5] == ["changes"] * 5
    assert phases[-1] == "changes"
    big = run(shop, "alter table t alter big type text using upper(big)", "update t set n = 12")
    assert big in ("changes", "snapshot")


PARTED = (
    "create table t (id int primary key, v text) partition by range (id)",
    "create table t1 (v text, gone int, id int not null)",
    "alter table t1 drop column gone",
    "alter table t attach partition t1 for values from (0) to (10)",
    "create table t2 partition of t for values from (10) to (20) partition by range (id)",
    "create table t2a partition of t2 for values from (10) to (20)",
)


def test_partitions(shop: Following) -> None:
    run(shop, *PARTED, "insert into t values (1, 'a'), (11, 'b')")
    moves = ("update t set id = 12 where id = 1", "insert into t1 (id, v) values (3, 'c')")
    assert run(shop, *moves, "delete from t where id = 11") == "changes"
    run(shop, "truncate t", "insert into t values (4, 'd'), (14, 'e')")
    assert run(shop, "truncate t1") == "snapshot"  # the log does not say which rows were in it
    assert run(shop, "alter table t detach partition t1") == "snapshot"
    filled = ("insert into t1 (id, v) values (5, 'f')",)
    phase = run(shop, *filled, "alter table t attach partition t1 for values from (0) to (10)")
    assert phase == "snapshot"
    assert run(shop, "update t set v = v || '!'") == "changes"


ODD = ("a, b.c*", "q\"'\\x", "ü é", "*", ".", "Ünï\tcode")


def test_odd_names(both: Following) -> None:
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in ODD}
    tables = [logged(name) for name in ODD]
    for name in quoted.values():
        both.database.execute(f"create table {name} (id int primary key, v text)")
    both.database.execute("create table other (id int primary key)")
    both.sync(*tables)
    for name in quoted.values():
        both.database.execute(f"insert into {name} values (1, 'x')")
        both.database.execute(f"update {name} set v = 'y'")
    both.database.execute("insert into other values (1)")
    capture = both.capture(*tables)
    assert {s.table.name for s in capture.captured.segments} == set(ODD)
    applied = both.apply(capture, *tables)
    assert [one.error for one in applied.values()] == [None] * len(ODD)


def test_a_slot_of_another_plugin(shop: Following) -> None:
    shop.database.execute("create table t (id int primary key)")
    shop.database.rows("select pg_create_logical_replication_slot(%s, 'pgoutput')", shop.slot)
    with pytest.raises(SlotUnusable, match="has the plugin pgoutput, not wal2json"):
        shop.capture(T)


def test_changes_of_the_catalogue_while_reading(
    shop: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table is renamed between the look at the catalogue and the end of the reading."""
    run(shop, "create table t (id int primary key, v text)", "insert into t values (1, 'a')")
    real: Callable[..., Any] = capturing.capture_again
    shop.database.execute("update t set v = 'b'")
    capture = shop.capture(T)
    shop.database.execute("alter table t rename to u")
    shop.database.execute("update u set v = 'c'")
    shop.flush()
    real(shop.server, shop.folder, shop.database.name)
    shop.database.execute("alter table u rename to t")
    shop.apply(capture, T)
    assert run(shop, "update t set id = 2") == "snapshot"


def test_prepared_transactions_and_savepoints(shop: Following) -> None:
    shop.database.execute("create table t (id int primary key, x float8)")
    shop.sync(T)
    with shop.database.connect() as connection:
        connection.execute("begin; insert into t values (1, 'NaN'); savepoint a")
        connection.execute("insert into t values (2, null); rollback to a; savepoint b")
        connection.execute("insert into t values (3, 'Infinity'); prepare transaction 'p'")
        shop.sync(T)
        assert shop.stored("t") == []
        connection.execute("commit prepared 'p'")
    assert run(shop) == "changes"


@pytest.mark.parametrize("reader", ["sql", "stream"])
def test_a_database_in_another_encoding(
    wal2json_cluster: Cluster, tmp_path: Path, reader: str
) -> None:
    """The SQL functions bring texts to UTF-8; the stream would not, and is refused."""
    name = f"latin1_{reader}"
    admin = Database("postgres", wal2json_cluster.host, wal2json_cluster.port, "postgres")
    admin.execute(
        f"create database {name} template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'"
    )
    database = Database(name, admin.host, admin.port, admin.user)
    database.execute('create table t (id int primary key, "ü" text)')
    with following(database, tmp_path, plugin="wal2json", reader=reader) as shop:
        if reader == "stream":
            database.rows("select pg_create_logical_replication_slot(%s, 'wal2json')", shop.slot)
            database.execute("insert into t values (0, '')")
            with pytest.raises(MethodUnavailable, match=r"cannot be streamed .* in LATIN1"):
                shop.sync(T)
        else:
            shop.sync(T)
            database.execute("insert into t values (1, 'ä\u00a0\\ x')")
            shop.sync(T)
            assert shop.stored("t") == shop.source("t") == [("1", "ä\u00a0\\ x")]
    admin.execute(f"drop database {name} with (force)")
