"""Passwords kept at AWS, by Secrets Manager's own protocol on localhost, and tokens for RDS."""

from __future__ import annotations

import builtins
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import boto3
import pytest

from pg_ingest import aws
from pg_ingest.aws import AwsSecret, login_token
from pg_ingest.config.model import Secret
from pg_ingest.errors import ConfigError, PermissionMissing, SourceUnreachable

REGION = "eu-west-1"
KEY_ID, KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def identify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process credentials, and no region."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def endpoint(amazon: str) -> str:
    return amazon


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    identify(monkeypatch)
    yield
    aws._kept.clear()
    aws._client.cache_clear()


@pytest.fixture
def manager(endpoint: str) -> Any:
    """The administrator's client, which stores secrets."""
    return boto3.client("secretsmanager", region_name=REGION, endpoint_url=endpoint)


def _secret(endpoint: str, name: str, key: str = "", **options: str) -> AwsSecret:
    return AwsSecret(name, key, **{"region": REGION, "endpoint_url": endpoint, **options})


def test_a_plain_text(manager: Any, endpoint: str) -> None:
    manager.create_secret(Name="plain", SecretString="open-sesame")
    assert _secret(endpoint, "plain").read() == "open-sesame"
    with pytest.raises(ConfigError, match="is a plain text, which has no key password"):
        _secret(endpoint, "plain", "password").read()


def test_a_member_of_a_json_object(manager: Any, endpoint: str) -> None:
    content = {"username": "ingest", "password": "open-sesame", "port": 5432}
    arn = manager.create_secret(Name="json", SecretString=json.dumps(content))["ARN"]
    assert _secret(endpoint, "json", "password").read() == "open-sesame"
    assert _secret(endpoint, arn, "password", region="").read() == "open-sesame"
    for key in ("", "pasword", "port"):
        with pytest.raises(ConfigError, match="`key` names no text of it") as caught:
            _secret(endpoint, "json", key).read()
        assert caught.value.detail == "its keys: password, port, username"
        assert "sesame" not in str(caught.value)


def test_bytes_are_refused(manager: Any, endpoint: str) -> None:
    manager.create_secret(Name="bytes", SecretBinary=b"open-sesame")
    with pytest.raises(ConfigError, match="holds bytes"):
        _secret(endpoint, "bytes").read()


def test_a_secret_that_is_not_there(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="AWS has no secret nosuch here"):
        _secret(endpoint, "nosuch").read()


def test_a_secret_is_read_once_until_it_is_wanted_anew(manager: Any, endpoint: str) -> None:
    manager.create_secret(Name="kept", SecretString="first-sesame")
    secret = Secret(aws=_secret(endpoint, "kept"))
    assert secret.reveal() == "first-sesame"
    manager.put_secret_value(SecretId="kept", SecretString="second-sesame")
    assert secret.reveal() == "first-sesame"
    assert secret.reveal(fresh=True) == "second-sesame"
    assert secret.reveal() == "second-sesame"
    assert "sesame" not in f"{secret!r} {secret} {secret.place}"


def test_no_answer() -> None:
    with pytest.raises(SourceUnreachable, match="AWS does not answer"):
        _secret("http://127.0.0.1:1", "any").read()


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDeniedException", 400, PermissionMissing),
        ("ExpiredTokenException", 400, PermissionMissing),
        ("InternalServiceError", 500, SourceUnreachable),
        ("ThrottlingException", 400, SourceUnreachable),
    ],
)
def test_refusals(
    monkeypatch: pytest.MonkeyPatch, code: str, status: int, kind: type[Exception]
) -> None:
    from botocore.exceptions import ClientError

    class Refusing:
        def get_secret_value(self, **given: str) -> None:
            answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, "GetSecretValue")

    monkeypatch.setattr(aws, "_client", lambda *given: Refusing())
    monkeypatch.setattr(aws._client, "cache_clear", lambda: None, raising=False)
    with pytest.raises(kind) as caught:
        AwsSecret("any").read()
    if kind is PermissionMissing:
        assert "secretsmanager:GetSecretValue" in caught.value.hint


def test_no_region_and_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="AWS cannot be asked") as caught:
        AwsSecret("any").read()
    assert "region" in caught.value.detail
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(ConfigError, match="AWS cannot be asked for a token") as caught:
        login_token("db", 5432, "ingest", REGION)
    assert "credentials" in caught.value.detail


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *given: Any, **options: Any) -> Any:
        if name.split(".")[0] in ("boto3", "botocore"):
            raise ImportError(name)
        return real(name, *given, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match="boto3, which asks AWS, is not installed") as caught:
        AwsSecret("any", region=REGION).read()
    assert caught.value.hint == 'pip install "pg-ingest[aws]"'
    with pytest.raises(ConfigError, match="not installed"):
        login_token("db", 5432, "ingest", REGION)


# --- tokens


def test_a_token_is_a_signed_request_to_connect() -> None:
    token = login_token("shop.abc.eu-west-1.rds.amazonaws.com", 5433, "ingest", REGION)
    url = urlsplit(f"https://{token}")
    query = dict(parse_qsl(url.query))
    assert url.netloc == "shop.abc.eu-west-1.rds.amazonaws.com:5433"
    assert query["Action"] == "connect"
    assert query["DBUser"] == "ingest"
    assert query["X-Amz-Expires"] == "900"
    day = query["X-Amz-Date"][:8]
    assert query["X-Amz-Credential"] == f"{KEY_ID}/{day}/{REGION}/rds-db/aws4_request"
    assert query["X-Amz-Signature"] == _signature(url.netloc, query)


def _signature(host: str, query: dict[str, str]) -> str:
    """AWS Signature Version 4 of a request that carries it in its query, from its description."""
    signed = sorted((key, value) for key, value in query.items() if key != "X-Amz-Signature")
    canonical = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in signed)
    empty = hashlib.sha256(b"").hexdigest()
    request = f"GET\n/\n{canonical}\nhost:{host}\n\nhost\n{empty}"
    moment, scope = query["X-Amz-Date"], query["X-Amz-Credential"].split("/", 1)[1]
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    key = f"AWS4{KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()
