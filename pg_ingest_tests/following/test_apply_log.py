"""From the change log into the destination: each table for itself, and never a row lost or doubled."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.config.method import Shape
from pg_ingest.destinations.duckdb.file import DuckDbFile
from pg_ingest.errors import (
    ChangeLogDamaged,
    DestinationBusy,
    DestinationFailed,
    MethodUnavailable,
    PermissionMissing,
    SourceBusy,
    SourceTableChanged,
)
from pg_ingest.following import apply_log as module
from pg_ingest.following.apply_log import apply_log
from pg_ingest.following.load_log import ApplySettings
from pg_ingest.lsn import Lsn
from pg_ingest.methods import log_based, log_steps
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged

A, B = logged("a"), logged("b")


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    """Tables a, with a key, and b, without one; each with the rows 1 to 3."""
    for table, key in (("a", "primary key"), ("b", "")):
        database.execute(f"create table {table} (id int {key}, v text)")
        database.execute(f"insert into {table} select n, 'old' from generate_series(1, 3) n")
    database.execute("alter table b replica identity full")
    with following(database, tmp_path) as found:
        yield found


def write(shop: Following, *statements: str) -> None:
    for statement in statements:
        shop.database.execute(statement)


CHANGES = (
    "insert into {} values (4, 'new'), (5, 'new')",
    "update {} set v = 'changed' where id = 1",
    "update {} set id = 20 where id = 2",
    "delete from {} where id = 3",
)


def test_snapshot_then_changes(shop: Following) -> None:
    first = shop.sync(A, B)["a"].report
    assert first is not None
    assert (first.phase, first.counts.inserted, first.counts.total) == ("snapshot", 3, 3)
    assert first.extra["table"].id == A.table
    shop.check(A, B)
    for table in ("a", "b"):
        write(shop, *(change.format(table) for change in CHANGES))
    second = shop.sync(A, B)
    shop.check(A, B)
    report = second["a"].report
    assert report is not None
    assert report.phase == "changes"
    counts = report.counts
    assert (counts.inserted, counts.updated, counts.deleted, counts.total) == (3, 1, 2, 4)
    assert report.rows_read > 0
    assert report.bytes_read > 0
    assert Lsn.parse(report.position_to) > Lsn.parse(report.position_from)
    assert {one.report for one in shop.sync(A, B).values()} == {None}


def test_several_steps_are_one_report(shop: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.sync(A)
    monkeypatch.setattr(log_steps, "STEP_ROWS", 2)
    seen: list[int] = []
    write(
        shop,
        "insert into a select n, 'x' from generate_series(10, 16) n",
        "delete from a where id = 1",
    )
    capture = shop.capture(A)
    (done,) = shop.apply(capture, A, progress=lambda _, p: seen.append(p.rows)).values()
    assert done.report is not None
    assert (done.report.counts.inserted, done.report.counts.deleted) == (7, 1)
    assert done.report.rows_read == 8
    assert done.report.counts.total == 9
    assert seen[0] == 2
    shop.check(A)


def test_soft_deletes_stay_and_return(shop: Following) -> None:
    soft = logged("a", shape=Shape.SOFT_DELETE)
    shop.sync(soft)
    write(shop, "delete from a where id in (1, 2)")
    shop.sync(soft)
    assert shop.stored("a", "_pgi_deleted_at is null") == shop.source("a")
    assert shop.stored("a", "_pgi_deleted_at is not null") == [("1", "old"), ("2", "old")]
    write(shop, "insert into a values (1, 'again')")
    shop.sync(soft)
    assert shop.stored("a", "_pgi_deleted_at is null") == shop.source("a")
    write(shop, "truncate a")
    shop.sync(soft)
    assert shop.stored("a", "_pgi_deleted_at is null") == []
    assert len(shop.stored("a")) == 3


def test_a_failing_table_stops_nobody_and_catches_up(shop: Following) -> None:
    import duckdb

    shop.sync(A, B)
    with duckdb.connect(str(shop.path)) as connection:
        connection.execute("drop table shop.a")
    for table in ("a", "b"):
        write(shop, *(change.format(table) for change in CHANGES))
    capture = shop.capture(A, B)
    assert capture.slot is not None
    assert capture.slot.confirmed_lsn == capture.captured.position
    applied = shop.apply(capture, A, B)
    assert isinstance(applied["a"].error, DestinationFailed)
    assert "reset" in applied["a"].error.hint
    assert applied["b"].error is None
    shop.check(B)
    write(shop, "insert into b values (7, 'later')", "insert into a values (7, 'later')")
    shop.sync(A, B, reset=[A])
    shop.check(A, B)


def test_a_reset_while_others_go_on(shop: Following) -> None:
    shop.sync(A, B)
    for table in ("a", "b"):
        write(shop, *(change.format(table) for change in CHANGES))
    applied = shop.sync(A, B, reset=[A])
    assert applied["a"].report is not None
    assert applied["a"].report.phase == "snapshot"
    assert applied["b"].report is not None
    assert applied["b"].report.phase == "changes"
    shop.check(A, B)
    write(shop, "delete from a", "delete from b")
    shop.sync(A, B)
    shop.check(A, B)


def test_a_reset_needs_nothing_that_was_captured_before(shop: Following) -> None:
    shop.sync(A, B)
    write(shop, "insert into a values (4, 'lost')")
    capture = shop.capture(A, B)
    (segment,) = capture.captured.segments
    (shop.changelog.segment_folder / segment.file).unlink()
    assert isinstance(shop.apply(capture, A)["a"].error, ChangeLogDamaged)
    shop.sync(A, B, reset=[A])
    write(shop, "insert into a values (5, 'x')", "delete from a where id = 4")
    shop.sync(A, B)
    shop.check(A, B)


def test_a_snapshot_beside_a_long_writer(shop: Following) -> None:
    shop.sync(A, B)
    with shop.database.connect(autocommit=False) as writer:
        writer.execute("insert into a values (4, 'long')")
        writer.execute("insert into b values (4, 'long'), (4, 'long')")
        shop.sync(A, B, reset=[A, B])
        assert shop.bookmark(B).lsn == "0/0"
        shop.capture(A, B)
        writer.execute("delete from b where id = 1")
        writer.commit()
    shop.sync(A, B)
    shop.check(A, B)


def test_what_is_not_wanted_is_captured_and_applied_later(shop: Following) -> None:
    shop.sync(A, B)
    for table in ("a", "b"):
        write(shop, *(change.format(table) for change in CHANGES))
    shop.apply(shop.capture(A, B), A)
    shop.check(A)
    assert shop.stored("b") != shop.source("b")
    capture = shop.capture(A, B)
    assert capture.captured.rows == 0
    shop.apply(capture, B)
    shop.check(A, B)


def test_who_left_the_publication_is_read_anew(shop: Following) -> None:
    shop.sync(A, B)
    shop.sync(A)
    write(shop, *(change.format("b") for change in CHANGES))
    report = shop.sync(A, B)["b"].report
    assert report is not None
    assert report.phase == "snapshot"
    assert any("read anew" in note for note in report.notes)
    shop.check(A, B)
    assert shop.sync(A, B)["b"].report is None


def test_a_table_made_anew_is_read_anew(shop: Following) -> None:
    shop.sync(A, B)
    write(shop, "update a set v = 'x'", "drop table a", "create table a (id int primary key)")
    write(shop, "insert into a values (1)")
    report = shop.sync(A, B)["a"].report
    assert report is not None
    assert report.phase == "snapshot"
    shop.check(A, B)


def test_a_new_change_log_means_reading_anew(shop: Following) -> None:
    import shutil

    shop.sync(A, B)
    shop.drop()
    shutil.rmtree(shop.changelog.folder)
    write(shop, "delete from a where id = 1", "delete from b where id = 1")
    assert {one.report and one.report.phase for one in shop.sync(A, B).values()} == {"snapshot"}
    shop.check(A, B)


def test_other_columns_and_ddl(shop: Following) -> None:
    shop.sync(A, B)
    write(
        shop,
        "insert into a values (10, 'before')",
        "alter table a add column extra int default 7",
        "insert into a values (11, 'after', 8)",
        "update a set v = 'touched' where id = 1",
    )
    shop.sync(A, B)
    assert [row for row in shop.stored("a") if row[0] in ("1", "11")] == [
        ("1", "touched", "7"),
        ("11", "after", "8"),
    ]


def test_a_partitioned_table(shop: Following) -> None:
    write(
        shop,
        "create table p (id int primary key, v text) partition by range (id)",
        "create table p1 partition of p for values from (0) to (10)",
        "create table p2 partition of p for values from (10) to (20)",
        "insert into p values (1, 'a'), (11, 'b')",
    )
    table = logged("p")
    shop.sync(A, table)
    shop.check(table)
    write(shop, "update p set id = 12 where id = 1", "insert into p2 values (13, 'direct')")
    shop.sync(A, table)
    shop.check(table)


def held(path: str, ready: Any, done: Any) -> None:
    with DuckDbFile(Path(path)).writing():
        ready.set()
        done.wait(60)


def test_a_destination_that_is_held_does_not_stop_the_capture(shop: Following) -> None:
    shop.sync(A, B)
    shop.patience = 0.2
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=held, args=(str(shop.path), ready, done))
    holder.start()
    try:
        assert ready.wait(60)
        write(shop, *(change.format("a") for change in CHANGES))
        capture = shop.capture(A, B)
        assert capture.captured.rows > 0
        assert capture.slot is not None
        assert capture.slot.confirmed_lsn == capture.captured.position
        applied = shop.apply(capture, A, B)
        assert isinstance(applied["a"].error, DestinationBusy)
        assert applied["b"].error is applied["a"].error
    finally:
        done.set()
        holder.join()
    shop.sync(A, B)
    shop.check(A, B)


def test_two_at_once_apply_every_change_once(
    shop: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.sync(A, B)
    write(shop, *(change.format("b") for change in CHANGES))
    capture = shop.capture(A, B)
    steps = log_steps.steps

    def overtaken(*arguments: Any, **options: Any) -> Iterator[Any]:
        readings = list(steps(*arguments, **options))
        with monkeypatch.context() as patch:
            patch.setattr(log_steps, "steps", steps)
            assert shop.apply(capture, B)["b"].error is None
        yield from readings

    with monkeypatch.context() as patch:
        patch.setattr(log_steps, "steps", overtaken)
        error = shop.apply(capture, B)["b"].error
    assert isinstance(error, DestinationBusy)
    assert "by another process" in error.message
    shop.check(B)
    assert shop.sync(A, B)["b"].report is None


def test_another_method_before(shop: Following) -> None:
    from pg_ingest.config.method import Method
    from pg_ingest.config.selection import Replication
    from pg_ingest.loading.replicate import replicate

    full = Replication("shop", A.table, Method.FULL_TABLE, "shop", "a")
    replicate(shop.server, shop.destination, full, shop.database.name, max_rejected=0)
    said: list[str] = []
    settings = ApplySettings(0, say=lambda table, text: said.append(f"{table.table}: {text}"))
    capture = shop.capture(A)
    steps = apply_log(shop.server, shop.destination, shop.folder, capture, [A], settings)
    (report,) = [one.report for one in steps]
    assert report is not None
    assert report.notes[0] == "read anew: the method was full_table before"
    assert said == [f"public.a: {report.notes[0]}"]
    shop.check(A)


def test_a_column_that_was_left_out_comes_with_its_values(shop: Following) -> None:
    shop.sync(logged("a", exclude_columns=("v",)))
    assert shop.stored("a") == [("1",), ("2",), ("3",)]
    write(shop, "insert into a values (4, 'x')")
    report = shop.sync(A)["a"].report
    assert report is not None
    assert "set otherwise" in report.notes[0]
    shop.check(A)


def test_soft_deletes_are_gone_when_they_are_not_wanted_any_more(shop: Following) -> None:
    shop.sync(logged("a", shape=Shape.SOFT_DELETE))
    write(shop, "delete from a where id = 1")
    shop.sync(logged("a", shape=Shape.SOFT_DELETE))
    assert len(shop.stored("a")) == 3
    shop.sync(A)
    shop.check(A)


def test_failures_of_the_capture_are_the_tables(shop: Following) -> None:
    write(shop, "create table c (id int)")
    tables = (A, logged("c"), logged("gone"))
    applied = shop.apply(shop.capture(*tables), *tables)
    assert applied["a"].error is None
    assert isinstance(applied["c"].error, MethodUnavailable)
    assert isinstance(applied["gone"].error, SourceTableChanged)


def test_a_table_that_may_not_be_read(shop: Following) -> None:
    role = f"reader_{shop.slot}"
    write(shop, f"create role {role} login replication; grant select on b to {role}")
    write(shop, "create publication followed for table a, b")
    there = Following(
        Database(shop.database.name, shop.database.host, shop.database.port, role),
        shop.folder,
        slot=shop.slot,
    )
    try:
        shop.flush()
        capture = module_capture(there)
        applied = there.apply(capture, A, B)
        assert isinstance(applied["a"].error, PermissionMissing)
        assert applied["b"].error is None
        shop.check(B)
    finally:
        write(shop, f"drop owned by {role}", f"drop role {role}")


def module_capture(there: Following) -> Any:
    from pg_ingest.following.capture_log import capture_log

    return capture_log(there.server, there.folder, there.database.name, [A, B])


def test_a_bug_in_one_table_stops_nobody(shop: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = shop.capture(A, B)
    snapshot = log_based.snapshot

    def broken(session: Any, replication: Any, table: Any, **options: Any) -> Any:
        if replication is A:
            raise ZeroDivisionError
        return snapshot(session, replication, table, **options)

    monkeypatch.setattr(log_based, "snapshot", broken)
    applied = shop.apply(capture, A, B)
    assert isinstance(applied["a"].error, ZeroDivisionError)
    assert applied["b"].error is None


def test_a_capture_that_fails_meanwhile_fails_no_table(
    shop: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any) -> None:
        raise SourceBusy("not now")

    monkeypatch.setattr(module, "capture_again", busy)
    shop.sync(A)
    shop.check(A)
