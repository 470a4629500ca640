"""Each key that is wrong by itself: its own message."""

from __future__ import annotations

from typing import Any

import pytest

from pg_ingest.config.method import Method
from pg_ingest_tests.config.conftest import source, table, whole


def shop(**changes: Any) -> dict[str, Any]:
    return whole(sources={"shop": source(**changes)})


def orders(**settings: Any) -> dict[str, Any]:
    return whole(sources={"shop": table(**settings)})


METHODS = ", ".join(Method)

REFUSED = [
    (
        shop(host="db:5432"),
        "sources.shop.host: contains a port (db:5432) — write `host: db` and `port: 5432`",
    ),
    (
        shop(host="[::1]:5433"),
        "sources.shop.host: contains a port ([::1]:5433) — write `host: ::1` and `port: 5433`",
    ),
    (shop(host="[::1]"), 'sources.shop.host: has brackets ([::1]) — write `host: "::1"`'),
    (
        shop(host="a,b"),
        "sources.shop.host: is not one host (a,b) — write one name, address or socket folder",
    ),
    (
        shop(host=""),
        "sources.shop.host: is not one host — write one name, address or socket folder",
    ),
    (
        shop(host="postgres://me:hunter2@db/shop"),
        "sources.shop.host: is a connection string (not shown, it may hold a password) — write its parts: "
        "host, port, user, password, databases",
    ),
    (shop(host=5), "sources.shop.host: is not a text (5) — put it in quotes"),
    (
        shop(port="5432"),
        "sources.shop.port: is not a whole number (5432) — write a number without quotes",
    ),
    (shop(port=0), "sources.shop.port: is too small (0) — write 1 or more"),
    (shop(port=65536), "sources.shop.port: is too large (65536) — write 65535 or less"),
    (shop(user=" "), "sources.shop.user: is empty ( ) — write a name, or remove it"),
    (
        shop(databases=[]),
        "sources.shop.databases: is an empty list — name at least one, or remove the key",
    ),
    (
        shop(databases="shop"),
        "sources.shop.databases: is not a list (shop) — write a list: [first, second]",
    ),
    (
        shop(databases=["a", "a"]),
        "sources.shop.databases: names something twice (a) — name it once",
    ),
    (shop(databases=[7]), "sources.shop.databases.0: is not a text (7) — put it in quotes"),
    (
        shop(method="ful_table"),
        "sources.shop.method: is an unknown value (ful_table) — did you mean full_table? "
        f"Known: {METHODS}",
    ),
    (
        shop(select_all="yes"),
        "sources.shop.select_all: is neither true nor false (yes) — write true or false",
    ),
    (
        shop(tls={}),
        "sources.shop.tls.mode: is missing — write `mode: verify-full`, or another sslmode of libpq",
    ),
    (
        shop(tls={"mode": "verify_full"}),
        "sources.shop.tls.mode: is an unknown value (verify_full) — did you mean verify-full? "
        "Known: disable, allow, prefer, require, verify-ca, verify-full",
    ),
    (
        shop(tls="require"),
        "sources.shop.tls: is not a mapping (require) — write `key: value` lines below it, or {key: value}",
    ),
    (
        shop(naming={"schema": "{sorce}"}),
        "sources.shop.naming.schema: holds the unknown placeholder {sorce} ({sorce}) — did you mean source?",
    ),
    (
        shop(naming={"table": "{table"}),
        "sources.shop.naming.table: has a brace without its partner ({table) — write placeholders as {table}",
    ),
    (
        shop(naming={"table": ""}),
        "sources.shop.naming.table: is empty — write a template such as {source}_{schema}",
    ),
    (
        shop(log={"slot": "Slot-{database}"}),
        "sources.shop.log.slot: cannot name a replication slot (Slot-{database}) — use lower-case letters, "
        "digits and _, and {database} where its name belongs",
    ),
    (
        shop(log={"publication": "p" * 64}),
        f"sources.shop.log.publication: is too long ({'p' * 64}) — write at most 63 characters",
    ),
    (
        shop(limits={"connections": 0}),
        "sources.shop.limits.connections: is too small (0) — write 1 or more",
    ),
    (
        shop(limits={"connections": True}),
        "sources.shop.limits.connections: is not a whole number (true) — write a number without quotes",
    ),
    (
        shop(limits={"lock_timeout": "soon"}),
        "sources.shop.limits.lock_timeout: is not a length of time (soon) — write a number and a unit: "
        "30s, 15m, 6h or 1d",
    ),
    (
        shop(limits={"connect_timeout": "2h"}),
        "sources.shop.limits.connect_timeout: is too large (7200) — write 3600 or less",
    ),
    (
        shop(schedule="30m"),
        'sources.shop.schedule: is not a schedule (30m) — write {every: 30m} or {cron: "*/15 * * * *"}',
    ),
    (
        shop(schedule={"every": 30}),
        "sources.shop.schedule.every: has no unit (30) — write 30s, 15m, 6h or 1d",
    ),
    (
        shop(schedule={"every": "30s"}),
        "sources.shop.schedule.every: is not a whole number of minutes (30s) — schedules run at most once "
        "a minute: 1m",
    ),
    (
        shop(schedule={"every": "1h", "anchor": "24:00"}),
        'sources.shop.schedule.anchor: is not a time of day (24:00) — write "HH:MM", for example "02:00"',
    ),
    (
        shop(schedule={"anchor": "02:00"}),
        "sources.shop.schedule.every: is missing — write a time with its unit, `every: 30m` (a window: day)",
    ),
    (
        shop(schedule={"cron": "* * * *"}),
        "sources.shop.schedule.cron: has 4 fields instead of five (* * * *) — write five fields, for example "
        '"*/15 * * * *"',
    ),
    (
        shop(schedule={"cron": "0 0 * * *", "timezone": "Europe/Rom"}),
        "sources.shop.schedule.timezone: is not a time zone (Europe/Rom) — did you mean Europe/Rome?",
    ),
    (
        shop(schedule={"cron": "0 0 * * *", "timezone": "qqqqqqqq"}),
        "sources.shop.schedule.timezone: is not a time zone (qqqqqqqq) — write one like Europe/Rome or UTC",
    ),
    (
        shop(schedule={"cron": "0 0 * * *", "every": "1h"}),
        "sources.shop.schedule.every: stands beside cron — write either every (with anchor) or cron",
    ),
    (
        shop(tables=["public.orders"]),
        "sources.shop.tables: is a list — write one line per table: `public.orders:`, its settings below it",
    ),
    (
        orders(key="id"),
        "sources.shop.tables.public.orders.key: is not a list (id) — write a list: [first, second]",
    ),
    (
        orders(columns=[]),
        "sources.shop.tables.public.orders.columns: is an empty list — name at least one, or remove the key",
    ),
    (
        orders(where=" "),
        "sources.shop.tables.public.orders.where: is empty ( ) — write an SQL condition, "
        "or remove where to take all rows",
    ),
    (
        orders(where="a > 1;"),
        "sources.shop.tables.public.orders.where: is not one SQL condition (a > 1;) — write only what stands "
        "between WHERE and the semicolon",
    ),
    (
        orders(where="where a > 1"),
        "sources.shop.tables.public.orders.where: is not one SQL condition (where a > 1) — write only what "
        "stands between WHERE and the semicolon",
    ),
    (
        orders(partition_by={"column": "at", "every": "year", "start": "2024-01-01"}),
        "sources.shop.tables.public.orders.partition_by.every: is an unknown value (year) — known here: day, "
        "hour, month, week",
    ),
    (
        orders(partition_by={"column": "at", "every": "day", "start": "soon"}),
        "sources.shop.tables.public.orders.partition_by.start: is not a date or a date and time (soon) — "
        "write 2024-01-31 or 2024-01-31T06:00",
    ),
    (
        orders(partition_by={"every": "day", "start": "2024-01-01"}),
        "sources.shop.tables.public.orders.partition_by.column: is missing — name a date or timestamp column",
    ),
    (
        orders(wher="a"),
        "sources.shop.tables.public.orders.wher: is an unknown key — did you mean where?",
    ),
    (
        orders(zzz="a"),
        "sources.shop.tables.public.orders.zzz: is an unknown key — known here: columns, exclude_columns, key, "
        "method, partition_by, replicate_deletes, replication_key, row_identifier_key, "
        "shape, split_hints, split_key, update_key, where",
    ),
    (
        shop(shedule={"every": "1h"}),
        "sources.shop.shedule: is an unknown key — did you mean schedule?",
    ),
    (whole(stat_dir="x"), "stat_dir: is an unknown key — did you mean state_dir?"),
    (
        whole(destination=None),
        "destination: is missing — write `destination: {type: duckdb, path: warehouse.duckdb}`",
    ),
    (
        whole(destination={"type": "duckdb"}),
        "destination.path: is missing — write `path: warehouse.duckdb`",
    ),
    (
        whole(destination={"type": "duck", "path": "x"}),
        "destination.type: is an unknown value (duck) — did you mean duckdb? Known: duckdb",
    ),
    (
        whole(destination={"path": ":memory:"}),
        "destination.path: would be forgotten at the end of the run (:memory:) — write the path of a file",
    ),
    (
        whole(state_dir="s3://bucket/x"),
        "state_dir: a place in s3 is not available yet in 0.1 (s3://bucket/x) — available: a path "
        "on this machine",
    ),
    (whole(state_dir=""), "state_dir: is empty — write a path"),
    (shop(host=None), "sources.shop.host: is missing — write `host: db.internal`"),
    (shop(user=None), "sources.shop.user: is missing — write `user: ingest`"),
    (shop(databases=None), "sources.shop.databases: is missing — write `databases: [name]`"),
    (
        whole(sources={"shop": 5}),
        "sources.shop: is not a mapping (5) — write `key: value` lines below it, or {key: value}",
    ),
]


