"""Statement failures: what each SQLSTATE becomes, and that no row's value gets out."""

from __future__ import annotations

import traceback

import psycopg
import pytest

from pg_ingest.errors import (
    LoginFailed,
    PassingFault,
    PermissionMissing,
    PersonMustAct,
    PgIngestError,
    QueryRefused,
    SlotBusy,
    SourceBusy,
    SourceTableChanged,
    SourceUnreachable,
    StatementCancelled,
)
from pg_ingest.postgres.faults import Subject, fault_of, grant_select, translated
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database

ORDERS = TableId("public", "orders")
READING = Subject("reading public.orders", ORDERS, "app")


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", SourceUnreachable),
        ("0A000", QueryRefused),
        ("25006", QueryRefused),
        ("25P03", SourceUnreachable),
        ("25P04", StatementCancelled),
        ("28000", LoginFailed),
        ("3D000", LoginFailed),
        ("3F000", SourceTableChanged),
        ("40001", StatementCancelled),
        ("40P01", StatementCancelled),
        ("42501", PermissionMissing),
        ("42601", QueryRefused),
        ("42703", SourceTableChanged),
        ("42P01", SourceTableChanged),
        ("53100", SourceBusy),
        ("53300", SourceBusy),
        ("54011", QueryRefused),
        ("55000", QueryRefused),
        ("55006", SlotBusy),
        ("55P03", SourceBusy),
        ("57014", StatementCancelled),
        ("57P01", SourceUnreachable),
        ("57P02", SourceUnreachable),
        ("57P03", SourceUnreachable),
        ("57P05", SourceUnreachable),
        ("58030", SourceBusy),
        ("22012", QueryRefused),
        ("P0001", QueryRefused),
        ("XX001", QueryRefused),
        ("ZZ999", QueryRefused),
    ],
)
def test_kind_of_each_state(state: str, kind: type[PgIngestError]) -> None:
    error = fault_of(state, "server's words", READING)
    assert type(error) is kind
    assert error.message.startswith("reading public.orders: ")
    assert state in error.detail


@pytest.mark.parametrize("state", ["22P02", "22003", "23505", "P0001", "38000", "XX000"])
def test_words_about_data_stay_at_the_server(state: str) -> None:
    error = fault_of(state, 'invalid input syntax for type integer: "4111 1111"', READING)
    assert "4111" not in str(error)
    assert "server's log" in str(error)


def test_conflict_with_recovery_is_explained() -> None:
    error = fault_of("40001", "canceling statement due to conflict with recovery", READING)
    assert isinstance(error, PassingFault)
    assert "hot_standby_feedback" in error.hint


@pytest.mark.parametrize(
    ("state", "primary", "kind"),
    [
        ("42P01", 'relation "public.orders" does not exist', SourceTableChanged),
        ("42P01", 'relation "public.other" does not exist', QueryRefused),
        ("42703", 'column "x" does not exist', QueryRefused),
        ("22007", 'invalid input syntax for type date: "x"', QueryRefused),
        ("42501", "permission denied for table orders", PermissionMissing),
        ("57014", "canceling statement due to statement timeout", StatementCancelled),
        ("57P01", "terminating connection", SourceUnreachable),
    ],
)
def test_a_row_filter_is_blamed_only_for_what_it_says(
    state: str, primary: str, kind: type[PgIngestError]
) -> None:
    subject = Subject("the row filter of public.orders", ORDERS, "app", user_text=True)
    error = fault_of(state, primary, subject)
    assert type(error) is kind
    assert primary in error.detail


def test_grant_is_offered_for_the_table_that_was_meant() -> None:
    ours = fault_of("42501", "permission denied for table orders", READING)
    assert ours.hint == grant_select(ORDERS, "app")
    schema = fault_of("42501", "permission denied for schema public", READING)
    assert 'GRANT USAGE ON SCHEMA "public" TO "app"' in schema.hint
    below = fault_of("42501", "permission denied for table ledger", READING)
    assert "GRANT" not in below.hint
    assert "owner" in below.hint


def test_grant_quotes_names() -> None:
    assert grant_select(TableId("My Schema", 'a"b'), "the app") == (
        'GRANT USAGE ON SCHEMA "My Schema" TO "the app";'
        ' GRANT SELECT ON "My Schema"."a""b" TO "the app";'
    )


def test_a_traceback_shows_no_row(database: Database) -> None:
    database.execute("create table cards (number text)")
    database.execute("insert into cards values ('4111-1111')")
    with pytest.raises(PersonMustAct) as caught, translated("reading"), database.connect() as one:
        one.execute("select number::int from cards")
    assert "4111" not in "".join(traceback.format_exception(caught.value))


def test_a_bug_in_our_own_calls_is_not_dressed_up(database: Database) -> None:
    with database.connect() as one, pytest.raises(psycopg.ProgrammingError), translated("asking"):
        one.execute("select %s", [1, 2])
