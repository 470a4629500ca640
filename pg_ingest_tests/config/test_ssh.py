"""The keys below `ssh`: what is taken, what is refused, and that no secret is told."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.config.secret import Secret
from pg_ingest_tests.config.conftest import source, whole

PIN = f"SHA256:{'A' * 43}"


def shop(**ssh: Any) -> dict[str, Any]:
    usual = {"host": "bastion", "user": "me", "private_key": "key"}
    given = {key: value for key, value in (usual | ssh).items() if value is not None}
    return whole(sources={"shop": source(ssh=given)})


REFUSED = [
    (
        shop(host="bastion:22"),
        "host: contains a port (bastion:22) — write `host: bastion` and `port: 22`",
    ),
    (
        shop(host="/tmp/x"),
        "host: is a folder (/tmp/x) — write the name or address of the SSH server",
    ),
    (shop(user=" "), "user: is empty ( ) — write a name, or remove it"),
    (
        shop(private_key="-----BEGIN OPENSSH PRIVATE KEY-----\nhush"),
        "private_key: is the key itself (not shown) — write the path of its file, or {env: NAME} where a "
        "variable holds it",
    ),
    (shop(private_key=5), "private_key: is not a path (5) — write a path as text"),
    (shop(private_key=""), "private_key: is empty — write a path"),
    (
        shop(private_key={"evn": "KEY"}),
        "private_key: names an unknown place — did you mean env?",
    ),
    (
        shop(agent="yes"),
        "agent: is neither true nor a path (yes) — write true, or the path of the agent's socket",
    ),
    (
        shop(fingerprint="ab:cd"),
        "fingerprint.0: is not a fingerprint (ab:cd) — write SHA256: and 43 characters, as "
        "`ssh-keygen -lf` prints them",
    ),
    (
        shop(fingerprint=PIN, known_hosts="known"),
        "has both known_hosts and fingerprint — give one: a fingerprint is the only key that is taken",
    ),
    (
        shop(private_key=None, passphrase={"env": "P"}),
        "passphrase: passphrase belongs to a private key, and there is none — write private_key beside it; "
        "an agent brings its certificates along",
    ),
    (
        shop(private_key=None, certificate="c.pub"),
        "certificate: certificate belongs to a private key, and there is none — write private_key beside "
        "it; an agent brings its certificates along",
    ),
    (
        shop(private_key=None, agent=False),
        "has nothing to log in with — write private_key, or agent: true, or password",
    ),
    (
        shop(jump=[{"host": "edge", "user": "me", "agent": False}]),
        "jump.0: has nothing to log in with — write private_key, or agent: true, or password",
    ),
    (shop(keepalive=0), "keepalive: is too small (0) — write 1 or more"),
    (shop(jmp=[]), "jmp: is an unknown key — did you mean jump?"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED, ids=[text[:50] for _, text in REFUSED])
def test_refused(refusal: Any, content: dict[str, Any], message: str) -> None:
    (told,) = refusal(content)
    place, _, text = told.partition(" ")
    assert place.startswith("pg_ingest.yaml:")
    assert text.removeprefix("sources.shop.ssh").lstrip(".: ") == message
    assert "hush" not in told


@pytest.mark.parametrize("key", ["passphrase", "password"])
def test_a_secret_that_is_wrong_is_not_shown(refusal: Any, key: str) -> None:
    for content in (shop(**{key: 12345}), shop(jump=[{"host": "e", "user": "m", key: 12345}])):
        assert "12345" not in "".join(refusal(content))


def test_everything_at_once(load: Any) -> None:
    jump = {"host": "edge", "user": "you", "agent": "~/agent.sock", "fingerprint": [PIN, f"{PIN}="]}
    content = shop(
        port=2222,
        passphrase={"env": "P"},
        certificate="key-cert.pub",
        password="hush-hush",
        known_hosts="known",
        jump=[jump],
        keepalive="1m",
    )
    loaded = load(content).config
    ssh, folder = loaded.sources["shop"].ssh, loaded.file.parent
    assert (ssh.address, ssh.keepalive) == ("bastion:2222", 60)
    files = (ssh.private_key, ssh.certificate, ssh.known_hosts)
    assert files == (folder / "key", folder / "key-cert.pub", folder / "known")
    assert [hop.host for hop in ssh.hops] == ["edge", "bastion"]
    assert ssh.jump[0].agent_socket == Path("~/agent.sock").expanduser()
    assert ssh.jump[0].fingerprint == (PIN, PIN)
    assert "hush" not in repr(loaded) + loaded.model_dump_json()
    assert hash(pickle.loads(pickle.dumps(ssh))) == hash(ssh)


def test_a_key_that_is_kept_in_a_variable(load: Any) -> None:
    ssh = load(shop(private_key={"env": "KEY"})).config.sources["shop"].ssh
    assert ssh.private_key == Secret(env="KEY")


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"private_key": None}, True),
        ({}, False),
        ({"agent": True}, True),
        ({"private_key": None, "password": {"env": "P"}}, False),
        ({"private_key": None, "password": {"env": "P"}, "agent": "/run/agent"}, True),
        ({"agent": False}, False),
    ],
)
def test_when_an_agent_is_asked(load: Any, given: dict[str, Any], asked: bool) -> None:
    assert load(shop(**given)).config.sources["shop"].ssh.uses_agent is asked
