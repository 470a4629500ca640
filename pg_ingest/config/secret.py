"""A password that is known by where it is kept, and shows itself only when asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, assert_never
from urllib.parse import urlsplit

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from pg_ingest.aws import AwsSecret
from pg_ingest.config.paths import resolved
from pg_ingest.config.problem import Path as Keys
from pg_ingest.config.problem import did_you_mean, refuse
from pg_ingest.config.redaction import MASK, remember
from pg_ingest.config.secret_places import Env, File, Literal, Place

_KINDS = ("env", "file", "aws_secret")
_AWS_OPTIONS = ("key", "region", "endpoint_url")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_WRITE = "write {env: NAME}, {file: path} or {aws_secret: name, key: …}"


class Secret:
    """Built from `{env: NAME}`, `{file: path}`, `{aws_secret: name}` or a literal text; read by `reveal`.

    Neither `repr`, `str`, `format`, JSON nor pydantic's dumps contain the secret. Equal when kept in
    the same place (or, for literals, when the same).
    """

    __slots__ = ("_place",)
    _place: Place

    def __init__(
        self,
        literal: str | None = None,
        *,
        env: str | None = None,
        file: str | Path | None = None,
        aws: AwsSecret | None = None,
    ) -> None:
        given: list[Place] = [] if aws is None else [aws]
        given += [] if literal is None else [Literal(literal)]
        given += [] if env is None else [Env(env)]
        given += [] if file is None else [File(str(file))]
        if len(given) != 1:
            raise ValueError("exactly one of literal, env, file, aws")
        self.__setstate__(given[0])

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a secret does not change")

    @property
    def is_literal(self) -> bool:
        """True when the secret itself stands in the configuration."""
        return isinstance(self._place, Literal)

    @property
    def place(self) -> str:
        """Where it is kept, for people: never the secret."""
        return str(self._place)

    @property
    def is_kept(self) -> bool:
        """Whether `reveal` may give what was read earlier: `fresh` then reads it again."""
        return isinstance(self._place, AwsSecret)

    def reveal(self, *, fresh: bool = False) -> str:
        """The secret; `fresh`: not as it was read earlier (see `is_kept`).

        Raise ConfigError when the variable, file or secret is missing or empty, and what
        `AwsSecret.read` raises.
        """
        return remember(self._place.read(fresh=fresh))

    def __repr__(self) -> str:
        if isinstance(self._place, Literal):
            return f"Secret({MASK!r})"
        return f"Secret({', '.join(f'{k}={v!r}' for k, v in self._where().items())})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return self._place == other._place if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._place)

    def __getstate__(self) -> Place:
        return self._place

    def __setstate__(self, state: Place) -> None:
        if isinstance(state, Literal):
            remember(state.text)
        object.__setattr__(self, "_place", state)

    def _where(self) -> dict[str, str]:
        match self._place:
            case Literal():
                return {}
            case Env(name):
                return {"env": name}
            case File(path):
                return {"file": path}
            case AwsSecret() as kept:
                options = {key: getattr(kept, key) for key in _AWS_OPTIONS}
                return {"aws_secret": kept.name} | {k: v for k, v in options.items() if v}
        assert_never(self._place)

    def public(self) -> str | dict[str, str]:
        """As the file may say it: the place, or asterisks for a literal."""
        return MASK if self.is_literal else self._where()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            parsed,
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls.public, when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        aws = _shape("aws_secret", "Name or ARN in AWS Secrets Manager.")
        aws["properties"] |= {
            "key": _text("Member of the secret's JSON object."),
            "region": _text("AWS region; without it that of the ARN or of the environment."),
            "endpoint_url": _text("Another address of the service, such as a VPC endpoint."),
        }
        return {
            "anyOf": [
                _shape("env", "Name of an environment variable."),
                _shape("file", "Path of a file that holds only the secret."),
                aws,
                _text("The secret itself: warned about."),
            ]
        }


def _text(what: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": what}


def _shape(kind: str, what: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {kind: _text(what)},
        "required": [kind],
        "additionalProperties": False,
    }


def parsed(value: Any, info: ValidationInfo) -> Secret:
    """The secret that a value of the file names; raise what `refuse` makes for anything else."""
    if isinstance(value, Secret):
        return value
    if isinstance(value, str) and value:
        return Secret(value)
    if isinstance(value, dict):
        return _parsed_place(value, info)
    raise refuse(
        "is neither a text nor a place to find one",
        f"{_WRITE}; quote a password that looks like a number",
    )


def _parsed_place(value: dict[Any, Any], info: ValidationInfo) -> Secret:
    if "aws_secret" in value:
        return Secret(aws=_parsed_aws(value))
    if len(value) != 1:
        raise refuse("names no single place", _WRITE)
    [(kind, text)] = value.items()
    if kind not in _KINDS:
        raise refuse("names an unknown place", did_you_mean(str(kind), _KINDS))
    if not isinstance(text, str) or not text:
        raise refuse(f"has no name after {kind}:", _WRITE)
    return Secret(env=text) if kind == "env" else Secret(file=resolved(text, info))


def _parsed_aws(value: dict[Any, Any]) -> AwsSecret:
    known = ("aws_secret", *_AWS_OPTIONS)
    check_members(value, known)
    name, *options = (str(value.get(key, "")) for key in known)
    endpoint = urlsplit(options[-1])
    if options[-1] and (endpoint.scheme not in ("http", "https") or not endpoint.hostname):
        raise refuse("has an endpoint_url that is no address", "write https://…")
    if endpoint.scheme == "http" and endpoint.hostname not in _THIS_MACHINE:
        raise refuse("would bring the secret over the network in clear", "write https://…")
    return AwsSecret(name, *options)


def check_members(value: dict[Any, Any], known: tuple[str, ...]) -> None:
    """Refuse keys that are not known, and values that are no text."""
    for key, text in value.items():
        if key not in known:
            raise refuse("has an unknown key", did_you_mean(str(key), known))
        if not isinstance(text, str) or not text:
            raise refuse(f"has no text after {key}:", f"write a text: {{{key}: …}}")


def secrets_of(model: BaseModel, path: Keys = ()) -> Iterator[tuple[Keys, Secret]]:
    """Every secret of a configuration, wherever in it, with the keys that lead to it."""
    for name, field in type(model).model_fields.items():
        yield from _secrets_in(getattr(model, name), (*path, field.alias or name))


def _secrets_in(value: Any, path: Keys) -> Iterator[tuple[Keys, Secret]]:
    if isinstance(value, Secret):
        yield path, value
    elif isinstance(value, BaseModel):
        yield from secrets_of(value, path)
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from _secrets_in(below, (*path, key))
    elif isinstance(value, tuple | list):
        for at, below in enumerate(value):
            yield from _secrets_in(below, (*path, at))
