"""A throw-away certificate authority for tests, and a server whose TLS it vouches for."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pg_ingest.demo.cluster import Cluster
from pg_ingest_tests.servers import system_server

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """As `openssl x509 -fingerprint -sha256` writes it."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    def key_bytes(
        self,
        encoding: serialization.Encoding = serialization.Encoding.PEM,
        password: bytes | None = None,
    ) -> bytes:
        """The key as PKCS#8, encrypted when there is a password."""
        lock = (
            serialization.NoEncryption()
            if password is None
            else serialization.BestAvailableEncryption(password)
        )
        return self.key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, lock)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """The certificate's file and that of its key."""
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(self.pem)
        return certificate, write_key(key, self.key_bytes())


def write_key(path: Path, content: bytes, mode: int = 0o600) -> Path:
    """A key's file that only its owner may read."""
    path.write_bytes(content)
    path.chmod(mode)
    return path


@dataclass
class Authority:
    """A certificate authority with one key, which signs whatever it is asked to."""

    name: str
    own: Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.own = self._sign(self.name, None, authority=True)

    def issue(self, name: str, *, days: int = 30, hosts: tuple[str, ...] = ()) -> Certificate:
        """A certificate for a server (`hosts`) or a role; `days` until it expires, negative: ago."""
        return self._sign(name, self.own, days=days, hosts=hosts)

    def revoke(self, *certificates: Certificate) -> bytes:
        """The list of revoked certificates, PEM."""
        now = datetime.datetime.now(datetime.UTC)
        revoked = x509.CertificateRevocationListBuilder(
            issuer_name=self.own.certificate.subject,
            last_update=now - _DAY,
            next_update=now + 30 * _DAY,
        )
        for one in certificates:
            entry = x509.RevokedCertificateBuilder(
                serial_number=one.certificate.serial_number, revocation_date=now - _DAY
            )
            revoked = revoked.add_revoked_certificate(entry.build())
        signed = revoked.sign(self.own.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    @staticmethod
    def _sign(
        name: str,
        issuer: Certificate | None,
        *,
        days: int = 30,
        hosts: tuple[str, ...] = (),
        authority: bool = False,
    ) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        end = datetime.datetime.now(datetime.UTC) + days * _DAY
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - 365 * _DAY)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return Certificate(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


_RULES = """
local     all postgres              trust
hostssl   all carol    127.0.0.1/32 cert
hostssl   all alice    127.0.0.1/32 scram-sha-256
hostssl   all dave     127.0.0.1/32 password
hostnossl all bob      127.0.0.1/32 trust
"""
_ROLES = """
create role alice login password 'secret-sesame'; create role dave login password 'secret-sesame';
create role carol login; create role bob login
"""
SERVER_NAMES = ("localhost", "db.example")


@dataclass(frozen=True)
class TlsServer:
    """A PostgreSQL with TLS: `alice` and `dave` have the password `secret-sesame`, `carol` a certificate.

    `bob` comes in without TLS only. `dave` sends his password in clear, as RDS wants its tokens. The
    server's certificate names `localhost` and `db.example`, and the authority's does not travel with it.
    """

    cluster: Cluster
    authority: Authority
    certificate: Certificate
    revoked: Certificate

    @contextmanager
    def showing(
        self, certificate: Certificate, *, lowest: str = "TLSv1.2", highest: str = ""
    ) -> Iterator[None]:
        """Inside the block the server shows that certificate and speaks these versions."""
        self.show(certificate, lowest=lowest, highest=highest)
        try:
            yield
        finally:
            self.show(self.certificate)

    def show(self, certificate: Certificate, *, lowest: str = "TLSv1.2", highest: str = "") -> None:
        """The same without an end."""
        self.place("server.crt", certificate.pem)
        self.place("server.key", certificate.key_bytes())
        self.set(ssl_min_protocol_version=lowest, ssl_max_protocol_version=highest)

    def place(self, name: str, content: bytes) -> None:
        """Write a file that the server may read, and only it."""
        path, owner = self.cluster.data / name, self.cluster.data.stat()
        path.write_bytes(content)
        path.chmod(0o600)
        if path.stat().st_uid != owner.st_uid:
            os.chown(path, owner.st_uid, owner.st_gid)

    def set(self, **settings: str) -> None:
        """Change settings of the running server, and wait until new connections have them."""
        with self.admin() as admin:
            for name, value in settings.items():
                admin.execute(f"alter system set {name} = '{value}'")
            (before,) = admin.execute("select pg_conf_load_time()").fetchone() or ("",)
            admin.execute("select pg_reload_conf()")
            deadline = time.monotonic() + 10
            while admin.execute("select pg_conf_load_time()").fetchone() == (before,):
                assert time.monotonic() < deadline, "the server did not read its configuration"
                time.sleep(0.01)

    def admin(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A superuser's connection over the socket."""
        return psycopg.connect(
            host=str(self.cluster.directory),
            port=self.cluster.port,
            user="postgres",
            dbname="postgres",
            autocommit=True,
        )


@contextmanager
def tls_server() -> Iterator[TlsServer]:
    """Run one; needs the packaged PostgreSQL."""
    binaries = system_server()
    assert binaries is not None
    authority = Authority("the authority of these tests")
    with Cluster(binaries=binaries) as cluster:
        server = TlsServer(
            cluster,
            authority,
            authority.issue("server", hosts=SERVER_NAMES),
            authority.issue("carol"),
        )
        with server.admin() as admin:
            admin.execute(_ROLES)
        server.place("pg_hba.conf", _RULES.encode())
        server.place("ca.crt", authority.own.pem)
        server.place("revoked.crl", authority.revoke(server.revoked))
        server.place("server.crt", server.certificate.pem)
        server.place("server.key", server.certificate.key_bytes())
        server.set(ssl="on", ssl_ca_file="ca.crt", ssl_crl_file="revoked.crl")
        yield server
