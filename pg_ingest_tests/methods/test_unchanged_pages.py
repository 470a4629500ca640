"""Pages that need not be read: never one with a row that the last sync did not see, whatever VACUUM does."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.bookmark import XminBookmark
from pg_ingest.demo.cluster import Cluster, embedded_binaries
from pg_ingest.methods import unchanged_pages
from pg_ingest.methods.unchanged_pages import why_not
from pg_ingest.postgres import row_versions, visibility_map
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.ranges import PageRange
from pg_ingest.postgres.visibility_function import create_function
from pg_ingest.postgres.visibility_map import pages_changed
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, by_xmin
from pg_ingest_tests.methods.test_standby import Standby, catch_up
from pg_ingest_tests.methods.test_xmin_interleavings import Copy, Writer, committed
from pg_ingest_tests.servers import other_servers, system_server

FUNCTION = TableId("maps", "of table")
SKIPPING = by_xmin("t", visibility_map=str(FUNCTION))
SETTINGS = {"synchronous_commit": "on", "autovacuum": "off", "max_prepared_transactions": "5"}

SERVERS = {
    "14": other_servers().get(14),
    "packaged": system_server(),
}


def install(database: Database, role: str) -> None:
    """What an administrator runs, with psql."""
    address = ["-h", database.host, "-p", str(database.port), "-U", database.user]
    program = [str(embedded_binaries() / "psql"), "-Xqv", "ON_ERROR_STOP=1", *address]
    subprocess.run(
        [*program, "-d", database.name, "-f", "-"],
        input=create_function(FUNCTION, role),
        text=True,
        check=True,
    )


def prepared(cluster: Cluster) -> Database:
    database = Database("postgres", cluster.host, cluster.port, cluster.user)
    database.execute("create extension pg_visibility; create role plain login")
    install(database, "plain")
    return database


@pytest.fixture(scope="module", params=sorted(SERVERS))
def sound(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    binaries = SERVERS[request.param]
    if binaries is None:
        pytest.skip("this server is not installed")
    with Cluster(binaries=binaries, settings=SETTINGS) as running:
        prepared(running)
        yield running


@pytest.fixture
def pair(sound: Cluster, tmp_path: Path) -> Pair:
    database = Database("postgres", sound.host, sound.port, sound.user)
    database.execute(
        "drop table if exists t; drop sequence if exists ids; grant usage on schema public to public"
    )
    return Pair(database, tmp_path / "warehouse.duckdb")


@pytest.fixture(autouse=True)
def small_tables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_versions, "is_flushed", lambda *_: True)
    monkeypatch.setattr(unchanged_pages, "LEAST_PAGES", 0)
    monkeypatch.setattr(unchanged_pages, "_WORTH", 0.99)
    monkeypatch.setattr(visibility_map, "_GAP", 0)


def filled(database: Database, rows: int = 2000) -> None:
    """About 24 rows a page, room on each for one more version of some."""
    database.execute("create table t (id int primary key, v text) with (fillfactor = 90)")
    database.execute(f"insert into t select g, repeat('x', 290) from generate_series(1, {rows}) g")
    database.execute("grant select on t to plain")
    database.execute("vacuum t")
    database.execute(
        "select pg_logical_emit_message(true, '', 'what VACUUM wrote is on disk with this')"
    )


def cancelled_vacuum(database: Database) -> None:
    """VACUUM (FREEZE) of all pages but the last, on which somebody keeps looking at a row."""
    with database.connect() as reader, database.connect() as vacuum, database.connect() as judge:
        reader.execute(
            "begin; declare looking cursor for select * from t where ctid >= any(array("
            "select format('(%s,0)', pg_relation_size('t') / 8192 - 1)::tid))"
        )
        assert reader.execute("fetch 1 from looking").fetchall()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                vacuum.execute("vacuum (freeze) t")
            except psycopg.errors.QueryCanceled as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        state = "select wait_event_type from pg_stat_activity where pid = %s"
        deadline = time.monotonic() + 30
        while judge.execute(state, [vacuum.info.backend_pid]).fetchone() != ("BufferPin",):
            assert time.monotonic() < deadline and thread.is_alive()
            time.sleep(0.01)
        judge.execute("select pg_cancel_backend(%s)", [vacuum.info.backend_pid])
        thread.join()
        assert failures


def told(database: Database) -> tuple[Any, ...]:
    """Everything that an ordinary role could look at to learn that rows were frozen.

    Before version 15 statistics arrive late: the VACUUM of `filled` is waited for.
    """
    deadline = time.monotonic() + 30
    while True:
        (found,) = database.rows(
            "select relfrozenxid::text, relminmxid::text, relfilenode, autovacuum_count, vacuum_count,"
            " (select count(*) from pg_stat_progress_vacuum)"
            " from pg_class c join pg_stat_all_tables s on s.relid = c.oid where c.oid = 't'::regclass"
        )
        if found[4]:
            return found
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_frozen_pages_would_lose(pair: Pair) -> None:
    """A row of a moment ago stands on a frozen page, and nothing says that anybody has frozen anything."""
    database = pair.database
    filled(database)
    pair.sync(SKIPPING)
    bookmark = pair.bookmark(SKIPPING)
    assert isinstance(bookmark, XminBookmark)
    before = told(database)
    database.execute("update t set v = 'new' where id in (1, 2000)")
    cancelled_vacuum(database)
    assert told(database) == before
    ((frozen, age),) = database.rows(
        "select all_frozen, age(xmin) - age(%s::text::xid) from t,"
        " pg_visibility_map('t', (ctid::text::point)[0]::int8) where id = 1",
        str(bookmark.xmin % row_versions.IDS),
    )
    assert frozen, "its page is frozen"
    assert age <= 0, "and the row is from after the last sync"
    report = pair.sync(SKIPPING)
    assert report.counts.updated == 2
    assert pair.stored(SKIPPING) == pair.source("select * from t")


def test_marks_without_their_stamps_would_lose_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the test above, and the one of any interleaving, do test something."""
    monkeypatch.setattr(visibility_map, "position", lambda *_: "FFFFFFFF/FFFFFFFF")
    filled(pair.database)
    pair.sync(SKIPPING)
    pair.database.execute("update t set v = 'new' where id in (1, 2000)")
    cancelled_vacuum(pair.database)
    assert pair.sync(SKIPPING).counts.updated == 1
    lost = set(pair.source("select * from t")) - set(pair.stored(SKIPPING))
    assert {row[0] for row in lost} == {"1"}


