"""A server, a role, tables and a configuration with everything wrong at once: one run says all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import psycopg
import pytest

from pg_ingest.config.load import load_config
from pg_ingest.demo.cluster import Cluster
from pg_ingest.doctor.examine import examine
from pg_ingest.doctor.finding import Finding, Verdict
from pg_ingest_tests.conftest import Database

SETTINGS = {
    "wal_level": "replica",
    "max_replication_slots": "1",
    "wal_sender_timeout": "0",
    "max_prepared_transactions": "5",
}

TABLES = """
create role ingest login connection limit 3;
create role builder;
create schema closed;
grant usage on schema public to ingest;
create table closed.orders (id int primary key);
create table unreadable (id int primary key);
create table partly (id int primary key, open_column int, closed_column int);
create table guarded (id int primary key);
alter table guarded enable row level security;
create table filtered (id int primary key);
create table keyless (id int, changed timestamptz);
create table anonymous (id int);
create unlogged table fleeting (id int primary key);
create table unpublished (id int primary key);
create table computed (id int primary key, twice int generated always as (id * 2) stored);
create table later_1 (id int primary key);
alter table later_1 owner to builder;
grant select on all tables in schema public, closed to ingest;
revoke all on unreadable, partly from ingest;
grant select (id, open_column) on partly to ingest;
create publication foreign_one for table computed with (publish = 'insert, update');
alter role ingest set transaction_timeout = '60s';
"""

CONFIG = """
destination: {{type: duckdb, path: folder}}
sources:
  shop:
    host: {host}
    port: {port}
    user: ingest
    password: "as plain as can be"
    databases: [shop, locked, missing, second]
    method: log_based
    limits: {{lock_timeout: 1}}
    log:
      publication: foreign_one
      slot: "taken_{{database}}"
      heartbeat: {{every: 60s, mode: table, table: public.heart}}
    tables:
      closed.orders: {{method: full_table}}
      public.unreadable: {{method: full_table}}
      public.partly: {{method: full_table}}
      public.guarded: {{method: full_table}}
      public.filtered: {{method: full_table, where: "id >"}}
      public.keyless: {{method: key_based, replication_key: changed}}
      public.gone: {{method: full_table}}
      public.anonymous: {{}}
      public.fleeting: {{}}
      public.unpublished: {{}}
      public.computed: {{where: "id in (select 1)"}}
  secretless:
    host: {host}
    port: {port}
    user: ingest
    password: {{env: NOBODY_HAS_SET_THIS}}
    databases: [shop]
    tables: {{public.filtered: {{method: full_table}}}}
  nowhere:
    host: {host}
    port: 1
    user: ingest
    databases: [shop]
    tables: {{public.filtered: {{method: full_table}}}}
