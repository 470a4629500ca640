"""Which method is advised for which table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pg_ingest.config.method import Method
from pg_ingest.methods.advice import SMALL_ROWS, advise
from pg_ingest.postgres.activity import Activity
from pg_ingest.table import (
    Column,
    PgType,
    RelationKind,
    ReplicaIdentity,
    Table,
    TableId,
    TypeKind,
)


def column(name: str, kind: str, attnum: int = 1) -> Column:
    return Column(name, attnum, PgType(0, kind, "pg_catalog", TypeKind.BASE, -1, kind))


BIG = Table(
    id=TableId("public", "orders"),
    oid=1,
    kind=RelationKind.TABLE,
    columns=(
        column("id", "uuid"),
        column("note", "text", 2),
        column("updated_at", "timestamptz", 3),
    ),
    primary_key=("id",),
    identity_columns=("id",),
    estimated_rows=10 * SMALL_ROWS,
)
WRITTEN = Activity(1_000_000, 500_000, 3)
NO_LOG = "wal_level is replica"


def test_a_small_table_is_read_whole() -> None:
    assert advise(replace(BIG, estimated_rows=SMALL_ROWS)).recommended is Method.FULL_TABLE
    assert advise(replace(BIG, estimated_rows=-1)).recommended is Method.LOG_BASED


def test_the_log_where_it_can_be_had() -> None:
    advice = advise(BIG)
    assert advice.recommended is Method.LOG_BASED
    assert set(advice.possible) == set(Method) and not advice.impossible


@pytest.mark.parametrize(
    ("activity", "method"),
    [
        (WRITTEN, Method.XMIN),
        (replace(WRITTEN, deleted=2000), Method.SNAPSHOT_DIFF),
        (Activity(0, 0, 0), Method.SNAPSHOT_DIFF),
        (None, Method.SNAPSHOT_DIFF),
    ],
)
def test_without_the_log_deletes_decide(activity: Activity | None, method: Method) -> None:
    advice = advise(BIG, no_log=NO_LOG, activity=activity)
    assert advice.recommended is method
    assert advice.impossible == {Method.LOG_BASED: NO_LOG}


def test_without_a_key() -> None:
    keyless = replace(BIG, primary_key=(), identity_columns=())
    advice = advise(keyless)
    assert advice.recommended is Method.FULL_TABLE
    assert set(advice.possible) == {Method.FULL_TABLE}
    assert "REPLICA IDENTITY FULL" in advice.impossible[Method.LOG_BASED]
    full = advise(replace(keyless, identity=ReplicaIdentity.FULL))
    assert full.recommended is Method.LOG_BASED
    declared = advise(keyless, key=("note",), no_log=NO_LOG)
    assert set(declared.impossible) == {Method.LOG_BASED}


def test_a_view() -> None:
    view = replace(
        BIG, kind=RelationKind.VIEW, primary_key=(), identity_columns=(), estimated_rows=-1
    )
    assert set(advise(view).possible) == {Method.FULL_TABLE}
    declared = advise(view, key=("id",))
    assert Method.KEY_BASED in declared.possible and Method.XMIN in declared.impossible


def test_a_materialized_view() -> None:
    view = replace(BIG, kind=RelationKind.MATERIALIZED_VIEW, primary_key=(), identity_columns=())
    assert set(advise(view, key=("id",)).impossible) == {Method.LOG_BASED}


def test_a_key_without_an_order() -> None:
    measured = replace(BIG, columns=(*BIG.columns, column("ratio", "float8", 4)))
    advice = advise(measured, key=("ratio",), no_log=NO_LOG)
    assert set(advice.impossible) == {Method.LOG_BASED, Method.SNAPSHOT_DIFF}
    assert Method.SNAPSHOT_DIFF in advise(measured, key=("ratio", "id")).possible


def test_an_unlogged_table() -> None:
    assert "unlogged" in advise(replace(BIG, unlogged=True)).impossible[Method.LOG_BASED]


@pytest.mark.parametrize(
    ("name", "first"),
    [("updated_at", True), ("LAST_MODIFIED", True), ("upd_ts", True), ("born", False)],
)
def test_a_time_of_change_is_told_by_its_name(name: str, first: bool) -> None:
    columns = (column("n", "int8"), column(name, "timestamptz", 2))
    table = replace(BIG, columns=columns, primary_key=("n",))
    remark = advise(table).possible[Method.KEY_BASED]
    assert remark.endswith(f"(perhaps {name})" if first else f"(perhaps n, {name})")


def test_nothing_that_grows() -> None:
    table = replace(BIG, columns=(column("id", "uuid"), column("note", "text", 2)))
    assert "no column of a type that grows" in advise(table).impossible[Method.KEY_BASED]
