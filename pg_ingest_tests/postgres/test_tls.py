"""TLS against a packaged PostgreSQL with a certificate authority of its own."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pg_ingest.config.model import Secret, SourceConfig
from pg_ingest.config.tls import TlsMode
from pg_ingest.errors import LoginFailed, PgIngestError, SourceUnreachable
from pg_ingest.postgres import encryption
from pg_ingest.postgres.server import Server
from pg_ingest_tests.certificates import SERVER_NAMES, Authority, TlsServer, write_key
from pg_ingest_tests.servers import needs_system_server

pytestmark = needs_system_server


@pytest.fixture
def roots(tls_server: TlsServer, tmp_path: Path) -> Path:
    path = tmp_path / "roots.pem"
    path.write_bytes(tls_server.authority.own.pem)
    return path


def _server(tls_server: TlsServer, tls: dict[str, Any] | None, **given: Any) -> Server:
    settings = {
        "host": "localhost",
        "port": tls_server.cluster.port,
        "user": "alice",
        "password": Secret("secret-sesame"),
        "databases": ("postgres",),
        **given,
    }
    return Server("shop", SourceConfig(tls=tls, **settings), retry_delays=())


def _failure(tls_server: TlsServer, tls: dict[str, Any] | None, **given: Any) -> PgIngestError:
    server = _server(tls_server, tls, **given)
    with pytest.raises(PgIngestError) as caught, server.session("postgres"):
        raise AssertionError("connected")
    assert "sesame" not in str(caught.value)
    return caught.value


def _client(folder: Path, server: TlsServer, name: str = "carol", days: int = 30) -> dict[str, Any]:
    certificate, key = server.authority.issue(name, days=days).write(folder, name)
    return {"mode": "require", "client_cert": certificate, "client_key": key}


# --- whom do we trust


def test_the_authority_and_the_name(tls_server: TlsServer, roots: Path) -> None:
    tls = {"mode": "verify-full", "root_cert": roots}
    with _server(tls_server, tls).session("postgres") as session:
        found = session.encryption
        ((cipher,),) = session.rows(
            "SELECT cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl"
        )
    assert found is not None
    assert (found.version, found.cipher) == ("TLSv1.3", cipher)
    assert found.verified
    assert found.fingerprint == tls_server.certificate.fingerprint.replace(":", "").lower()
    assert "its name are verified" in found.text()


@pytest.mark.parametrize(
    ("tls", "words", "verified"),
    [
        (None, "is not verified", False),
        ({"mode": "require"}, "is not verified", False),
        ({"mode": "verify-ca"}, "its name is not", True),
    ],
)
def test_less_is_told(
    tls_server: TlsServer, roots: Path, tls: dict[str, Any] | None, words: str, verified: bool
) -> None:
    if tls is not None and tls["mode"] == "verify-ca":
        tls = {**tls, "root_cert": roots}
    with _server(tls_server, tls).session("postgres") as session:
        found = session.encryption
    assert found is not None
    assert words in found.text()
    assert found.verified is verified


def test_plain_text_is_told(tls_server: TlsServer) -> None:
    tls = {"mode": "disable"}
    with _server(tls_server, tls, user="bob", password=None).session("postgres") as session:
        assert session.encryption is None


def test_wrong_name(tls_server: TlsServer, roots: Path) -> None:
    tls = {"mode": "verify-full", "root_cert": roots}
    error = _failure(tls_server, tls, host="127.0.0.1")
    assert isinstance(error, LoginFailed)
    assert error.message == "the certificate of the server is not made out to 127.0.0.1"
    with _server(tls_server, {**tls, "mode": "verify-ca"}, host="127.0.0.1").session("postgres"):
        pass


def test_expired(tls_server: TlsServer, roots: Path) -> None:
    late = tls_server.authority.issue("server", days=-1, hosts=SERVER_NAMES)
    tls = {"mode": "verify-full", "root_cert": roots}
    with tls_server.showing(late):
        error = _failure(tls_server, tls)
    assert isinstance(error, LoginFailed)
    assert error.message.startswith("the certificate of localhost")
    assert error.message.endswith("has expired")
    assert late.fingerprint.replace(":", "").lower() in error.detail


def test_unknown_authority(tls_server: TlsServer, tmp_path: Path) -> None:
    others = tmp_path / "others.pem"
    others.write_bytes(Authority("somebody else").own.pem)
    for roots, mode in ((others, "verify-ca"), ("system", "verify-full")):
        error = _failure(tls_server, {"mode": mode, "root_cert": roots})
        assert isinstance(error, LoginFailed)
        assert error.message == (
            "the certificate of localhost is signed by nobody whom `tls.root_cert` trusts"
        )
        assert "fingerprint" in error.hint


def test_a_server_that_signs_for_itself(tls_server: TlsServer, roots: Path) -> None:
    with tls_server.showing(Authority("localhost").own):
        error = _failure(tls_server, {"mode": "verify-ca", "root_cert": roots})
    assert "signed by nobody" in error.message


def test_no_root_certificates(tls_server: TlsServer, tmp_path: Path) -> None:
    error = _failure(tls_server, {"mode": "verify-full", "root_cert": tmp_path / "none"})
    assert isinstance(error, LoginFailed)
    assert "no root certificates" in error.message
    assert "`system`" in error.hint


def test_a_wrong_password_is_told_although_plain_text_was_tried_too(tls_server: TlsServer) -> None:
    error = _failure(tls_server, None, password=Secret("open-sesame"))
    assert isinstance(error, LoginFailed)
    assert error.message == "login refused for user alice on localhost"


# --- pinning


def test_the_pinned_certificate(tls_server: TlsServer) -> None:
    pins = ["00" * 32, tls_server.certificate.fingerprint]
    tls = {"mode": "require", "fingerprint": pins}
    with _server(tls_server, tls).session("postgres") as session:
        assert session.encryption is not None
        assert session.encryption.pinned
        assert "pinned" in session.encryption.text()
        assert session.rows("SELECT current_user::text") == [("alice",)]
        with session.snapshot():
            pass


def test_another_certificate_than_the_pinned_one(tls_server: TlsServer) -> None:
    twin = tls_server.authority.issue("server", hosts=SERVER_NAMES)
    tls = {"mode": "require", "fingerprint": twin.fingerprint}
    error = _failure(tls_server, tls)
    assert isinstance(error, LoginFailed)
    assert "another certificate than the pinned one" in error.message
    shown = tls_server.certificate.fingerprint.replace(":", "").lower()
    assert f"SHA-256 of what it shows: {shown}" in error.detail


def test_a_pin_does_not_replace_the_authority_that_is_asked_for(
    tls_server: TlsServer, tmp_path: Path
) -> None:
    others = tmp_path / "others.pem"
    others.write_bytes(Authority("somebody else").own.pem)
    tls = {
        "mode": "verify-ca",
        "root_cert": others,
        "fingerprint": tls_server.certificate.fingerprint,
    }
    assert "signed by nobody" in _failure(tls_server, tls).message


def test_failures_are_told_as_without_a_pin(tls_server: TlsServer) -> None:
    tls = {"mode": "require", "fingerprint": tls_server.certificate.fingerprint}
    wrong = _failure(tls_server, tls, password=Secret("open-sesame"))
    assert isinstance(wrong, LoginFailed)
    assert wrong.message == "login refused for user alice on localhost"
    unknown = _failure(tls_server, tls, host="no-such-host.invalid")
    assert isinstance(unknown, SourceUnreachable)
    assert "is not known" in unknown.message


@contextmanager
def _listener(folder: Path, *, tls: bool) -> Iterator[tuple[int, list[bytes]]]:
    """A port that begins TLS as a server would, and keeps what is said to it then."""
    certificate, key = Authority("localhost").own.write(folder, "impostor")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    heard: list[bytes] = []

    def answer(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        with plain:
            plain.settimeout(10)
            plain.recv(8)
            plain.sendall(b"S" if tls else b"N")
            try:
                if not tls:
                    heard.append(plain.recv(1000))
                    return
                with context.wrap_socket(plain, server_side=True) as wrapped:
                    heard.append(wrapped.recv(1000))
            except OSError:
                heard.append(b"")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join(20)


@pytest.mark.parametrize("tls", [True, False])
def test_an_impostor_is_told_nothing(tls_server: TlsServer, tmp_path: Path, tls: bool) -> None:
    given = {"mode": "require", "fingerprint": tls_server.certificate.fingerprint}
    with _listener(tmp_path, tls=tls) as (port, heard):
        error = _failure(tls_server, given, port=port, host="127.0.0.1")
    assert isinstance(error, LoginFailed)
    assert heard == [b""]


def test_a_server_that_never_answers(tls_server: TlsServer) -> None:
    tls = {"mode": "require", "fingerprint": tls_server.certificate.fingerprint}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = _failure(
            tls_server, tls, host="127.0.0.1", port=port, limits={"connect_timeout": 1}
        )
    assert isinstance(error, SourceUnreachable)
    assert "does not answer" in error.message


def test_a_driver_whose_certificates_cannot_be_seen(
    tls_server: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption, "_driver", lambda: None)  # this very program: no libpq in it
    encryption._library.cache_clear()
    tls = {"mode": "require", "fingerprint": tls_server.certificate.fingerprint}
    try:
        assert "cannot be looked at" in _failure(tls_server, tls).message
    finally:
        encryption._library.cache_clear()


# --- who we are


@pytest.mark.parametrize(
    ("encoding", "password"),
    [
        (Encoding.PEM, None),
        (Encoding.PEM, b"key-sesame"),
        (Encoding.DER, None),
        (Encoding.DER, b"key-sesame"),
    ],
)
def test_a_client_certificate(
    tls_server: TlsServer, tmp_path: Path, encoding: Encoding, password: bytes | None
) -> None:
    carol = tls_server.authority.issue("carol")
    certificate, _ = carol.write(tmp_path, "carol")
    key = write_key(tmp_path / "own.key", carol.key_bytes(encoding, password))
    tls = {"mode": "require", "client_cert": certificate, "client_key": key}
    if password is not None:
        tls["client_key_password"] = Secret(password.decode())
    with _server(tls_server, tls, user="carol", password=None).session("postgres") as session:
        assert session.rows("SELECT current_user::text") == [("carol",)]


def test_a_client_without_a_certificate(tls_server: TlsServer) -> None:
    error = _failure(tls_server, {"mode": "require"}, user="carol", password=None)
    assert isinstance(error, LoginFailed)
    assert "wants a client certificate of user carol" in error.message


def test_a_client_with_somebody_elses_certificate(tls_server: TlsServer, tmp_path: Path) -> None:
    tls = _client(tmp_path, tls_server, "dora")
    error = _failure(tls_server, tls, user="carol", password=None)
    assert error.message == "our client certificate is not made out to user carol"


def test_a_revoked_client_certificate(tls_server: TlsServer, tmp_path: Path) -> None:
    certificate, key = tls_server.revoked.write(tmp_path, "revoked")
    tls = {"mode": "require", "client_cert": certificate, "client_key": key}
    error = _failure(tls_server, tls, user="carol", password=None)
    assert isinstance(error, LoginFailed)
    assert "was revoked" in error.message


def test_an_expired_client_certificate(tls_server: TlsServer, tmp_path: Path) -> None:
    tls = _client(tmp_path, tls_server, days=-1)
    error = _failure(tls_server, tls, user="carol", password=None)
    assert isinstance(error, LoginFailed)
    assert "our client certificate has expired" in error.message


def test_a_client_certificate_of_another_authority(tls_server: TlsServer, tmp_path: Path) -> None:
    certificate, key = Authority("somebody else").issue("carol").write(tmp_path, "alien")
    tls = {"mode": "require", "client_cert": certificate, "client_key": key}
    error = _failure(tls_server, tls, user="carol", password=None)
    assert "does not know who signed our client certificate" in error.message


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("readable by others", "can be read by others"),
        ("of another certificate", "is not that of the client certificate"),
        ("with a wrong password", "its password is missing or wrong"),
        ("without its password", "its password is missing or wrong"),
        ("encrypted der with a wrong password", "its password is missing or wrong"),
        ("encrypted der readable by others", "can be read by others"),
        ("no key at all", "cannot be read"),
        ("absent", "is not there"),
    ],
)
def test_a_private_key(tls_server: TlsServer, tmp_path: Path, what: str, words: str) -> None:
    carol = tls_server.authority.issue("carol")
    certificate, key = carol.write(tmp_path, "carol")
    tls = {"mode": "require", "client_cert": certificate, "client_key": key}
    locked = carol.key_bytes(password=b"key-sesame")
    match what:
        case "readable by others":
            key.chmod(0o644)
        case "of another certificate":
            write_key(key, tls_server.authority.issue("carol").key_bytes())
        case "with a wrong password":
            write_key(key, locked)
            tls["client_key_password"] = Secret("wrong-sesame")
        case "without its password":
            write_key(key, locked)
        case "encrypted der with a wrong password":
            write_key(key, carol.key_bytes(Encoding.DER, b"key-sesame"))
            tls["client_key_password"] = Secret("wrong-sesame")
        case "encrypted der readable by others":
            write_key(key, carol.key_bytes(Encoding.DER, b"key-sesame"), 0o644)
            tls["client_key_password"] = Secret("key-sesame")
        case "no key at all":
            write_key(key, b"\x30\x03abc is no key")
        case "absent":
            key.unlink()
    error = _failure(tls_server, tls, user="carol", password=None)
    assert isinstance(error, LoginFailed)
    assert words in error.message


# --- plain text and old versions


def test_a_server_that_wants_tls_refuses_plain_text(tls_server: TlsServer) -> None:
    error = _failure(tls_server, {"mode": "disable"})
    assert isinstance(error, LoginFailed)
    assert "no encryption" in error.detail
    assert "mode: require" in error.hint


def test_a_server_that_wants_plain_text_is_not_given_it(tls_server: TlsServer) -> None:
    error = _failure(tls_server, {"mode": "require"}, user="bob", password=None)
    assert isinstance(error, LoginFailed)
    assert "has no entry for user bob" in error.message


def test_versions_that_are_too_old(tls_server: TlsServer) -> None:
    with tls_server.showing(tls_server.certificate, lowest="TLSv1", highest="TLSv1.1"):
        error = _failure(tls_server, {"mode": "require"})
        assert isinstance(error, LoginFailed)
        assert "no version of TLS that we accept" in error.message
        assert "min_version" in error.hint


def test_the_lowest_version_is_ours_to_choose(tls_server: TlsServer) -> None:
    with tls_server.showing(tls_server.certificate, highest="TLSv1.2"):
        with _server(tls_server, {"mode": "require"}).session("postgres") as session:
            assert session.encryption is not None
            assert session.encryption.version == "TLSv1.2"
            assert session.encryption.mode is TlsMode.REQUIRE
        error = _failure(tls_server, {"mode": "require", "min_version": "TLSv1.3"})
        assert "no version of TLS that we accept" in error.message
