"""docs/configuration.md names every key with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.config.load import load_config
from pg_ingest.config.schema import json_schema

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
HEADINGS = {
    "": "At the top",
    "DuckDbDestination": "destination",
    "SourceConfig": "A source",
    "TlsConfig": "TLS",
    "SshConfig": "SSH",
    "SshServer": "SSH",
    "LogConfig": "Log-based",
    "Heartbeat": "Log-based",
    "NamingConfig": "Names in the destination",
    "EverySchedule": "Schedules",
    "CronSchedule": "Schedules",
    "Limits": "Limits",
    "QuietHours": "Limits",
    "TableConfig": "Settings of a table",
    "PartitionBy": "partition_by",
    "SplitHints": "split_hints",
}


def section(heading: str) -> str:
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", TEXT, re.M | re.S)
    assert found, heading
    return found[1]


def keys() -> list[tuple[str, str, dict[str, Any], bool]]:
    schema = json_schema()
    models = {"": schema} | {
        name: found for name, found in schema["$defs"].items() if "properties" in found
    }
    return [
        (name, key, settings, key in found.get("required", []))
        for name, found in models.items()
        for key, settings in found["properties"].items()
    ]


@pytest.mark.parametrize(("model", "key", "settings", "required"), keys())
def test_every_key_is_explained(
    model: str, key: str, settings: dict[str, Any], required: bool
) -> None:
    rows = re.findall(rf"^\| `{key}` \| ([^|]*) \| ", section(HEADINGS[model]), re.M)
    assert rows, f"{key} is not in the table below {HEADINGS[model]}"
    default = settings.get("default")
    if required:
        assert any(row.startswith("required") for row in rows)
    elif default is not None and default is not False:
        text = {"[]": "[]", "{}": "{}", "True": "true"}.get(str(default), str(default))
        assert any(f"`{text}`" in row for row in rows), f"the default of {key} is {text}"


def test_the_first_example_is_right(tmp_path: Path) -> None:
    path = tmp_path / "pg_ingest.yaml"
    path.write_text(TEXT.split("```yaml\n")[1].split("```")[0])
    assert load_config(path).warnings == ()


def test_every_value_of_an_enumeration_is_named() -> None:
    for name, found in json_schema()["$defs"].items():
        for word in found.get("enum", []):
            assert f"`{word}`" in TEXT, f"{word} of {name}"