"""

EXPECTED: dict[tuple[str, str], tuple[str, str]] = {
    ("destination", "writable"): ("failed", "names the database file itself"),
    ("shop", "password"): ("warning", "{env: SHOP_PASSWORD}"),
    ("shop/locked", "connect"): ("failed", 'GRANT CONNECT ON DATABASE "locked" TO "ingest";'),
    ("shop/missing", "database"): ("failed", "check `databases` of this source"),
    ("shop", "selection"): ("failed", "correct the file"),
    ("shop", "connections"): ("warning", 'ALTER ROLE "ingest" CONNECTION LIMIT 6;'),
    ("shop", "role"): ("warning", 'ALTER ROLE "ingest" SET transaction_timeout = 0;'),
    ("shop", "wal-level"): ("failed", "ALTER SYSTEM SET wal_level = 'logical'; then restart"),
    ("shop", "pending-restart"): ("warning", "restart the server"),
    ("shop", "slots"): ("failed", "ALTER SYSTEM SET max_replication_slots = '4';"),
    ("shop", "slot-wal-limit"): ("warning", "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB';"),
    ("shop", "wal-sender-timeout"): ("warning", "ALTER SYSTEM SET wal_sender_timeout = '60s';"),
    ("shop", "idle-transactions"): ("warning", "SELECT pg_terminate_backend("),
    ("shop", "prepared-transactions"): ("warning", "ROLLBACK PREPARED 'forgotten';"),
    ("shop", "replication"): ("failed", 'ALTER ROLE "ingest" REPLICATION;'),
    ("shop/shop", "encoding"): ("warning", "ENCODING 'UTF8'"),
    ("shop/shop", "schema-usage"): ("failed", 'GRANT USAGE ON SCHEMA "closed" TO "ingest";'),
    ("shop/shop", "slot"): ("failed", "name another one in `log.slot`"),
    ("shop/shop", "publication"): ("warning", "SET (publish = 'insert, update, delete, truncate')"),
    ("shop/shop", "heartbeat"): ("failed", 'CREATE TABLE IF NOT EXISTS "public"."heart"'),
    ("shop/shop/public.unreadable", "select"): (
        "failed",
        'GRANT SELECT ON "public"."unreadable" TO "ingest";',
    ),
    ("shop/shop/public.partly", "columns"): (
        "failed",
        'GRANT SELECT ("closed_column", "ctid") ON "public"."partly" TO "ingest";',
    ),
    ("shop/shop/public.guarded", "row-security"): ("failed", 'ALTER ROLE "ingest" BYPASSRLS;'),
    ("shop/shop/public.filtered", "filter"): ("failed", "names outside pg_catalog"),
    ("shop/shop/public.keyless", "key"): ("failed", "key: [...]"),
    ("shop/shop/public.gone", "table"): ("failed", "dropped or renamed?"),
    ("shop/second/public.gone", "table"): ("failed", "dropped or renamed?"),
    ("shop/second", "heartbeat"): ("failed", 'CREATE TABLE IF NOT EXISTS "public"."heart"'),
    ("shop/second", "publication"): (
        "failed",
        'CREATE PUBLICATION "foreign_one" FOR TABLE ONLY "public"."unpublished" WITH',
    ),
    ("shop/shop/public.anonymous", "replica-identity"): (
        "failed",
        'ALTER TABLE "public"."anonymous" REPLICA IDENTITY FULL',
    ),
    ("shop/shop/public.fleeting", "replica-identity"): ("failed", "choose another method"),
    ("shop/shop/public.unpublished", "published"): (
        "failed",
        'ALTER PUBLICATION "foreign_one" ADD TABLE ONLY "public"."unpublished";',
    ),
    ("shop/shop/public.computed", "filter"): ("failed", "may depend on the row alone"),
    ("shop/shop/public.computed", "generated-columns"): ("warning", "exclude_columns: [twice]"),
    ("secretless", "password"): ("failed", "export NOBODY_HAS_SET_THIS"),
    ("nowhere", "host"): ("failed", "check `host` and `port`"),
}

SKIPPED = {
    ("destination", "content"): "because it may not be written",
    ("shop/shop/closed.orders", "query"): "because schema closed is closed to us",
    ("shop/shop/public.guarded", "query"): "because row-level security refuses it",
    ("shop/second/public.anonymous", "table"): (
        "because this database does not have it, another one has"
    ),
    ("shop/second", "slot"): "because the server's wal_level is not logical",
    ("secretless", "login"): "because a secret cannot be read",
    ("secretless", "tables"): "because a secret cannot be read",
    ("nowhere", "login"): "because the host does not answer",
    ("nowhere", "tables"): "because the host does not answer",
}


@pytest.fixture(scope="module")
def broken() -> Iterator[Cluster]:
    with Cluster(settings=SETTINGS) as running:
        admin = Database("postgres", running.host, running.port, running.user)
        admin.execute("create database shop template template0 encoding 'SQL_ASCII' locale 'C'")
        admin.execute("create database locked")
        admin.execute("create database second")
        second = Database("second", running.host, running.port, running.user)
        second.execute("create table unpublished (id int primary key)")
        admin.execute("revoke connect on database locked from public")
        shop = Database("shop", running.host, running.port, running.user)
        shop.execute(TABLES)
        second.execute("grant select on unpublished to ingest")
        admin.execute("select pg_create_physical_replication_slot('taken_shop')")
        admin.execute("alter system set max_wal_senders = 20")
        admin.execute("select pg_reload_conf()")
        shop.execute("begin; insert into filtered values (1); prepare transaction 'forgotten'")
        yield running


@pytest.fixture(scope="module")
def findings(broken: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    folder: Path = tmp_path_factory.mktemp("broken")
    (folder / "folder").mkdir()
    path = folder / "pg_ingest.yaml"
    path.write_text(dedent(CONFIG).format(host=broken.host, port=broken.port))
    config = load_config(path).config
    with psycopg.connect(host=broken.host, port=broken.port, user="ingest", dbname="shop") as idle:
        idle.execute("select 1")
        wait_for_age(broken, 1.0)
        return list(examine(config, list(config.sources)))


def wait_for_age(cluster: Cluster, seconds: float) -> None:
    """Until transactions that are open now have been so for that long, by the server's clock."""
    admin = Database("postgres", cluster.host, cluster.port, cluster.user)
    query = "select bool_and(clock_timestamp() - xact_start > make_interval(secs => %s))"
    where = "from pg_stat_activity where state = 'idle in transaction'"
    deadline = time.monotonic() + 30
    while not admin.rows(f"{query} {where}", seconds)[0][0]:
        assert time.monotonic() < deadline, "no transaction is as old"
        time.sleep(0.05)


def test_it_is_broken_in_more_than_twenty_ways() -> None:
    assert len(EXPECTED) >= 30


@pytest.mark.parametrize(("subject", "test"), EXPECTED)
def test_one_run_says_what_is_wrong_and_what_to_do(
    findings: list[Finding], subject: str, test: str
) -> None:
    verdict, remedy = EXPECTED[subject, test]
    found = [each for each in findings if (each.subject, each.test) == (subject, test)]
    assert verdict in [each.verdict for each in found], found
    assert any(remedy in each.hint for each in found), found


@pytest.mark.parametrize(("subject", "test"), SKIPPED)
def test_what_depends_on_it_is_skipped_with_the_reason(
    findings: list[Finding], subject: str, test: str
) -> None:
    (found,) = [each for each in findings if (each.subject, each.test) == (subject, test)]
    assert (found.verdict, found.fact) == (Verdict.SKIPPED, SKIPPED[subject, test])


def test_every_failure_has_a_remedy_and_nothing_else_is_wrong(findings: list[Finding]) -> None:
    for each in findings:
        if each.verdict in (Verdict.FAILED, Verdict.WARNING):
            assert each.hint, each
            assert (each.subject, each.test.value) in EXPECTED, each
        assert "as plain as can be" not in repr(each)
