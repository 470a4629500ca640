"""How we log in at an SSH server, and what is said when it does not let us in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from pg_ingest.config.secret import Secret
from pg_ingest.errors import ConfigError, LoginFailed
from pg_ingest.tunnel.passage import close_tunnels, probe
from pg_ingest_tests.servers import needs_sshd
from pg_ingest_tests.sshd import USER, Sshd, agent, fingerprint, keygen, make_key, public
from pg_ingest_tests.tunnel.conftest import library_server

pytestmark = needs_sshd


@pytest.fixture
def welcome(bastion: Sshd, tmp_path: Path) -> Any:
    """Make a key that may log in."""
    before = bastion.authorized.read_text()

    def made(kind: str = "ed25519", passphrase: str = "", *options: str) -> Path:
        key = make_key(tmp_path / "key", kind, passphrase, *options)
        bastion.authorized.write_text(f"{before}{public(key)}\n")
        return key

    yield made
    bastion.authorized.write_text(before)


def enters(ssh: Any) -> bool:
    close_tunnels()
    (hop,) = probe(ssh, seconds=10)
    return bool(hop.address == ssh.address and hop.user == USER)


def refused(ssh: Any, error: type[Exception] = LoginFailed) -> Any:
    close_tunnels()
    with pytest.raises(error) as caught:
        probe(ssh, seconds=10)
    return caught.value


def test_what_the_server_is(bastion: Sshd) -> None:
    (hop,) = probe(bastion.config(), seconds=10)
    assert hop.host_key == fingerprint(bastion.host_key)
    assert hop.version.startswith("SSH-2.0-OpenSSH")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("ed25519", ()), ("ecdsa", ()), ("rsa", ("-m", "PEM")), ("ecdsa", ("-m", "PKCS8"))],
)
@pytest.mark.parametrize("passphrase", ["", "open sesame"])
def test_kinds_of_keys(
    bastion: Sshd, welcome: Any, kind: str, options: tuple[str, ...], passphrase: str
) -> None:
    key = welcome(kind, passphrase, *options)
    secret = {"passphrase": Secret(passphrase)} if passphrase else {}
    assert enters(bastion.config(private_key=str(key), **secret))


def test_a_key_in_a_variable(bastion: Sshd, welcome: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = welcome().read_text()
    for text in (key, key.strip(), key.replace("\n", "\\n")):
        monkeypatch.setenv("THE_KEY", text)
        assert enters(bastion.config(private_key={"env": "THE_KEY"}))


@pytest.mark.parametrize("options", [(), ("-m", "PKCS8"), ("-m", "PEM")])
def test_a_wrong_passphrase_and_none(
    bastion: Sshd, tmp_path: Path, options: tuple[str, ...]
) -> None:
    key = make_key(tmp_path / "key", "ecdsa", "open sesame", *options)
    wrong = refused(bastion.config(private_key=str(key), passphrase=Secret("hush-hush")))
    assert wrong.message == f"the private key in {key} cannot be decrypted"
    assert "check the passphrase in the configuration file" in wrong.hint
    assert "hush" not in str(wrong)
    none = refused(bastion.config(private_key=str(key)))
    assert none.message == wrong.message
    assert "set `passphrase`" in none.hint


def test_files_that_are_not_keys(bastion: Sshd, tmp_path: Path) -> None:
    gone = refused(bastion.config(private_key=str(tmp_path / "gone")), ConfigError)
    assert "cannot be read" in gone.message
    other = refused(bastion.config(private_key=str(bastion.known_hosts)), ConfigError)
    assert "is not one that can be read" in other.message
    assert "puttygen" in other.hint


def test_a_key_that_nobody_knows_is_named(bastion: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "stranger")
    error = refused(bastion.config(private_key=str(key)))
    where = f"the SSH server 127.0.0.1:{bastion.port}"
    assert error.message == f"login refused for user {USER} at {where}"
    assert error.detail.startswith(
        f"tried: public key {fingerprint(key)}; the server takes: publickey"
    )
    assert "authorized_keys" in error.hint


def test_a_server_that_takes_no_password(bastion: Sshd) -> None:
    error = refused(bastion.config(private_key=None, password=Secret("hush-hush")))
    assert error.detail == "tried: nothing; the server takes: publickey, keyboard-interactive"
    assert "hush" not in str(error)


def test_certificates(bastion: Sshd, tmp_path: Path) -> None:
    authority = make_key(tmp_path / "authority")
    (bastion.folder / "users.ca").write_text(f"{public(authority)}\n")
    bastion.restart(f"TrustedUserCAKeys {bastion.folder / 'users.ca'}")
    key = make_key(tmp_path / "key")
    keygen("-q", "-s", authority, "-I", "test", "-n", USER, f"{key}.pub")
    assert enters(bastion.config(private_key=str(key))), "found beside the key"
    apart = (tmp_path / "key-cert.pub").rename(tmp_path / "apart.pub")
    assert enters(bastion.config(private_key=str(key), certificate=str(apart)))
    assert "tried: public key" in refused(bastion.config(private_key=str(key))).detail
    other = refused(bastion.config(certificate=str(apart)), ConfigError)
    assert "belongs to another key" in other.message
    none = refused(bastion.config(certificate=str(bastion.known_hosts)), ConfigError)
    assert "is not a certificate" in none.message
    keygen("-q", "-s", authority, "-I", "t", "-n", USER, "-V", "-2d:-1d", f"{key}.pub")
    expired = refused(bastion.config(private_key=str(key)))
    assert f"certificate {fingerprint(key)}" in expired.detail
    assert "may have expired" in expired.hint
    bastion.restart()


def test_an_agent(bastion: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    other = make_key(tmp_path / "other", "rsa")
    with agent(tmp_path, other, bastion.client) as socket:
        assert enters(bastion.config(private_key=None, agent=str(socket)))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        assert enters(bastion.config(private_key=None))
        assert enters(bastion.config(private_key=None, agent=True))
        stranger = bastion.config(private_key=str(other))
        assert "tried: public key" in refused(stranger).detail, "not asked unless it is wanted"
    gone = refused(bastion.config(private_key=None))
    assert gone.message == "no SSH agent answers at SSH_AUTH_SOCK"


class _Asks(asyncssh.SSHServer):
    """Lets `anna` in with the password `open sesame`, and counts how often a password comes."""

    tries = 0

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return self.by_password

    def kbdint_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: Any) -> bool:
        return False

    def validate_password(self, username: str, password: str) -> bool:
        type(self).tries += 1
        return (username, password) == ("anna", "open sesame")

    def get_kbdint_challenge(self, *_: Any) -> Any:
        return "", "", "", [("Answer: ", False)]

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        return self.validate_password(username, *responses)

    by_password = True


class _AsksOnly(_Asks):
    by_password = False


@pytest.fixture(params=[_Asks, _AsksOnly], ids=["password", "keyboard-interactive"])
def asking(request: pytest.FixtureRequest, bastion: Sshd) -> Iterator[Any]:
    """A server that wants passwords, which OpenSSH would look up among the machine's own users."""
    request.param.tries = 0
    with library_server(request.param, bastion.host_key) as port:
        yield request.param, port


