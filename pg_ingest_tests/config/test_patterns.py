"""Patterns are the shell's, and the most specific one wins."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_ingest.config.patterns import Patterns, literal_length

texts = st.text("ab.*?[]!^_-é\n", max_size=8)


@given(texts, st.text("ab.[]!_-é\n", max_size=8))
def test_one_pattern_is_fnmatch(pattern: str, name: str) -> None:
    wanted = fnmatch.fnmatchcase(name, pattern)
    assert Patterns([pattern]).matches(name) is wanted
    assert Patterns([pattern]).best(name) == (pattern if wanted else None)
    assert Patterns([pattern]).unmatched([name]) == ([] if wanted else [pattern])


@given(st.lists(texts, max_size=6), st.lists(texts, max_size=6))
def test_many_patterns(patterns: list[str], names: list[str]) -> None:
    compiled = Patterns(patterns)
    for name in names:
        fitting = [text for text in patterns if fnmatch.fnmatchcase(name, text)]
        assert compiled.matches(name) is bool(fitting)
        wanted = max(fitting, key=literal_length, default=None)
        assert compiled.best(name) == wanted
    lonely = {t for t in patterns if not any(fnmatch.fnmatchcase(name, t) for name in names)}
    assert set(compiled.unmatched(names)) == lonely


@pytest.mark.parametrize(
    ("pattern", "length"),
    [("*", 0), ("public.*", 7), ("a?c", 2), ("t_[0-9]", 2), ("[!a]b", 1), ("[]]x", 1), ("", 0)],
)
def test_literal_length(pattern: str, length: int) -> None:
    assert literal_length(pattern) == length


def test_ties_go_to_the_first() -> None:
    assert Patterns(["a*", "*a"]).best("aa") == "a*"
    assert Patterns(["*a", "a*"]).best("aa") == "*a"


def test_case_counts_and_stars_cross_dots() -> None:
    patterns = Patterns(["tenant_*"])
    assert patterns.matches("tenant_1.orders")
    assert not patterns.matches("Tenant_1.orders")
