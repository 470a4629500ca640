"""Killed in the middle of a load in chunks, again and again: no chunk is read twice, the result is equal."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pg_ingest_tests import chunk_crash
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following
from pg_ingest_tests.meanwhile import meanwhile
from pg_ingest_tests.sigkill import run_killed

KILLS = {
    "log_based": [
        ("begin_chunks", "after", 1),
        ("keep_chunk", "before", 2),
        ("receive_chunk", "after", 2),
        ("catch_up", "after", 1),
        ("publish_chunks", "before", 1),
        ("publish_chunks", "after", 1),
    ],
    "key_based": [
        ("keep_chunk", "after", 2),
        ("catch_up", "after", 1),
        ("publish_chunks", "after", 1),
    ],
    "snapshot_diff": [
        ("keep_chunk", "before", 2),
        ("publish_chunks", "before", 1),
    ],
}


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    database.execute(f"alter database {database.name} set synchronous_commit = on")
    database.execute(
        "create sequence s;"
        "create table t (id int primary key, v text, big text, k bigint default nextval('s'));"
        " alter table t alter big set storage external;"
        " insert into t select g, 'x', repeat(md5(g::text), case when g % 9 = 0 then 99 end)"
        " from generate_series(1, 1000) g; analyze t"
    )
    with following(database, tmp_path, limits=dict(chunk_crash.LIMITS)) as found:
        yield found


@contextmanager
def writer(shop: Following, method: str) -> Iterator[None]:
    """Inserts and updates all over the table; deletes where they are found."""
    chance = random.Random(11)

    def write() -> None:
        low = chance.randint(-50, 1050)
        rows = f"id between {low} and {low + 4}"
        connection.execute(f"update t set v = v || '.', k = nextval('s') where {rows}")
        connection.execute(f"insert into t values ({low}, 'new') on conflict do nothing")
        if method != "key_based":
            connection.execute(f"delete from t where id = {low + 2}")
        if method == "snapshot_diff":
            connection.execute(f"update t set id = {low + 2} where id = {1000 - low}")

    with shop.database.connect() as connection, meanwhile(write, pause=0.01):
        yield


def killed(shop: Following, method: str, step: str, when: str, number: int) -> list[int]:
    """Run a sync that dies there; the chunks it stored."""
    database = shop.database
    place = [database.host, str(database.port), database.user, database.name]
    arguments = [method, *place, str(shop.folder), shop.slot, step, when, str(number)]
    said = run_killed(chunk_crash, arguments, database)
    assert "stored already" not in said, "a finished chunk was read again"
    return [int(n) for n in re.findall(r"chunk stored:.* chunk=(\d+)", said)]


@pytest.mark.parametrize("method", KILLS)
def test_killed_again_and_again(shop: Following, method: str) -> None:
    table = chunk_crash.TABLES[method]
    stored: list[int] = []
    with writer(shop, method):
        for step, when, number in KILLS[method]:
            stored += killed(shop, method, step, when, number)
            for load in shop.destination.chunked_loads():
                assert {number - 1 for number in stored} <= load.done
                chunks = load.chunks
    assert len(stored) == len(set(stored)), "a chunk was read again"
    # one that was stored directly before the kill may not have been told
    assert chunks - 2 <= len(stored) <= chunks
    chunk_crash.sync(shop, method)
    shop.check(table)
    assert shop.destination.chunked_loads() == []
    with shop.destination.file.reading() as connection:
        assert connection is not None
        names = connection.execute("select table_name from duckdb_tables()").fetchall()
    assert not [name for (name,) in names if name.startswith(("_pgi_load", "_pgi_stage"))]
    assert not list(shop.folder.glob("*tmp*"))
