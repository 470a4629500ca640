from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_ingest.destinations.duckdb.statement import Sql, identifier, joined, literal, sql

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(texts, texts)
def test_any_name_and_any_text_stay_what_they_are(name: str, text: str) -> None:
    statement = sql("SELECT {text} AS {name}", text=literal(text), name=identifier(name))
    with duckdb.connect() as connection:
        found = connection.execute(statement)
        assert found.description is not None
        assert found.description[0][0] == name
        assert found.fetchall() == [(text,)]


def test_a_bare_string_is_refused() -> None:
    with pytest.raises(TypeError, match="table is a bare str, not SQL"):
        sql("SELECT * FROM {table}", table="orders; drop")  # type: ignore[arg-type]


def test_parts_are_not_filled_again() -> None:
    assert sql("{a} {b}", a=identifier("{b}"), b=Sql("x")) == '"{b}" x'


def test_names_have_dots_and_lists_have_commas() -> None:
    assert identifier("a", 'b"c') == '"a"."b""c"'
    assert joined([Sql("a"), Sql("b")]) == "a, b"
    assert joined([Sql("a"), Sql("b")], " AND ") == "a AND b"
