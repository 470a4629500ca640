"""Every method to every other one on one table, with writes in between: no state is used again unduly.

Rows are deleted, and the whole table is made anew now and then, between any two syncs: whoever went on from a
position of its own of some time ago, or from another method's, would miss that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pg_ingest.batch import LoadReport
from pg_ingest.config.selection import Replication
from pg_ingest.following.apply_log import apply_log
from pg_ingest.following.load_log import ApplySettings
from pg_ingest.loading.replicate import replicate
from pg_ingest.methods import key_ranges
from pg_ingest.postgres import row_versions
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged
from pg_ingest_tests.methods.conftest import by_xmin, delta, differing, full, keyed

T = {
    "full_table": full("t"),
    "key_based": keyed("t", "k"),
    "xmin": by_xmin("t"),
    "delta_snapshot": delta("t"),
    "snapshot_diff": differing("t"),
    "log_based": logged("t"),
}
GOES_ON = {
    ("xmin", "delta_snapshot"),
    ("delta_snapshot", "xmin"),
    ("xmin", "log_based"),
    ("delta_snapshot", "log_based"),
    ("snapshot_diff", "log_based"),
}
KEEP_DELETED = {"key_based", "xmin"}


def walk(names: Sequence[str]) -> list[str]:
    """A way along all ordered pairs, each once (Hierholzer)."""
    left = {one: [other for other in reversed(names) if other != one] for one in names}
    stack, found = [names[0]], []
    while stack:
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            found.append(stack.pop())
    return found[::-1]


@pytest.fixture
def shop(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Following]:
    monkeypatch.setattr(row_versions, "is_flushed", lambda *_: True)
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)
    with following(database, tmp_path) as found:
        yield found


MADE = (
    "create table t (id int primary key, k bigint default nextval('s'), v text);"
    " insert into t (id, v) select g, 'made {n}' from generate_series({n}, {n} + 50) g"
)
WRITTEN = (
    "insert into t (id, v) select 1000 * ({n} + 1) + g, 'new' from generate_series(1, 3) g;"
    " update t set k = nextval('s'), v = 'at {n}' where id % 7 = {n} % 7;"
    " delete from t where id % 11 = {n} % 11"
)


def sync(shop: Following, replication: Replication) -> tuple[LoadReport | None, list[str]]:
    """The report, and what was said before the first row came."""
    said: list[str] = []
    if replication.method == "log_based":
        capture = shop.capture(replication)
        settings = ApplySettings(max_rejected=0, say=lambda _, text: said.append(text))
        (applied,) = apply_log(
            *(shop.server, shop.destination, shop.folder, capture, [replication], settings)
        )
        assert applied.error is None
        return applied.report, said
    report = replicate(
        *(shop.server, shop.destination, replication, shop.database.name),
        max_rejected=0,
        say=said.append,
    )
    return report, said


def test_every_pair_of_methods(shop: Following) -> None:
    way = walk(list(T))
    assert len(set(itertools.pairwise(way))) == 30
    shop.database.execute("create sequence s;" + MADE.format(n=0))
    for number, (before, name) in enumerate(itertools.pairwise(["", *way])):
        made_anew = number % 4 == 3
        if made_anew:
            shop.database.execute("drop table t;" + MADE.format(n=number))
        report, said = sync(shop, T[name])
        assert report is not None
        if (before, name) not in GOES_ON or made_anew:
            shop.check(T[name])
            assert report.rows_read == report.counts.total
        if name == "log_based":
            shop.check(T[name])
        if before and (before, name) not in GOES_ON and name != "full_table":
            assert any(before in reason for reason in said), (before, name)
        shop.database.execute(WRITTEN.format(n=number))
        if name == "full_table":
            continue
        sync(shop, T[name])
        there = shop.source("t")
        keys = {row[0] for row in there}
        stored = shop.stored("t")
        if name in KEEP_DELETED:
            stored = [row for row in stored if row[0] in keys]
        assert stored == there, (before, name)
