"""Keys that are right by themselves and impossible together: each its own message."""

from __future__ import annotations

from typing import Any

import pytest

from pg_ingest_tests.config.conftest import source, table, whole

WINDOW = {"column": "at", "every": "day", "start": "2024-01-01"}


def shop(**changes: Any) -> dict[str, Any]:
    return whole(sources={"shop": source(**changes)})


def orders(**settings: Any) -> dict[str, Any]:
    return whole(sources={"shop": table(**settings)})


def two(schema: str, *tables: str) -> dict[str, Any]:
    return shop(naming={"schema": schema}, tables={name: {} for name in tables})


ORDERS = "sources.shop.tables.public.orders"

REFUSED = [
    (
        orders(shape="soft_delete"),
        f"{ORDERS}.shape: the shape soft_delete is made from the log, which full_table does not read — "
        "write `method: log_based`, or `shape: live`",
    ),
    (
        shop(method=None, select_all=True, tables={}),
        "sources.shop.select_all: select_all needs a method of the source — write `method: log_based` or "
        "`method: full_table` beside it: it holds for every table",
    ),
    (whole(sources={}), "sources: names no source — write at least one source below `sources:`"),
    (
        whole(sources={"my-shop": source()}),
        "sources.my-shop: is not a name for a source: only A-Z, a-z, 0-9 and _ can stand in asset keys — "
        "write my_shop",
    ),
    (
        whole(sources={"shop": source(), "SHOP": source(naming={"schema": "x"})}),
        "sources.SHOP: differs from the source shop only in case — rename one of them",
    ),
    (
        shop(tables={}),
        "sources.shop: selects no table — name tables or patterns below `tables:`, or write "
        "`select_all: true` and a method",
    ),
    (
        shop(method="key_based", select_all=True, tables={}),
        "sources.shop.select_all: select_all cannot know the replication key of each table — write patterns "
        "below `tables:` with a replication_key, or another method here",
    ),
    (
        shop(method=None),
        f"{ORDERS}: has no method — write `method: full_table` here, or a method for the whole source",
    ),
    (
        shop(exclude=["audit"]),
        "sources.shop.exclude.0: is neither schema.table nor a pattern — write public.audit",
    ),
    (
        shop(exclude=["public.*"]),
        f"{ORDERS}: is named here and excluded by public.* — remove it here, or make exclude narrower",
    ),
    (
        shop(tables={"orders": {}}),
        "sources.shop.tables.orders: is neither schema.table nor a pattern — write public.orders",
    ),
    (
        orders(method="key_based"),
        f"{ORDERS}: is key_based without a replication_key — name a column that grows with every insert and "
        "update: `replication_key: updated_at`",
    ),
    (
        orders(replication_key="updated_at"),
        f"{ORDERS}.replication_key: has no meaning with the method full_table (updated_at) — write "
        "`method: key_based`, or remove it",
    ),
    (
        orders(method="key_based", replication_key="at", partition_by=WINDOW),
        f"{ORDERS}.partition_by: has no meaning with the method key_based — write `method: full_table`, or "
        "remove it",
    ),
    (
        orders(partition_by={**WINDOW, "end": "2024-01-01"}),
        f"{ORDERS}.partition_by.end: is not after start — write a later end, or remove it",
    ),
    (
        orders(columns=["a"], exclude_columns=["b"]),
        f"{ORDERS}.exclude_columns: stands beside columns — keep one: columns names what comes, "
        "exclude_columns what does not",
    ),
    (
        orders(columns=["a", "_PGI_lsn"]),
        f"{ORDERS}.columns: names that start with _pgi_ are reserved in the destination (_PGI_lsn) — leave "
        "them out",
    ),
    (
        orders(columns=["a"], key=["id"]),
        f"{ORDERS}.key: needs a column that is left out (id) — add it to columns, or take it from "
        "exclude_columns",
    ),
    (
        orders(exclude_columns=["at"], method="key_based", replication_key="at"),
        f"{ORDERS}.replication_key: needs a column that is left out (at) — add it to columns, or take it "
        "from exclude_columns",
    ),
    (
        orders(exclude_columns=["at"], partition_by=WINDOW),
        f"{ORDERS}.partition_by: needs a column that is left out (at) — add it to columns, or take it from "
        "exclude_columns",
    ),
    (
        shop(databases=["a", "b"], log={"slot": "mine"}),
        "sources.shop.log.slot: is one name for several databases, but one slot belongs to one database "
        "(mine) — put {database} into it: pg_ingest_{database}",
    ),
    (
        shop(log={"heartbeat": {"every": "0s"}}),
        "sources.shop.log.heartbeat.every: is too short — write 1s or more",
    ),
    (
        shop(log={"heartbeat": {"every": "60s", "mode": "table"}}),
        "sources.shop.log.heartbeat: table and mode do not fit together — write `mode: table` with a table, "
        "or `mode: message` without one",
    ),
    (
        shop(log={"heartbeat": {"every": "60s", "mode": "table", "table": "beat"}}),
        "sources.shop.log.heartbeat.table: is not schema.table (beat) — write public.beat",
    ),
    (
        shop(log={"start_lsn": "16-B374D848"}),
        'sources.shop.log.start_lsn: is not a WAL position (16-B374D848) — write it in quotes: "16/B374D848"',
    ),
    (
        shop(tls={"mode": "require", "client_cert": "c.pem"}),
        "sources.shop.tls: has only one of client_cert and client_key — give both, or none",
    ),
    (
        shop(tls={"mode": "disable", "root_cert": "c.pem"}),
        "sources.shop.tls.mode: is disable, which makes no use of root_cert — write verify-full, or remove "
        "the certificates",
    ),
    (
        shop(tls={"mode": "require", "client_key_password": {"env": "K"}}),
        "sources.shop.tls.client_key_password: is the password of no key — give client_key, or remove it",
    ),
    (
        shop(tls={"mode": "prefer", "fingerprint": "ab" * 32}),
        "sources.shop.tls.mode: is prefer, which may go on without TLS, where there is no certificate to pin "
        "— write require: the fingerprint says whom to trust",
    ),
    (
        shop(tls={"mode": "require", "root_cert": "system"}),
        "sources.shop.tls.root_cert: is system, which says nothing with mode require: those authorities sign "
        "for anybody — write `mode: verify-full`",
    ),
    (
        shop(tls={"mode": "prefer"}, password={"rds_iam": {"region": "eu-west-1"}}),
        "sources.shop.tls.mode: is prefer, but a token of RDS is sent as it is, and taken over TLS only — "
        "write `mode: verify-full` with the root certificates of RDS",
    ),
    (
        shop(tls={"mode": "require", "fingerprint": ["ab" * 32, "xyz"]}),
        "sources.shop.tls.fingerprint: is no SHA-256 fingerprint — write 64 hexadecimal digits, with or "
        "without colons, as `openssl x509 -noout -fingerprint -sha256 -in server.crt` prints them",
    ),
    (
        two("{source}", "public.orders", "old.orders"),
        "sources.shop.tables.old.orders: old.orders would be stored under the same name as public.orders "
        '(shop.orders) — write `naming: {schema: "{source}_{schema}"}` below sources.shop',
    ),
    (
        two("{source}_{schema}", "public.orders", "public.Orders"),
        "sources.shop.tables.public.Orders: public.Orders would be stored under the same name as "
        "public.orders (shop_public.Orders) — upper and lower case are one name there: choose other names "
        "below naming, or exclude one",
    ),
    (
        shop(naming={"table": "all"}, tables={"public.a": {}, "public.b": {}}),
        "sources.shop.tables.public.b: public.b would be stored under the same name as public.a (shop.all) "
        '— write `naming: {table: "{table}"}` below sources.shop',
    ),
    (
        whole(sources={"shop": source(), "eu": source(naming={"schema": "Shop"})}),
        "sources.eu.tables.public.orders: public.orders would be stored under the same name as public.orders "
        'of shop (Shop.orders) — write `naming: {schema: "{source}"}` below sources.eu',
    ),
    (
        whole(
            sources={
                "a": source(naming={"schema": "{database}"}),
                "b": source(databases=["x", "shop"], naming={"schema": "{database}"}),
            }
        ),
        "sources.b.tables.public.orders: public.orders would be stored under the same name as public.orders "
        'of a (shop.orders) — write `naming: {schema: "{source}"}` below sources.b',
    ),
    (
        orders(method="xmin", replicate_deletes=False),
        f"{ORDERS}.replicate_deletes: has no meaning with the method xmin — write "
        "`method: delta_snapshot`, or remove it",
    ),
    (
        orders(method="xmin", row_identifier_key=["id"]),
        f"{ORDERS}.row_identifier_key: has no meaning with the method xmin — write "
        "`method: delta_snapshot`, or remove it and write `key`",
    ),
    (
        orders(method="delta_snapshot", row_identifier_key=["id"], key=["id"]),
        f"{ORDERS}.row_identifier_key: stands beside key, which says the same — keep one of them",
    ),
    (
        orders(method="xmin", update_key=["id"]),
        f"{ORDERS}.update_key: has no meaning with the method xmin — write `method: delta_snapshot`, or "
        "remove it",
    ),
    (
        orders(method="delta_snapshot", key=["id"], update_key=["at"]),
        f"{ORDERS}.update_key: stands beside a key that identifies each row — remove it: it is for tables "
        "in which nothing is unique",
    ),
    (
        orders(method="delta_snapshot", row_identifier_key=["id"], exclude_columns=["id"]),
        f"{ORDERS}.row_identifier_key: needs a column that is left out (id) — add it to columns, or take "
        "it from exclude_columns",
    ),
    (
        two("_PGI", "public.orders"),
        f"{ORDERS}: the schema _PGI is reserved in the destination (public.orders) — choose other names below "
        "sources.shop.naming, or exclude it",
    ),
    (
        shop(naming={"table": "_pgi_{table}"}),
        f"{ORDERS}: table names that start with _pgi_ are reserved in the destination (public.orders) — "
        "choose other names below sources.shop.naming, or exclude it",
    ),
    (
        shop(naming={"table": "t" * 256}),
        f"{ORDERS}: the name {'t' * 40}… has 256 characters, more than 255 (public.orders) — choose other "
        "names below sources.shop.naming, or exclude it",
    ),
    (
        shop(tables={"public.{database}": {}}),
        "sources.shop.tables.public.{database}: the name of a table may not hold {database} "
        "(public.{database}) — choose other names below sources.shop.naming, or exclude it",
    ),
]


