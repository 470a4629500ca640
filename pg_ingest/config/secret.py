"""A password that is known by where it is kept, and shows itself only when asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from pg_ingest.config.available import AVAILABLE_SECRETS, LATER_SECRETS, available, not_yet
from pg_ingest.config.paths import resolved
from pg_ingest.config.problem import did_you_mean, refuse
from pg_ingest.errors import ConfigError

MASK = "**********"
_KINDS = ("env", "file")


class Secret:
    """Built from `{env: NAME}`, `{file: path}` or a literal text; read when `reveal` is called.

    Neither `repr`, `str`, `format`, JSON nor pydantic's dumps contain the secret. Equal when kept in
    the same place (or, for literals, when the same).
    """

    __slots__ = ("_kind", "_text")
    _kind: str
    _text: str

    def __init__(
        self, literal: str | None = None, *, env: str | None = None, file: str | Path | None = None
    ) -> None:
        given = [
            (kind, str(text))
            for kind, text in (("literal", literal), ("env", env), ("file", file))
            if text is not None
        ]
        if len(given) != 1:
            raise ValueError("exactly one of literal, env, file")
        object.__setattr__(self, "_kind", given[0][0])
        object.__setattr__(self, "_text", given[0][1])

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a secret does not change")

    @property
    def is_literal(self) -> bool:
        """True when the secret itself stands in the configuration."""
        return self._kind == "literal"

    @property
    def place(self) -> str:
        """Where it is kept, for people: never the secret."""
        names = {"env": f"environment variable {self._text}", "file": f"file {self._text}"}
        return names.get(self._kind, "the configuration file")

    def reveal(self) -> str:
        """The secret. Raise ConfigError when the variable or file is missing or empty."""
        if self._kind == "literal":
            return self._text
        return self._from_env() if self._kind == "env" else self._from_file()

    def _from_env(self) -> str:
        value = os.environ.get(self._text, "")
        if not value:
            raise ConfigError(
                f"the environment variable {self._text} is not set or empty",
                detail="the configuration takes a password from it",
                hint=f"export {self._text}=… before starting, or put it into the .env file",
            )
        return value

    def _from_file(self) -> str:
        try:
            value = Path(self._text).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(
                f"the password file {self._text} cannot be read",
                detail=str(reason),
                hint="create it, readable by this user, with the password as its only line",
            ) from None
        if not value:
            raise ConfigError(
                f"the password file {self._text} is empty",
                hint="write the password into it as its only line",
            )
        return value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})" if self.is_literal else f"Secret({self._kind}={self._text!r})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._kind, self._text) == (other._kind, other._text)

    def __hash__(self) -> int:
        return hash((self._kind, self._text))

    def __getstate__(self) -> tuple[str, str]:
        return self._kind, self._text

    def __setstate__(self, state: tuple[str, str]) -> None:
        object.__setattr__(self, "_kind", state[0])
        object.__setattr__(self, "_text", state[1])

    def _public(self) -> str | dict[str, str]:
        return MASK if self.is_literal else {self._kind: self._text}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            _parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls._public, when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        def place(kind: str, what: str) -> dict[str, Any]:
            return {
                "type": "object",
                "properties": {kind: {"type": "string", "minLength": 1, "description": what}},
                "required": [kind],
                "additionalProperties": False,
            }

        return {
            "anyOf": [
                place("env", "Name of an environment variable."),
                place("file", "Path of a file that holds only the secret."),
                {
                    "type": "string",
                    "minLength": 1,
                    "description": "The secret itself: warned about.",
                },
            ]
        }


def _parse(value: Any, info: ValidationInfo) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str) and value:
        return Secret(value)
    if isinstance(value, dict):
        return _parse_place(value, info)
    raise refuse(
        "is neither a text nor a place to find one",
        "write {env: NAME} or {file: path}; quote a password that looks like a number",
    )


def _parse_place(value: dict[Any, Any], info: ValidationInfo) -> Secret:
    for kind in LATER_SECRETS:
        if kind in value:
            raise refuse(not_yet(f"{{{kind}: …}}"), available(AVAILABLE_SECRETS))
    if len(value) != 1:
        raise refuse("names no single place", "write exactly one of {env: NAME} and {file: path}")
    [(kind, text)] = value.items()
    if kind not in _KINDS:
        raise refuse("names an unknown place", did_you_mean(str(kind), _KINDS))
    if not isinstance(text, str) or not text:
        raise refuse(f"has no name after {kind}:", "write {env: NAME} or {file: path}")
    return Secret(env=text) if kind == "env" else Secret(file=resolved(text, info))
