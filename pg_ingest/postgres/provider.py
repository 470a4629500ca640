"""Whose server it is: what an administrator has to do depends on it.

Recognised by facts that every role can see: a function that only Aurora has, roles that each service makes,
settings of its own. A database that was restored from one service on another has the roles of both, so facts
that belong to the running server come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pg_ingest.postgres.session import Session


class Provider(StrEnum):
    """Who runs the server; `plain` is a PostgreSQL of your own."""

    PLAIN = "plain"
    RDS = "rds"
    AURORA = "aurora"
    CLOUDSQL = "cloudsql"
    AZURE = "azure"
    SUPABASE = "supabase"
    NEON = "neon"

    @property
    def full_name(self) -> str:
        """Its name for people."""
        return _TITLES[self]


_TITLES = {
    Provider.PLAIN: "a PostgreSQL server of your own",
    Provider.RDS: "Amazon RDS",
    Provider.AURORA: "Amazon Aurora",
    Provider.CLOUDSQL: "Google Cloud SQL",
    Provider.AZURE: "Azure Database for PostgreSQL",
    Provider.SUPABASE: "Supabase",
    Provider.NEON: "Neon",
}

_FACTS = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname = 'aurora_version'),
  array(SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = ANY(%s)),
  array(SELECT DISTINCT split_part(name, '.', 1) FROM pg_catalog.pg_settings
    WHERE name ~ '^(rds|cloudsql|azure|neon)[.]')
"""

_ROLES = {
    "rds_superuser": Provider.RDS,
    "cloudsqlsuperuser": Provider.CLOUDSQL,
    "azure_superuser": Provider.AZURE,
    "azure_pg_admin": Provider.AZURE,
    "azuresu": Provider.AZURE,
    "supabase_admin": Provider.SUPABASE,
    "neon_superuser": Provider.NEON,
}

_SETTINGS = {
    "rds": Provider.RDS,
    "cloudsql": Provider.CLOUDSQL,
    "azure": Provider.AZURE,
    "neon": Provider.NEON,
}


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What was seen: Aurora's function, roles of services, first parts of the names of settings."""

    aurora: bool
    roles: frozenset[str]
    settings: frozenset[str]

    @property
    def provider(self) -> Provider:
        """What the facts say; settings of the running server before roles, which travel in dumps."""
        if self.aurora:
            return Provider.AURORA
        for known, seen in ((_SETTINGS, self.settings), (_ROLES, self.roles)):
            for name, provider in known.items():
                if name in seen:
                    return provider
        return Provider.PLAIN


def recognise(session: Session) -> Provider:
    """Who runs the session's server."""
    ((aurora, roles, settings),) = session.rows(
        _FACTS, (list(_ROLES),), what="asking whose server it is"
    )
    return ProviderFacts(aurora, frozenset(roles), frozenset(settings)).provider


_POOLERS = {
    "-pooler.": "Neon's pooler",
    ".pooler.supabase.": "Supabase's pooler",
    ".proxy-": "RDS Proxy",
    "pgbouncer": "PgBouncer",
}


def pooler_of(host: str) -> str | None:
    """The connection pooler that a host's name tells of, or None."""
    return next((name for mark, name in _POOLERS.items() if mark in host.lower()), None)


_HOSTS = {
    ".cluster-": Provider.AURORA,
    ".rds.amazonaws.": Provider.RDS,
    ".postgres.database.azure.com": Provider.AZURE,
    ".supabase.co": Provider.SUPABASE,
    ".neon.tech": Provider.NEON,
}


def provider_of_host(host: str) -> Provider:
    """A guess from the name alone; an Aurora instance looks like one of RDS, most others like plain ones."""
    return next((p for mark, p in _HOSTS.items() if mark in host.lower()), Provider.PLAIN)