def test_unchanged_pages_are_skipped(pair: Pair) -> None:
    """By an ordinary role; deletes, inserts and updates change pages, a VACUUM in between ends it for once."""
    database = pair.database
    filled(database)
    pair.sync(SKIPPING, user="plain")
    assert "pages were skipped" in pair.sync(SKIPPING, user="plain").notes[0]
    database.execute("update t set v = 'b' where id = 700; insert into t values (2001, 'n')")
    report = pair.sync(SKIPPING, user="plain")
    assert (report.rows_read, report.counts.inserted, report.counts.updated) == (2, 1, 1)
    skipped, total = (int(word) for word in report.notes[0].split() if word.isdigit())
    assert 0 < total - skipped <= 3
    database.execute("update t set v = 'c' where id = 700")
    database.execute("vacuum t")
    assert pair.sync(SKIPPING, user="plain").counts.updated == 1
    assert "pages were skipped" in pair.sync(SKIPPING, user="plain").notes[0]
    assert pair.stored(SKIPPING) == pair.source("select * from t")


def test_the_server_reads_no_other_page(pair: Pair) -> None:
    database = pair.database
    filled(database)
    pair.sync(SKIPPING)
    database.execute("update t set v = 'b' where id = 700")
    with database.connect() as connection, pair.server().session(database.name) as session:
        table = describe(session, SKIPPING.table)
        bookmark = pair.bookmark(SKIPPING)
        assert isinstance(bookmark, XminBookmark)
        pages = pages_changed(session, FUNCTION, table, bookmark.mapped)
        query = visibility_map.rows_on_pages(
            table, table.columns, pages.ranges, where=None, bounds=[]
        )
        lines = connection.execute(
            "explain (analyze, buffers, costs off, timing off, summary off) " + query.text
        ).fetchall()
    assert pages.changed <= 3 < 50 < pages.total
    assert any("Tid Range Scan" in line for (line,) in lines)


