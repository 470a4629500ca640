"""What a tired person reads when something went wrong, and that nothing stored is harmed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pg_ingest.cli.outcomes import Outcome
from pg_ingest.cli.syncing import print_failures
from pg_ingest.defs import faults
from pg_ingest_tests.cli.conftest import Project
from pg_ingest_tests.conftest import Database

FULL = "method: full_table\ntables:\n  public.orders: {}\n"

pytestmark = pytest.mark.usefixtures("orders")


@pytest.fixture
def reader(database: Database) -> Iterator[str]:
    """A role that may read nothing yet."""
    name = f"reader_{database.name}"
    database.execute(f"create role {name} login")
    yield name
    database.execute(f"drop owned by {name}")
    database.execute(f"drop role {name}")


@pytest.fixture
def synced(project: Project) -> Project:
    project.configure(FULL)
    assert project.run("sync").code == 0
    return project


def rows(project: Project) -> list[tuple[object, ...]]:
    return project.stored("select id, name from shop.orders order by 1")


BEFORE = [(1, "x1"), (2, "x2"), (3, "x3")]


def test_no_such_user(synced: Project) -> None:
    synced.configure(FULL, user="nobody_here")
    answer = synced.run("sync")
    assert answer.code == 1
    assert "login refused for user nobody_here" in answer.out
    assert "check `user` and `password`" in answer.out
    assert rows(synced) == BEFORE


def test_no_such_database(synced: Project) -> None:
    synced.configure(FULL, databases="[shopp]")
    answer = synced.run("sync")
    assert answer.code == 1
    assert "database shopp does not exist" in answer.out
    assert rows(synced) == BEFORE


def test_nothing_listens(synced: Project) -> None:
    synced.configure(FULL, port=1)
    answer = synced.run("sync")
    assert answer.code == 1
    assert "nothing listens on 127.0.0.1 port 1" in answer.out
    assert "Traceback" not in answer.out + answer.err
    assert rows(synced) == BEFORE


def test_a_missing_grant_on_one_of_ten_tables(synced: Project, reader: str) -> None:
    database = synced.database
    for n in range(10):
        database.execute(f"create table t{n} (id int)")
        database.execute(f"insert into t{n} values ({n})")
        if n != 7:
            database.execute(f"grant select on t{n} to {reader}")
    tables = "".join(f"  public.t{n}: {{}}\n" for n in range(10))
    synced.configure("method: full_table\ntables:\n" + tables, user=reader)
    answer = synced.run("sync")
    assert answer.code == 1
    assert "9 done, 1 failed" in answer.out
    assert "may not read public.t7" in answer.out
    assert f'GRANT SELECT ON "public"."t7" TO "{reader}";' in answer.out
    assert synced.stored("select id from shop.t9") == [(9,)]


def test_a_table_dropped_between_discovery_and_sync(synced: Project) -> None:
    synced.database.execute("create table other (id int)")
    synced.configure(FULL + "  public.other: {}\n")
    assert synced.run("discover").code == 0
    synced.database.execute("drop table orders")
    answer = synced.run("sync")
    assert answer.code == 1
    assert "1 done, 1 failed" in answer.out
    assert f"table public.orders does not exist in database {synced.database.name}" in answer.out
    assert rows(synced) == BEFORE
    again = synced.run("discover")
    assert again.code == 1
    assert "public.orders: no such table" in again.err
    assert synced.run("sync", "public.other").code == 0


def test_a_column_added(synced: Project) -> None:
    synced.database.execute("alter table orders add column price numeric(10,2) default 9.5")
    answer = synced.run("sync")
    assert answer.code == 0
    assert synced.stored("select distinct price::varchar from shop.orders") == [("9.50",)]


def test_a_type_changed(synced: Project) -> None:
    synced.database.execute("alter table orders alter column id type bigint")
    synced.database.execute("insert into orders values (3000000000, 'far')")
    answer = synced.run("sync")
    assert answer.code == 0, answer.out
    assert synced.stored("select max(id) from shop.orders") == [(3_000_000_000,)]


def test_a_configured_column_dropped(synced: Project) -> None:
    synced.configure("method: full_table\ntables:\n  public.orders: {columns: [id, name]}\n")
    synced.run("sync")
    synced.database.execute("alter table orders drop column name")
    answer = synced.run("sync")
    assert answer.code == 1
    assert "public.orders has no column name (any more)" in answer.out
    assert rows(synced) == BEFORE


def test_a_typo_in_the_file(synced: Project) -> None:
    text = FULL.replace("method:", "metod:").replace("{}", "{wher: 'id > 1'}")
    synced.configure(text)
    answer = synced.run("sync")
    assert answer.code == 2
    assert "pg_ingest.yaml:8: sources.shop.metod" in answer.err
    assert "did you mean method?" in answer.err
    assert "did you mean where?" in answer.err
    assert rows(synced) == BEFORE


def test_broken_yaml(synced: Project) -> None:
    (synced.folder / "pg_ingest.yaml").write_text("destination: {type: duckdb\n")
    answer = synced.run("sync")
    assert answer.code == 2
    assert "is not valid YAML" in answer.err


def test_no_configuration(project: Project) -> None:
    for command in ("sync", "check", "discover", "status", "dev"):
        answer = project.run(command)
        assert answer.code == 2
        assert "there is no configuration file" in answer.err


def test_a_password_that_is_not_set(synced: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_PASSWORD", raising=False)
    synced.configure(FULL, password="{env: SHOP_PASSWORD}")
    answer = synced.run("sync")
    assert answer.code != 0
    assert "SHOP_PASSWORD is not set" in answer.out + answer.err


def test_a_read_that_breaks_in_the_middle(synced: Project) -> None:
    database = synced.database
    database.execute(
        "insert into orders select n, repeat('y', 1000) from generate_series(4, 20000) n"
    )
    database.execute(
        "create view v as select id, case when id = 19000 then 1 / (id - id) end as x from orders"
    )
    synced.configure("method: full_table\ntables:\n  public.v: {}\n")
    answer = synced.run("sync")
    assert answer.code == 1
    assert "the server failed while computing a row" in answer.out
    with pytest.raises(Exception, match="does not exist"):
        synced.stored("select * from shop.v")


def test_the_test_server_really_refuses_unknown_users(database: Database) -> None:
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        database.connect(user="nobody_here")


def test_many_tables_that_fail_alike_are_told_once(project: Project) -> None:
    tables = "".join(f"  public.t{n}: {{}}\n" for n in range(10))
    project.configure("method: full_table\ntables:\n" + tables, port=1)
    answer = project.run("sync")
    assert answer.code == 1
    assert "10 failed" in answer.out
    assert answer.out.count("nothing listens on 127.0.0.1 port 1") == 1
    name = project.database.name
    assert (
        f"shop/public.t0, shop/public.t1, shop/public.t2 and 7 more in {name} failed" in answer.out
    )


def test_a_table_that_fails_in_two_windows_is_named_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = [
        Outcome(
            "shop", "shop", name, "full_table", "failed", window, error="it broke", hint="mend it"
        )
        for name, window in (("public.a", "1"), ("public.a", "2"), ("public.b", ""))
    ]
    print_failures(failed)
    assert capsys.readouterr().out == (
        "\nshop/public.a, shop/public.b in shop failed: it broke\n  hint: mend it\n"
    )


def test_a_sync_that_tries_again_says_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "RETRY_SECONDS", (0.0,))
    project.configure(FULL, limits="{lock_timeout: 1}")
    with project.database.connect(autocommit=False) as other:
        other.execute("lock table orders in access exclusive mode")
        answer = project.run("sync")
    assert answer.code == 1
    assert "trying again in 0 s" in answer.err
    assert project.run("sync").code == 0