def test_a_password_is_the_last_resort(
    bastion: Sshd, asking: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    kind, port = asking
    changes = {
        "port": port,
        "user": "anna",
        "known_hosts": None,
        "fingerprint": fingerprint(bastion.host_key),
    }
    right = bastion.config(**changes, password=Secret("open sesame"))
    assert probe(right, seconds=10)[0].user == "anna"
    kind.tries = 0
    error = refused(bastion.config(**changes, password=Secret("hush-hush")))
    assert error.detail.startswith(f"tried: public key {fingerprint(bastion.client)}, password;")
    assert "hush" not in str(error)
    assert "hush" not in caplog.text
    assert "sesame" not in caplog.text
    assert kind.tries == 1, "a wrong password is sent once, however many ways there are"
    assert kind is _Asks or "password" not in error.detail.partition("takes:")[2]
    lonely = refused(bastion.config(**changes, private_key=None, password=Secret("x")))
    assert "check the password" in lonely.hint


def test_too_many_keys(bastion: Sshd, tmp_path: Path) -> None:
    bastion.restart("MaxAuthTries 2")
    keys = [make_key(tmp_path / f"k{n}") for n in range(3)]
    with agent(tmp_path, *keys) as socket:
        error = refused(bastion.config(private_key=None, agent=str(socket)))
    assert "Too many authentication failures" in error.detail
    assert "set `private_key`" in error.hint
    bastion.restart()
