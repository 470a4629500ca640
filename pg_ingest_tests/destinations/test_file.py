"""The file is opened while it is used, waited for when it is held, and judged when it is no DuckDB."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from pg_ingest.batch import Batch, Everything
from pg_ingest.destinations.destination import StreamId, Target
from pg_ingest.errors import DestinationBusy, DestinationFailed
from pg_ingest_tests.destinations.warehouse import BOOKMARK, STREAM, Warehouse, batch

A, B = (1, "a", 1.5), (2, None, None)

_HOLD = """
import sys, duckdb
with duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read") as held:
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(path: Path, how: str = "write") -> Iterator[subprocess.Popen[str]]:
    """Another process that has the file open until its input ends."""
    command = [sys.executable, "-c", _HOLD, str(path), how]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.communicate()


def test_a_held_file_is_busy_and_the_holder_is_named(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    hasty = Warehouse(warehouse.path, patience=0.1)
    with held(warehouse.path) as holder:
        for use in (
            lambda: hasty.load(Everything(), [B]),
            lambda: hasty.destination.bookmark(STREAM),
            lambda: hasty.destination.status(),
        ):
            with pytest.raises(DestinationBusy, match=f"held by process {holder.pid}") as caught:
                use()
            assert "waited 0 s" in caught.value.detail
    assert hasty.rows() == [A]


def test_a_held_file_is_waited_for(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse.load(Everything(), [A])
    pauses: list[float] = []
    with held(warehouse.path) as holder:

        def pause(seconds: float) -> None:
            if not pauses:
                holder.communicate()
            pauses.append(seconds)

        monkeypatch.setattr("pg_ingest.destinations.duckdb.file.time.sleep", pause)
        warehouse.load(Everything(), [A, B])
    assert pauses
    assert warehouse.rows() == [A, B]


def test_a_long_wait_is_told_once_with_the_holder(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse.load(Everything(), [A])
    monkeypatch.setattr("pg_ingest.destinations.duckdb.file.SILENT_SECONDS", 0.0)
    hasty = Warehouse(warehouse.path, patience=0.2)
    with held(warehouse.path) as holder, pytest.raises(DestinationBusy):
        hasty.load(Everything(), [B])
    told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(told) == 1
    assert told[0].startswith(f"waiting for process {holder.pid} ")
    assert told[0].endswith(f"to let go of {warehouse.path}")


def test_readers_of_other_processes_do_not_keep_a_bookmark_from_being_read(
    warehouse: Warehouse,
) -> None:
    warehouse.load(Everything(), [A])
    with held(warehouse.path, "read"):
        assert warehouse.destination.bookmark(STREAM) == BOOKMARK
        with pytest.raises(DestinationBusy):
            Warehouse(warehouse.path, patience=0).load(Everything(), [B])


def test_a_connection_of_this_process_with_other_settings_is_busy_too(
    warehouse: Warehouse,
) -> None:
    warehouse.load(Everything(), [A])
    with (
        duckdb.connect(warehouse.path),
        pytest.raises(DestinationBusy, match="held by another connection"),
    ):
        Warehouse(warehouse.path, patience=0.05).load(Everything(), [B])


_LOAD = """
import sys, duckdb
from pathlib import Path
from pg_ingest.batch import Everything
from pg_ingest_tests.destinations.warehouse import Warehouse
Warehouse(Path(sys.argv[1])).load(Everything(), [(1, "a", 1.5)])
import subprocess
check = "import sys, duckdb; duckdb.connect(sys.argv[1]).close()"
subprocess.run([sys.executable, "-c", check, sys.argv[1]], check=True)
"""


def test_the_file_is_free_after_use_and_nothing_leaks_at_exit(warehouse: Warehouse) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(warehouse.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [entry.name for entry in warehouse.path.parent.iterdir()] == ["warehouse.duckdb"]


@pytest.mark.parametrize("content", [b"", b"not a database\n" * 1000, b"\0" * 20_000])
def test_a_file_that_is_no_duckdb_is_refused_and_kept(warehouse: Warehouse, content: bytes) -> None:
    warehouse.path.parent.mkdir()
    warehouse.path.write_bytes(content)
    with pytest.raises(DestinationFailed, match="cannot be used as a DuckDB file"):
        warehouse.load(Everything(), [A])
    with pytest.raises(DestinationFailed, match="cannot be used as a DuckDB file"):
        warehouse.destination.bookmark(STREAM)
    assert warehouse.path.read_bytes() == content


def test_a_folder_in_the_files_place_is_refused(warehouse: Warehouse) -> None:
    warehouse.path.mkdir(parents=True)
    with pytest.raises(DestinationFailed, match="cannot be used as a DuckDB file"):
        warehouse.load(Everything(), [A])


def test_a_file_in_the_folders_place_is_refused(warehouse: Warehouse) -> None:
    warehouse.path.parent.write_text("in the way")
    with pytest.raises(DestinationFailed, match="cannot make the folder"):
        warehouse.load(Everything(), [A])


def test_threads_queue_to_write_and_read_beside_a_writer(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    reading, go_on = threading.Event(), threading.Event()
    other = StreamId("shop", "eu", "public", "lines")

    def slow() -> Iterator[Batch]:
        reading.set()
        assert go_on.wait(30)
        yield batch([B])

    first = threading.Thread(target=warehouse.load_batches, args=(Everything(), slow()))
    second = threading.Thread(
        target=warehouse.load,
        args=(Everything(), [A]),
        kwargs={"stream": other, "target": Target("shop", "lines")},
    )
    first.start()
    assert reading.wait(30)
    second.start()
    assert warehouse.destination.bookmark(STREAM) == BOOKMARK
    assert [status.rows for status in warehouse.destination.status()] == [1]
    go_on.set()
    first.join(30)
    second.join(30)
    assert (warehouse.rows(), warehouse.rows("shop.lines")) == ([B], [A])
    assert warehouse.query('SELECT id, "table" FROM _pgi.loads ORDER BY id') == [
        (1, "orders"),
        (2, "orders"),
        (3, "lines"),
    ]


def test_a_file_reached_by_two_names_is_one_file(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    link = warehouse.path.with_name("link.duckdb")
    link.symlink_to(warehouse.path)
    through = Warehouse(link, patience=0)
    with warehouse.destination.file.writing():
        assert through.destination.bookmark(STREAM) == BOOKMARK
