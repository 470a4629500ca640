"""`discover`, `status`, `check`, `dev`, and the group itself."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import pg_ingest.cli
from pg_ingest import __version__
from pg_ingest.batch import Batch
from pg_ingest.cli.discover_command import readable
from pg_ingest.cli.group import COMMANDS
from pg_ingest.destinations.chunks import BegunLoad
from pg_ingest.destinations.destination import StreamId, Target
from pg_ingest.destinations.duckdb import DuckDbDestination
from pg_ingest_tests.cli.conftest import Project

FULL = "method: full_table\ntables:\n  public.orders: {}\n"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(project: Project, name: str) -> None:
    answer = project.run(name, "--help")
    assert answer.code == 0
    assert f"{name} " in answer.out
    assert name in project.run("--help").out


def test_version(project: Project) -> None:
    assert __version__ in project.run("--version").out


def test_an_unknown_command_is_wrong_use(project: Project) -> None:
    assert project.run("snc").code == 2


@pytest.mark.usefixtures("orders")
def test_discover(project: Project) -> None:
    project.configure("method: full_table\nselect_all: true\n")
    answer = project.run("discover", "shop")
    assert answer.code == 0
    assert re.search(r"public\.orders +table +full_table +id ", answer.out)
    told = project.run("discover", "--json").json["shop"]
    assert told["databases"] == [project.database.name]
    assert told["tables"][0]["table"] == "public.orders"
    assert told["tables"][0]["key"] == ["id"]
    assert told["tables"][0]["rows"] is None  # never analysed: unknown, not empty
    project.database.execute("analyze orders")
    assert project.run("discover", "--json").json["shop"]["tables"][0]["rows"] == 3
    assert Path(told["saved"]).is_file()


def test_discover_an_unknown_source(project: Project) -> None:
    project.configure(FULL)
    answer = project.run("discover", "sop")
    assert answer.code == 2
    assert "did you mean shop?" in answer.err


def test_discover_an_unreachable_source(project: Project) -> None:
    project.configure(FULL, port=1)
    answer = project.run("discover")
    assert answer.code == 1
    assert "nothing listens on 127.0.0.1 port 1" in answer.err


@pytest.mark.usefixtures("orders")
def test_status(project: Project) -> None:
    project.configure(FULL)
    assert "nothing has been replicated yet" in project.run("status").err
    assert project.run("status", "--json").json == []
    project.run("sync")
    assert re.search(r"public\.orders .* 3 ", project.run("status").out)
    (told,) = project.run("status", "--json").json
    assert (told["table"], told["rows"], told["method"]) == ("public.orders", 3, "full_table")
    assert told["last_load"]["inserted"] == 3


def verdicts(answer: Any) -> dict[tuple[str, str], str]:
    return {(f["subject"], f["test"]): f["verdict"] for f in answer.json["findings"]}


@pytest.mark.usefixtures("orders")
def test_check_finds_nothing(project: Project) -> None:
    project.configure(FULL)
    answer = project.run("check")
    assert answer.code == 0
    assert "✗" not in answer.out
    found = verdicts(project.run("check", "--json"))
    name = project.database.name
    assert found["destination", "writable"] == "passed"
    assert found[f"shop/{name}", "login"] == "passed"
    assert found[f"shop/{name}/public.orders", "columns"] == "passed"


@pytest.mark.usefixtures("orders")
def test_check_finds_everything_at_once(project: Project) -> None:
    database = project.database
    role = f"reader_{database.name}"
    database.execute(f"create role {role} login")
    try:
        database.execute("create table closed (id int)")
        database.execute("create table part (id int, hidden int)")
        database.execute(f"grant select on orders to {role}; grant select (id) on part to {role}")
        project.configure(
            """
            password: "correct horse"
            method: full_table
            tables:
              public.orders: {where: "id >"}
              public.closed: {}
              public.part: {}
              public.gone: {}
              public.unkeyed: {method: key_based, replication_key: id}
            """,
            user=role,
        )
        database.execute("create table unkeyed (id int)")
        database.execute(f"grant select on unkeyed to {role}")
        answer = project.run("check", "--json")
        assert answer.code == 1
        found = verdicts(answer)
        here = f"shop/{database.name}"
        assert found["shop", "password"] == "warning"
        assert found[f"{here}/public.orders", "filter"] == "failed"
        assert found[f"{here}/public.closed", "select"] == "failed"
        assert found[f"{here}/public.part", "columns"] == "failed"
        assert found[f"{here}/public.gone", "table"] == "failed"
        assert found[f"{here}/public.unkeyed", "key"] == "failed"
        assert "correct horse" not in answer.out
        hints = [f["hint"] for f in answer.json["findings"]]
        assert any(f'GRANT SELECT ON "public"."closed" TO "{role}";' in hint for hint in hints)
    finally:
        database.execute(f"drop owned by {role}; drop role {role}")


def test_check_an_unreachable_source(project: Project) -> None:
    project.configure(FULL, port=1)
    answer = project.run("check")
    assert answer.code == 1
    assert "nothing listens on 127.0.0.1 port 1" in answer.out


def test_check_a_destination_that_is_a_folder(project: Project) -> None:
    project.configure(FULL, port=1)
    (project.folder / "warehouse.duckdb").mkdir()
    found = verdicts(project.run("check", "--json"))
    assert found["destination", "writable"] == "failed"


def test_dev_hands_over_to_dagster(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.configure(FULL)
    called: list[tuple[str, list[str]]] = []

    def execv(program: str, arguments: list[str]) -> None:
        called.append((program, arguments))

    for name in ("DAGSTER_HOME", "PG_INGEST_CONFIG"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(os, "execv", execv)
    answer = project.run("dev", "--port", "3456")
    ((program, arguments),) = called
    assert program == sys.executable
    assert "dagster dev -m pg_ingest.definitions" in " ".join(arguments)
    assert arguments[-1] == "3456"
    assert os.environ["DAGSTER_HOME"] == str(project.folder / ".dagster_home")
    assert os.environ["PG_INGEST_CONFIG"] == str(project.folder / "pg_ingest.yaml")
    assert "http://127.0.0.1:3456" in answer.err


def test_the_shipped_home_is_the_one_that_dev_makes() -> None:
    root = Path(pg_ingest.cli.__file__).parents[2]
    made = (root / "pg_ingest" / "cli" / "dagster.yaml").read_text()
    assert (root / ".dagster_home" / "dagster.yaml").read_text() == made


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1200, "1.2 kB"), (3.5e9, "3.5 GB"), (2e12, "2.0 TB")],
)
def test_sizes_are_readable(size: float, text: str) -> None:
    assert readable(size) == text


def in_chunks(number: int) -> str:
    return f"historical load: chunk {number} of 60"


@pytest.mark.usefixtures("orders")
def test_status_of_a_load_in_chunks(project: Project) -> None:
    """Nobody can see its rows yet. One that nobody wants any more is shown, and goes after a month."""
    project.configure(FULL)
    destination = DuckDbDestination(project.folder / "warehouse.duckdb")
    stream = StreamId("shop", project.database.name, "public", "orders")
    target, schema = Target("shop", "orders"), pa.schema([pa.field("id", pa.int32())])
    begun = BegunLoad(method="key_based", plan="{}", chunks=60, run_id="")
    load = destination.begin_chunks(stream, target, schema, begun)
    batch = Batch(pa.RecordBatch.from_pydict({"id": [1, 2]}, schema=schema))
    with destination.receive_chunk(target, schema, iter([batch]), max_rejected=0) as chunk:
        assert destination.keep_chunk(load, 5, chunk, max_rejected=0)
        assert not destination.keep_chunk(load, 5, chunk, max_rejected=0)
    assert in_chunks(2) in project.run("status").out
    (told,) = project.run("status", "--json").json
    assert (told["rows"], told["position"]) == (0, in_chunks(2))
    assert (told["historical_load"]["done"], told["historical_load"]["rows"]) == (1, 2)
    other = replace(stream, table="taken_out")
    destination.begin_chunks(other, target, schema, begun)
    project.run("sync")
    told, left = project.run("status", "--json").json
    assert (told["rows"], told["historical_load"]) == (3, None)
    assert (left["table"], left["position"]) == ("public.taken_out", in_chunks(1))
    with duckdb.connect(str(destination.file.path)) as connection:
        connection.execute("update _pgi.chunked_loads set begun_at = now() - interval 31 days")
    project.run("sync")
    assert destination.chunked_loads() == []
