from __future__ import annotations

from pathlib import Path

from pg_ingest.config import model
from pg_ingest.destinations.connect import open_destination
from pg_ingest.destinations.destination import Destination
from pg_ingest.destinations.duckdb import DuckDbDestination


def test_a_duckdb_destination_is_made_but_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "warehouse.duckdb"
    destination: Destination = open_destination(model.DuckDbDestination(type="duckdb", path=path))
    assert isinstance(destination, DuckDbDestination)
    assert destination.kind == "duckdb"
    assert destination.file.path == path
    assert not path.parent.exists()
