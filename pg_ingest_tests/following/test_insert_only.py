"""A publication that carries only inserts: no replica identity is needed, and nobody's write fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged

NOTE = "publication followed does not carry delete, truncate, update"
LINES, KEYED = logged("lines", where="id < 100"), logged("keyed")


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    database.execute("create table lines (id int, v text)")
    database.execute("create table keyed (id int primary key, v text)")
    database.execute("alter table keyed replica identity nothing")
    database.execute("insert into lines select 1, 'twice' from generate_series(1, 2)")
    database.execute("create publication followed for table lines, keyed with (publish = 'insert')")
    with following(database, tmp_path) as found:
        yield found


def test_rows_only_come(shop: Following) -> None:
    reports = shop.sync(LINES, KEYED)
    assert reports["lines"].report is not None
    assert NOTE in reports["lines"].report.notes
    assert shop.stored("lines") == [("1", "twice")] * 2
    for statement in (
        "insert into lines values (1, 'twice'), (2, null), (200, 'outside')",
        "insert into keyed values (1, 'a'), (2, 'b')",
        "update lines set v = 'x'",
        "update keyed set v = 'x'",
        "delete from lines",
        "delete from keyed where id = 1",
        "insert into keyed values (1, 'again')",
    ):
        shop.database.execute(statement)
    shop.sync(LINES, KEYED)
    assert shop.stored("lines") == [("1", "twice")] * 3 + [("2", None)]
    assert shop.stored("keyed") == [("1", "again"), ("2", "b")]


def test_when_it_carries_all_the_table_is_read_anew_or_refused(shop: Following) -> None:
    shop.sync(LINES, KEYED)
    shop.database.execute("alter table keyed replica identity default")
    shop.database.execute("insert into keyed values (1, 'a')")
    shop.database.execute("update keyed set v = 'b'")
    shop.database.execute("alter publication followed set (publish = 'insert, update, delete')")
    capture = shop.capture(LINES, KEYED)
    assert set(capture.failures) == {TableId("public", "lines")}
    report = shop.apply(capture, KEYED)["keyed"].report
    assert report is not None
    assert report.phase == "snapshot"
    shop.check(KEYED)
    shop.database.execute("delete from keyed")
    shop.sync(KEYED)
    shop.check(KEYED)
