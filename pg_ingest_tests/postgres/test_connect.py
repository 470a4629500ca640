"""What a connection is made of."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from pg_ingest.config.model import Secret, SourceConfig, TlsConfig
from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import ConfigError, MethodUnavailable
from pg_ingest.postgres import connect, tls
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.tls import root_certificates
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import LockedCluster, server_for


def _config(**given: object) -> SourceConfig:
    return SourceConfig.model_validate(
        {"host": "db.example", "user": "u", "databases": ["d"], **given}
    )


def test_pins_how_values_are_written(visitor: Session) -> None:
    shown = {
        name: visitor.rows(f"SHOW {name}")[0][0]
        for name in (
            *("DateStyle", "TimeZone", "IntervalStyle", "extra_float_digits", "bytea_output"),
            *("client_encoding", "default_transaction_read_only", "row_security", "search_path"),
        )
    }
    assert shown == {
        "DateStyle": "ISO, YMD",
        "TimeZone": "UTC",
        "IntervalStyle": "iso_8601",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "client_encoding": "UTF8",
        "default_transaction_read_only": "on",
        "row_security": "off",
        "search_path": "pg_catalog, pg_temp",
    }


def test_pins_timeouts_from_the_limits(database: Database) -> None:
    server = server_for(database, limits={"query_timeout": 7, "lock_timeout": 3})
    with server.session(database.name) as session:
        shown = [
            session.rows(f"SHOW {name}_timeout")[0][0]
            for name in ("statement", "lock", "idle_in_transaction_session")
        ]
    assert shown == ["7s", "3s", "1h"]


def test_settings_of_the_role_do_not_come_through(database: Database, server: Server) -> None:
    database.execute(f"alter database {database.name} set DateStyle = 'German'")
    database.execute(f"alter database {database.name} set IntervalStyle = 'sql_standard'")
    with server.session(database.name) as session:
        assert session.rows("SELECT date '2024-02-01'::text, interval '1 day'::text") == [
            ("2024-02-01", "P1D")
        ]
        with session.snapshot():
            assert session.rows("SELECT date '2024-02-01'::text") == [("2024-02-01",)]


def test_shows_its_purpose_in_the_activity_view(server: Server, database: Database) -> None:
    with server.session(database.name, purpose="discover") as session:
        assert session.rows("SHOW application_name") == [("pg_ingest/shop/discover",)]


def test_writing_is_refused(visitor: Session) -> None:
    with pytest.raises(Exception, match="read-only transaction"):
        visitor.rows("CREATE TABLE public.t (i int)")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "/run/postgresql"])
def test_a_local_server_may_be_without_tls(host: str) -> None:
    assert connect.parameters("s", _config(host=host), "d", "p")["sslmode"] == "prefer"


@pytest.mark.parametrize("host", ["db.example", "10.0.0.5", "localhost.example"])
def test_a_remote_server_must_have_tls(host: str) -> None:
    assert connect.parameters("s", _config(host=host), "d", "p")["sslmode"] == "require"


def test_tls_settings_reach_libpq(tmp_path: Path) -> None:
    certificate = tmp_path / "client.crt"
    certificate.touch()
    given = TlsConfig(
        mode="verify-full",
        root_cert=tmp_path / "ca.pem",
        client_cert=certificate,
        client_key=tmp_path / "key",
        client_key_password=Secret("secret-sesame"),
        min_version="TLSv1.3",
    )
    chosen = connect.parameters("s", _config(tls=given), "d", "p")
    assert {name: value for name, value in chosen.items() if name.startswith("ssl")} == {
        "sslmode": "verify-full",
        "sslrootcert": str(tmp_path / "ca.pem"),
        "sslcert": str(certificate),
        "sslkey": str(tmp_path / "key"),
        "sslpassword": "secret-sesame",
        "ssl_min_protocol_version": "TLSv1.3",
    }
    assert chosen["gssencmode"] == "disable"


def test_a_client_certificate_that_is_not_there_is_told(tmp_path: Path) -> None:
    given = TlsConfig(mode="require", client_cert=tmp_path / "none", client_key=tmp_path / "key")
    with pytest.raises(ConfigError, match="is not there"):
        connect.parameters("s", _config(tls=given), "d", "p")


def test_a_key_never_asks_on_the_terminal(tmp_path: Path) -> None:
    certificate = tmp_path / "client.crt"
    certificate.touch()
    given = TlsConfig(mode="require", client_cert=certificate, client_key=tmp_path / "key")
    assert connect.parameters("s", _config(tls=given), "d", "p")["sslpassword"]


def test_the_certificates_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "roots.pem"
    own.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    assert root_certificates(Path("system")) == own
    assert root_certificates(tmp_path / "other.pem") == tmp_path / "other.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(tls, "_BUNDLES", (str(tmp_path / "neither"),))
    with pytest.raises(ConfigError, match="no file of trusted certificates"):
        root_certificates(Path("system"))


def test_password_is_a_parameter_of_its_own(locked: LockedCluster) -> None:
    server = locked.server()
    assert connect.parameters("s", server.config, "d", "p")["password"] == "secret-sesame"
    assert "sesame" not in repr(server)
    with server.session("postgres") as session:
        assert session.rows("SELECT current_user::text") == [("alice",)]


def test_float_digits_are_the_shortest_exact_ones_of_the_version() -> None:
    assert connect.settings(_config(), 110000)["extra_float_digits"] == "3"
    assert connect.settings(_config(), 120000)["extra_float_digits"] == "1"


def test_old_servers_are_only_asked_for_what_they_know() -> None:
    unknown = {"row_security", "idle_in_transaction_session_timeout"}
    assert not unknown & connect.settings(_config(), 90400).keys()
    assert unknown <= connect.settings(_config(), 90600).keys()


def test_settings_are_quoted(cluster: Cluster) -> None:
    query = connect.settings_query({"search_path": '"a\'b\\c", pg_catalog'})
    with psycopg.connect(
        host=cluster.host, port=cluster.port, user=cluster.user, dbname="postgres"
    ) as connection:
        connection.execute(query)
        assert connection.execute("SHOW search_path").fetchall() == [('"a\'b\\c", pg_catalog',)]


def test_a_server_before_9_4_is_refused() -> None:
    with pytest.raises(MethodUnavailable, match="too old") as caught:
        connect.refuse_old(90323, "db.example")
    assert "9.3.23" in caught.value.detail
    connect.refuse_old(90400, "db.example")


def test_versions_outside_the_supported_range_are_noted() -> None:
    assert "9.6.24 is older" in str(connect.version_note(90624))
    assert "19.0 is newer" in str(connect.version_note(190000))
    assert connect.version_note(100000) is None
    assert connect.version_note(180003) is None
