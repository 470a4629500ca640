"""The text of SELECTs, without a server."""

from __future__ import annotations

import pytest

from pg_ingest.postgres.select import Bound, select_rows
from pg_ingest.table import Column, PgType, RelationKind, Table, TableId, TypeKind

INT = PgType(23, "int4", "pg_catalog", TypeKind.BASE, -1, "integer")
TEXT = PgType(25, "text", "pg_catalog", TypeKind.BASE, -1, "text")


def _table(kind: RelationKind = RelationKind.TABLE, *names: str) -> Table:
    columns = tuple(Column(name, i, TEXT) for i, name in enumerate(names or ("a", "b"), 1))
    return Table(TableId("public", "t"), 1, kind, columns)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (RelationKind.TABLE, 'ONLY "public"."t"'),
        (RelationKind.PARTITIONED, '"public"."t"'),
        (RelationKind.VIEW, '"public"."t"'),
        (RelationKind.MATERIALIZED_VIEW, '"public"."t"'),
        (RelationKind.FOREIGN, '"public"."t"'),
    ],
)
def test_only_a_plain_table_is_read_without_its_children(kind: RelationKind, source: str) -> None:
    table = _table(kind)
    assert select_rows(table, table.columns).text == f'SELECT "a", "b" FROM {source}'


def test_names_are_quoted() -> None:
    table = _table(RelationKind.TABLE, 'a"b', "%s", "naïve.col")
    text = select_rows(table, table.columns, order_by=['a"b']).text
    assert text == 'SELECT "a""b", "%s", "naïve.col" FROM ONLY "public"."t" ORDER BY "a""b"'


def test_row_filter_stands_alone_between_parentheses() -> None:
    table = _table()
    bound = Bound("a", ">=", "it's", "text")
    text = select_rows(table, table.columns, where="b = 'x' -- why", bounds=[bound]).text
    assert text.splitlines() == [
        'SELECT "a", "b" FROM ONLY "public"."t" WHERE "a" >= \'it\'\'s\'::text AND (',
        "b = 'x' -- why",
        ")",
    ]


def test_bounds_are_literals_of_their_type() -> None:
    bounds = [
        Bound("a", ">=", "2024-01-01 00:00:00+00", "timestamp with time zone"),
        Bound("a", "<", "back\\slash", "text"),
        Bound("b", "is not null"),
    ]
    table = _table()
    text = select_rows(table, table.columns[:1], bounds=bounds).text
    assert "\"a\" >= '2024-01-01 00:00:00+00'::timestamp with time zone" in text
    assert "\"a\" <  E'back\\\\slash'::text" in text
    assert text.endswith('"b" is not null')


def test_without_a_filter_there_is_nothing_to_check() -> None:
    table = _table()
    query = select_rows(table, table.columns)
    assert query.where is None
    assert query.where_check is None
    assert query.columns == table.columns


def test_a_table_without_columns_still_has_rows() -> None:
    assert select_rows(_table(), ()).text == 'SELECT  FROM ONLY "public"."t"'
