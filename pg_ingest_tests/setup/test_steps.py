"""What is printed for each provider."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from pg_ingest.cli import main
from pg_ingest.postgres.provider import Provider
from pg_ingest.setup import steps

STEPS = {
    Provider.PLAIN: ("ALTER SYSTEM SET wal_level = 'logical'", "restart"),
    Provider.RDS: ("rds.logical_replication = 1", "reboot the instance"),
    Provider.AURORA: ("rds.logical_replication = 1", "reboot the writer, after it the readers"),
    Provider.CLOUDSQL: ("cloudsql.logical_decoding=on", "restarts by itself"),
    Provider.AZURE: ("--name wal_level --value logical", "flexible-server restart"),
    Provider.SUPABASE: ("--config wal_level=logical", "restarts by itself"),
    Provider.NEON: ("Logical Replication", "restarts by itself"),
}


@pytest.mark.parametrize("provider", Provider)
def test_each_provider_has_its_own_step(provider: Provider) -> None:
    told = steps.step(steps.LOGICAL, provider)
    for part in STEPS[provider]:
        assert part in told


def test_services_take_base_units() -> None:
    assert steps.KEEP.at(Provider.PLAIN) == ("max_slot_wal_keep_size", "50GB")
    assert steps.KEEP.at(Provider.RDS) == ("max_slot_wal_keep_size", "51200")
    assert steps.SENDER_TIMEOUT.at(Provider.AZURE) == ("wal_sender_timeout", "60000")


def test_a_setting_that_needs_no_restart_asks_for_none() -> None:
    assert steps.step(steps.KEEP, Provider.PLAIN).endswith("SELECT pg_reload_conf();")
    assert "reboot" not in steps.step(steps.KEEP, Provider.RDS)


CONFIG = """
destination: {type: duckdb, path: warehouse.duckdb}
sources:
  shop:
    host: HOST
    user: "in'gest"
    password: "never shown"
    databases: ["a=b", "*"]
    log: {slot: "s_{database}"}
    tables:
      public.orders: {method: METHOD}
      "pub'lic.*": {method: full_table, exclude_columns: ["se'cret"]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(folder: Path, *arguments: str, host: str = "db", method: str = "log_based") -> str:
    text = dedent(CONFIG).replace("HOST", host).replace("METHOD", method)
    (folder / "pg_ingest.yaml").write_text(text)
    result = CliRunner().invoke(main, ["setup-sql", *arguments])
    assert result.exit_code == 0, result.output
    assert "never shown" not in result.output
    return result.output


@pytest.mark.parametrize("provider", Provider)
def test_the_script_of_each_provider(folder: Path, provider: Provider) -> None:
    text = printed(folder, "--provider", provider.value)
    if provider in (Provider.RDS, Provider.AURORA):
        assert 'GRANT rds_replication TO "in\'gest";' in text
        assert "modify-db-" in text
    else:
        assert 'ALTER ROLE "in\'gest" REPLICATION;' in text
    assert ("pg_hba.conf" in text) == (provider is Provider.PLAIN)
    assert '\\password "in\'gest"' in text


@pytest.mark.parametrize(
    ("host", "sign"),
    [
        ("shop.abc.eu-central-1.rds.amazonaws.com", "DB parameter group"),
        ("shop.cluster-abc.eu-central-1.rds.amazonaws.com", "DB *cluster* parameter group"),
        ("shop.postgres.database.azure.com", "Server parameters"),
        ("db.abc.supabase.co", "Settings of the project"),
        ("ep-abc.eu-central-1.aws.neon.tech", "Neon console"),
        ("db.internal", "postgresql.conf"),
    ],
)
def test_the_provider_is_guessed_from_the_host(folder: Path, host: str, sign: str) -> None:
    assert sign in printed(folder, host=host)


@pytest.mark.parametrize(
    ("password", "asks", "says"),
    [
        ("{env: SHOP_PASSWORD}", True, "environment variable SHOP_PASSWORD"),
        ("{rds_iam: {region: eu-central-1}}", False, 'GRANT rds_iam TO "in\'gest";'),
        ("null", False, "no password: the configuration has none"),
    ],
)
def test_a_password_is_asked_for_where_there_is_one(
    folder: Path, password: str, asks: bool, says: str
) -> None:
    text = dedent(CONFIG).replace("HOST", "db").replace("METHOD", "full_table")
    line = f"password: {password}" if password != "null" else "port: 5432"
    (folder / "pg_ingest.yaml").write_text(text.replace('password: "never shown"', line))
    printed = CliRunner().invoke(main, ["setup-sql"]).output
    assert ("\\password" in printed) == asks
    assert says in printed


def test_without_the_log_the_server_can_stay_as_it_is(folder: Path) -> None:
    text = printed(folder, method="full_table")
    assert "can stay as they are" in text
    assert "PUBLICATION" not in text
    assert "REPLICATION;" not in text


def test_the_slot_is_made_only_on_request(folder: Path) -> None:
    slot = "\nSELECT pg_create_logical_replication_slot('s_a_b"
    assert slot not in printed(folder)
    text = dedent(CONFIG).replace('"a=b", "*"', '"a=b"').replace("HOST", "db")
    (folder / "pg_ingest.yaml").write_text(text.replace("METHOD", "log_based"))
    result = CliRunner().invoke(main, ["setup-sql", "--slot"])
    assert slot in result.output


def test_wrong_use(folder: Path) -> None:
    printed(folder)
    assert CliRunner().invoke(main, ["setup-sql", "--source", "shoop"]).exit_code == 2
    assert "did you mean shop" in CliRunner().invoke(main, ["setup-sql", "-s", "shoop"]).output
