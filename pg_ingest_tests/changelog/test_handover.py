from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pg_ingest.bookmark import LogBasedBookmark, dump, load
from pg_ingest.changelog.handover import still_to_apply


def bookmark(**changed: object) -> LogBasedBookmark:
    fields: dict[str, object] = {
        "lsn": "0/10",
        "sequence": -1,
        "snapshot_xmin": 100,
        "snapshot_xmax": 110,
        "snapshot_in_progress": (103,),
        "joined_lsn": "0/1000",
        "columns": (),
        "key": ("id",),
    }
    return LogBasedBookmark(**{**fields, **changed})  # type: ignore[arg-type]


def changes(*rows: tuple[int, int, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["_pgi_lsn", "_pgi_sequence", "_pgi_xid"], orient="row")


def test_what_the_snapshot_saw_is_skipped() -> None:
    kept = still_to_apply(
        changes((0x20, 0, 99), (0x21, 0, 103), (0x22, 0, 105), (0x23, 0, 110), (0x24, 0, 111)),
        bookmark(),
    )
    assert kept["_pgi_xid"].to_list() == [103, 110, 111]


def test_behind_the_joined_position_ids_are_not_looked_at() -> None:
    kept = still_to_apply(changes((0x1001, 0, 99)), bookmark())
    assert len(kept) == 1


def test_what_was_applied_is_skipped_within_a_transaction_too() -> None:
    half = bookmark(lsn="0/2000", sequence=4)
    kept = still_to_apply(changes((0x1FFF, 9, 1), (0x2000, 4, 1), (0x2000, 5, 1)), half)
    assert kept["_pgi_sequence"].to_list() == [5]
    whole = bookmark(lsn="0/2000")
    assert len(still_to_apply(changes((0x2000, 5, 1), (0x2001, 0, 1)), whole)) == 1


@given(st.integers(2**31, 2**60), st.integers(-(2**31) + 200, 2**31 - 200))
def test_ids_are_completed_across_a_wraparound(xmax: int, distance: int) -> None:
    snapshot = bookmark(snapshot_xmin=xmax, snapshot_xmax=xmax, snapshot_in_progress=())
    log = changes((0x20, 0, (xmax + distance) % 2**32))
    assert len(still_to_apply(log, snapshot)) == (distance >= 0)


def test_a_bookmark_comes_back_as_it_was_written() -> None:
    assert load(dump(bookmark())) == bookmark()
