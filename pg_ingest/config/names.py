"""Names in the configuration: never empty, never twice in a list."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from pg_ingest.config.problem import refuse


def is_pattern(text: str) -> bool:
    """Whether the text holds one of the shell's wildcards `*`, `?`, `[`."""
    return any(mark in text for mark in "*?[")


def _filled(value: str) -> str:
    if not value.strip():
        raise refuse("is empty", "write a name, or remove it")
    return value


def _no_twins(values: tuple[str, ...]) -> tuple[str, ...]:
    twins = sorted({value for value in values if values.count(value) > 1})
    if twins:
        raise refuse("names something twice", "name it once", value=", ".join(twins))
    return values


def _qualified(value: str) -> str:
    schema, _, name = value.partition(".")
    if not (schema and name):
        raise refuse("is not schema.name", f"write public.{value.strip('.')}")
    return value


Name = Annotated[str, AfterValidator(_filled)]
QualifiedName = Annotated[Name, AfterValidator(_qualified)]
Names = Annotated[tuple[Name, ...], AfterValidator(_no_twins)]
SomeNames = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_no_twins)]
