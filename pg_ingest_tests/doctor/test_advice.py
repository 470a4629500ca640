"""Each table's method beside the advised one, on a real server."""

from __future__ import annotations

from pg_ingest.config.method import Method
from pg_ingest.config.selection import Replication
from pg_ingest.doctor.advice import check_methods
from pg_ingest.doctor.finding import Test, Verdict
from pg_ingest.postgres.catalog import describe
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for


def advised(database: Database, user: str, **methods: Method) -> dict[str, str]:
    with server_for(database, user=user).session(database.name) as session:
        found = [
            (
                Replication("shop", TableId("public", name), method, "shop", name),
                describe(session, TableId("public", name)),
            )
            for name, method in methods.items()
        ]
        findings = list(check_methods(session, found))
    assert {(f.test, f.verdict) for f in findings} == {(Test.METHOD, Verdict.PASSED)}
    return {finding.subject.rpartition(".")[2]: finding.fact for finding in findings}


def test_what_is_possible_decides(database: Database) -> None:
    reader = f"reader_{database.name}"
    database.execute(
        "create table big (id int primary key); insert into big select generate_series(1, 60000);"
        "create table keyless (id int); insert into keyless select generate_series(1, 60000);"
        "create table small (id int primary key); insert into small values (1);"
        f"create role {reader} login; grant select on all tables in schema public to {reader}"
    )
    database.execute("analyze")
    try:
        said = advised(
            database,
            database.user,
            big=Method.LOG_BASED,
            keyless=Method.FULL_TABLE,
            small=Method.KEY_BASED,
        )
        assert said["big"].startswith("log_based, as advised: ")
        assert said["keyless"].startswith("full_table, as advised: ")
        assert said["small"].startswith("key_based; full_table may suit it better: about 1 rows")
        said = advised(database, reader, big=Method.FULL_TABLE)
        assert said["big"].startswith("full_table; ")
        assert f"no log_based: user {reader} may not read the log" in said["big"]
    finally:
        database.execute(f"drop owned by {reader}; drop role {reader}")
