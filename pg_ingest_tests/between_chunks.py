"""What is done while a large table is loaded in chunks: for `progress`, which is called once in each."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest

from pg_ingest.errors import SourceUnreachable
from pg_ingest_tests.conftest import Database


def nothing() -> None:
    """What is done in most chunks."""


def broken() -> None:
    """The load breaks off."""
    raise SourceUnreachable("broken by a test")


def during(
    *actions: Callable[[], object], then: Callable[[], object] = nothing
) -> Callable[..., None]:
    """One thing in each chunk, after its snapshot, and `then` in all that follow."""
    left = list(actions)

    def progress(*_: object) -> None:
        (left.pop(0) if left else then)()

    return progress


def writes(
    database: Database, *statements: str, then: Callable[[], object] = nothing
) -> Callable[..., None]:
    """One statement in each chunk, after its snapshot."""
    return during(*(partial(database.execute, each) for each in statements), then=then)


def breaks_off(after: int) -> Callable[..., None]:
    """SourceUnreachable when that many chunks are stored."""
    return during(*[nothing] * after, then=broken)


def chunks_stored(caplog: pytest.LogCaptureFixture) -> list[int]:
    """The numbers of the chunks that were stored since the last call, in order."""
    told = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return [
        int(number) for each in told for number in re.findall(r"chunk stored:.* chunk=(\d+)", each)
    ]
