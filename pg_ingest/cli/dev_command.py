"""`pg-ingest dev`: Dagster's UI and daemon for this configuration."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from pg_ingest.cli.instance import HOME, make_home
from pg_ingest.cli.options import config_option
from pg_ingest.cli.output import print_note
from pg_ingest.config.load import VARIABLE, load_config


@click.command("dev", short_help="Open Dagster's UI with this configuration.")
@config_option
@click.option("-h", "--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("-p", "--port", default=3000, show_default=True, help="Port to listen on.")
def command(config_path: Path | None, host: str, port: int) -> None:
    """Start Dagster's web interface, its daemon (schedules, sensors) and this code location.

    Runs are kept in $DAGSTER_HOME, else in `.dagster_home` beside the configuration, which is made on
    first use; `pg-ingest sync` then uses the same. Ctrl-C stops everything.
    """
    loaded = load_config(config_path)
    home = make_home(loaded.path)
    print_note(f"http://{host}:{port}  (runs are kept in {home})")
    os.environ[HOME] = str(home)
    os.environ[VARIABLE] = str(loaded.path)
    # a script's background job inherits SIGINT as ignored, and Dagster stops its children by SIGINT
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = ["-m", "dagster", "dev", "-m", "pg_ingest.definitions", "-h", host, "-p", str(port)]
    quiet = ["-W", "ignore::UserWarning"]
    os.execv(sys.executable, [sys.executable, *quiet, *arguments])
