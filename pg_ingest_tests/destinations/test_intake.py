"""What goes wrong in the source's stream comes out as it was, and nothing is left."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from pg_ingest.batch import Batch, Everything
from pg_ingest.errors import SourceUnreachable
from pg_ingest_tests.destinations.warehouse import (
    BOOKMARK,
    SCHEMA,
    STREAM,
    TARGET,
    Warehouse,
    batch,
    draft,
)

A, B = (1, "a", 1.5), (2, None, None)


def breaking(error: BaseException) -> Iterator[Batch]:
    yield batch([B])
    raise error


@pytest.mark.parametrize("kind", [SourceUnreachable, RuntimeError, KeyboardInterrupt])
def test_the_sources_own_error_comes_out(warehouse: Warehouse, kind: type[BaseException]) -> None:
    error = kind("the server closed the connection")
    warehouse.load(Everything(), [A])
    with pytest.raises(kind) as caught:
        warehouse.load_batches(Everything(), breaking(error))
    assert caught.value is error
    assert warehouse.rows() == [A]
    assert warehouse.load(Everything(), [A, B]).counts.total == 2


def test_an_error_in_the_first_load_leaves_no_trace(warehouse: Warehouse) -> None:
    with pytest.raises(RuntimeError):
        warehouse.load_batches(Everything(), breaking(RuntimeError("x")))
    assert warehouse.tables() == []
    assert warehouse.query("SELECT schema_name FROM duckdb_schemas() WHERE NOT internal") == []
    assert warehouse.destination.status() == []


def test_a_stage_that_is_not_committed_leaves_no_trace(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    tables = warehouse.tables()
    with warehouse.destination.stage(
        STREAM, TARGET, SCHEMA, iter([batch([B])]), max_rejected=0
    ) as stage:
        assert stage.rows == 1
    assert warehouse.tables() == tables
    assert warehouse.rows() == [A]


def test_an_error_between_stage_and_commit_leaves_no_trace(warehouse: Warehouse) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        warehouse.destination.stage(STREAM, TARGET, SCHEMA, iter([batch([B])]), max_rejected=0),
    ):
        raise ZeroDivisionError
    assert warehouse.tables() == []


def test_rows_are_pulled_one_batch_at_a_time(warehouse: Warehouse) -> None:
    pulled: list[int] = []

    def batches() -> Iterator[Batch]:
        for number in range(50):
            pulled.append(number)
            yield batch([(number, None, None)])

    source = batches()
    with warehouse.destination.stage(STREAM, TARGET, SCHEMA, source, max_rejected=0) as stage:
        assert pulled == list(range(50))
        assert stage.rows == 50
        report = stage.commit(Everything(), BOOKMARK, draft())
    assert report.counts.total == 50


def test_a_batch_with_other_columns_is_a_mistake(warehouse: Warehouse) -> None:
    other = pa.schema([("id", pa.int32())])
    with pytest.raises(ValueError, match="other columns than were announced"):
        warehouse.load_batches(Everything(), iter([batch([(1,)], other)]))
    assert warehouse.tables() == []
