"""The JSON Schema of the configuration, for editors: `python -m pg_ingest.config.schema` writes it.

It follows the model, less what a file may not say: keys without a value, and shapes of a later
version. What several keys mean together is beyond a schema; loading the file tells it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pg_ingest.config.available import offered
from pg_ingest.config.model import IngestConfig

SCHEMA_FILE = Path(__file__).with_name("pg_ingest.schema.json")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema as plain data."""
    schema: dict[str, Any] = _without_null(IngestConfig.model_json_schema())
    definitions = schema["$defs"]
    definitions["Shape"]["enum"] = offered(definitions["Shape"]["enum"])
    tables = definitions["SourceConfig"]["properties"]["tables"]
    tables["additionalProperties"] = {"anyOf": [tables["additionalProperties"], {"type": "null"}]}
    sources = schema["properties"]["sources"]
    sources |= {"minProperties": 1, "propertyNames": {"pattern": "^[A-Za-z0-9_]+$"}}
    return {"$schema": _DIALECT, **schema, "title": "pg_ingest.yaml"}


def _without_null(value: Any) -> Any:
    """The same without `null` as an alternative: an absent key is absent, not empty."""
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: below for key, below in value.items() if not _idle_default(key, below)}
    options = kept.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        rest = [_without_null(option) for option in options if option != {"type": "null"}]
        kept.pop("anyOf")
        kept |= rest[0] if len(rest) == 1 else {"anyOf": rest}
    return {key: _without_null(below) for key, below in kept.items()}


def _idle_default(key: str, value: Any) -> bool:
    """Whether it is a default that says nothing: null, or all defaults of the keys below."""
    return key == "default" and (value is None or isinstance(value, dict))


def schema_text() -> str:
    """The schema as the file holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
