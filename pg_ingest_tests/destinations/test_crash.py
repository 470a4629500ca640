"""A load that is killed, or whose disk is full, at any step: all of it is there, or none."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from pg_ingest.batch import Everything, Keys
from pg_ingest_tests.destinations import crash
from pg_ingest_tests.destinations.warehouse import BOOKMARK, STREAM, Warehouse

OLD = [(1, "old", 1.5), (-5, "old", None)]
TABLES = ["_pgi.bookmarks", "_pgi.gaps", "_pgi.loads", "_pgi.rejected", "shop.orders"]


def run(warehouse: Warehouse, scope: str, step: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", crash.__name__, str(warehouse.path), scope, step]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def old_state(warehouse: Warehouse) -> bool:
    return (
        warehouse.rows() == sorted(OLD)
        and warehouse.destination.bookmark(STREAM) == BOOKMARK
        and warehouse.query("SELECT count(*) FROM _pgi.loads") == [(1,)]
        and warehouse.tables() == TABLES
    )


@pytest.mark.parametrize(
    ("scope", "step"),
    [
        ("everything", "reading"),
        ("everything", "staged"),
        ("everything", "statement 4"),
        ("everything", "recorded"),
        ("keys", "statement 3"),
        ("keys", "statement 5"),
        ("keys", "ledger"),
        ("ranges", "statement 6"),
    ],
)
def test_a_killed_load_never_was(warehouse: Warehouse, scope: str, step: str) -> None:
    warehouse.load(Everything(), OLD)
    assert run(warehouse, scope, step).returncode == -signal.SIGKILL
    assert old_state(warehouse)
    warehouse.load_batches(crash.SCOPES[scope], crash.batches())
    assert warehouse.query("SELECT count(*), count(DISTINCT id) FROM shop.orders") == [
        (crash.ROWS + (scope != "everything"),) * 2
    ]
    assert warehouse.tables() == TABLES


def test_a_load_killed_after_its_commit_is_there(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), OLD)
    assert run(warehouse, "everything", "committed").returncode == -signal.SIGKILL
    assert warehouse.destination.bookmark(STREAM) == crash.NEWER
    assert warehouse.query("SELECT count(*), count(DISTINCT id) FROM shop.orders") == [
        (crash.ROWS,) * 2
    ]
    report = warehouse.load_batches(Everything(), crash.batches())
    assert report.counts.changed is False


@pytest.mark.parametrize("step", ["full-reading", "full-commit"])
@pytest.mark.parametrize("scope", ["everything", "keys"])
def test_a_full_disk_leaves_the_old_rows(warehouse: Warehouse, scope: str, step: str) -> None:
    warehouse.load(Everything(), OLD)
    full = run(warehouse, scope, step)
    assert full.returncode == 3, full.stderr
    assert "no room left" in full.stdout
    assert "make room on that disk and run again" in full.stdout
    assert old_state(warehouse)
    report = warehouse.load_batches(Keys(("id",)), crash.batches())
    assert (report.counts.inserted, report.counts.updated) == (crash.ROWS - 1, 1)
