"""All databases of a source."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from pg_ingest.errors import LoginFailed, PermissionMissing, PgIngestError
from pg_ingest.postgres.discovery import discover, matching_databases
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import Role, server_for


@pytest.fixture
def tenants(database: Database) -> Iterator[list[str]]:
    """Two databases `<name>_tenant_a` and `…_b` with one table each."""
    names = [f"{database.name}_tenant_{letter}" for letter in "ab"]
    for name in names:
        database.execute(f"create database {name} template template0")
        there = Database(name, database.host, database.port, database.user)
        there.execute(f"create table {name[-1]} (i int)")
    yield names
    for name in names:
        database.execute(f"drop database {name} with (force)")


def test_reads_each_database_that_matches(database: Database, tenants: list[str]) -> None:
    server = server_for(database, limits={"connections": 2})
    catalog = discover(server, [f"{database.name}_tenant_*"])
    assert catalog.source == "shop"
    assert datetime.fromisoformat(catalog.captured_at).utcoffset() == timedelta(0)
    found = {one.database: [str(table.id) for table in one.tables] for one in catalog.databases}
    assert found == {tenants[0]: ["public.a"], tenants[1]: ["public.b"]}


def test_names_and_patterns_together(database: Database, tenants: list[str]) -> None:
    server = server_for(database)
    assert matching_databases(server, [database.name, f"{database.name}_*_[a]"]) == (
        database.name,
        tenants[0],
    )
    assert matching_databases(server, ["no_such_*"]) == ()
    assert set(tenants) < set(matching_databases(server, ["*"]))


def test_names_are_not_looked_up(database: Database) -> None:
    assert matching_databases(server_for(database, port=1), ["b", "a"]) == ("a", "b")


def test_a_list_is_asked_for_elsewhere_when_a_named_database_is_closed(
    database: Database, role: Role, tenants: list[str]
) -> None:
    database.execute(f"revoke connect on database {database.name} from public")
    found = matching_databases(role.server, [database.name, f"{database.name}_tenant_b"])
    assert found == (database.name, tenants[1])
    wild = matching_databases(role.server, [database.name, f"{database.name}_tenant_*"])
    assert wild == (database.name, *tenants)


def test_a_database_that_fails_is_named_after_the_others_were_read(
    database: Database, role: Role, tenants: list[str]
) -> None:
    database.execute(f"revoke connect on database {tenants[0]} from public")
    failures: dict[str, PgIngestError] = {}
    catalog = discover(
        role.server, [*tenants, "nosuch"], on_failure=lambda name, why: failures.update({name: why})
    )
    assert [one.database for one in catalog.databases] == [tenants[1]]
    assert {name: type(why) for name, why in failures.items()} == {
        tenants[0]: PermissionMissing,
        "nosuch": LoginFailed,
    }


def test_without_a_listener_a_failure_is_raised(database: Database) -> None:
    with pytest.raises(LoginFailed, match="database nosuch does not exist"):
        discover(server_for(database), [database.name, "nosuch"])
