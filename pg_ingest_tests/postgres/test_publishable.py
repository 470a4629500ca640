"""Which tables may be published."""

from __future__ import annotations

import psycopg
import pytest

from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.publishable import refusals
from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database

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
    "partitions index": "create table t(i int not null) partition by range (i);"
    " create table t1 partition of t for values from (0) to (9); create unique index x on t(i);"
    " alter table t replica identity using index x; alter table t1 replica identity using index t1_i_idx",
    "partitions deferrable": "create table t(i int primary key deferrable) partition by range (i);"
    " create table t1 partition of t for values from (0) to (9); alter table t1 replica identity full",
    "partitions key and full": "create table t(i int primary key) partition by range (i);"
    " create table t1 partition of t for values from (0) to (9);"
    " alter table t replica identity full; alter table t1 replica identity full",
    "partition between": "create table t(i int not null) partition by range (i);"
    " create table t0 partition of t for values from (0) to (20) partition by range (i);"
    " create table t1 partition of t0 for values from (0) to (9); alter table t1 replica identity full;"
    " alter table only t add primary key (i)",
}
_LATER = {"partition between": "create table t2 partition of t0 for values from (10) to (19)"}
_PARTITION = "create table t2 partition of t for values from (10) to (19)"


@pytest.mark.parametrize("case", _SAFE_OR_NOT)
def test_refused_exactly_when_the_application_would_fail(
    session: Session, database: Database, case: str
) -> None:
    """The server is the oracle: publish it all the same, add a partition, and see what an UPDATE says."""
    database.execute(_SAFE_OR_NOT[case])
    database.execute("insert into t values (1)")
    table = describe(session, TableId("public", "t"))
    refused = refusals(session, [table])
    assert refusals(session, [table], ["insert", "truncate"]) == {}
    database.execute("create publication p for table t with (publish_via_partition_root)")
    if "partition" in case:
        database.execute(_LATER.get(case, _PARTITION))
        database.execute("insert into t values (11)")
    if refused:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            database.execute("update t set i = i")
        assert "replica identity" in refused[table.id].message
        already = refusals(session, [describe(session, table.id)], carried=[table.id])
        assert already.keys() == refused.keys()
    else:
        database.execute("update t set i = i")


def test_what_writes_no_log_is_refused(session: Session, database: Database) -> None:
    database.execute(
        "create view v as select 1 as i; create unlogged table u(i int primary key);"
        "create materialized view m as select 1 as i"
    )
    refused = refusals(session, [describe(session, TableId("public", name)) for name in "vum"])
    assert {table.name: error.message.split(" is ")[1] for table, error in refused.items()} == {
        "v": "a view: the log has no changes of it",
        "m": "a materialized view: the log has no changes of it",
        "u": "unlogged: it writes no log",
    }
