"""A key's place among bounds, on every server, as Python orders the same keys."""

from __future__ import annotations

import bisect
import random
from collections.abc import Iterator

import pytest
from psycopg import sql

from pg_ingest.demo.cluster import Cluster
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.key_order import Cuts, InRanges, in_order, ordered_column, place
from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for

ID = TableId("public", "key_order")
TEXTS = ["", "A", "a", "a b", "a!", "B", "é", "z", "日本", "\U0001f600", "\\", '"', "'", "%s"]


@pytest.fixture(scope="module")
def session(any_version: Cluster) -> Iterator[Session]:
    database = Database("postgres", any_version.host, any_version.port, any_version.user)
    chance = random.Random(1)
    keys = {
        (chance.choice(TEXTS) * chance.choice([1, 1, 2, 40]), chance.randrange(-9, 9))
        for _ in range(400)
    }
    with database.connect() as connection:
        connection.execute("create table key_order (a text, b int, primary key (a, b))")
        connection.cursor().executemany("insert into key_order values (%s, %s)", sorted(keys))
    with server_for(any_version).session("postgres") as opened:
        yield opened
    database.execute("drop table key_order")


@pytest.mark.parametrize("names", [("a",), ("b",), ("a", "b"), ("b", "a")])
def test_places_and_ranges(session: Session, names: tuple[str, ...]) -> None:
    table = describe(session, ID)
    found = [ordered_column(table.column(name), utf8=True) for name in names]
    order = tuple(column for column in found if column is not None)
    listed = sql.SQL(", ").join(map(sql.Identifier, names))
    rows = session.rows(sql.SQL("SELECT {} FROM public.key_order").format(listed))
    chance = random.Random(2)
    chosen = {tuple(row) for row in chance.sample(rows, 40) if len(str(row)) < 40}
    bounds = sorted(chosen, key=_bytes)
    cuts = in_order(session, table, order, [tuple(map(str, bound)) for bound in bounds])
    assert cuts.values == tuple(tuple(map(str, bound)) for bound in bounds)

    where = sql.SQL("SELECT {}, {} FROM public.key_order").format(listed, place(order, cuts))
    for *key, at in session.rows(where):
        assert at == bisect.bisect_right(bounds, _bytes(key), key=_bytes)

    for open_start in (False, True):
        indexes = sorted(chance.sample(range(len(bounds)), 11))
        far = (1, 5) if not open_start else (2,)
        inside = InRanges(order, cuts.chosen(indexes), open_start, far)
        question = sql.SQL("SELECT {}, {} FROM public.key_order")
        for *key, answer in session.rows(question.format(listed, inside.predicate())):
            below = sum(_bytes(bounds[index]) <= _bytes(key) for index in indexes)
            assert answer == (below % 2 == (0 if open_start else 1))


def test_without_bounds(session: Session) -> None:
    column = ordered_column(describe(session, ID).column("a"), utf8=True)
    assert column is not None
    for open_start in (False, True):
        nothing = InRanges((column,), Cuts(), open_start).predicate()
        counted = sql.SQL("SELECT count(*) > 0 FROM public.key_order WHERE {}").format(nothing)
        assert session.rows(counted) == [(open_start,)]


def _bytes(key: object) -> tuple[object, ...]:
    assert isinstance(key, tuple | list)
    return tuple(part.encode() if isinstance(part, str) else part for part in key)
