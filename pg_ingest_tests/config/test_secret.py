"""A secret is revealed when asked, and shows nowhere else."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.aws import AwsSecret
from pg_ingest.config.password import RdsIam
from pg_ingest.config.redaction import MASK, redacted
from pg_ingest.config.secret import Secret, secrets_of
from pg_ingest.errors import ConfigError
from pg_ingest_tests.config.conftest import source, whole

PASSWORD = "hunter2-ζ"
WRITE = "write {env: NAME}, {file: path} or {aws_secret: name, key: …}"


def shop(password: Any) -> dict[str, Any]:
    return whole(sources={"shop": source(password=password)})


def test_from_the_environment(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = load(shop({"env": "SHOP_PASSWORD"})).config.sources["shop"].password
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    assert secret.reveal() == PASSWORD
    monkeypatch.delenv("SHOP_PASSWORD")
    with pytest.raises(ConfigError, match="environment variable SHOP_PASSWORD is not set or empty"):
        secret.reveal()


def test_from_a_file_beside_the_configuration(load: Any, tmp_path: Path) -> None:
    secret = load(shop({"file": "shop.password"})).config.sources["shop"].password
    with pytest.raises(ConfigError, match=r"shop\.password cannot be read") as caught:
        secret.reveal()
    assert caught.value.detail == "No such file or directory"
    (tmp_path / "shop.password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    assert secret.reveal() == PASSWORD
    (tmp_path / "shop.password").write_text("\n")
    with pytest.raises(ConfigError, match=r"shop\.password is empty"):
        secret.reveal()
    (tmp_path / "shop.password").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as caught:
        secret.reveal()
    assert caught.value.detail == "it is not UTF-8 text"


def test_a_literal_works_and_is_warned_about(load: Any) -> None:
    loaded = load(shop(PASSWORD))
    secret = loaded.config.sources["shop"].password
    assert secret.reveal() == PASSWORD
    assert secret.is_literal
    assert loaded.warnings == (
        "sources.shop.password stands in the file as text; write {env: NAME} or {file: path}",
    )
    assert load(shop({"env": "X"})).warnings == ()


def test_it_shows_nowhere(load: Any) -> None:
    loaded = load(shop(PASSWORD))
    config = loaded.config
    settings = config.sources["shop"]
    shown = [
        repr(loaded),
        str(loaded),
        repr(config),
        str(config),
        str(config.model_dump()),
        str(config.model_dump(mode="json")),
        config.model_dump_json(),
        repr(settings),
        str(settings.model_dump()),
        repr(settings.password),
        str(settings.password),
        f"{settings.password}",
        f"{settings.password!r:>40}",
        f"{settings.password.place}",
    ]
    assert not [text for text in shown if "hunter2" in text]
    assert settings.model_dump(mode="json")["password"] == "**********"


@pytest.mark.parametrize(
    "content",
    [
        whole(sources={"shop": source(pasword=PASSWORD)}),
        whole(sources={"shop": source(password=[PASSWORD])}),
        whole(sources={"shop": source(password={"evn": PASSWORD})}),
        whole(sources={"shop": source(password={PASSWORD: "x"})}),
        whole(sources={"shop": source(password={"env": PASSWORD, "file": "x"})}),
        whole(sources={"shop": source(host=f"postgres://me:{PASSWORD}@db/shop")}),
        whole(sources={"shop": source(host=f"me:{PASSWORD}@db:5432")}),
        whole(sources={"shop": source(host=f"host=db password={PASSWORD}")}),
        whole(sources={"shop": source(password=PASSWORD, port="x", secret=PASSWORD)}),
        whole(destination={"path": f"postgres://me:{PASSWORD}@db/shop"}),
        f"destination: {{path: w}}\nsources: {{shop: {{password: *{PASSWORD}}}}}",
        f"destination: {{path: w}}\nsources: {{shop: {{password: @{PASSWORD}}}}}",
        f'destination: {{path: w}}\nsources: {{shop: {{password: "\\{PASSWORD}"}}}}',
        f"destination: {{path: w}}\nsources:\n  shop:\n    password: 'it is {PASSWORD}",
        f"destination: {{path: w}}\nsources:\n  shop:\n    password: a: {PASSWORD}",
        f"destination: {{path: w}}\nsources:\n  shop:\n    password: !{PASSWORD} x",
    ],
)
def test_no_error_quotes_it(write: Any, content: Any) -> None:
    from pg_ingest.config.load import load_config

    with pytest.raises(ConfigError) as caught:
        load_config(write(content))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("password", "message"),
    [
        (
            5,
            f"is neither a text nor a place to find one — {WRITE}; quote a password that looks like a number",
        ),
        (
            "",
            f"is neither a text nor a place to find one — {WRITE}; quote a password that looks like a number",
        ),
        ({"evn": "X"}, "names an unknown place — did you mean env?"),
        ({"env": ""}, f"has no name after env: — {WRITE}"),
        ({"env": 5}, f"has no name after env: — {WRITE}"),
        (
            {"env": "A", "file": "b"},
            f"names no single place — {WRITE}",
        ),
        (
            {"aws_secret": "n", "kye": "k"},
            "has an unknown key — did you mean key?",
        ),
        ({"aws_secret": ""}, "has no text after aws_secret: — write a text: {aws_secret: …}"),
        ({"aws_secret": "n", "key": 5}, "has no text after key: — write a text: {key: …}"),
        (
            {"aws_secret": "n", "endpoint_url": "http://vpce.internal"},
            "would bring the secret over the network in clear — write https://…",
        ),
        (
            {"aws_secret": "n", "endpoint_url": "vpce.internal"},
            "has an endpoint_url that is no address — write https://…",
        ),
        ({"rds_iam": "eu-west-1"}, "names no single place — write {rds_iam: {region: …}}"),
        ({"rds_iam": {"rgion": "x"}}, "has an unknown key — did you mean region?"),
        ({"rds_iam": {}, "env": "A"}, "names no single place — write {rds_iam: {region: …}}"),
    ],
)
def test_refused(refusal: Any, password: Any, message: str) -> None:
    [told] = refusal(shop(password))
    assert told.endswith(f" sources.shop.password: {message}")


def test_places_at_amazon(load: Any) -> None:
    given = {"aws_secret": "shop/db", "key": "password", "region": "eu-west-1"}
    settings = load(shop(given)).config.sources["shop"]
    assert settings.password == Secret(aws=AwsSecret("shop/db", "password", "eu-west-1"))
    assert settings.password.place == "secret shop/db of AWS, key password"
    assert settings.model_dump(mode="json")["password"] == given
    token = load(shop({"rds_iam": {"region": "eu-west-1"}})).config.sources["shop"]
    assert token.password == RdsIam("eu-west-1")
    assert token.model_dump(mode="json")["password"] == {"rds_iam": {"region": "eu-west-1"}}
    assert not token.password.is_literal
    assert "RDS" in token.password.place


def test_every_secret_of_a_configuration_is_found(load: Any) -> None:
    tls = {"mode": "require", "client_cert": "c", "client_key": "k", "client_key_password": "kp"}
    loaded = load(whole(sources={"shop": source(password={"env": "P"}, tls=tls)}))
    assert dict(secrets_of(loaded.config)) == {
        ("sources", "shop", "password"): Secret(env="P"),
        ("sources", "shop", "tls", "client_key_password"): Secret("kp"),
    }
    assert loaded.warnings == (
        "sources.shop.tls.client_key_password stands in the file as text; write {env: NAME} or {file: path}",
    )


def test_what_was_revealed_is_masked_everywhere() -> None:
    Secret("opensesame-1").reveal()
    Secret("opensesame-12").reveal()
    Secret("short").reveal()
    Secret("warehouse").reveal()
    said = "opensesame-12 opensesame-1 short warehouse"
    assert redacted(said, {"warehouse"}) == f"{MASK} {MASK} short warehouse"
    assert "opensesame-3" in redacted("opensesame-3")


def test_equal_by_place(load: Any) -> None:
    assert Secret(env="A") == Secret(env="A")
    assert len({Secret(env="A"), Secret(env="A"), Secret(file="A"), Secret("A")}) == 3
    assert Secret("A") != "A"


def test_it_travels_to_other_processes_and_does_not_change() -> None:
    secret = Secret(PASSWORD)
    assert pickle.loads(pickle.dumps(secret)).reveal() == PASSWORD
    assert copy.deepcopy(secret) == secret
    with pytest.raises(AttributeError):
        secret._place = Secret("other")._place


def test_one_place_only() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Secret()
    with pytest.raises(ValueError, match="exactly one"):
        Secret("a", env="b")
