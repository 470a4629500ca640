"""Which large tables come in chunks, cut by which columns; and what is said of those that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pg_ingest.config.selection import Replication
from pg_ingest.errors import MethodUnavailable
from pg_ingest.methods.chunk_plan import planned
from pg_ingest.methods.registry import beginning_of
from pg_ingest.postgres.catalog import describe
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, keyed

K = "w bigint default nextval('s')"
METHODS: dict[str, Callable[..., Replication]] = {
    "key_based": lambda **settings: keyed("t", "w", **settings),
    "xmin": lambda **settings: by_xmin("t", **settings),
    "delta_snapshot": lambda **settings: delta("t", **settings),
    "snapshot_diff": lambda **settings: differing("t", **settings),
}
every_method = pytest.mark.parametrize("method", METHODS)


def cut(pair: Pair, which: Replication) -> tuple[tuple[str, ...], int, list[str]]:
    """The columns it is cut by, into how many chunks, and what is said if it is not."""
    begin, notes = beginning_of(which.method), list[str]()
    assert begin is not None
    with pair.server(chunk_rows=100).session(pair.database.name) as session:
        table = describe(session, which.table)
        plan = planned(session, which, table, begin(session, which, table), notes)
    return ((), 0, notes) if plan is None else (plan.split, plan.chunks, notes)


def made(pair: Pair, columns: str, values: str, more: str = "") -> None:
    pair.database.execute(
        f"alter database {pair.database.name} set synchronous_commit = on; create sequence s;"
        f" create table t ({columns}, {K}) {more};"
        f" insert into t select {values} from generate_series(1, 400) g; analyze"
    )


PARTS = (
    "partition by range (id); create table t1 partition of t for values from (0) to (150);"
    " create table t2 partition of t for values from (150) to (1000)"
)

KEYS: dict[str, tuple[str, str, str, dict[str, Any], tuple[str, ...]]] = {
    "one": ("id int primary key, v text", "g", "", {}, ("id",)),
    "two": ("a text, id int, primary key (a, id)", "g % 3, g", "", {}, ("a", "id")),
    "uuid": ("id uuid primary key", "md5(g::text)::uuid", "", {}, ("id",)),
    "text": ('id text collate "C" primary key', "'x' || g", "", {}, ("id",)),
    "partitions": ("id int primary key, v text", "g", PARTS, {}, ("id",)),
    "more than the key": ("id int primary key, v text", "g", "", {"key": ("v", "id")}, ("id",)),
    "declared": ("a int, id int not null unique", "1, g", "", {"key": ("id",)}, ("id",)),
    "declared, indexed": (
        "id int not null, v int not null, unique (v, id)",
        "g, g",
        "",
        {"key": ("id", "v")},
        ("v", "id"),
    ),
    "named": (
        "a int, id int, primary key (a, id)",
        "g % 3, g",
        "",
        {"split_key": ("id",)},
        ("id",),
    ),
}


@every_method
@pytest.mark.parametrize("name", KEYS)
def test_tables_that_come_in_chunks(pair: Pair, method: str, name: str) -> None:
    columns, values, more, settings, split = KEYS[name]
    made(pair, columns, values, more)
    assert cut(pair, METHODS[method](**settings)) == (split, 4, [])


WHOLE: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "no index": ("id int not null", "", {"key": ("id",)}, "no index begins with one of (id)"),
    "a part of it": (
        "id int not null",
        "; create index on t (id) where id > 3; create index on t using hash (id)",
        {"key": ("id",)},
        "no index begins with one of (id)",
    ),
    "may be NULL": ("id int unique", "", {"key": ("id",)}, "each of (id) may be NULL"),
}


@every_method
@pytest.mark.parametrize("name", WHOLE)
def test_tables_that_do_not(pair: Pair, method: str, name: str) -> None:
    columns, more, settings, reason = WHOLE[name]
    made(pair, columns, "g", more)
    split, chunks, notes = cut(pair, METHODS[method](**settings))
    assert (split, chunks) == ((), 0)
    assert notes[0].startswith("400 rows or so are read in one snapshot, not in chunks")
    assert reason in notes[0]


def test_views_do_not(pair: Pair) -> None:
    made(pair, "id int primary key", "g")
    pair.database.execute("alter table t rename to u; create view t as select * from u")
    for method in ("key_based", "snapshot_diff"):
        assert "it is a view" in cut(pair, METHODS[method](key=("id",)))[2][0]
    pair.database.execute("drop view t; create materialized view t as select * from u; analyze")
    for make in METHODS.values():
        assert "it is a materialized view" in cut(pair, make(key=("id",)))[2][0]


def test_groups_do_not(pair: Pair) -> None:
    made(pair, "id int not null", "g")
    assert "no key tells" in cut(pair, delta("t", update_key=("id",)))[2][0]


def test_a_small_table_is_not_worth_a_word(pair: Pair) -> None:
    made(pair, "id int", "g")
    pair.database.execute("truncate t; insert into t select generate_series(1, 150); analyze t")
    assert cut(pair, by_xmin("t", key=("id",))) == ((), 0, [])


def test_a_split_key_must_be_of_the_key_and_never_null(pair: Pair) -> None:
    made(pair, "id int primary key, v int", "g, g")
    for key, split in ((("id",), ("v",)), (("id", "v"), ("v",))):
        with pytest.raises(MethodUnavailable, match="cut into chunks by v"):
            cut(pair, by_xmin("t", key=key, split_key=split))