@pytest.mark.parametrize(("content", "message"), REFUSED, ids=[text[:60] for _, text in REFUSED])
def test_refused(refusal: Any, content: dict[str, Any], message: str) -> None:
    told = refusal(content)
    assert len(told) == 1
    place, _, text = told[0].partition(" ")
    assert text == message
    assert place.startswith("pg_ingest.yaml:")


TAKEN = [
    shop(select_all=True, tables=None),
    shop(
        method=None, tables={"public.a": {"method": "full_table"}, "b.*": {"method": "full_table"}}
    ),
    two("{source}_{schema}", "public.orders", "old.orders"),
    orders(method="key_based", replication_key="at", columns=["at"]),
    orders(partition_by={**WINDOW, "end": "2024-01-02"}),
    orders(method="xmin", key=["id"], where="id > 0"),
    orders(method="delta_snapshot", row_identifier_key=["a", "b"], replicate_deletes=False),
    orders(method="delta_snapshot", update_key=["a"]),
    shop(databases=["a", "b"]),
    shop(databases=["a"], log={"slot": "mine", "heartbeat": {"every": "60s"}}),
    shop(tls={"mode": "verify-full", "root_cert": "a", "client_cert": "b", "client_key": "c"}),
    shop(exclude=["public.other", "audit.*"]),
]


@pytest.mark.parametrize("content", TAKEN)
def test_taken(load: Any, content: dict[str, Any]) -> None:
    assert load(content).warnings == ()
