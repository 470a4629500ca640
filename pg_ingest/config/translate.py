"""pydantic's errors in our words: path, fact, value, remedy."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pg_ingest.config.available import later_key, not_yet, offered
from pg_ingest.config.model import CronSchedule, EverySchedule, IngestConfig
from pg_ingest.config.problem import Path, Problem, did_you_mean

_LONGEST_VALUE = 80
_SECRET_KEYS = {"password", "passphrase", "client_key_password"}

_KINDS: dict[str, tuple[str, str]] = {
    "int_type": ("is not a whole number", "write a number without quotes"),
    "bool_type": ("is neither true nor false", "write true or false"),
    "string_type": ("is not a text", "put it in quotes"),
    "tuple_type": ("is not a list", "write a list: [first, second]"),
    "dict_type": ("is not a mapping", "write `key: value` lines below it, or {key: value}"),
    "model_type": ("is not a mapping", "write `key: value` lines below it, or {key: value}"),
    "model_attributes_type": ("is not a mapping", "write `key: value` lines below it"),
    "path_type": ("is not a path", "write a path as text"),
    "union_tag_invalid": ("is not a schedule", 'write {every: 30m} or {cron: "*/15 * * * *"}'),
    "union_tag_not_found": ("is not a schedule", 'write {every: 30m} or {cron: "*/15 * * * *"}'),
}


def problems_of(error: ValidationError) -> list[Problem]:
    """One problem per error, never with a secret's value."""
    errors = error.errors(include_url=False)
    lists = {details["loc"][:-1] for details in errors if details["loc"]}
    return [
        _problem(details)
        for details in errors
        if details["type"] != "too_short" or details["loc"] not in lists
    ]


def path_of(location: Iterable[str | int]) -> Path:
    """The keys of the file: pydantic adds the kind of schedule, which nobody wrote."""
    parts = list(location)
    if len(parts) > 3 and parts[0] == "sources" and parts[2] == "schedule":
        del parts[3]
    return tuple(parts)


def _problem(details: ErrorDetails) -> Problem:
    path = path_of(details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "missing":
        return Problem(path, "is missing", _example(path))
    if kind == "refused":
        value = context["value"] or shown(path, details["input"])
        return Problem(path, context["what"], context["remedy"], value)
    if kind in ("enum", "literal_error"):
        return _wrong_word(path, details["input"])
    what, remedy = (
        _KINDS.get(kind) or _bound(kind, context) or (details["msg"].lower(), "correct it")
    )
    return Problem(path, what, remedy, shown(path, details["input"]))


def shown(path: Path, value: Any) -> str:
    """The value for people; never a password's, nor one that looks as if it held one."""
    if _SECRET_KEYS & set(path[2:]) or not isinstance(value, str | int | float | bool):
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if "@" in text or "password" in text.lower():
        return "not shown, it may hold a password"
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def _bound(kind: str, context: dict[str, Any]) -> tuple[str, str] | None:
    match kind:
        case "greater_than_equal":
            return "is too small", f"write {context['ge']} or more"
        case "less_than_equal":
            return "is too large", f"write {context['le']} or less"
        case "too_short":
            return "is an empty list", "name at least one, or remove the key"
        case "string_too_long" | "too_long":
            return "is too long", f"write at most {context['max_length']} characters"
    return None


def _unknown_key(path: Path) -> Problem:
    instead = later_key(path)
    if instead:
        return Problem(path, not_yet(str(path[-1])), f"available: {instead}")
    if path[2:3] == ("schedule",) and path[-1] in ("every", "anchor"):
        return Problem(path, "stands beside cron", "write either every (with anchor) or cron")
    keys = keys_at(path[:-1])
    return Problem(path, "is an unknown key", did_you_mean(str(path[-1]), keys))


def _wrong_word(path: Path, value: Any) -> Problem:
    words = [str(word.value) for word in _enum_at(path)] or ["duckdb"]
    remedy = did_you_mean(str(value), words)
    if remedy.startswith("did"):
        remedy = f"{remedy} Known: {', '.join(offered(words))}"
    return Problem(path, "is an unknown value", remedy, shown(path, value))


_EXAMPLES = {
    "destination": "write `destination: {type: duckdb, path: warehouse.duckdb}`",
    "sources": "write at least one source below `sources:`",
    "path": "write `path: warehouse.duckdb`",
    "host": "write `host: db.internal`",
    "user": "write `user: ingest`",
    "databases": "write `databases: [name]`",
    "every": "write a time with its unit, `every: 30m` (a window: day)",
    "column": "name a date or timestamp column",
    "mode": "write `mode: verify-full`, or another sslmode of libpq",
    "start": "write the first day, `start: 2024-01-31`",
}


def _example(path: Path) -> str:
    return _EXAMPLES.get(str(path[-1]), "add it")


def keys_at(path: Path) -> list[str]:
    """The keys that the model knows at that path."""
    if path and path[-1] == "schedule":
        return sorted({*EverySchedule.model_fields, *CronSchedule.model_fields})
    model = _model_at(path)
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(path: Path) -> type[BaseModel] | None:
    found = _annotation_at(path)
    return next((part for part in _parts(found) if _is(part, BaseModel)), None)


def _enum_at(path: Path) -> type[Enum] | tuple[()]:
    return next((part for part in _parts(_annotation_at(path)) if _is(part, Enum)), ())


def _is(part: Any, kind: type) -> bool:
    return isinstance(part, type) and issubclass(part, kind)


def _annotation_at(path: Path) -> Any:
    """The annotation of the key at the path, None when the model has no such key."""
    annotation: Any = IngestConfig
    for part in path:
        kinds = _parts(annotation)
        model = next((kind for kind in kinds if _is(kind, BaseModel)), None)
        if model is not None:
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            if part not in fields:
                return None
            annotation = fields[str(part)].annotation
        else:
            many = (tuple, list) if isinstance(part, int) else (dict,)
            holder = next((kind for kind in kinds if typing.get_origin(kind) in many), None)
            below = typing.get_args(holder)
            annotation = None if not below else below[1] if many == (dict,) else below[0]
    return annotation


def _parts(annotation: Any) -> list[Any]:
    """The members of a union, without `Annotated`."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _parts(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for member in typing.get_args(annotation) for part in _parts(member)]
    return [annotation]
