"""The Dagster instance that the command line shares with the UI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dagster import DagsterInstance

HOME = "DAGSTER_HOME"
FOLDER = ".dagster_home"


def home_of(config_file: Path) -> Path | None:
    """$DAGSTER_HOME, else the `.dagster_home` beside the configuration when `dev` has made one."""
    named = os.environ.get(HOME)
    if named:
        home = Path(named).expanduser().absolute()
        if not home.is_dir():
            raise click.UsageError(f"${HOME} is {home}, which is no folder: make it, or unset it")
        return home
    beside = config_file.parent / FOLDER
    return beside if (beside / "dagster.yaml").is_file() else None


def make_home(config_file: Path) -> Path:
    """The same, made with a sensible dagster.yaml when there is none."""
    home = home_of(config_file) or config_file.parent / FOLDER
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        shipped = files("pg_ingest.cli").joinpath("dagster.yaml")
        settings.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    return home


@contextmanager
def open_instance(config_file: Path) -> Iterator[DagsterInstance]:
    """The instance of `home_of`; without one an instance that is forgotten at the end."""
    import dagster as dg

    home = home_of(config_file)
    if home is None:
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance
        return
    before = os.environ.get(HOME)
    os.environ[HOME] = str(home)
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        os.environ.pop(HOME)
        if before is not None:
            os.environ[HOME] = before
