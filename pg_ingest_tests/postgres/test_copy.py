"""The stream of a COPY: whole, cut short, failing midway, and from a server that goes away."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from psycopg import sql

from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import (
    PermissionMissing,
    QueryRefused,
    SourceBusy,
    SourceTableChanged,
    SourceUnreachable,
)
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.copy import CopyStream
from pg_ingest.postgres.faults import Subject
from pg_ingest.postgres.select import SelectQuery, select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import Role, server_for

NUMBERS = TableId("public", "numbers")
MANY = "SELECT generate_series(1, 50000000), repeat('x', 200)"


def _select(text: str) -> SelectQuery:
    return SelectQuery(NUMBERS, sql.SQL(text), ())


def _everything(stream: CopyStream, size: int = 1 << 16) -> bytes:
    parts = []
    while part := stream.read(size):
        assert len(part) <= size
        parts.append(part)
    return b"".join(parts)


@pytest.fixture
def numbers(database: Database) -> Database:
    database.execute(
        "create table numbers as select g as n, g * 2 as m from generate_series(1, 20000) g"
    )
    return database


def test_all_rows_arrive_as_csv(numbers: Database, session: Session) -> None:
    table = describe(session, NUMBERS)
    with session.snapshot(), session.copy(select_rows(table, table.columns)) as stream:
        arrived = _everything(stream)
        assert stream.bytes_read == len(arrived)
        assert stream.read(10) == b""
    assert arrived == b"".join(b"%d,%d\n" % (n, 2 * n) for n in range(1, 20001))
    assert session.rows("SELECT 1") == [(1,)]


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_any_block_size_gives_the_same_bytes(visitor: Session, size: int) -> None:
    with visitor.copy(_select("SELECT g, 'a' FROM generate_series(1, 300) g")) as stream:
        assert _everything(stream, size) == b"".join(b"%d,a\n" % g for g in range(1, 301))


def test_read_without_a_size_gives_everything(visitor: Session) -> None:
    with visitor.copy(_select("VALUES (1), (2)")) as stream:
        assert stream.read() == b"1\n2\n"
        assert stream.read() == b""


def test_no_rows(visitor: Session) -> None:
    with visitor.copy(_select("SELECT 1 WHERE false")) as stream:
        assert stream.read(100) == b""


def test_null_and_empty_string_differ(visitor: Session) -> None:
    with visitor.copy(_select("SELECT NULL::text, '', 'NULL'")) as stream:
        assert stream.read() == b',"",NULL\n'


def test_pyarrow_reads_it_as_a_file(numbers: Database, session: Session) -> None:
    table = describe(session, NUMBERS)
    with session.copy(select_rows(table, table.columns)) as stream:
        reader = pa_csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            read_options=pa_csv.ReadOptions(column_names=["n", "m"], block_size=1 << 14),
        )
        rows = reader.read_all()
    assert rows.num_rows == 20000
    assert rows.column("m")[-1].as_py() == 40000


def test_literals_with_percent_signs_and_placeholders(visitor: Session) -> None:
    with visitor.copy(_select("SELECT '%s %% 100%', '$1'")) as stream:
        assert stream.read() == b"%s %% 100%,$1\n"


def test_two_copies_in_one_snapshot_see_the_same(numbers: Database, session: Session) -> None:
    query = _select("SELECT count(*) FROM public.numbers")
    with session.snapshot():
        with session.copy(query) as stream:
            first = stream.read()
        numbers.execute("delete from numbers")
        with session.copy(query) as stream:
            assert stream.read() == first == b"20000\n"


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_leaving_early_cancels_and_keeps_the_session(
    database: Database, session: Session, size: int
) -> None:
    with session.copy(_select(MANY)) as stream:
        assert stream.read(size)
    assert session.rows("SELECT 1") == [(1,)]
    assert database.rows(
        "select count(*) from pg_stat_activity where query like 'COPY%50000000%'"
        " and state = 'active' and pid <> pg_backend_pid()"
    ) == [(0,)]


def test_leaving_before_the_first_row(visitor: Session) -> None:
    with visitor.copy(_select(MANY)):
        pass
    assert visitor.rows("SELECT 1") == [(1,)]


def test_an_error_of_the_reader_comes_out_and_the_snapshot_ends(visitor: Session) -> None:
    with pytest.raises(KeyError), visitor.snapshot(), visitor.copy(_select(MANY)) as stream:
        stream.read(1000)
        raise KeyError("the reader's own")
    with visitor.snapshot():
        assert visitor.rows("SELECT 1") == [(1,)]


def test_statement_that_fails_midway(visitor: Session) -> None:
    failing = _select("SELECT 10 / (5000 - g), repeat('y', 1000) FROM generate_series(1, 9000) g")
    with (
        pytest.raises(QueryRefused, match="failed while computing a row") as caught,
        visitor.snapshot(),
        visitor.copy(failing) as stream,
    ):
        assert stream.read(100_000)
        _everything(stream)
    assert "22012" in caught.value.detail
    assert visitor.rows("SELECT 1") == [(1,)]


def test_a_row_is_never_quoted(database: Database, session: Session) -> None:
    database.execute("create view numbers as select t::int from (values ('1'), ('4111-1111')) v(t)")
    table = describe(session, NUMBERS)
    with (
        pytest.raises(QueryRefused) as caught,
        session.copy(select_rows(table, table.columns)) as stream,
    ):
        _everything(stream)
    assert "4111" not in str(caught.value)


def test_statement_that_does_not_start(visitor: Session) -> None:
    with (
        pytest.raises(SourceTableChanged, match=r"reading public\.numbers: the table does not"),
        visitor.copy(_select('SELECT 1 FROM "public"."numbers"')),
    ):
        raise AssertionError("started")
    assert visitor.rows("SELECT 1") == [(1,)]


def test_several_statements_are_refused(visitor: Session) -> None:
    with (
        pytest.raises(QueryRefused),
        visitor.copy(_select("SELECT 1) TO STDOUT; SELECT (1")),
    ):
        raise AssertionError("started")


def test_missing_grant(numbers: Database, session: Session, role: Role) -> None:
    table = describe(session, NUMBERS)
    with (
        role.server.session(numbers.name) as limited,
        pytest.raises(PermissionMissing) as caught,
        limited.copy(select_rows(table, table.columns)),
    ):
        raise AssertionError("started")
    assert f'GRANT SELECT ON "public"."numbers" TO "{role.name}";' in caught.value.hint


def test_statement_timeout_strikes_during_a_copy(database: Database) -> None:
    server = server_for(database, limits={"statement_timeout": 1})
    with (
        server.session(database.name) as session,
        pytest.raises(SourceBusy, match="cancelled") as caught,
        session.copy(
            _select("SELECT g, pg_sleep(0.01) FROM generate_series(1, 100000) g")
        ) as stream,
    ):
        _everything(stream)
    assert "statement timeout" in caught.value.detail


def test_a_copy_has_its_own_timeout_and_queries_get_theirs_back(database: Database) -> None:
    server = server_for(database, limits={"statement_timeout": 50, "query_timeout": 5})
    with server.session(database.name) as session:
        with session.copy(_select("SELECT current_setting('statement_timeout')")) as stream:
            assert stream.read() == b"50s\n"
        assert session.rows("SHOW statement_timeout") == [("5s",)]
        with session.snapshot():
            with session.copy(_select("SELECT 1")) as stream:
                stream.read()
            assert session.rows("SHOW statement_timeout") == [("5s",)]


def test_a_busy_session_says_so(visitor: Session) -> None:
    with visitor.copy(_select(MANY)) as stream:
        stream.read(10)
        with pytest.raises(RuntimeError, match="busy with a COPY"):
            visitor.rows("SELECT 1")


def test_a_killed_backend_is_unreachable(database: Database, session: Session) -> None:
    ((pid,),) = session.rows("SELECT pg_backend_pid()")
    with (
        pytest.raises(SourceUnreachable, match=r"reading public\.numbers"),
        session.snapshot(),
        session.copy(_select(MANY)) as stream,
    ):
        stream.read(10)
        database.execute("select pg_terminate_backend(%s)", pid)
        _everything(stream)


Stop = Callable[[Cluster, int], None]


def _kill_backend(cluster: Cluster, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _stop_server(cluster: Cluster, pid: int) -> None:
    cluster.stop("immediate")


@pytest.mark.parametrize("vanish", [_kill_backend, _stop_server])
def test_a_server_that_vanishes_midway(vanish: Stop) -> None:
    with Cluster() as own:
        server = server_for(own)
        with (
            pytest.raises(SourceUnreachable, match=r"reading public\.numbers"),
            server.session("postgres") as session,
            session.snapshot(),
        ):
            ((pid,),) = session.rows("SELECT pg_backend_pid()")
            with session.copy(_select(MANY)) as stream:
                stream.read(10)
                vanish(own, pid)
                _everything(stream)


@pytest.fixture
def frozen(visitor: Session) -> Iterator[Callable[[], None]]:
    """Stops the session's backend in its tracks when called, and sets it going again at the end."""
    ((pid,),) = visitor.rows("SELECT pg_backend_pid()")
    yield lambda: os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


