"""What `pg-ingest status` says about where each kind of table stands."""

from __future__ import annotations

import pytest

from pg_ingest.bookmark import (
    Bookmark,
    DeltaSnapshotBookmark,
    FullTableBookmark,
    KeyBasedBookmark,
    LogBasedBookmark,
    SnapshotDiffBookmark,
)
from pg_ingest.cli.status_command import position
from pg_ingest.destinations.destination import StreamId, TableStatus, Target


@pytest.mark.parametrize(
    ("bookmark", "said"),
    [
        (FullTableBookmark("0/1", "2026-01-01T00:00:00Z"), "snapshot at 2026-01-01T00:00:00Z"),
        (KeyBasedBookmark("id", "integer", "7"), "id = 7"),
        (KeyBasedBookmark("id", "integer", None), "id = none yet"),
        (DeltaSnapshotBookmark(7, 9, "", "", (), (), ("id",)), "transactions below 7"),
        (
            SnapshotDiffBookmark(
                "0/1", "2026-01-01T00:00:00Z", 18, 1, 5, (), ("id",), ("id",), None, ""
            ),
            "snapshot at 2026-01-01T00:00:00Z",
        ),
        (LogBasedBookmark("0/5", -1, 1, 1, (), "0/3", (), ()), "log applied up to 0/5"),
        (LogBasedBookmark("0/3", -1, 1, 1, (), "0/3", (), ()), "snapshot at 0/3"),
    ],
)
def test_position(bookmark: Bookmark, said: str) -> None:
    stream = StreamId("shop", "eu", "public", "t")
    status = TableStatus(stream, Target("shop", "t"), bookmark, 1, "2026-01-01T00:00:00Z", {})
    assert position(status) == said
