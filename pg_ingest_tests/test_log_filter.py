"""A row filter holds in the log as in the snapshot, whoever applies it: the publication, or we."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.errors import QueryRefused, SlotUnusable
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.following import Following, following, logged

BIG = "z" * 9000


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    database.execute("create table o (id int primary key, status text, n numeric(8,2), big text)")
    database.execute("alter table o alter big set storage external")
    database.execute(
        "insert into o select g, case when g % 2 = 0 then 'open' else 'done' end, g, repeat('z', 9000)"
        " from generate_series(1, 6) g"
    )
    with following(database, tmp_path) as found:
        yield found


def inside(shop: Following, table: str, where: str) -> list[tuple[Any, ...]]:
    """The source's rows that pass, as texts."""
    with shop.database.connect() as connection:
        cursor = connection.execute(f'select * from "{table}" limit 0')
        names = ", ".join(f'"{column.name}"::text' for column in cursor.description or ())
        found = connection.execute(f'select {names} from "{table}" where {where}')
        return sorted(found.fetchall(), key=repr)


OPEN = "status = 'open'"
SMALL = "id < 5"


def test_a_row_that_crosses_the_edge_comes_and_goes(shop: Following) -> None:
    table = logged("o", where=OPEN)
    shop.sync(table)
    assert shop.stored("o") == inside(shop, "o", OPEN)
    shop.database.execute("update o set status = 'done', big = 'b' where id = 2")
    shop.database.execute("update o set status = 'open', big = 'c' where id = 1")
    shop.database.execute("update o set n = n + 1")
    shop.database.execute("update o set id = id + 10 where id in (3, 4)")
    shop.database.execute("insert into o values (20, 'open', 1, 'x'), (21, null, 1, 'x')")
    shop.database.execute("delete from o where id in (5, 6)")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert report.phase == "changes"
    assert (report.counts.inserted, report.counts.updated, report.counts.deleted) == (3, 0, 3)
    assert shop.stored("o") == inside(shop, "o", OPEN)
    assert shop.sync(table)["o"].report is None


def test_the_publication_filters_where_it_may(shop: Following) -> None:
    table = logged("o", where=SMALL)
    shop.sync(table)
    assert published(shop) == [("o", ["id", "status", "n", "big"], "(id < 5)")]
    shop.database.execute("insert into o values (30, 'open', 1, 'x'), (0, 'open', 1, 'x')")
    shop.database.execute("update o set id = 40 where id = 1")
    shop.database.execute("delete from o where id = 4")
    capture = shop.capture(table)
    assert capture.captured.rows == 3
    assert capture.filtered == {table.table}
    shop.apply(capture, table)
    assert shop.stored("o") == inside(shop, "o", SMALL)


def published(shop: Following) -> list[Any]:
    return shop.database.rows(
        "select tablename, attnames, rowfilter from pg_publication_tables where pubname = 'followed'"
    )
