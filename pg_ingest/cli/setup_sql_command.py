"""`pg-ingest setup-sql`: the script for the administrator of a source."""

from __future__ import annotations

from pathlib import Path

import click

from pg_ingest.catalog_file import load_catalog
from pg_ingest.cli.options import config_option
from pg_ingest.config.load import load_config
from pg_ingest.config.problem import did_you_mean

_PROVIDERS = ("plain", "rds", "aurora", "cloudsql", "azure", "supabase", "neon")


@click.command("setup-sql", short_help="Print the SQL that an administrator runs.")
@click.option(
    "-s", "--source", "source", metavar="NAME", help="Which source; default: the only one."
)
@click.option(
    "-p",
    "--provider",
    "provider_name",
    type=click.Choice(_PROVIDERS),
    help="Who runs the server; default: a guess from the host's name, else plain.",
)
@click.option(
    "--slot", "make_slots", is_flag=True, help="Make the slots too, not with the first sync."
)
@config_option
def command(
    source: str | None, provider_name: str | None, make_slots: bool, config_path: Path | None
) -> None:
    """Print a psql script that lets the role of a source do what the configuration asks for, and no more.

    Nothing is connected to. After `pg-ingest discover` the script names every table; before, it lets the
    server find what patterns stand for.
    """
    from pg_ingest.config.needs import needs_of
    from pg_ingest.postgres.provider import Provider, provider_of_host
    from pg_ingest.setup.script import script

    config = load_config(config_path).config
    name = _source(source, tuple(config.sources))
    catalog = load_catalog(config.state_dir, name)
    needs = needs_of(config, name, catalog)
    provider = (
        provider_of_host(config.sources[name].host)
        if provider_name is None
        else Provider(provider_name)
    )
    click.echo(script(needs, provider, make_slots=make_slots), nl=False)


def _source(wanted: str | None, names: tuple[str, ...]) -> str:
    if wanted is None and len(names) > 1:
        raise click.UsageError(f"there are several sources, name one: --source {names[0]}")
    if wanted is not None and wanted not in names:
        raise click.UsageError(f"there is no source {wanted}; {did_you_mean(wanted, names)}")
    return wanted or names[0]
