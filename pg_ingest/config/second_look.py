"""Judging what several keys mean together although some keys are wrong by themselves.

The keys found wrong are taken out (with a stand-in where the model needs one) and the rest is judged, so
that problems of the second kind do not wait until those of the first are corrected. The price is false
echoes: `method: ful_table` taken out leaves a table without a method. So each problem of the second kind
names the keys it is about, and is not told when one of them has been told already, or is what a
miswritten key was meant to be.
"""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from pg_ingest.config.model import IngestConfig
from pg_ingest.config.problem import Path, Problem, nearest
from pg_ingest.config.translate import keys_at, problems_of

_STAND_INS: dict[str, Any] = {
    "destination": {"type": "duckdb", "path": "stand-in.duckdb"},
    "path": "stand-in.duckdb",
    "sources": {},
    "host": "stand-in",
    "user": "stand-in",
    "databases": ["stand-in"],
}


def without_wrong_keys(
    data: dict[str, Any], wrong: list[Problem], context: dict[str, Any]
) -> IngestConfig | None:
    """The configuration without its wrong keys, None when too little is left to judge."""
    rest = copy.deepcopy(data)
    for _ in range(_ROUNDS):
        for problem in sorted(wrong, key=lambda found: -len(found.path)):
            _take_out(rest, problem.path)
        try:
            return IngestConfig.model_validate(rest, context=context)
        except ValidationError as error:
            wrong = problems_of(error)
    return None


_ROUNDS = 4
"""A key taken out may be missed by its parent, which is then taken out, and so on: levels are few."""


def _take_out(rest: dict[str, Any], path: Path) -> None:
    """Remove the key at the path; where it is missing, put a stand-in or remove what needs it."""
    owner: Any = rest
    for depth, part in enumerate(path[:-1]):
        if not isinstance(owner, dict):
            return _take_out(rest, path[:depth])
        if part not in owner:
            return None
        owner = owner[part]
    key = str(path[-1])
    if not isinstance(owner, dict):
        return _take_out(rest, path[:-1])
    if key in owner:
        del owner[key]
    elif len(path) <= 3 and key in _STAND_INS:
        owner[key] = copy.deepcopy(_STAND_INS[key])
    elif len(path) > 1:
        _take_out(rest, path[:-1])
    return None


def untold(found: list[Problem], told: list[Problem]) -> list[Problem]:
    """The problems whose own keys are not already told to be wrong (or miswritten)."""
    wrong = {problem.path for problem in told}
    for problem in told:
        guess = nearest(str(problem.path[-1]), keys_at(problem.path[:-1])) if problem.path else []
        wrong.update((*problem.path[:-1], key) for key in guess)
    above = {path[:depth] for path in wrong for depth in range(1, len(path) + 1)}
    return [
        problem
        for problem in found
        if not any(problem.path[:depth] in wrong for depth in range(1, len(problem.path) + 1))
        and above.isdisjoint(problem.about)
    ]
