"""Passwords that change while we run: rotated secrets, and tokens that are made for one login."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import psycopg
import pytest
from psycopg import sql

from pg_ingest import aws
from pg_ingest.aws import AwsSecret
from pg_ingest.config import password
from pg_ingest.config.model import RdsIam, Secret, SourceConfig
from pg_ingest.errors import LoginFailed
from pg_ingest.postgres.server import Server
from pg_ingest_tests.certificates import TlsServer
from pg_ingest_tests.postgres.conftest import LockedCluster
from pg_ingest_tests.servers import needs_system_server
from pg_ingest_tests.test_aws import REGION, identify


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    identify(monkeypatch)
    yield
    aws._kept.clear()
    aws._client.cache_clear()


@contextmanager
def _alices_password(locked: LockedCluster, new: str) -> Iterator[None]:
    own = locked.cluster
    change = sql.SQL("alter role alice password {}")
    with psycopg.connect(
        host=own.host, port=own.port, user=own.user, dbname="postgres", autocommit=True
    ) as admin:
        admin.execute(change.format(sql.Literal(new)))
        try:
            yield
        finally:
            admin.execute(change.format(sql.Literal("secret-sesame")))


def test_a_rotated_password_is_read_again_when_the_login_fails(
    locked: LockedCluster, amazon: str
) -> None:
    manager = boto3.client("secretsmanager", region_name=REGION, endpoint_url=amazon)
    manager.create_secret(Name="alice", SecretString='{"password": "secret-sesame"}')
    secret = Secret(aws=AwsSecret("alice", "password", REGION, amazon))
    server = locked.server(password=secret)
    with server.session("postgres") as session:
        assert session.rows("SELECT current_user::text") == [("alice",)]
    with _alices_password(locked, "rotated-sesame"):
        with pytest.raises(LoginFailed), server.session("postgres"):
            raise AssertionError("the secret is still the old one")
        manager.put_secret_value(SecretId="alice", SecretString='{"password": "rotated-sesame"}')
        with server.session("postgres") as session:
            assert session.rows("SELECT current_user::text") == [("alice",)]


def test_a_refused_login_is_told_although_the_secret_cannot_be_read_again(
    locked: LockedCluster, amazon: str
) -> None:
    manager = boto3.client("secretsmanager", region_name=REGION, endpoint_url=amazon)
    manager.create_secret(Name="gone", SecretString="wrong-sesame")
    secret = Secret(aws=AwsSecret("gone", "", REGION, amazon))
    secret.reveal()
    manager.delete_secret(SecretId="gone", ForceDeleteWithoutRecovery=True)
    server = locked.server(password=secret)
    with pytest.raises(LoginFailed, match="login refused for user alice"):
        server.session("postgres").__enter__()


def test_a_password_that_does_not_rotate_is_tried_once(
    locked: LockedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers lock accounts that try too often."""
    monkeypatch.setenv("ALICE", "wrong-sesame")
    server = locked.server(password=Secret(env="ALICE"))
    before = locked.cluster.log.read_text().count('password authentication failed for user "alice"')
    with pytest.raises(LoginFailed), server.session("postgres"):
        raise AssertionError("connected")
    after = locked.cluster.log.read_text().count('password authentication failed for user "alice"')
    assert after == before + 1


@needs_system_server
@pytest.mark.parametrize("alias", ["", "shop.abc.eu-west-1.rds.amazonaws.com"])
def test_every_connection_has_a_token_of_its_own(
    tls_server: TlsServer, monkeypatch: pytest.MonkeyPatch, alias: str
) -> None:
    """As at RDS, the server takes the newest token, and it comes as it is, over TLS."""
    asked: list[Any] = []
    make = password.login_token

    def made(*given: Any) -> str:
        asked.append(given)
        token = f"{make(*given)}#{len(asked)}"
        with tls_server.admin() as admin:
            admin.execute(sql.SQL("alter role dave password {}").format(sql.Literal(token)))
        return token

    monkeypatch.setattr(password, "login_token", made)
    port = tls_server.cluster.port
    settings = {"host": "localhost", "port": port, "user": "dave", "databases": ("postgres",)}
    server = Server("shop", SourceConfig(password=RdsIam(REGION, alias), **settings))
    for _ in range(2):
        with server.session("postgres") as session:
            assert session.rows("SELECT current_user::text") == [("dave",)]
            assert session.encryption is not None
    assert asked == [(alias or "localhost", port, "dave", REGION)] * 2