@pytest.mark.parametrize(("content", "message"), REFUSED, ids=[text[:60] for _, text in REFUSED])
def test_refused(refusal: Any, content: dict[str, Any], message: str) -> None:
    told = refusal(content)
    assert len(told) == 1
    place, _, text = told[0].partition(" ")
    assert text == message
    assert place.startswith("pg_ingest.yaml:")


@pytest.mark.parametrize(
    "host",
    [
        "db",
        "db.internal",
        "10.0.0.1",
        "::1",
        "fe80::1%eth0",
        "2001:db8::5432",
        "/tmp/x",
        "/var/run/a:1",
    ],
)
def test_host_is_taken(load: Any, host: str) -> None:
    assert load(shop(host=host)).config.sources["shop"].host == host


def test_a_key_without_a_value_is_refused_but_a_table_without_settings_is_not(refusal: Any) -> None:
    text = """
destination: {path: w.duckdb}
sources:
  shop:
    host: db
    user: reader
    databases: [shop]
    method: full_table
    tables:
      public.orders:
        where:
      public.events:
"""
    assert refusal(text) == [
        "pg_ingest.yaml:11: sources.shop.tables.public.orders.where: has no value — give one, or remove the key"
    ]


def test_defaults(load: Any) -> None:
    config = load(shop()).config.sources["shop"]
    assert config.port == 5432
    assert config.limits.model_dump() == {
        "connections": 4,
        "connect_timeout": 10,
        "statement_timeout": 21600,
        "query_timeout": 60,
        "lock_timeout": 10,
        "max_rejected": 1000,
        "fetch_rows": 50000,
        "chunk_rows": 1000000,
        "chunks_per_table": 1000,
        "load_threads": 2,
        "max_rate": None,
        "quiet_hours": (),
    }
    assert (config.naming.schema_, config.naming.table) == ("{source}", "{table}")
    assert config.tls is None
    assert config.schedule is None
    assert not config.select_all


