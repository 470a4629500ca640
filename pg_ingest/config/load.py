"""Read `pg_ingest.yaml`: the file, its YAML, its keys, what they mean together; all problems at once."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, NoReturn

from pydantic import ValidationError

from pg_ingest.config.model import IngestConfig
from pg_ingest.config.problem import Path, Problem, raise_problems
from pg_ingest.config.rules import find_problems
from pg_ingest.config.second_look import untold, without_wrong_keys
from pg_ingest.config.secret import secrets_of
from pg_ingest.config.translate import problems_of
from pg_ingest.config.yaml_text import NotYaml, read_yaml
from pg_ingest.errors import ConfigError

VARIABLE = "PG_INGEST_CONFIG"
DEFAULT_NAME = "pg_ingest.yaml"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration without a known problem.

    Attributes:
        path: the file it was read from (absolute), or the folder that relative paths start at.
        warnings: what is allowed but unwise, for people.
    """

    config: IngestConfig
    path: FilePath
    warnings: tuple[str, ...] = ()


def load_config(path: FilePath | None = None) -> LoadedConfig:
    """Load the file at `path`, else at `$PG_INGEST_CONFIG`, else `./pg_ingest.yaml`.

    Raises:
        ConfigError: there is no such file, it is not YAML, or it has problems: all are listed.
    """
    file = _find(path)
    name = str(path) if path is not None else _short(file)
    try:
        text = read_yaml(_read(file, name))
    except NotYaml as error:
        raise ConfigError(
            f"the configuration {name} is not valid YAML",
            detail=f"{name}:{error.line}: column {error.column}: {error.what}",
            hint=error.remedy,
        ) from None
    config = _checked(text.data, file.parent, name, text.line, text.problems)
    return LoadedConfig(config.loaded_from(file), file, _warnings(config))


def parse_config(
    data: Mapping[str, Any], *, folder: FilePath, name: str = "configuration"
) -> LoadedConfig:
    """The same from plain data, for a configuration that stands inside another file.

    Args:
        folder: where relative paths start.
        name: what problems call the configuration.

    Raises:
        ConfigError: it has problems: all are listed, without lines.
    """
    config = _checked(copy.deepcopy(dict(data)), folder.absolute(), name, lambda path: None, ())
    return LoadedConfig(config, folder.absolute(), _warnings(config))


def _find(path: FilePath | None) -> FilePath:
    variable = os.environ.get(VARIABLE)
    if path is not None:
        chosen, why = path, "the path that was given"
    elif variable:
        chosen, why = FilePath(variable), f"${VARIABLE}"
    else:
        chosen, why = FilePath(DEFAULT_NAME), f"${VARIABLE} is not set, so the current folder"
    chosen = chosen.expanduser().absolute()
    if not chosen.is_file():
        _no_file(chosen, why)
    return chosen


def _no_file(chosen: FilePath, why: str) -> NoReturn:
    raise ConfigError(
        f"there is no configuration file {chosen}",
        detail=f"looked at {chosen} ({why})"
        + ("; that is a folder, not a file" if chosen.is_dir() else ""),
        hint=f"copy pg_ingest.example.yaml to {DEFAULT_NAME} and adapt it, or set {VARIABLE} to the "
        "path of yours; `pg-ingest demo` makes one that works",
    )


def _short(file: FilePath) -> str:
    here = FilePath.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def _read(file: FilePath, name: str) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"the configuration {name} cannot be read",
            detail=error.strerror or type(error).__name__,
            hint="make it readable for the user that runs this",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the configuration {name} is not UTF-8 text",
            detail=f"byte {error.start} cannot be decoded",
            hint="save it as UTF-8",
        ) from None


def _checked(
    data: Any,
    folder: FilePath,
    name: str,
    line_of: Callable[[Path], int | None],
    earlier: tuple[Problem, ...],
) -> IngestConfig:
    """The configuration, or one ConfigError with the problems of every kind."""
    if not isinstance(data, dict):
        what = "is empty" if data is None else "is not a mapping of keys"
        problem = Problem((), what, "start from pg_ingest.example.yaml")
        raise_problems(name, (*earlier, problem), line_of, f"the configuration {name}")
    problems = [*earlier, *_take_out_empty(data)]
    context = {"folder": folder}
    config: IngestConfig | None
    try:
        config = IngestConfig.model_validate(data, context=context)
    except ValidationError as error:
        empty = {problem.path for problem in problems}
        wrong = [problem for problem in problems_of(error) if problem.path not in empty]
        problems += wrong
        config = without_wrong_keys(data, problems, context)
    if config is not None:
        problems += untold(find_problems(config), problems)
    raise_problems(name, problems, line_of, f"the configuration {name}")
    if config is None:
        raise AssertionError("a configuration that did not validate has problems")
    return config


def _take_out_empty(data: dict[str, Any]) -> list[Problem]:
    """Remove keys without a value (`where:`), which would otherwise count as not given."""
    problems: list[Problem] = []
    places: list[tuple[Path, Any]] = [((), data)]
    while places:
        path, value = places.pop()
        if isinstance(value, dict):
            for key in [key for key, below in value.items() if below is None]:
                if len(path) == 3 and path[0] == "sources" and path[2] == "tables":
                    continue
                if path == () and key == "sources":
                    value[key] = {}
                    continue
                del value[key]
                problems.append(
                    Problem((*path, key), "has no value", "give one, or remove the key")
                )
            places += [((*path, key), below) for key, below in value.items()]
    return problems


def _warnings(config: IngestConfig) -> tuple[str, ...]:
    return tuple(
        f"{'.'.join(map(str, path))} stands in the file as text; write {{env: NAME}} or {{file: path}}"
        for path, secret in secrets_of(config)
        if secret.is_literal
    )
