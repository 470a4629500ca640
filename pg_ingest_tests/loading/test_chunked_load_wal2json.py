"""A large table's first load in chunks that wal2json has to make whole: by both readers, exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pg_ingest.batch import LoadReport
from pg_ingest.errors import SourceUnreachable
from pg_ingest.loading import chunked_load
from pg_ingest.methods import log_steps
from pg_ingest.postgres.wal2json import says_all
from pg_ingest_tests.between_chunks import broken, writes
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged
from pg_ingest_tests.servers import needs_system_server

pytestmark = needs_system_server

T = logged("t")
ROWS = 700


@pytest.fixture
def shop(
    wal2json_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Following]:
    """Chunks of 100 rows, steps of the log of 5; progress is told with every batch."""
    monkeypatch.setattr(log_steps, "STEP_ROWS", 5)
    monkeypatch.setattr(chunked_load, "PROGRESS_SECONDS", 0.0)
    limits = {"lock_timeout": 5, "chunk_rows": 100, "load_threads": 1}
    wal2json_database.execute(
        f"alter database {wal2json_database.name} set synchronous_commit = on;"
        " create table t (id int primary key, v text, x float8, big text);"
        " alter table t alter big set storage external;"
        " insert into t select g, 'v', g, repeat(md5(g::text), case when g % 3 = 0 then 99 end)"
        f" from generate_series(1, {ROWS}) g; analyze t"
    )
    with following(wal2json_database, tmp_path, plugin="wal2json", limits=limits) as found:
        yield found


def load(shop: Following, progress: Callable[..., None] | None = None) -> LoadReport:
    report = shop.sync(T, progress=progress)["t"].report
    assert report is not None
    return report


def check(shop: Following) -> None:
    """Equal, numbers as numbers: the two write them differently."""
    columns = "id, v, x, md5(big)"
    stored = sorted(map(repr, shop.rows(f"select {columns} from shop.t")))
    assert stored == sorted(map(repr, shop.database.rows(f"select {columns} from t")))


@pytest.mark.parametrize("reader", ["sql", "stream"])
def test_what_is_written_meanwhile(shop: Following, reader: str) -> None:
    """Values that the plugin leaves out come from chunks of any age; it breaks off once in between."""
    shop.reader = reader
    progress = writes(
        shop.database,
        "update t set v = 'u' where id in (3, 300, 600)",
        "delete from t where id in (4, 301, 601); insert into t values (-5, 'low'), (5000, 'high')",
        "delete from t where id = 5000; insert into t values (4, 'again', 7, repeat('z', 5000))",
        "update t set v = 'w', x = 'NaN' where id % 70 = 9",
        then=broken,
    )
    with pytest.raises(SourceUnreachable):
        load(shop, progress)
    shop.database.execute(
        "update t set x = '-Infinity', big = null where id in (9, 90, 690); delete from t where id = 33"
    )
    report = load(
        shop,
        writes(
            shop.database,
            "update t set v = 'y' where id % 30 = 0",
            "update t set id = 10001 where id = 1; update t set id = 1 where id = 692",
            "insert into t values (5000, 'twice', 'NaN', repeat('q', 6000))",
        ),
    )
    assert report.phase == "historical"
    assert "4 of 7 chunks were stored before" in report.notes
    check(shop)
    shop.database.execute("update t set v = 'later' where id = 3; delete from t where id = 6")
    assert load(shop).phase == "changes"
    check(shop)


def test_a_key_that_changes_without_its_value(shop: Following) -> None:
    """The chunk of the old key is read after that, so nobody has the value."""
    report = load(shop, writes(shop.database, "update t set id = -603 where id = 603"))
    assert report.phase == "snapshot"
    assert any("another key" in note for note in report.notes)
    check(shop)


def test_a_number_whose_row_is_gone(shop: Following) -> None:
    """wal2json before 2.6 says null for NaN, so the row is asked; where it is gone nobody knows the number."""
    shop.database.rows("select pg_create_logical_replication_slot(%s, 'wal2json')", shop.slot)
    with shop.server.session(shop.database.name) as session:
        says = says_all(session, shop.slot)
    report = load(
        shop,
        writes(
            shop.database,
            "update t set x = 'NaN' where id in (5, 605)",
            "update t set v = 'more changes than a step has' where id between 50 and 60",
            "delete from t where id in (5, 605)",
        ),
    )
    assert report.phase == ("historical" if says else "snapshot")
    assert says or any("x are not told" in note for note in report.notes)
    check(shop)
