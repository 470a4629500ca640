from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest

from pg_ingest.batch import Batch
from pg_ingest.decode import copy_csv
from pg_ingest.decode.copy_csv import read_copy_csv
from pg_ingest.errors import ProtocolError, SourceUnreachable
from pg_ingest.table import Column
from pg_ingest_tests.decode.making import column

TWO = [column("int4", "a"), column("text", "b")]


def read(data: bytes, columns: Sequence[Column] = TWO) -> list[Batch]:
    batches = list(read_copy_csv(io.BytesIO(data), columns))
    assert sum(batch.size for batch in batches) == len(data)
    return batches


def rows(batches: Sequence[Batch]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for batch in batches for row in batch.rows.to_pylist()]


def test_null_the_empty_string_and_the_string_null() -> None:
    assert rows(read(b'1,\n2,""\n3,NULL\n,\\N\n')) == [
        (1, None),
        (2, ""),
        (3, "NULL"),
        (None, "\\N"),
    ]


def test_one_column_of_nulls_is_empty_lines() -> None:
    data = b'\n""\n\na\n"\\."\n\\.\n\n'
    expected = [(None,), ("",), (None,), ("a",), ("\\.",), ("\\.",), (None,)]
    assert rows(read(data, TWO[1:])) == expected


def test_no_columns_and_no_rows() -> None:
    assert read(b"") == []
    assert read(b"", []) == []
    [batch] = read(b"\n\n\n", [])
    assert (batch.rows.num_rows, batch.rows.num_columns) == (3, 0)


@pytest.mark.parametrize("block", [1, 2, 3, 5, 8, 13, 1000])
def test_records_survive_any_cut(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = ['a"b', "\n", '"\n"', "\r\n", "", ",", '""', "\n\n\n", "é", '\n"', "plain"]
    data = "".join(f'{n},"{v.replace(chr(34), chr(34) * 2)}"\n' for n, v in enumerate(values))
    monkeypatch.setattr(copy_csv, "BLOCK", block)
    assert rows(read(data.encode())) == list(enumerate(values))


def test_a_record_wider_than_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_csv, "BLOCK", 1 << 16)
    wide = 'line "quoted"\r\n' * 200_000
    quoted = wide.replace('"', '""')
    batches = read(f'1,x\n2,"{quoted}"\n3,y\n'.encode())
    assert rows(batches) == [(1, "x"), (2, wide), (3, "y")]


def test_batches_follow_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_csv, "BLOCK", 1000)
    batches = read(b"".join(b"%d,x\n" % n for n in range(10_000)))
    assert len(batches) > 40
    assert max(batch.size for batch in batches) <= 1010
    assert [row[0] for row in rows(batches)] == list(range(10_000))


def test_rows_that_cannot_be_stored_are_rejected() -> None:
    [batch] = read(b"1,a\nx,secret\n2,b\n")
    assert rows([batch]) == [(1, "a"), (2, "b")]
    assert batch.rejected is not None
    assert batch.rejected.to_pylist() == [
        {"column": "a", "reason": "not an integer", "row": '{"a":"x","b":"secret"}'}
    ]


def test_rows_that_are_not_utf8_are_rejected() -> None:
    [batch] = read(b'1,"x\xff"\n2,\xc3\xa9\n,""\n3,\n')
    assert rows([batch]) == [(2, "é"), (None, ""), (3, None)]
    assert batch.rejected is not None
    assert batch.rejected.column("row").to_pylist() == ['{"a":"1","b":"\\\\x78ff"}']


@pytest.mark.parametrize("data", [b"1,secret,3\n", b"secret\n", b'1,"secret\n', b"1,secret"])
def test_other_than_csv_of_these_columns_is_an_error_without_values(data: bytes) -> None:
    with pytest.raises(ProtocolError) as error:
        read(data)
    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_what_the_stream_raises_comes_out_unchanged() -> None:
    fault = SourceUnreachable("the connection broke")

    class Breaking:
        answers = iter([b"1,a\n2,"])

        def read(self, n: int, /) -> bytes:
            try:
                return next(self.answers)
            except StopIteration:
                raise fault from None

    with pytest.raises(SourceUnreachable) as error:
        list(read_copy_csv(Breaking(), TWO))
    assert error.value is fault
