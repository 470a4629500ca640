"""Publications, kept or used."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
import pytest

from pg_ingest.errors import PermissionMissing, SlotUnusable
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.publication import keep_publication, read_publication, refusals
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table, TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import Role


def _tables(session: Session, names: Iterable[str]) -> list[Table]:
    return [describe(session, TableId("public", name)) for name in names]


def _names(tables: Iterable[TableId]) -> str:
    return "".join(sorted(table.name for table in tables))


def test_ours_follows_the_selection(session: Session, database: Database) -> None:
    database.execute("create table a(i int primary key); create table b(i int primary key)")
    database.execute("create table c(i int primary key); create table a_child() inherits (a)")
    made = keep_publication(session, "p", _tables(session, "ab"))
    assert made.ours and made.via_root and not made.missing_operations
    assert _names(made.tables) == "ab"
    assert keep_publication(session, "p", _tables(session, "ab")) == made
    assert _names(keep_publication(session, "p", _tables(session, "bc")).tables) == "bc"
    assert _names(keep_publication(session, "p", []).tables) == ""


def test_one_without_tables(session: Session) -> None:
    assert keep_publication(session, "p", []).tables == frozenset()
    assert read_publication(session, "other") is None


def test_somebody_elses_is_used_as_it_is(session: Session, database: Database) -> None:
    database.execute("create table a(i int primary key); create table b(i int primary key)")
    database.execute("create publication p for table a, b with (publish = 'insert')")
    found = keep_publication(session, "p", _tables(session, "a"))
    assert not found.ours and _names(found.tables) == "ab"
    assert found.missing_operations == ("delete", "truncate", "update")


def test_somebody_elses_must_have_the_tables(session: Session, database: Database) -> None:
    database.execute("create table a(i int primary key); create table b(i int primary key)")
    database.execute("create publication p for table a")
    with pytest.raises(SlotUnusable, match=r"does not carry public\.b"):
        keep_publication(session, "p", _tables(session, "ab"))
    assert _names(read_publication(session, "p").tables) == "a"  # type: ignore[union-attr]


def test_all_tables(session: Session, database: Database) -> None:
    database.execute("create table a(i int primary key); create publication p for all tables")
    found = keep_publication(session, "p", _tables(session, "a"))
    assert found.all_tables and _names(found.tables) == "a"


def test_a_partitioned_table_is_published_through_its_root(
    session: Session, database: Database
) -> None:
    database.execute("create table r(i int primary key) partition by range (i)")
    database.execute("create table r1 partition of r for values from (0) to (9)")
    root, part = _tables(session, ["r", "r1"])
    assert refusals(session, [root]) == {}
    assert _names(keep_publication(session, "p", [root]).tables) == "r"
    (error,) = refusals(session, [root, part]).values()
    assert "is a partition of public.r, which is selected too" in error.message


_SAFE_OR_NOT = {
    "key": "create table t(i int primary key)",
    "deferrable": "create table t(i int primary key deferrable)",
    "none": "create table t(i int)",
    "nothing": "create table t(i int primary key); alter table t replica identity nothing",
    "full": "create table t(i int); alter table t replica identity full",
    "index": "create table t(i int not null); create unique index x on t(i);"
    " alter table t replica identity using index x",
    "dropped index": "create table t(i int not null); create unique index x on t(i);"
    " alter table t replica identity using index x; drop index x",
    "partitions": "create table t(i int primary key) partition by range (i);"
    " create table t1 partition of t for values from (0) to (9)",
    "partitions without": "create table t(i int) partition by range (i);"
    " create table t1 partition of t for values from (0) to (9);"
    " alter table t replica identity full",
    "partitions full": "create table t(i int) partition by range (i);"
    " create table t1 partition of t for values from (0) to (9);"
    " alter table t replica identity full; alter table t1 replica identity full",
}


@pytest.mark.parametrize("case", _SAFE_OR_NOT)
def test_refused_exactly_when_the_application_would_fail(
    session: Session, database: Database, case: str
) -> None:
    """The server is the oracle: publish it all the same and see what an UPDATE says."""
    database.execute(_SAFE_OR_NOT[case])
    database.execute("insert into t values (1)")
    (table,) = _tables(session, "t")
    refused = refusals(session, [table])
    assert refusals(session, [table], ["insert", "truncate"]) == {}
    database.execute("create publication p for table t with (publish_via_partition_root)")
    if refused:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            database.execute("update t set i = 2")
        assert "has no usable replica identity" in refused[table.id].message
    else:
        database.execute("update t set i = 2")


def test_what_writes_no_log_is_refused(session: Session, database: Database) -> None:
    database.execute(
        "create view v as select 1 as i; create unlogged table u(i int primary key);"
        "create materialized view m as select 1 as i"
    )
    refused = refusals(session, _tables(session, "vum"))
    assert {table.name: error.message.split(" is ")[1] for table, error in refused.items()} == {
        "v": "a view: the log has no changes of it",
        "m": "a materialized view: the log has no changes of it",
        "u": "unlogged: it writes no log",
    }


def test_who_does_not_own_the_tables_is_told_what_to_run(role: Role) -> None:
    role.database.execute("create table a(i int primary key)")
    role.database.execute(f"grant select on a to {role.name}")
    with role.server.session(role.database.name) as session:
        with pytest.raises(PermissionMissing) as caught:
            keep_publication(session, "p", _tables(session, "a"))
        assert session.rows("select 1") == [(1,)]
    script = caught.value.hint.split("run once: ")[1]
    role.database.execute(script)
    with role.server.session(role.database.name) as session:
        assert keep_publication(session, "p", _tables(session, "a")).ours
