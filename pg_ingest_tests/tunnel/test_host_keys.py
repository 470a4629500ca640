"""Which host keys are trusted, and how a refusal is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.config.ssh import SshServer
from pg_ingest.errors import ConfigError, HostKeyRefused
from pg_ingest.tunnel import host_keys
from pg_ingest.tunnel.host_keys import described, known_keys
from pg_ingest.tunnel.passage import close_tunnels, probe
from pg_ingest_tests.servers import needs_sshd
from pg_ingest_tests.sshd import Sshd, fingerprint, keygen, make_key, public

pytestmark = needs_sshd  # for ssh-keygen, which comes with it


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("keys")
    return [make_key(folder / name, kind) for name, kind in [("a", "ed25519"), ("b", "ecdsa")]]


def known(file: Path, text: str, host: str = "Bastion.Example", port: int = 22) -> Any:
    file.write_text(text)
    return known_keys(SshServer(host=host, port=port, user="me", known_hosts=file))


def shown(found: tuple[Any, ...]) -> list[str]:
    return [described([key]).split()[1] for key in found]


def test_names_ports_and_patterns(tmp_path: Path, keys: list[Path]) -> None:
    file, (a, b) = tmp_path / "known", keys
    text = (
        f"# of the office\nbastion.example,10.0.0.1 {public(a)} a comment\n"
        f"[bastion.example]:2222 {public(b)}\n*.lab,!old.lab {public(b)}\n"
    )
    assert shown(known(file, text).trusted) == [fingerprint(a)]
    assert shown(known(file, text, port=2222).trusted) == [fingerprint(b)]
    assert shown(known(file, text, port=2200).trusted) == [fingerprint(a)], (
        "as ssh: without the port"
    )
    assert shown(known(file, text, host="new.lab").trusted) == [fingerprint(b)]
    assert known(file, text, host="old.lab").trusted == ()
    assert known(file, text, host="example").trusted == ()


def test_hashed_names(tmp_path: Path, keys: list[Path]) -> None:
    file = tmp_path / "known"
    file.write_text(
        f"bastion.example {public(keys[0])}\n[bastion.example]:22022 {public(keys[1])}\n"
    )
    keygen("-q", "-H", "-f", file)
    text = file.read_text()
    assert "bastion" not in text
    assert shown(known(file, text).trusted) == [fingerprint(keys[0])]
    assert shown(known(file, text, port=22022).trusted) == [fingerprint(keys[1])]
    assert known(file, text, host="other").trusted == ()


def test_authorities_and_revoked_keys(tmp_path: Path, keys: list[Path]) -> None:
    a, b = keys
    text = f"@cert-authority *.example {public(a)}\n@revoked * {public(b)}\nbastion.example {public(b)}\n"
    found = known(tmp_path / "known", text)
    assert (shown(found.authorities), shown(found.revoked)) == ([fingerprint(a)], [fingerprint(b)])
    assert found.algorithms()[0] == "ssh-ed25519-cert-v01@openssh.com"
    by_port = f"@revoked [bastion.example]:2222 {public(b)}\nbastion.example {public(b)}\n"
    assert shown(known(tmp_path / "known", by_port, port=2222).revoked) == [fingerprint(b)]


def test_known_kinds_of_keys_are_asked_for_first(tmp_path: Path, keys: list[Path]) -> None:
    found = known(tmp_path / "known", f"bastion.example {public(keys[1])}\n")
    assert found.algorithms()[0] == "ecdsa-sha2-nistp256"
    assert "ssh-ed25519" in found.algorithms()
    assert not any("cert" in name for name in found.algorithms())


def test_a_line_that_makes_no_sense_hides_no_other(
    tmp_path: Path, keys: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    text = f"|1|xx|yy {public(keys[0])}\nnonsense\n\nbastion.example {public(keys[0])}\n"
    with caplog.at_level(logging.WARNING):
        found = known(tmp_path / "known", text)
    assert shown(found.trusted) == [fingerprint(keys[0])]
    assert "known line 1 is no entry" in caplog.text
    assert "known line 2 is no entry" in caplog.text


def test_the_usual_files(tmp_path: Path, keys: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(host_keys, "MACHINES_FILE", str(tmp_path / "all"))
    server = SshServer(host="bastion", user="me")
    assert known_keys(server).files == ()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(f"bastion {public(keys[0])}\n")
    (tmp_path / "all").write_text(f"bastion {public(keys[1])}\n")
    assert shown(known_keys(server).trusted) == [fingerprint(key) for key in keys]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"known_hosts file .* cannot be read"):
        known_keys(SshServer(host="bastion", user="me", known_hosts=tmp_path / "gone"))


def refused(ssh: Any) -> HostKeyRefused:
    close_tunnels()
    with pytest.raises(HostKeyRefused) as caught:
        probe(ssh, seconds=10)
    return caught.value


def test_an_unknown_key_is_shown_with_the_line_to_add(bastion: Sshd, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    error = refused(bastion.config(known_hosts=str(empty)))
    own = fingerprint(bastion.host_key)
    assert error.message == f"the host key of the SSH server 127.0.0.1:{bastion.port} is not known"
    assert error.detail == f"it shows ssh-ed25519 {own}; looked in {empty}"
    assert f"`fingerprint: {own}`" in error.hint
    empty.write_text(error.hint.split(f"{empty}: `")[1].split("`")[0])
    assert probe(bastion.config(known_hosts=str(empty)), seconds=10), "the line is right"


def test_a_pinned_fingerprint(bastion: Sshd, tmp_path: Path) -> None:
    own, other = fingerprint(bastion.host_key), fingerprint(make_key(tmp_path / "other"))
    for pins in (own, [other, own]):
        assert probe(bastion.config(known_hosts=None, fingerprint=pins), seconds=10)
    error = refused(bastion.config(known_hosts=None, fingerprint=other))
    assert "is not the pinned one" in error.message
    assert own in error.detail
    assert other in error.detail
    assert f"`fingerprint: {own}`" in error.hint


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_changed_key(bastion: Sshd, tmp_path: Path, kind: str) -> None:
    before = make_key(tmp_path / "before", kind)
    file = tmp_path / "known"
    file.write_text(f"{bastion.name} {public(before)}\n")
    error = refused(bastion.config(known_hosts=str(file)))
    assert error.message == f"the host key of the SSH server 127.0.0.1:{bastion.port} has changed"
    assert fingerprint(before) in error.detail
    assert fingerprint(bastion.host_key) in error.detail
    assert "load balancer" in error.hint
    assert "ssh_host_ed25519_key.pub" in error.hint


def test_a_revoked_key(bastion: Sshd, tmp_path: Path) -> None:
    file = tmp_path / "known"
    line = f"{bastion.name} {public(bastion.host_key)}\n"
    file.write_text(f"{line}@revoked * {public(bastion.host_key)}\n")
    assert "revoked" in refused(bastion.config(known_hosts=str(file))).detail


def test_host_certificates(second: Sshd, tmp_path: Path) -> None:
    authority, stranger = make_key(tmp_path / "authority"), make_key(tmp_path / "stranger")

    def sign(key: Path, *options: str) -> None:
        keygen("-q", "-s", key, "-I", "t", "-h", *options, f"{second.host_key}.pub")

    sign(authority, "-n", "127.0.0.1")
    second.restart(f"HostCertificate {second.host_key}-cert.pub")
    file = tmp_path / "known"
    file.write_text(f"@cert-authority {second.name} {public(authority)}\n")
    assert probe(second.config(known_hosts=str(file)), seconds=10)
    close_tunnels()
    assert probe(second.config(), seconds=10), "its key may also be known as it is"
    file.write_text(f"@cert-authority {second.name} {public(stranger)}\n")
    error = refused(second.config(known_hosts=str(file)))
    assert f"signed by ssh-ed25519 {fingerprint(authority)}" in error.detail
    file.write_text(f"@cert-authority {second.name} {public(authority)}\n")
    for options in (("-n", "other.example"), ("-n", "127.0.0.1", "-V", "-2d:-1d")):
        sign(authority, *options)
        second.restart(f"HostCertificate {second.host_key}-cert.pub")
        error = refused(second.config(known_hosts=str(file)))
        assert "expired" in error.detail.lower() or "principal" in error.detail.lower()
    second.restart()
    error = refused(second.config(known_hosts=str(file)))
    assert "only certificates are trusted for it" in error.detail
