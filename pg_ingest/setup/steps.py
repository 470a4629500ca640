"""How a server's setting is changed at each provider, and what must follow.

Sources: manual, "Setting Parameters"; Amazon, "Setting up logical replication for your Aurora PostgreSQL DB
cluster" and the same for RDS; Google, "Set up logical replication and decoding"; Microsoft, "Logical
replication and logical decoding in Azure Database for PostgreSQL"; Supabase, "Customizing Postgres configs";
Neon, "Logical replication in Neon".
"""

from __future__ import annotations

from dataclasses import dataclass

from pg_ingest.postgres.provider import Provider

_NEEDS_RESTART = frozenset(("wal_level", "max_replication_slots", "max_wal_senders"))

_OTHER_NAMES = {
    (Provider.RDS, "wal_level"): ("rds.logical_replication", "1"),
    (Provider.AURORA, "wal_level"): ("rds.logical_replication", "1"),
    (Provider.CLOUDSQL, "wal_level"): ("cloudsql.logical_decoding", "on"),
    (Provider.RDS, "hot_standby_feedback"): ("hot_standby_feedback", "1"),
}

_BASE_UNITS = {
    "max_slot_wal_keep_size": 1024,
    "wal_sender_timeout": 1000,
    "max_standby_streaming_delay": 60_000,
    "max_standby_archive_delay": 60_000,
}
"""Services take plain numbers: megabytes from `50GB`, milliseconds from `60s` and `15min`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting, its value as in postgresql.conf, and why."""

    name: str
    value: str
    why: str

    @property
    def needs_restart(self) -> bool:
        """The server takes it only when it starts."""
        return self.name in _NEEDS_RESTART

    def at(self, provider: Provider) -> tuple[str, str]:
        """Name and value as that provider takes them."""
        if (provider, self.name) in _OTHER_NAMES:
            return _OTHER_NAMES[provider, self.name]
        if provider in (Provider.PLAIN, Provider.SUPABASE) or self.name not in _BASE_UNITS:
            return self.name, self.value
        if self.value.isdigit():
            return self.name, self.value
        number = int("".join(c for c in self.value if c.isdigit()))
        return self.name, str(number * _BASE_UNITS[self.name])


LOGICAL = Setting("wal_level", "logical", "the log must hold what logical decoding needs")
KEEP = Setting(
    "max_slot_wal_keep_size",
    "50GB",
    "a reader that stays away for long loses its slot instead of filling the server's disk",
)
SENDER_TIMEOUT = Setting(
    "wal_sender_timeout", "60s", "the server notices a reader that is gone; 0 would never notice"
)

WAL2JSON = Setting(
    "output_plugin_libraries",
    "'pgoutput, wal2json'",
    "the plugin may be used; only newer minor versions know this setting",
)


def slots(count: int) -> Setting:
    """Room for that many replication slots."""
    return Setting(
        "max_replication_slots", str(count), "one slot for each database and other reader"
    )


def senders(count: int) -> Setting:
    """Room for that many streams."""
    return Setting("max_wal_senders", str(count), "one stream for each reader and standby")


def step(setting: Setting, provider: Provider) -> str:
    """One sentence: where the setting is changed at that provider, and what must follow."""
    name, value = setting.at(provider)
    return _STEPS[provider].format(name=name, value=value, then=_then(setting, provider))


_STEPS = {
    Provider.PLAIN: "ALTER SYSTEM SET {name} = '{value}'; {then}",
    Provider.RDS: "set {name} = {value} in the instance's own DB parameter group{then}",
    Provider.AURORA: "set {name} = {value} in the cluster's own DB cluster parameter group{then}",
    Provider.CLOUDSQL: "gcloud sql instances patch INSTANCE --database-flags={name}={value} (together"
    " with the flags it already has: the list is replaced){then}",
    Provider.AZURE: "az postgres flexible-server parameter set --resource-group GROUP --server-name"
    " SERVER --name {name} --value {value}{then}",
    Provider.SUPABASE: "supabase --experimental postgres-config update --config {name}={value}{then}",
    Provider.NEON: "Neon console, project settings, Logical Replication (Neon sets {name} itself){then}",
}


def _then(setting: Setting, provider: Provider) -> str:
    if provider is Provider.PLAIN:
        return restart(provider) if setting.needs_restart else "SELECT pg_reload_conf();"
    return f"; {restart(provider)}" if setting.needs_restart else ""


def restart(provider: Provider) -> str:
    """How a server is restarted there."""
    return _RESTARTS[provider]


_RESTARTS = {
    Provider.PLAIN: "then restart the server (pg_ctl restart, or systemctl restart postgresql)",
    Provider.RDS: "then reboot the instance: aws rds reboot-db-instance --db-instance-identifier INSTANCE",
    Provider.AURORA: "then reboot the writer, after it the readers: aws rds reboot-db-instance"
    " --db-instance-identifier WRITER",
    Provider.CLOUDSQL: "the instance restarts by itself",
    Provider.AZURE: "then az postgres flexible-server restart --resource-group GROUP --name SERVER",
    Provider.SUPABASE: "the database restarts by itself",
    Provider.NEON: "the compute restarts by itself",
}


def bypass_remark(provider: Provider) -> str:
    """What else to do about row-level security where BYPASSRLS cannot be given."""
    if provider in (Provider.PLAIN, Provider.SUPABASE):
        return ""
    return " (where the service refuses it: GRANT the tables' owner to the role, or leave the table out)"