def test_limits_take_units(load: Any) -> None:
    limits = (
        load(shop(limits={"statement_timeout": "6h", "lock_timeout": "90s"}))
        .config.sources["shop"]
        .limits
    )
    assert (limits.statement_timeout, limits.lock_timeout) == (21600, 90)


def test_windows_are_utc(load: Any) -> None:
    text = shop(
        tables={
            "public.a": {
                "partition_by": {
                    "column": "at",
                    "every": "hour",
                    "start": "2024-01-31",
                    "end": "2024-03-01T06:00+02:00",
                }
            }
        }
    )
    window = load(text).config.sources["shop"].tables["public.a"].partition_by
    assert window.start.isoformat() == "2024-01-31T00:00:00+00:00"
    assert window.end.isoformat() == "2024-03-01T04:00:00+00:00"


def test_everything_is_frozen(load: Any) -> None:
    config = load(shop()).config
    with pytest.raises(ValueError, match="frozen"):
        config.sources["shop"].host = "other"


def test_the_system_certificates_are_a_word_not_a_path(load: Any, tmp_path: Any) -> None:
    tls = load(shop(tls={"mode": "verify-full", "root_cert": "system"})).config.sources["shop"].tls
    assert str(tls.root_cert) == "system"
    tls = load(shop(tls={"mode": "verify-full", "root_cert": "ca.pem"})).config.sources["shop"].tls
    assert tls.root_cert == tmp_path / "ca.pem"


def test_slot_names_are_valid_and_distinct(load: Any) -> None:
    log = load(shop()).config.sources["shop"].log
    assert log.slot_name("shop") == "pg_ingest_shop"
    names = {
        log.slot_name(database)
        for database in ("a-b", "a_b", "A_b", "ä_b", "x" * 63, "x" * 62 + "y")
    }
    assert len(names) == 6
    assert all(len(name) <= 63 and name == name.lower() and "-" not in name for name in names)
