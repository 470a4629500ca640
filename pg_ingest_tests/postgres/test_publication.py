"""Publications, kept or used."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pg_ingest.errors import PermissionMissing, SlotUnusable
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.publication import keep_publication, read_publication
from pg_ingest.postgres.publishable import refusals
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
