"""Sessions: small queries, timeouts, the server's verdict on a SELECT."""

from __future__ import annotations

import pytest
from psycopg import sql

from pg_ingest.errors import (
    PermissionMissing,
    QueryRefused,
    SourceBusy,
    SourceTableChanged,
    SourceUnreachable,
)
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.select import SelectQuery, select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import Role, server_for

ORDERS = TableId("public", "orders")


@pytest.fixture
def orders(database: Database) -> Database:
    database.execute('create table orders (id int primary key, note text, "weird%name" int)')
    database.execute("insert into orders select g, 'n' || g from generate_series(1, 1000) g")
    database.execute("analyze orders")
    return database


def _query(session: Session, where: str | None = None) -> SelectQuery:
    table = describe(session, ORDERS)
    return select_rows(table, table.columns, where=where)


def test_rows_takes_parameters(visitor: Session) -> None:
    assert visitor.rows("SELECT %s::int + 1, %s::text", [1, "a'b"]) == [(2, "a'b")]


def test_rows_without_parameters_takes_percent_signs_as_they_are(visitor: Session) -> None:
    assert visitor.rows("SELECT 'a' LIKE '%a%'") == [(True,)]


def test_rows_takes_composed_queries(visitor: Session) -> None:
    query = sql.SQL("SELECT {} AS {}").format(sql.Literal("x%s"), sql.Identifier("a%b"))
    assert visitor.rows(query) == [("x%s",)]


def test_knows_server_and_role(visitor: Session) -> None:
    assert visitor.server_version // 10000 == 18
    assert not visitor.is_standby
    assert visitor.role == "postgres"
    assert visitor.notes == ()


def test_failed_query_leaves_the_session_usable(visitor: Session) -> None:
    with pytest.raises(QueryRefused, match="asking the server in database"):
        visitor.rows("SELECT nonsense(")
    assert visitor.rows("SELECT 1") == [(1,)]


def test_query_timeout_bounds_small_queries(database: Database) -> None:
    server = server_for(database, limits={"query_timeout": 1})
    with (
        server.session(database.name) as session,
        pytest.raises(SourceBusy, match="cancelled") as caught,
    ):
        session.rows("SELECT pg_sleep(30)")
    assert "statement timeout" in caught.value.detail
    assert "limits.query_timeout" in caught.value.hint


def test_lock_timeout(orders: Database) -> None:
    server = server_for(orders, limits={"lock_timeout": 1})
    with orders.connect() as other, server.session(orders.name) as session:
        query = _query(session)
        other.execute("begin")
        other.execute("lock table orders in access exclusive mode")
        with pytest.raises(SourceBusy, match=r"reading public\.orders: somebody holds a lock"):
            session.explain(query)


def test_a_killed_session_is_unreachable(database: Database, session: Session) -> None:
    ((pid,),) = session.rows("SELECT pg_backend_pid()")
    database.execute("select pg_terminate_backend(%s)", pid)
    with pytest.raises(SourceUnreachable):
        session.rows("SELECT 1")


def test_explain_estimates(orders: Database, session: Session) -> None:
    estimate = session.explain(_query(session))
    assert estimate.rows == 1000
    assert estimate.row_width > 0


@pytest.mark.parametrize(
    "where",
    [
        "id > 5",
        "id > 5 -- the old ones are elsewhere",
        "note = 'it''s; fine' or id in (1, 2) /* why */",
        "note like '%x%'",
        "exists (select 1 from public.orders o where o.id = 7)",
        '"weird%name" is null',
    ],
)
def test_valid_row_filters_pass(filtered: Session, where: str) -> None:
    assert filtered.explain(_query(filtered, where)).row_width > 0


