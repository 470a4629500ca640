"""A source column with a name of ours harms neither the capture nor other tables, and is refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.errors import DestinationFailed, SourceTableChanged
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged

A, B = logged("a"), logged("b")


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    for table in ("a", "b"):
        database.execute(f"create table {table} (id int primary key, v text)")
        database.execute(f"alter table {table} alter v set storage external")
        database.execute(f"insert into {table} values (1, repeat('x', 9000))")
    with following(database, tmp_path) as found:
        yield found


def clash(shop: Following) -> None:
    """Columns of the log's own names, with values that are not sent when they did not change."""
    shop.database.execute(
        "alter table a add column _pgi_lsn text, add column _pgi_op text, add column _pgi_mine text"
    )
    shop.database.execute("alter table a alter _pgi_lsn set storage external")
    shop.database.execute("insert into a values (2, 'x', repeat('y', 9000), 'z', 'mine')")
    shop.database.execute("update a set v = 'changed', _pgi_mine = 'other'")
    shop.database.execute("insert into b values (2, 'x')")


def test_from_the_start(shop: Following) -> None:
    clash(shop)
    applied = shop.apply(shop.capture(A, B), A, B)
    error = applied["a"].error
    assert isinstance(error, DestinationFailed)
    assert "_pgi_lsn, _pgi_op, _pgi_mine" in error.message
    shop.database.execute("update a set v = 'again'")
    shop.database.execute("delete from b where id = 1")
    applied = shop.apply(shop.capture(A, B), A, B)
    assert isinstance(applied["a"].error, DestinationFailed)
    shop.check(B)


def test_added_later(shop: Following) -> None:
    shop.sync(A, B)
    clash(shop)
    error = shop.apply(shop.capture(A, B), A, B)["a"].error
    assert isinstance(error, SourceTableChanged)
    assert "_pgi_lsn, _pgi_op, _pgi_mine" in error.message
    assert "exclude_columns" in error.hint
    shop.check(B)
    without = logged("a", exclude_columns=("_pgi_lsn", "_pgi_op", "_pgi_mine"))
    shop.sync(without, B)
    shop.database.execute("update a set _pgi_op = 'u' where id = 1")
    shop.database.execute("update a set v = 'last', id = id + 10")
    shop.sync(without, B)
    assert shop.stored("a") == [("11", "last"), ("12", "last")]
    shop.check(B)


@pytest.mark.parametrize("name", ["*", "^v.*$"])
def test_a_name_that_is_a_pattern(shop: Following, name: str) -> None:
    shop.sync(A, B)
    shop.database.execute(f'alter table a add column "{name}" text')
    shop.database.execute("update a set v = 'changed'; update b set v = 'changed'")
    error = shop.apply(shop.capture(A, B), A, B)["a"].error
    assert isinstance(error, SourceTableChanged)
    assert name in error.message
    shop.check(B)
    assert isinstance(shop.apply(shop.capture(A, B), A, reset=[A])["a"].error, SourceTableChanged)
    without = logged("a", exclude_columns=(name,))
    shop.sync(without, B)
    shop.database.execute("update a set v = 'again'")
    shop.sync(without, B)
    assert shop.rows("select v from shop.a") == [("again",)]
