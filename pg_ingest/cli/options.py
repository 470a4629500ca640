"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """`--config`, else $PG_INGEST_CONFIG, else ./pg_ingest.yaml."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Configuration; default: $PG_INGEST_CONFIG, else ./pg_ingest.yaml.",
    )(function)


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(
        function
    )


def databases_option(function: F) -> F:
    """`--database`, repeatable."""
    return click.option(
        "-d",
        "--database",
        "databases",
        multiple=True,
        metavar="NAME",
        help="Only this source database; repeatable. Default: all.",
    )(function)