@pytest.mark.parametrize(
    "where",
    [
        "id >",
        "id > 5;",
        "id > 5; select 1",
        "true); drop table public.orders; --",
        "true) or (false",
        "true then 1 end, case when false",
        "id > 5 order by id",
        "id > 5 /* unclosed",
        "note = 'unclosed",
        "id",
        "nosuch = 1",
        "nosuch(id)",
        "id in (select id from public.nosuch)",
        "id = 'abc'",
        "count(*) > 1",
        "now() > '2024-13-45'",
        "id = %s",
        "id = $1",
        "",
    ],
)
def test_row_filters_that_are_no_condition_are_refused(filtered: Session, where: str) -> None:
    with pytest.raises(QueryRefused) as caught:
        filtered.explain(_query(filtered, where))
    assert "public.orders" in caught.value.message
    assert filtered.rows("SELECT count(*) FROM public.orders") == [(1000,)]


def test_row_filter_error_names_the_reason(filtered: Session) -> None:
    with pytest.raises(QueryRefused) as caught:
        filtered.explain(_query(filtered, "crated_at > now()"))
    assert caught.value.message == "the row filter (`where`) of public.orders is not valid"
    assert 'column "crated_at" does not exist' in caught.value.detail


@pytest.mark.parametrize("where", [None, "id > 5"])
def test_explain_notices_a_dropped_table(
    orders: Database, session: Session, where: str | None
) -> None:
    query = _query(session, where)
    orders.execute("drop table orders")
    with pytest.raises(SourceTableChanged, match="does not exist any more"):
        session.explain(query)


def test_explain_notices_a_dropped_column(orders: Database, session: Session) -> None:
    query = _query(session, "id > 5")
    orders.execute("alter table orders drop column note")
    with pytest.raises(SourceTableChanged, match="a column does not exist any more"):
        session.explain(query)


def test_explain_says_which_grant_is_missing(
    orders: Database, session: Session, role: Role
) -> None:
    query = _query(session)
    with (
        role.server.session(orders.name) as limited,
        pytest.raises(PermissionMissing) as caught,
    ):
        limited.explain(query)
    assert caught.value.hint == (
        f'GRANT USAGE ON SCHEMA "public" TO "{role.name}";'
        f' GRANT SELECT ON "public"."orders" TO "{role.name}";'
    )
    for statement in caught.value.hint.split(";")[:2]:
        orders.execute(statement)
    with role.server.session(orders.name) as granted:
        granted.explain(query)


def test_row_level_security_is_never_silently_obeyed(orders: Database, role: Role) -> None:
    orders.execute(f"grant select on orders to {role.name}")
    orders.execute("alter table orders enable row level security")
    orders.execute("create policy half on orders using (id < 500)")
    with role.server.session(orders.name) as session:
        query = _query(session)
        with pytest.raises(PermissionMissing, match="row-level security would hide") as caught:
            session.explain(query)
        assert f'ALTER ROLE "{role.name}" BYPASSRLS' in caught.value.hint
        with (
            session.snapshot(),
            pytest.raises(PermissionMissing, match="row-level security"),
            session.copy(query) as stream,
        ):
            stream.read()


def test_a_database_of_any_bytes_sends_them_as_they_are(database: Database) -> None:
    name = f"{database.name}_bytes"
    database.execute(f"create database {name} template template0 encoding 'SQL_ASCII' locale 'C'")
    there = Database(name, database.host, database.port, database.user)
    with there.connect(client_encoding="UTF8") as writer:
        writer.execute('create table "größe" (id int, v text)')
        writer.execute("""insert into "größe" values (1, E'\\xfc'), (2, E'\\xc3\\xbc')""")
    with server_for(there).session(name) as session:
        table = describe(session, TableId("public", "größe"))
        for _ in range(2):
            with session.snapshot(), session.copy(select_rows(table, table.columns)) as stream:
                assert stream.read() == b"1,\xfc\n2,\xc3\xbc\n"
            assert session.rows("SHOW client_encoding") == [("UTF8",)]
        with session.copy(select_rows(table, table.columns)) as stream:
            stream.read(1)
        assert session.rows("SHOW client_encoding") == [("UTF8",)]
        assert session.rows("SELECT 'ü'") == [("ü",)]
    database.execute(f"drop database {name}")
