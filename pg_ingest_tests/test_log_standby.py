"""A standby is followed by the log with the same guarantees as a primary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.following import logged
from pg_ingest_tests.methods.test_standby import Standby
from pg_ingest_tests.standby import FollowedStandby, following_standby, standby_of, told

T, U = logged("t"), logged("u")


@pytest.fixture(scope="module")
def standby(cluster: Cluster) -> Iterator[Standby]:
    with standby_of(cluster) as running, told(cluster):
        yield running


@pytest.fixture(params=["sql", "stream"])
def shop(
    database: Database, standby: Standby, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[FollowedStandby]:
    database.execute(
        "create table t (id int primary key, v text); create table u (id int, v text);"
        " alter table u replica identity full"
    )
    with following_standby(database, standby, tmp_path, reader=request.param) as found:
        yield found


def test_rows_and_changes(database: Database, shop: FollowedStandby) -> None:
    database.execute(
        "insert into t select g, 'a' from generate_series(1, 9) g; insert into u values (1, 'a')"
    )
    shop.publish("t", "u")
    shop.sync(T, U)
    shop.check(T, U)
    database.execute(
        "update t set v = 'b' where id < 4; delete from t where id > 7; insert into u values (1, 'a')"
    )
    shop.sync(T, U)
    shop.check(T, U)
    assert {one.report for one in shop.sync(T, U).values()} == {None}
    database.execute("truncate u; insert into u values (2, null)")
    shop.sync(T, U)
    shop.check(T, U)