WRITES = ("insert", "insert", "update", "update", "rekey", "delete", "savepoint", "rollback to")
UPKEEP = (
    "vacuum",
    "vacuum young",
    "vacuum freeze",
    "vacuum cut short",
    "checkpoint",
    "truncate tail",
)
actions = st.one_of(
    st.tuples(
        st.sampled_from(("begin", *WRITES, "commit", "commit", "rollback", "prepare")),
        st.integers(0, 1),
    ),
    st.tuples(st.sampled_from((*UPKEEP, *3 * ("sync",))), st.just(0)),
)


def keep_up(action: str, database: Database) -> bool:
    """Maintenance by somebody with settings of their own; whether it was that."""
    if action not in UPKEEP:
        return False
    options, statement = {
        "vacuum": ("", "vacuum t"),
        "vacuum young": ("-c vacuum_freeze_min_age=0", "vacuum t"),
        "vacuum freeze": ("", "vacuum (freeze, disable_page_skipping) t"),
        "vacuum cut short": (
            "-c statement_timeout=3ms -c vacuum_cost_delay=1ms",
            "vacuum (freeze) t",
        ),
        "checkpoint": ("", "checkpoint"),
        "truncate tail": ("", "delete from t where ctid >= '(8,0)'::tid and owner > 8"),
    }[action]
    with database.connect(options=options) as connection:
        if action == "vacuum cut short":
            connection.execute("set vacuum_cost_limit = 1")
        with suppress(psycopg.errors.QueryCanceled):
            connection.execute(statement)
    return True


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(actions, min_size=25, max_size=60))
def test_any_interleaving(pair: Pair, history: list[tuple[str, int]]) -> None:
    database = pair.database
    database.execute(
        "drop table if exists t; drop sequence if exists ids; create sequence ids start 1000;"
        " create table t (id int primary key, owner int, v int, w text default repeat('x', 400));"
        " insert into t select g, g % 20, 0 from generate_series(1, 400) g"
    )
    database.execute("vacuum t")
    writers = [Writer(number, database.connect(), database) for number in range(2)]
    with pair.server().session(database.name) as session:
        copy = Copy(session, SKIPPING)
        try:
            for action, number in history:
                if action == "sync":
                    copy.sync()
                    copy.holds(committed(pair))
                elif not keep_up(action, database):
                    writers[number].act(action)
        finally:
            for writer in writers:
                writer.act("commit")
                writer.connection.close()
        copy.sync()
        copy.holds(committed(pair))


def test_a_standby_skips_pages_too(tmp_path: Path) -> None:
    binaries = system_server()
    if binaries is None:
        pytest.skip("no packaged PostgreSQL")
    with Cluster(binaries=binaries, settings=SETTINGS) as primary:
        database = prepared(primary)
        filled(database)
        conninfo = f"host={primary.host} port={primary.port} user={primary.user}"
        again = {**SETTINGS, "primary_conninfo": conninfo}
        with Standby(binaries=binaries, settings=again, primary=primary) as standby:
            replica = Database("postgres", standby.host, standby.port, standby.user)
            copy = Pair(replica, tmp_path / "warehouse.duckdb")
            catch_up(database, standby)
            copy.sync(SKIPPING)
            for vacuum in ("", "", "vacuum (freeze) t"):
                database.execute("update t set v = v || 'b' where id in (3, 1500)")
                if vacuum:
                    database.execute(vacuum)
                catch_up(database, standby)
                report = copy.sync(SKIPPING)
                assert report.counts.updated == 2
                assert bool(report.notes) != bool(vacuum)
                assert copy.stored(SKIPPING) == copy.source("select * from t")


