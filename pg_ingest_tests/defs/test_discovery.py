"""The sensor that looks for new databases and tables."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import pytest

from pg_ingest import rediscover
from pg_ingest.catalog_file import load_catalog
from pg_ingest.config.load import LoadedConfig
from pg_ingest.defs.factory import build_definitions
from pg_ingest.defs.saved import saved_catalogs
from pg_ingest.errors import SourceUnreachable
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.defs.conftest import Write

Shop = Callable[[str], LoadedConfig]


def look(loaded: LoadedConfig, instance: dg.DagsterInstance) -> tuple[str, list[str]]:
    """The sensor's words, and the databases it adds."""
    repository = build_definitions(loaded, saved_catalogs(loaded)).get_repository_def()
    sensor = repository.get_sensor_def("shop_discovery")
    with dg.build_sensor_context(
        instance=instance, repository_def=repository, sensor_name=sensor.name
    ) as context:
        found = sensor.evaluate_tick(context)
    added = [
        key for request in found.dynamic_partitions_requests or [] for key in request.partition_keys
    ]
    return found.skip_message or "", added


def test_new_and_gone_tables(shop: Shop, database: Database, instance: dg.DagsterInstance) -> None:
    database.execute("create table a (id int)")
    loaded = shop("method: full_table\nselect_all: true\n")
    assert look(loaded, instance) == ("tables: 1 new (public.a): reload the code location", [])
    assert look(loaded, instance) == ("nothing new", [])
    database.execute("create table b (id int)")
    database.execute("drop table a")
    assert look(loaded, instance) == (
        "tables: 1 new (public.b); 1 gone (public.a): reload the code location",
        [],
    )


def test_a_named_table_that_is_gone_keeps_the_saved_catalogue(
    shop: Shop, database: Database, instance: dg.DagsterInstance
) -> None:
    database.execute("create table a (id int)")
    database.execute("create table b (id int)")
    loaded = shop("method: full_table\ntables:\n  public.a: {}\n  public.b: {}\n")
    look(loaded, instance)
    database.execute("drop table a")
    words, _ = look(loaded, instance)
    assert "public.a: no such table" in words
    catalog = load_catalog(loaded.config.state_dir, "shop")
    assert catalog is not None
    assert [str(table.id) for table in catalog.databases[0].tables] == ["public.a", "public.b"]


def test_new_databases_become_partitions(
    write: Write, database: Database, instance: dg.DagsterInstance
) -> None:
    loaded = write(
        f"databases: ['{database.name}*']\nmethod: full_table\nselect_all: true\n",
        host=database.host,
        port=database.port,
    )
    assert look(loaded, instance)[1] == [database.name]
    instance.add_dynamic_partitions("shop_databases", [database.name])
    assert look(loaded, instance)[1] == []


def test_an_unreachable_source_is_a_reason_to_skip(
    write: Write, instance: dg.DagsterInstance
) -> None:
    loaded = write("databases: ['*']\nmethod: full_table\nselect_all: true\n")
    words, added = look(loaded, instance)
    assert "nothing listens on 127.0.0.1 port 1" in words
    assert added == []


def test_the_advice_is_asked_for_and_kept(
    shop: Shop,
    database: Database,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that does not answer leaves what was advised before, and stops no discovery."""
    database.execute("create table a (id int primary key); create table other (id int)")
    database.execute("insert into a select generate_series(1, 60000)")
    database.execute("analyze a")
    loaded = shop("method: full_table\ntables: {public.a: {}}\n")
    look(loaded, instance)
    (before,) = saved_catalogs(loaded)["shop"].databases
    (advice,) = before.advice
    assert (str(advice.table), advice.recommended) == ("public.a", "log_based")

    def refused(*_: object) -> None:
        raise SourceUnreachable("gone")

    monkeypatch.setattr(rediscover, "advised", refused)
    database.execute("create table b (id int primary key)")
    look(loaded, instance)
    (after,) = saved_catalogs(loaded)["shop"].databases
    assert len(after.tables) == 3
    assert after.advice == before.advice
    assert "no advice on methods" in caplog.text
