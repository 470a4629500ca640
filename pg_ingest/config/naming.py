"""Templates for names in the destination."""

from __future__ import annotations

import string
from collections.abc import Mapping

from pg_ingest.config.problem import did_you_mean, refuse

PLACEHOLDERS = ("source", "database", "schema", "table")
TEMPLATE_HINT = "Placeholders: {source} {database} {schema} {table}."
DATABASE = "{database}"

MAX_NAME = 255
"""Longer names are refused: beyond what file systems, BI tools and other stores bear."""

RESERVED_SCHEMAS = frozenset({"_pgi", "information_schema", "pg_catalog"})
RESERVED_PREFIX = "_pgi_"
"""Of tables and columns: staging tables and system columns are named so."""


def checked_template(template: str) -> str:
    """The template; a refusal when it is empty or holds something else than the placeholders."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        raise refuse("has a brace without its partner", "write placeholders as {table}") from None
    for _, field, form, conversion in parts:
        if field is None:
            continue
        if field not in PLACEHOLDERS or form or conversion:
            raise refuse(
                f"holds the unknown placeholder {{{field}}}", did_you_mean(field, PLACEHOLDERS)
            )
    if not template.strip():
        raise refuse("is empty", "write a template such as {source}_{schema}")
    return template


def fill(template: str, values: Mapping[str, str]) -> str:
    """The name of a template; a placeholder without a value stays open."""
    parts = []
    for text, field, _, _ in string.Formatter().parse(template):
        parts.append(text)
        if field is not None:
            parts.append(values.get(field, f"{{{field}}}"))
    return "".join(parts)


def name_fault(schema: str, table: str) -> str | None:
    """Why a table of that name cannot stand in the destination, None when it can."""
    if schema.casefold() in RESERVED_SCHEMAS:
        return f"the schema {schema} is reserved in the destination"
    if table.casefold().startswith(RESERVED_PREFIX):
        return f"table names that start with {RESERVED_PREFIX} are reserved in the destination"
    for name in (schema, table):
        if not name:
            return "the name is empty"
        if len(name) > MAX_NAME:
            return f"the name {name[:40]}… has {len(name)} characters, more than {MAX_NAME}"
    return None
