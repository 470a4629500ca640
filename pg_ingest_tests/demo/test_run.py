"""`pg-ingest demo`, from its start to the last process it leaves (none)."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from pg_ingest.config.method import Method
from pg_ingest.demo import run
from pg_ingest.demo.cluster import free_port
from pg_ingest.demo.compare import Comparison
from pg_ingest.demo.report import Load, Verdict, read_loads
from pg_ingest.demo.scene import scene
from pg_ingest.demo.shop import SHOP, ShopTable, Size
from pg_ingest.errors import PersonMustAct
from pg_ingest.table import TableId

ROWS = "4000"


@dataclass(frozen=True)
class Place:
    """Where a demo runs: its temporary folder, and a mark that each of its processes inherits."""

    folder: Path
    mark: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "TMPDIR": str(self.folder)}
        environment["PATH"] += os.pathsep + self.mark
        command = [sys.executable, "-c", "from pg_ingest.cli import main; main()", "demo"]
        return subprocess.Popen(
            [*command, "--rows", ROWS, *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[str]:
        """Command lines of the processes that carry the mark."""
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in environ.read_bytes():
                    found.append(environ.with_name("cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found


@pytest.fixture
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="pg_ingest_test_"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when the tests are run by root
    yield Place(folder, f"/mark-{uuid.uuid4().hex}")
    shutil.rmtree(folder)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"the demo never said {text!r}:\n{said}")


def test_once_ends_with_equal_tables_and_leaves_only_what_is_kept(
    place: Place, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    process = place.start("--once", "--keep", str(kept))
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "All 17 tables are equal" in said
    for method in Method:
        assert f"method: {method.value}" in said
    assert place.processes() == []
    assert list(place.folder.iterdir()) == []
    check_what_the_log_brought(kept / "warehouse.duckdb")
    check_what_was_found_without_a_log(kept / "warehouse.duckdb")


def check_what_the_log_brought(warehouse: Path) -> None:
    loads = read_loads(warehouse)
    for shown in SHOP:
        if shown.method is Method.LOG_BASED:
            first, *later = loads[shown.table]
            assert first.inserted == first.rows_read > 0
            assert sum(load.inserted for load in later) > 0, shown.table
            assert sum(load.deleted for load in later) > 0, shown.table
    for name in ("carts", "sessions", "visits"):
        assert sum(load.updated for load in loads[TableId("sales", name)]) > 0, name
    with duckdb.connect(warehouse, read_only=True) as connection:
        marked = "select count(*) from shop.sessions where _pgi_deleted_at is not null"
        assert connection.execute(marked).fetchone() != (0,)


def check_what_was_found_without_a_log(warehouse: Path) -> None:
    loads = read_loads(warehouse)
    expected = {
        Method.XMIN: {"inserted", "updated"},
        Method.DELTA_SNAPSHOT: {"inserted", "updated", "deleted"},
        Method.SNAPSHOT_DIFF: {"inserted", "updated", "deleted"},
    }
    for method, counts in expected.items():
        (table,) = (shown.table for shown in SHOP if shown.method is method)
        first, *later = loads[table]
        assert first.inserted == first.rows_read > 0
        assert len(later) == 2
        for count in ("inserted", "updated", "deleted"):
            found = sum(getattr(load, count) for load in later)
            assert (found > 0) is (count in counts), (table, count, found)
    accounts = loads[TableId("public", "pgbench_accounts")]
    assert all(load.rows_read < accounts[0].rows_read / 10 for load in accounts[1:])


def test_ctrl_c_in_the_live_demo_leaves_nothing(place: Place) -> None:
    process = place.start("--port", str(free_port()))
    read_until(process, "Ctrl-C stops everything")
    running = "\n".join(place.processes())
    for expected in ("pgbench", "dagster", "postgres"):
        assert expected in running
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "nothing is left running" in said
    assert place.processes() == []
    assert list(place.folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_of_once_leaves_nothing(
    place: Place, number: signal.Signals
) -> None:
    process = place.start("--once")
    read_until(process, "first sync")
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert place.processes() == []
    assert list(place.folder.iterdir()) == []


def test_one_table_that_differs_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = ShopTable(TableId("sales", "orders"), Method.KEY_BASED)
    loads = [Load(1.0, 10, 100, 10, 0, 0), Load(0.1, 1, 10, 1, 0, 0)]
    verdicts = [
        Verdict(shown, loads, Comparison(rows=11, missing=0, surplus=0)),
        Verdict(shown, loads, Comparison(rows=11, missing=1, surplus=0)),
    ]
    monkeypatch.setattr(run, "_compare", lambda stage: verdicts)
    console = Console(width=130, record=True, quiet=True)
    assert run._judge(console, None) == 1  # type: ignore[arg-type]
    monkeypatch.setattr(run, "_compare", lambda stage: verdicts[:1])
    assert run._judge(console, None) == 0  # type: ignore[arg-type]


def test_a_folder_with_something_in_it_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "pg_ingest.yaml").write_text("mine")
    with pytest.raises(PersonMustAct, match="not empty"), scene(Size(2000), tmp_path):
        raise AssertionError("it started nevertheless")
    assert (tmp_path / "pg_ingest.yaml").read_text() == "mine"


@pytest.mark.parametrize("wanted", [1, 2000, 123_456, 1_000_000])
def test_sizes_fit_together(wanted: int) -> None:
    size = Size(wanted)
    assert size.rows >= min(wanted, 2000)
    assert size.orders * 4 == size.customers * 40 == size.products * 100 == size.rows
