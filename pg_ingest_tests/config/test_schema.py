"""The shipped JSON Schema follows the model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pg_ingest.config.available import offered
from pg_ingest.config.method import Shape
from pg_ingest.config.schema import SCHEMA_FILE, json_schema, schema_text
from pg_ingest_tests.config.conftest import source, whole

EXAMPLE = Path(__file__).parents[2] / "pg_ingest.example.yaml"


def faults(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """What a reader of the schema would underline: the keywords that the schema uses."""
    if "$ref" in schema:
        schema = {**json_schema()["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    options = schema.get("anyOf", []) + schema.get("oneOf", [])
    if options and all(list(faults(option, value, path)) for option in options):
        yield f"{path}: none of the alternatives"
    kinds = {
        "string": str, "integer": int, "boolean": bool, "array": list, "object": dict, "null": type(None)
    }  # fmt: skip
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        yield f"{path}: not {schema['type']}"
        return
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{path}: not one of the words"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{path}: not the pattern"
    if isinstance(value, list):
        for item in value:
            yield from faults(schema.get("items", {}), item, f"{path}[]")
    if isinstance(value, dict) and "type" in schema:
        yield from _faults_of_keys(schema, value, path)


def _faults_of_keys(schema: dict[str, Any], value: dict[str, Any], path: str) -> Iterator[str]:
    yield from (f"{path}: no {key}" for key in schema.get("required", []) if key not in value)
    other = schema.get("additionalProperties", {})
    for key, below in value.items():
        if not re.search(schema.get("propertyNames", {}).get("pattern", ""), key):
            yield f"{path}.{key}: not a name"
        known = schema.get("properties", {}).get(key, other)
        if known is False:
            yield f"{path}.{key}: unknown"
        else:
            yield from faults(known, below, f"{path}.{key}")


def test_the_file_is_in_step() -> None:
    assert SCHEMA_FILE.read_text("utf-8") == schema_text(), "run python -m pg_ingest.config.schema"


def test_the_example_passes() -> None:
    content = yaml.load(EXAMPLE.read_text("utf-8"), yaml.BaseLoader)
    for settings in content["sources"].values():
        settings["port"] = int(settings["port"])
        settings["limits"]["connections"] = int(settings["limits"]["connections"])
        settings["tables"] = {name: below or None for name, below in settings["tables"].items()}
    assert list(faults(json_schema(), content)) == []


def test_faults_are_seen() -> None:
    def seen(**changes: Any) -> list[str]:
        return list(faults(json_schema(), whole(sources={"shop": source(**changes)})))

    assert seen() == []
    assert seen(prot=1) == [".sources.shop.prot: unknown"]
    assert seen(method="xmin_") == [".sources.shop.method: not one of the words"]
    assert seen(host=None) == [".sources.shop: no host"]
    assert seen(password={"evn": "X"}) == [".sources.shop.password: none of the alternatives"]
    assert seen(schedule={"every": "soon"}) == [".sources.shop.schedule: none of the alternatives"]
    assert seen(tables={"public.a": None}) == []
    bad_name = list(faults(json_schema(), whole(sources={"my-shop": source()})))
    assert bad_name == [".sources.my-shop: not a name"]


def test_it_offers_only_what_is_available() -> None:
    definitions = json_schema()["$defs"]
    assert definitions["Shape"]["enum"] == offered(Shape)
    assert '"null"' not in schema_text().replace('"type": "null"', "", 1)
