"""Script and doctor on every server that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest.doctor.finding import Verdict
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.servers import other_servers
from pg_ingest_tests.setup.guarded import PASSWORD, SETTINGS, Shop, bad, check, guard
from pg_ingest_tests.setup.test_script import TABLES, configured, made_script


@pytest.fixture(scope="module", params=other_servers())
def older(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    settings = {**SETTINGS}
    if request.param < 13:
        del settings["max_slot_wal_keep_size"]
    with Cluster(binaries=other_servers()[request.param], settings=settings) as running:
        guard(running)
        yield running


def test_the_script_works_on_older_servers(
    older: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUARDED_PASSWORD", PASSWORD)
    admin = Database("postgres", older.host, older.port, older.user)
    admin.execute("create database shop")
    admin.execute("revoke all on database shop from public")
    here = Database("shop", older.host, older.port, older.user)
    here.execute("revoke all on schema public from public")
    shop = Shop(older, here, "ingest", tmp_path)
    number = int(here.rows("show server_version_num")[0][0])
    key = ", primary key (id, day)" if number >= 110000 else ""
    more = "visibility_map: ours.visibility map\n"
    loaded = configured(shop, TABLES.replace(", primary key (id, day)", key), more)
    shop.run(made_script(loaded))
    found = check(loaded)
    (version,) = [each for each in found if each.test == "version"]
    assert version.verdict is Verdict.PASSED
    told = {(one.test, one.subject.rpartition(".")[2]) for one in bad(found)}
    if 140000 <= number < 160000:
        assert [each.verdict for each in found if each.test == "visibility-map"] == ["passed"]
    else:
        assert ("visibility-map", "versions") in told
        told.remove(("visibility-map", "versions"))
    if number >= 130000:
        assert told == set()
    elif number >= 110000:  # a partitioned table is one table in the log from 13 on
        assert told == {("replica-identity", "days")}
    else:  # a slot can be advanced from 11 on
        assert told == {("replication", "shop")}
