"""`pg-ingest sync` and `reset`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from pg_ingest.cli.instance import make_home
from pg_ingest.cli.output import print_table
from pg_ingest.destinations.duckdb import DuckDbDestination
from pg_ingest_tests.cli.conftest import Project

FULL = "method: full_table\ntables:\n  public.orders: {}\n"
WINDOWED = """
    method: full_table
    tables:
      public.events:
        partition_by: {column: at, every: day, start: 2024-01-01, end: 2024-01-05}
    """


@pytest.mark.usefixtures("orders")
def test_rows_arrive_and_a_second_sync_changes_nothing(project: Project) -> None:
    project.configure(FULL)
    first = project.run("sync")
    assert first.code == 0
    assert "1 done" in first.out
    assert project.stored("select id, name from shop.orders order by 1") == [
        (1, "x1"),
        (2, "x2"),
        (3, "x3"),
    ]
    second = project.run("sync", "--json")
    (result,) = second.json["results"]
    assert (result["status"], result["table"], result["database"]) == (
        "done",
        "public.orders",
        project.database.name,
    )
    facts = result["facts"]
    assert (facts["total"], facts["inserted"], facts["updated"], facts["deleted"]) == (3, 0, 0, 0)


@pytest.mark.usefixtures("orders")
def test_one_table_of_two(project: Project) -> None:
    project.database.execute("create table other (id int)")
    project.configure(FULL + "  public.other: {}\n")
    for name in ("public.other", "shop/public/other", "public.oth*"):
        answer = project.run("sync", name, "--json")
        assert [result["table"] for result in answer.json["results"]] == ["public.other"]


@pytest.mark.usefixtures("orders")
def test_a_failing_table_is_told_with_its_reason_at_the_end(project: Project) -> None:
    project.database.execute("create table broken (id int)")
    project.configure(FULL + "  public.broken: {where: 'no_such_column > 1'}\n")
    answer = project.run("sync")
    assert answer.code == 1
    assert "1 done, 1 failed" in answer.out
    assert f"shop/public.broken in {project.database.name} failed:" in answer.out
    assert "no_such_column" in answer.out
    assert "Traceback" not in answer.out + answer.err
    assert project.stored("select count(*) from shop.orders") == [(3,)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shp"], "did you mean shop?"),
        (["public.order"], "did you mean public.orders?"),
        (["-d", "nowhere"], "no source has the database nowhere"),
        (["-w", "2024-01-01"], "none of these tables has partition_by"),
    ],
)
def test_wrong_use(project: Project, arguments: list[str], words: str) -> None:
    project.configure(FULL)
    answer = project.run("sync", *arguments)
    assert answer.code == 2
    assert words in answer.err


def test_windows_that_are_due(project: Project) -> None:
    project.database.execute("create table events (id int primary key, at timestamptz not null)")
    project.database.execute(
        "insert into events select n, '2024-01-01 UTC'::timestamptz + n * interval '1 hour'"
        " from generate_series(0, 95) n"
    )
    project.configure(WINDOWED)
    make_home(project.folder / "pg_ingest.yaml")
    one_run = project.run("sync", "-w", "2024-01-02...2024-01-02", "--json").json["results"]
    assert [one["window"] for one in one_run] == ["2024-01-02"]
    rest = project.run("sync", "--json").json["results"]
    assert [one["window"] for one in rest] == ["2024-01-01", "2024-01-03 … 2024-01-04"]
    newest = project.run("sync", "--json").json["results"]
    assert [one["window"] for one in newest] == ["2024-01-03 … 2024-01-04"]
    assert project.stored("select count(*), count(distinct id) from shop.events") == [(96, 96)]
    reset = project.run("reset", "public.events", "--json").json["results"]
    assert [one["window"] for one in reset] == ["2024-01-01 … 2024-01-04"]
    refused = project.run("sync", "-w", "2024-02-01")
    assert refused.code == 2
    assert "there are 2024-01-01 to 2024-01-04" in refused.err


def test_reset_finds_what_a_key_cannot(project: Project) -> None:
    project.database.execute("create table orders (id int primary key, at timestamptz not null)")
    project.database.execute("insert into orders values (1, '2024-01-01 UTC'), (2, now())")
    project.configure("tables:\n  public.orders: {method: key_based, replication_key: at}\n")
    assert project.run("sync").code == 0
    project.database.execute("delete from orders where id = 1")
    project.run("sync")
    assert project.stored("select count(*) from shop.orders") == [(2,)]
    assert project.run("reset", "public.orders").code == 0
    assert project.stored("select id from shop.orders") == [(2,)]


def test_a_full_load_after_another_method_is_said_before_it_begins(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table in "abc":
        project.database.execute(f"create table {table} as select 1 as id")
        project.database.execute(f"alter table {table} add primary key (id)")
    chosen = "tables:\n  public.a: {{method: {}}}\n  public.b: {{method: {}}}\n  public.c: {{method: {}}}\n"
    project.configure(chosen.format("full_table", "xmin", "xmin"))
    first = project.run("sync")
    assert (first.code, first.err) == (0, "")
    project.configure(chosen.format("xmin", "snapshot_diff", "delta_snapshot"))
    foretold = [line for line in project.run("check").out.splitlines() if "next-load" in line]
    assert [line.split(":")[0].split(".")[-1] for line in foretold] == [
        "a  next-load",
        "b  next-load",
    ]
    assert "loaded by full_table, and xmin cannot go on from there" in foretold[0]
    read = Mock(side_effect=AssertionError("rows are read"))
    monkeypatch.setattr(DuckDbDestination, "stage", read)
    said = [line for line in project.run("sync").err.splitlines() if ": all rows are read" in line]
    name = project.database.name
    assert said == [
        f"{name}: public.a: all rows are read once: it was loaded by full_table before",
        f"{name}: public.b: all rows are read once: it was loaded by xmin before",
    ]


def test_reset_wants_a_table(project: Project) -> None:
    project.configure(FULL)
    assert project.run("reset").code == 2


@pytest.mark.usefixtures("orders")
def test_a_failed_reset_keeps_the_rows(project: Project) -> None:
    project.configure(FULL)
    project.run("sync")
    project.database.execute("alter table orders rename to renamed")
    answer = project.run("reset", "public.orders")
    assert answer.code == 1
    assert project.stored("select count(*) from shop.orders") == [(3,)]


@pytest.mark.usefixtures("orders")
def test_patterns_are_looked_up_the_first_time(project: Project) -> None:
    project.configure("method: full_table\nselect_all: true\n", databases="['t*']", limits="{}")
    answer = project.run("sync", "-d", project.database.name)
    assert "looking at its tables for the first time" in answer.err
    assert "1 done" in answer.out


def test_a_table_that_no_database_has(project: Project) -> None:
    project.configure(FULL, databases=f"[{project.database.name}, postgres]")
    answer = project.run("sync")
    assert answer.code == 1
    assert "table public.orders does not exist in any of the databases" in answer.out


@pytest.mark.usefixtures("orders")
def test_a_table_that_the_chosen_database_lacks_is_absent_not_gone(project: Project) -> None:
    project.configure(FULL, databases=f"[{project.database.name}, postgres]")
    assert project.run("sync").code == 0
    answer = project.run("sync", "-d", "postgres")
    assert (answer.code, "1 absent" in answer.out) == (0, True)
    assert "does not exist" not in answer.out


@pytest.mark.usefixtures("orders")
def test_rows_that_cannot_be_stored_are_told_with_the_reason(project: Project) -> None:
    project.database.execute("create table prices (id int, price numeric(5,2))")
    project.database.execute("insert into prices values (1, 1), (2, 'NaN')")
    project.configure("method: full_table\ntables:\n  public.prices: {}\n")
    answer = project.run("sync")
    assert answer.code == 0
    assert "1 row was set aside in _pgi.rejected, not stored: price: NaN" in answer.err


@pytest.mark.usefixtures("orders")
def test_runs_are_kept_where_the_ui_looks(project: Project) -> None:
    import dagster as dg

    project.configure(FULL)
    home = make_home(project.folder / "pg_ingest.yaml")
    assert project.run("sync").code == 0
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (run,) = instance.get_runs()
        assert run.job_name == "sync_shop"
        assert run.is_success


def test_the_home_must_exist(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project.configure(FULL)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "nowhere"))
    answer = project.run("sync")
    assert answer.code == 2
    assert "nowhere" in answer.err


@pytest.mark.usefixtures("orders")
def test_ctrl_c_ends_it_all_and_harms_nothing(project: Project) -> None:
    """The interrupt arrives while the first of two databases waits for a lock."""
    project.configure(FULL, databases=f"[{project.database.name}, postgres]")
    script = "from pg_ingest.cli import main; main()"
    with project.database.connect(autocommit=False) as blocker:
        blocker.execute("lock table orders")
        process = subprocess.Popen(
            [sys.executable, "-c", script, "sync", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        waiting = "select count(*) from pg_locks where not granted"
        while project.database.rows(waiting) == [(0,)]:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    results = json.loads(out)["results"]
    assert [(one["status"], one["error"]) for one in results] == [("failed", "interrupted")]
    assert "Traceback" not in out + err
    assert not (project.folder / "warehouse.duckdb").exists() or not project.stored(
        "select 1 from duckdb_tables() where schema_name = 'shop'"
    )


def test_a_narrow_terminal_loses_columns_not_letters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"table": "left", "size": "right", "result": "left"}
    row = [["public.a_rather_long_name", "1.2 GB", "done"]]
    monkeypatch.setenv("COLUMNS", "38")
    monkeypatch.setenv("TERM", "xterm")
    print_table("", columns, row, spare=("size",))
    assert "1.2 GB" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table("", columns, row, spare=("size",))
    shown = capsys.readouterr().out
    assert "1.2 GB" not in shown
    assert "public.a_rather_long_name  done" in shown