def test_a_silent_server_is_given_up(visitor: Session, frozen: Callable[[], None]) -> None:
    connection = visitor._line.driver
    stream = CopyStream(connection, sql.SQL(MANY), Subject("reading"), silence=1)
    with pytest.raises(SourceUnreachable, match="silent"), stream:
        stream.read(10)
        frozen()
        _everything(stream)
    assert connection.closed


def test_leaving_a_silent_server_does_not_hang(
    visitor: Session, frozen: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pg_ingest.postgres.copy._DRAIN_SECONDS", 0.3)
    with visitor.copy(_select(MANY)) as stream:
        stream.read(10)
        frozen()
    assert visitor._line.driver.closed


@pytest.mark.parametrize(
    "waiting",
    [
        "SELECT pg_sleep(600)",
        "SELECT repeat('x', 20000), pg_sleep(g) FROM generate_series(0, 600) g",
    ],
    ids=["for the first row", "for the next row"],
)
def test_ctrl_c_interrupts_a_wait(visitor: Session, waiting: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # dagster leaves its own behind
    main = threading.main_thread().ident or 0
    timer = threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt), visitor.copy(_select(waiting)) as stream:
        _everything(stream)
    timer.join()
    assert visitor.rows("SELECT 1") == [(1,)]


def test_memory_does_not_grow_with_the_table(visitor: Session) -> None:
    with visitor.copy(_select(MANY)) as stream:
        for _ in range(40):
            assert len(stream.read(1 << 20)) == 1 << 20
            assert len(stream._pending) < 1 << 16


def test_1600_columns(database: Database, session: Session) -> None:
    columns = ", ".join(f"c{i} int default {i}" for i in range(1600))
    database.execute(f"create table numbers ({columns})")
    database.execute("insert into numbers default values")
    table = describe(session, NUMBERS)
    with session.copy(select_rows(table, table.columns)) as stream:
        assert stream.read() == ",".join(map(str, range(1600))).encode() + b"\n"


def test_a_table_without_columns(database: Database, session: Session) -> None:
    database.execute("create table numbers ()")
    database.execute("insert into numbers default values")
    table = describe(session, NUMBERS)
    with session.copy(select_rows(table, table.columns)) as stream:
        assert stream.read() == b"\n"


def test_inheritance_children_are_tables_of_their_own(database: Database, session: Session) -> None:
    database.execute("create table numbers (n int)")
    database.execute("create table more_numbers () inherits (numbers)")
    database.execute("insert into numbers values (1)")
    database.execute("insert into more_numbers values (2)")
    for name, rows in (("numbers", b"1\n"), ("more_numbers", b"2\n")):
        table = describe(session, TableId("public", name))
        with session.copy(select_rows(table, table.columns)) as stream:
            assert stream.read() == rows


def test_a_partitioned_table_is_read_through_its_root(database: Database, session: Session) -> None:
    database.execute("create table numbers (n int) partition by range (n)")
    database.execute("create table low partition of numbers for values from (0) to (10)")
    database.execute("create table high partition of numbers for values from (10) to (20)")
    database.execute("insert into numbers values (1), (11)")
    table = describe(session, NUMBERS)
    with session.copy(select_rows(table, table.columns, order_by=["n"])) as stream:
        assert stream.read() == b"1\n11\n"


@pytest.mark.parametrize(
    "name", ["My Table", 'a"b', "naïve.täble", "50%", "%s", "semi;colon", "日本"]
)
def test_odd_names(database: Database, session: Session, name: str) -> None:
    with database.connect() as admin:
        admin.execute(
            sql.SQL("create table {0}.{1} ({1} text, {2} int)")
            .format(sql.Identifier("public"), sql.Identifier(name), sql.Identifier("b"))
            .as_bytes(admin)
        )
        admin.execute(
            sql.SQL("insert into {} values ('x', 1)").format(sql.Identifier(name)).as_bytes(admin)
        )
    table = describe(session, TableId("public", name))
    query = select_rows(table, table.columns, where="b = 1 -- odd", order_by=[name])
    assert session.explain(query).rows >= 1
    with session.copy(query) as stream:
        assert stream.read() == b"x,1\n"


def test_an_unpopulated_materialized_view(database: Database, session: Session) -> None:
    database.execute("create materialized view numbers as select 1 as n with no data")
    table = describe(session, NUMBERS)
    with (
        pytest.raises(QueryRefused, match="not in a state") as caught,
        session.copy(select_rows(table, table.columns)),
    ):
        raise AssertionError("started")
    assert "REFRESH" in caught.value.hint


def test_psycopg_still_agrees(visitor: Session) -> None:
    """The stream leaves nothing behind in the driver: its own COPY works afterwards."""
    with visitor.copy(_select(MANY)) as stream:
        stream.read(10)
    connection: psycopg.Connection = visitor._line.driver
    with connection.cursor().copy("COPY (VALUES (1)) TO STDOUT") as theirs:
        assert b"".join(bytes(block) for block in theirs) == b"1\n"
