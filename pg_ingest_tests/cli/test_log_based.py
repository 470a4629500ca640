"""Log-based tables on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from pg_ingest.defs import faults
from pg_ingest_tests.cli.conftest import Project


@pytest.fixture
def shop(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(faults, "RETRY_SECONDS", ())
    for table in ("a", "b"):
        project.database.execute(f"create table {table} (id int primary key, v text)")
        project.database.execute(
            f"insert into {table} select n, 'old' from generate_series(1, 3) n"
        )
    project.database.execute("create table c (id int)")
    project.configure(
        "method: log_based\ntables:\n  public.a: {}\n  public.b: {}\n"
        "  public.c: {method: full_table}\n"
    )
    yield project
    project.database.rows(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
        project.database.name,
    )


def sync(shop: Project, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    shop.database.execute("select pg_switch_wal()")
    answer = shop.run(*(arguments or ("sync",)), "--json")
    assert answer.code == code, answer.err
    return {one["table"]: one for one in answer.json["results"]}


def test_sync_again_and_status(shop: Project) -> None:
    first = sync(shop)
    assert {table: one["status"] for table, one in first.items()} == {
        "public.a": "done",
        "public.b": "done",
        "public.c": "done",
    }
    assert first["public.a"]["facts"]["phase"] == "snapshot"
    positions = {one["table"]: one["position"] for one in shop.run("status", "--json").json}
    assert positions["public.a"].startswith("snapshot at ")
    shop.database.execute("delete from a where id = 1")
    second = sync(shop)
    assert second["public.a"]["facts"]["deleted"] == 1
    assert second["public.b"]["status"] == "done"
    assert second["public.b"]["facts"]["inserted"] == 0
    positions = {one["table"]: one["position"] for one in shop.run("status", "--json").json}
    assert positions["public.a"].startswith("log applied up to ")
    assert "3 done" in shop.run("sync").out


def test_one_table(shop: Project) -> None:
    sync(shop)
    shop.database.execute("insert into a values (7, 'x')")
    shop.database.execute("insert into b values (7, 'x')")
    assert set(sync(shop, "sync", "public.a")) == {"public.a"}
    assert shop.stored("select count(*) from shop.a") == [(4,)]
    assert shop.stored("select count(*) from shop.b") == [(3,)]
    assert sync(shop)["public.b"]["facts"]["inserted"] == 1


def test_a_failing_table_and_its_reset(shop: Project) -> None:
    sync(shop)
    with duckdb.connect(str(shop.folder / "warehouse.duckdb")) as connection:
        connection.execute("drop table shop.a")
    for table in ("a", "b"):
        shop.database.execute(f"insert into {table} values (7, 'x')")
    found = sync(shop, code=1)
    assert found["public.a"]["status"] == "failed"
    assert "shop.a" in found["public.a"]["error"]
    assert "reset" in found["public.a"]["hint"]
    assert found["public.b"]["facts"]["inserted"] == 1
    assert found["public.c"]["status"] == "done"
    again = sync(shop, "reset", "public.a")
    assert again["public.a"]["facts"]["phase"] == "snapshot"
    assert shop.stored("select count(*) from shop.a") == [(4,)]


def test_what_stops_the_capture_is_told_for_each_table(shop: Project) -> None:
    sync(shop)
    shop.database.rows(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
        shop.database.name,
    )
    found = sync(shop, code=1)
    assert "is gone" in found["public.a"]["error"]
    assert found["public.b"]["error"] == found["public.a"]["error"]
    assert found["public.c"]["status"] == "done"


def test_a_table_that_does_not_exist(shop: Project) -> None:
    shop.configure("method: log_based\ntables:\n  public.a: {}\n  public.gone: {}\n")
    found = sync(shop, code=1)
    assert found["public.a"]["status"] == "done"
    assert "does not exist" in found["public.gone"]["error"]


def test_check_before_and_after_the_first_sync(shop: Project) -> None:
    shop.database.execute("create table d (id int)")
    shop.configure("method: log_based\ntables:\n  public.a: {}\n  public.d: {}\n")

    def found() -> dict[tuple[str, str], tuple[str, str]]:
        answer = shop.run("check", "--json")
        assert answer.code == 1
        return {
            (one["subject"].removeprefix(f"shop/{shop.database.name}"), one["test"]): (
                one["verdict"],
                one["fact"],
            )
            for one in answer.json["findings"]
        }

    before = found()
    assert before["shop", "replication"] == ("passed", "may read the log")
    assert before["", "slot"][1].endswith("will be made by the first sync")
    assert before["", "publication"] == ("passed", "pg_ingest will be made by the first sync")
    assert before["/public.d", "replica-identity"][0] == "failed"
    assert before["/public.a", "table"][0] == "passed"
    sync(shop, code=1)
    after = found()
    assert "bytes of WAL kept for it" in after["", "slot"][1]
    assert after["", "publication"] == ("passed", "pg_ingest, 1 tables")