def test_many_pages_of_the_map(pair: Pair) -> None:
    """Each tells of 32,672 pages; one that is stamped later, or is not there, tells of none."""
    database = pair.database
    database.execute(
        "drop schema if exists made cascade; create schema made; create table t (id int)"
    )
    database.execute(
        "create table made.answer (page bigint, bits bytea);"
        " create function made.map(oid, pg_lsn, first bigint, pages bigint)"
        " returns table (page bigint, bits bytea) language sql as"
        " $$ select * from made.answer where page >= first and page < first + pages $$"
    )
    covered = (8192 - 24) * 4
    visible = np.ones(3 * covered, bool)
    visible[[0, 1, 5, covered - 1, 2 * covered + 9]] = False
    for page in range(3):
        part = visible[page * covered : (page + 1) * covered]
        pairs = np.zeros(2 * covered, bool)
        pairs[::2] = part
        bits = None if page == 1 else np.packbits(pairs, bitorder="little").tobytes()
        database.execute("insert into made.answer values (%s, %s)", page, bits)
    total = 3 * covered + 7
    with pair.server().session(database.name) as session, pytest.MonkeyPatch.context() as patch:
        table = describe(session, TableId("public", "t"))
        patch.setattr(visibility_map, "_AT_ONCE", 2)
        patch.setattr(visibility_map, "_sizes", lambda *_: (total, covered))
        pages = pages_changed(session, TableId("made", "map"), table, "0/0")
        assert pages.ranges == (
            PageRange(0, 2),
            PageRange(5, 6),
            PageRange(covered - 1, 2 * covered),
            PageRange(2 * covered + 9, 2 * covered + 10),
            PageRange(3 * covered, None),
        )
        assert (pages.changed, pages.total) == (2 + 1 + 1 + covered + 1 + 7, total)
        patch.setattr(visibility_map, "MOST_RANGES", 3)
        fewer = pages_changed(session, TableId("made", "map"), table, "0/0")
        assert len(fewer.ranges) <= 3
        patch.setattr(visibility_map, "_sizes", lambda *_: (3, covered))
        assert pages_changed(session, TableId("made", "map"), table, "0/0").changed == 2


def test_when_all_pages_are_read(pair: Pair) -> None:
    database = pair.database
    filled(database)
    database.execute("drop table if exists u, p; create unlogged table u (id int primary key)")
    database.execute("create table p (id int primary key) partition by range (id)")
    database.execute("grant select on u, p to plain")
    with pair.server("plain").session(database.name) as session:
        reasons = {
            name: why_not(session, SKIPPING, describe(session, TableId("public", name)))
            for name in ("t", "u", "p")
        }
        table = describe(session, TableId("public", "t"))
        absent = why_not(session, by_xmin("t", visibility_map="maps.none"), table)
        assert why_not(session, by_xmin("t"), table)
    assert reasons["t"] == ""
    assert "unlogged" in reasons["u"]
    assert "partitioned" in reasons["p"]
    assert "there is no function maps.none(oid, pg_lsn, bigint, bigint)" in absent
    database.execute(f'revoke execute on function maps."{FUNCTION.name}" from plain')
    with pair.server("plain").session(database.name) as session:
        assert why_not(session, SKIPPING, table) == f"user plain may not execute {FUNCTION}"
    database.execute(f'grant execute on function maps."{FUNCTION.name}" to plain')
    pair.sync(SKIPPING, user="plain")
    database.execute("update t set v = 'b' where id = 7; drop function maps.\"of table\"")
    report = pair.sync(SKIPPING, user="plain")
    assert (report.counts.updated, report.notes) == (1, ())
    install(database, "plain")


def test_the_map_is_shown_to_readers_only(pair: Pair) -> None:
    database = pair.database
    filled(database)
    asked = "select count(*) from maps.\"of table\"('t'::regclass, '0/0', 0, 9)"
    with database.connect(user="plain") as connection:
        assert connection.execute(asked).fetchone() == (1,)
        database.execute("revoke select on t from plain")
        assert connection.execute(asked).fetchone() == (0,)


def test_newer_servers_read_all_pages(database: Database, tmp_path: Path) -> None:
    """On 16 and later the function is not made, and one that is there is not asked."""
    install(database, "postgres")
    made = "select count(*) from pg_proc where proname = %s"
    assert database.rows(made, FUNCTION.name) == [(0,)]
    database.execute("create table t (id int primary key); insert into t values (1)")
    database.execute(
        'create schema maps; create function maps."of table"(oid, pg_lsn, bigint, bigint)'
        " returns table (page bigint, bits bytea) language sql as $$ select 1 / 0::bigint, ''::bytea $$"
    )
    pair = Pair(database, tmp_path / "warehouse.duckdb")
    pair.sync(SKIPPING)
    database.execute("insert into t values (2)")
    assert pair.sync(SKIPPING).counts.inserted == 1
    bookmark = pair.bookmark(SKIPPING)
    assert isinstance(bookmark, XminBookmark)
    assert bookmark.mapped == ""
