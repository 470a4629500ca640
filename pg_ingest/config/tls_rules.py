"""What the keys below `tls` mean together."""

from __future__ import annotations

from collections.abc import Iterator

from pg_ingest.config.model import SourceConfig
from pg_ingest.config.password import RdsIam
from pg_ingest.config.problem import Path, Problem
from pg_ingest.config.table_rules import keys_of
from pg_ingest.config.tls import SYSTEM, TlsConfig, TlsMode

_NEED_TLS = (
    *("root_cert", "client_cert", "client_key", "client_key_password"),
    *("fingerprint", "min_version"),
)


def tls_problems(source: SourceConfig, path: Path) -> Iterator[Problem]:
    """The problems of one source; `path` is where it stands."""
    tls = source.tls
    if tls is None:
        return  # then `require` holds, or `prefer` where nothing leaves this machine
    place = (*path, "tls")
    yield from _client(tls, place)
    given = [key for key in _NEED_TLS if key in tls.model_fields_set]
    if tls.mode is TlsMode.DISABLE and given:
        yield Problem(
            (*place, "mode"),
            f"is disable, which makes no use of {', '.join(given)}",
            "write verify-full, or remove the certificates",
            about=keys_of(place, *given),
        )
    elif tls.fingerprint and not tls.mode.insists:
        yield Problem(
            (*place, "mode"),
            f"is {tls.mode}, which may go on without TLS, where there is no certificate to pin",
            "write require: the fingerprint says whom to trust",
            about=keys_of(place, "fingerprint"),
        )
    elif isinstance(source.password, RdsIam) and not tls.mode.insists:
        yield Problem(
            (*place, "mode"),
            f"is {tls.mode}, but a token of RDS is sent as it is, and taken over TLS only",
            "write `mode: verify-full` with the root certificates of RDS",
            about=keys_of(path, "password"),
        )
    if str(tls.root_cert) == SYSTEM and tls.mode is not TlsMode.VERIFY_FULL:
        yield Problem(
            (*place, "root_cert"),
            f"is system, which says nothing with mode {tls.mode}: those authorities sign for anybody",
            "write `mode: verify-full`",
            about=keys_of(place, "mode"),
        )


def _client(tls: TlsConfig, place: Path) -> Iterator[Problem]:
    if (tls.client_cert is None) != (tls.client_key is None):
        yield Problem(
            place,
            "has only one of client_cert and client_key",
            "give both, or none",
            about=keys_of(place, "client_cert", "client_key"),
        )
    if tls.client_key_password is not None and tls.client_key is None:
        yield Problem(
            (*place, "client_key_password"),
            "is the password of no key",
            "give client_key, or remove it",
            about=keys_of(place, "client_key"),
        )
