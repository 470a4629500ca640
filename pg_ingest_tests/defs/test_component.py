"""The component for other people's projects."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from pg_ingest.defs.component import PostgresIngestComponent
from pg_ingest.errors import ConfigError
from pg_ingest_tests.defs.conftest import Write

pytestmark = [
    # dagster 1.13's components call pydantic's version-1 function, and parts of their own they call beta
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning"),
]

SOURCE = "databases: [app]\nmethod: full_table\ntables:\n  public.orders: {}\n"
KEY = dg.AssetKey(["shop", "public", "orders"])


def test_from_a_file(write: Write) -> None:
    loaded = write(SOURCE)
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.scaffold_component(
            component_cls=PostgresIngestComponent,
            defs_yaml_contents={
                "type": "pg_ingest.defs.component.PostgresIngestComponent",
                "attributes": {"config_path": "pg_ingest.yaml"},
            },
        )
        shutil.copy(loaded.path, folder / "pg_ingest.yaml")
        with sandbox.load_component_and_build_defs(defs_path=folder) as (component, made):
            assert isinstance(component, PostgresIngestComponent)
            assert KEY in made.resolve_asset_graph().executable_asset_keys


def test_from_attributes() -> None:
    attributes: dict[str, Any] = {
        "config": {
            "destination": {"type": "duckdb", "path": "warehouse.duckdb"},
            "sources": {
                "shop": {
                    "host": "db",
                    "user": "u",
                    "databases": ["app"],
                    "method": "full_table",
                    "tables": {"public.orders": {}},
                }
            },
        }
    }
    component = PostgresIngestComponent.from_attributes_dict(attributes=attributes)
    tree = dg.ComponentTree.for_test()
    made = component.build_defs(tree.load_context)
    assert KEY in made.resolve_asset_graph().executable_asset_keys


@pytest.mark.parametrize("attributes", [{}, {"config_path": "a.yaml", "config": {}}])
def test_one_of_both(attributes: dict[str, Any], tmp_path: Path) -> None:
    component = PostgresIngestComponent.from_attributes_dict(attributes=attributes)
    with pytest.raises(ConfigError, match="exactly one"):
        component.read(tmp_path)
