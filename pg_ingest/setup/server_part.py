"""The part of the script that is no SQL: settings of the server and who may connect, provider by provider."""

from __future__ import annotations

from collections.abc import Iterator

from pg_ingest.config.log import Plugin
from pg_ingest.config.needs import Needs
from pg_ingest.postgres.provider import Provider
from pg_ingest.setup import steps
from pg_ingest.setup.steps import Setting

_ROOM = 10
"""PostgreSQL's own default for slots and streams: lower only where somebody has lowered it."""


def settings_of(needs: Needs) -> tuple[Setting, ...]:
    """The settings that following the log asks for; none without it."""
    if not needs.logged:
        return ()
    count = max(_ROOM, len(needs.databases) + 5)
    plugin = (steps.WAL2JSON,) if needs.settings.log.plugin is Plugin.WAL2JSON else ()
    return (
        steps.LOGICAL,
        steps.slots(count),
        steps.senders(count),
        steps.KEEP,
        steps.SENDER_TIMEOUT,
        *plugin,
    )


def server_part(needs: Needs, provider: Provider) -> Iterator[str]:
    """Lines without the comment marks."""
    settings = settings_of(needs)
    if not settings:
        yield "No table is followed by the log: the server's settings can stay as they are."
    elif provider is Provider.PLAIN:
        yield from _postgresql_conf(settings)
    elif provider is Provider.NEON:
        yield "In the Neon console, project settings, Logical Replication: enable it. This restarts the"
        yield "computes and cannot be undone. Neon drops slots that nobody has read for long: keep the"
        yield "schedule short."
    else:
        yield from _managed(settings, provider)
    yield ""
    yield from _network(needs, provider)


def _postgresql_conf(settings: tuple[Setting, ...]) -> Iterator[str]:
    yield "postgresql.conf (higher values may stay as they are):"
    for setting in settings:
        yield f"    {f'{setting.name} = {setting.value}':<40}# {setting.why}"
    yield f"and {steps.restart(Provider.PLAIN)}."


_INTRODUCTIONS = {
    Provider.RDS: (
        "A DB parameter group of your own (the default ones cannot be changed), attached to the",
        "instance. Then, in this order: set the values, wait until the group says `pending-reboot`,",
        "reboot the instance once.",
    ),
    Provider.AURORA: (
        "A DB *cluster* parameter group of your own (the default ones cannot be changed), attached to",
        "the cluster. Then, in this order: set the values, wait until the group says `pending-reboot`,",
        "reboot the writer, then the readers. Connect to the cluster's (writer) endpoint.",
    ),
    Provider.CLOUDSQL: ("Flags of the instance; changing them restarts it once.",),
    Provider.AZURE: ("Server parameters, then one restart.",),
    Provider.SUPABASE: ("Settings of the project; changing them restarts the database.",),
}


def _managed(settings: tuple[Setting, ...], provider: Provider) -> Iterator[str]:
    yield from _INTRODUCTIONS[provider]
    wanted = [each for each in settings if not _by_itself(each, provider)]
    for setting in wanted:
        name, value = setting.at(provider)
        yield f"    {f'{name} = {value}':<40}# {setting.why}"
    values = [setting.at(provider) for setting in wanted]
    if provider in (Provider.RDS, Provider.AURORA):
        group = "db-parameter-group" if provider is Provider.RDS else "db-cluster-parameter-group"
        listed = " ".join(
            f'"ParameterName={name},ParameterValue={value},ApplyMethod=pending-reboot"'
            for name, value in values
        )
        yield f"    aws rds modify-{group} --{group}-name GROUP --parameters {listed}"
    else:
        for setting in wanted:
            yield f"    {steps.step(setting, provider)}"
        return
    yield f"    {steps.restart(provider).removeprefix('then ')}"


def _by_itself(setting: Setting, provider: Provider) -> bool:
    """What the provider has set already, or sees to itself."""
    return setting is steps.WAL2JSON or (
        provider is Provider.SUPABASE and setting.name == "wal_level"
    )


def _network(needs: Needs, provider: Provider) -> Iterator[str]:
    settings = needs.settings
    if provider is not Provider.PLAIN:
        yield f"Network: the machine that runs pg_ingest must reach {settings.host} port {settings.port}"
        yield "(security group, firewall rule, authorised network or private link)."
        return
    yield "pg_hba.conf, above the lines that would match first; then SELECT pg_reload_conf();"
    kind = "local" if settings.host.startswith("/") else "hostssl"
    address = "" if kind == "local" else "  <address of the machine that runs pg_ingest>/32"
    for database in needs.databases:
        name = "all" if database.name is None else _hba(database.name)
        yield f"    {kind}  {name}  {_hba(settings.user)}{address}  scram-sha-256"
    yield "(`hostssl` takes encrypted connections only; `host` where the server has no TLS. The log needs no"
    yield "`replication` line: logical replication names its database.)"


def _hba(name: str) -> str:
    plain = name.replace("_", "a").isalnum() and name not in (
        "all",
        "sameuser",
        "samerole",
        "replication",
    )
    return name if plain else f'"{name}"'
