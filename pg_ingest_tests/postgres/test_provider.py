"""Whose server it is, from facts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest.postgres.provider import Provider, ProviderFacts, pooler_of, recognise
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for


@pytest.mark.parametrize(
    ("aurora", "roles", "settings", "provider"),
    [
        (False, (), (), Provider.PLAIN),
        (True, ("rds_superuser",), ("rds",), Provider.AURORA),
        (False, ("rds_superuser",), ("rds",), Provider.RDS),
        (False, ("cloudsqlsuperuser",), ("cloudsql",), Provider.CLOUDSQL),
        (False, ("azure_pg_admin",), ("azure",), Provider.AZURE),
        (False, ("supabase_admin",), (), Provider.SUPABASE),
        (False, ("neon_superuser",), ("neon",), Provider.NEON),
        (
            False,
            ("rds_superuser",),
            ("cloudsql",),
            Provider.CLOUDSQL,
        ),  # restored from another service
    ],
)
def test_facts(
    aurora: bool, roles: tuple[str, ...], settings: tuple[str, ...], provider: Provider
) -> None:
    facts = ProviderFacts(aurora, frozenset(roles), frozenset(settings))
    assert facts.provider is provider


@pytest.fixture
def disguised(cluster: Cluster) -> Iterator[Database]:
    admin = Database("postgres", cluster.host, cluster.port, cluster.user)
    admin.execute("create role cloudsqlsuperuser")
    yield admin
    admin.execute("drop role cloudsqlsuperuser")


def test_a_real_server(disguised: Database, cluster: Cluster) -> None:
    with server_for(cluster).session("postgres") as session:
        assert recognise(session) is Provider.CLOUDSQL
        disguised.execute(
            "create function aurora_version() returns text language sql as 'select ''x'''"
        )
        try:
            assert recognise(session) is Provider.AURORA
        finally:
            disguised.execute("drop function aurora_version()")


@pytest.mark.parametrize(
    ("host", "pooler"),
    [
        ("db.internal", None),
        ("ep-x-pooler.eu-central-1.aws.neon.tech", "Neon's pooler"),
        ("aws-0-eu-central-1.pooler.supabase.com", "Supabase's pooler"),
        ("shop.proxy-abc.eu-central-1.rds.amazonaws.com", "RDS Proxy"),
    ],
)
def test_poolers_have_telling_names(host: str, pooler: str | None) -> None:
    assert pooler_of(host) == pooler
