"""DuckDB's errors in our words, without values."""

from __future__ import annotations

import errno
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from pg_ingest.destinations.duckdb import faults
from pg_ingest.destinations.duckdb.widest import Widest
from pg_ingest.errors import DestinationFailed, SourceBusy

PATH = Path("/data/warehouse.duckdb")


def told(error: Exception) -> DestinationFailed:
    with pytest.raises(DestinationFailed) as caught, faults.translated(PATH, "store shop.orders"):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


def test_values_in_duckdbs_words_are_left_out() -> None:
    with duckdb.connect() as connection, pytest.raises(duckdb.ConversionException) as caught:
        connection.execute("SELECT CAST('top secret' AS INTEGER)")
    assert "top secret" in str(caught.value)
    error = told(caught.value)
    assert "top secret" not in str(error)
    assert "ConversionException" in error.detail


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        duckdb.IOException('IO Error: Could not write file "x": No space left on device'),
        duckdb.OutOfMemoryException("Out of Memory Error: failed to offload data block"),
        duckdb.FatalException("FATAL Error: could not write WAL: File too large"),
    ],
    ids=str,
)
def test_a_full_disk_is_called_so(error: Exception) -> None:
    found = told(error)
    assert found.message == "cannot store shop.orders: no room left for /data/warehouse.duckdb"
    assert "make room" in found.hint


def test_too_large_for_memory() -> None:
    """The real error, by a value that this little memory cannot hold; sizes are told, the value is not."""
    rows = pa.record_batch({"id": [1], "body": ["secret" * 3_000_000]})
    with duckdb.connect(config={"memory_limit": "8MB"}) as connection:
        connection.register("arrivals", rows)
        with pytest.raises(DestinationFailed) as caught:
            large = lambda: str(Widest(9, "id").or_in(rows))  # noqa: E731
            with faults.translated(PATH, "stage shop.orders", large):
                connection.execute("create table t as select * from arrivals")
    found = caught.value
    assert found.message == "cannot stage shop.orders: too large for the memory that DuckDB may use"
    assert "the largest value that was read is in column body: 18,000,000 bytes" in found.detail
    assert "exclude_columns" in found.hint
    assert "secret" not in str(found)


def test_too_large_for_memory_after_the_commit() -> None:
    words = (
        "FATAL Error: Transaction COMMIT succeeded and is durable, but the autocheckpoint failed: "
    )
    found = told(duckdb.FatalException(words + "could not allocate block of size 85.8 MiB"))
    assert "too large for the memory" in found.message
    assert found.hint.startswith("this load was stored")


def test_a_file_that_cannot_be_used_is_called_so() -> None:
    for words in (
        'IO Error: The file "x" exists, but it is not a valid DuckDB database file!',
        "IO Error: Trying to read a database file with version number 99",
        "IO Error: Corrupt database file: computed checksum 1 does not match",
    ):
        found = told(duckdb.IOException(words))
        assert found.message == "/data/warehouse.duckdb cannot be used as a DuckDB file"
        assert found.detail == words


def test_other_errors_keep_their_first_line() -> None:
    found = told(duckdb.CatalogException("Catalog Error: no such thing\nLINE 1: SELECT 'value'"))
    assert found.message == "cannot store shop.orders in /data/warehouse.duckdb"
    assert found.detail == "Catalog Error: no such thing"


def test_errors_of_our_own_pass() -> None:
    with pytest.raises(SourceBusy), faults.translated(PATH, "store"):
        raise SourceBusy("later")
