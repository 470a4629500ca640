"""The commands on a source behind an SSH server, each as a process of its own where that matters."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.tunnel.passage import close_tunnels
from pg_ingest_tests.cli.conftest import Project
from pg_ingest_tests.servers import needs_sshd
from pg_ingest_tests.sshd import Sshd

pytestmark = needs_sshd

TABLES = """
    method: log_based
    log: {reader: stream}
    tables:
      public.orders: {}
      public.names: {method: full_table}
    """


@pytest.fixture
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("bastion")) as running:
        yield running
    close_tunnels()


@pytest.fixture
def shop(project: Project, orders: None, bastion: Sshd) -> Iterator[Project]:
    project.database.execute("create table names as select id, name from orders")
    project.configure(TABLES, ssh=_inline(bastion))
    yield project
    project.database.rows(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
        project.database.name,
    )


def _inline(bastion: Sshd, **changes: Any) -> str:
    return json.dumps(bastion.config(**changes).model_dump(mode="json", exclude_defaults=True))


def tunnel_finding(project: Project) -> dict[str, Any]:
    answer = project.run("check", "--json")
    (found,) = [each for each in answer.json["findings"] if each.get("test") == "tunnel"]
    return dict(found)


def test_sync_in_a_process_of_its_own(shop: Project, bastion: Sshd) -> None:
    """Two tables, a change log over a stream, one login; and the process ends."""
    for change in ("delete from orders where id = 1", "insert into names values (4, 'x4')"):
        done = subprocess.run(
            [sys.executable, "-c", "from pg_ingest.cli import main; main()", "sync", "--json"],
            cwd=shop.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        statuses = [one["status"] for one in json.loads(done.stdout)["results"]]
        assert statuses == ["done", "done"]
        shop.database.execute(change)
    assert shop.stored("select id from shop.orders order by 1") == [(2,), (3,)]
    assert shop.stored("select count(*) from shop.names") == [(3,)]
    assert bastion.logins.count == 2


def test_check_shows_the_servers_and_what_is_wrong(
    shop: Project, bastion: Sshd, tmp_path: Path
) -> None:
    found = tunnel_finding(shop)
    assert found["verdict"] == "passed"
    assert f"127.0.0.1:{bastion.port} (SHA256:" in found["fact"]
    empty = tmp_path / "empty"
    empty.write_text("")
    shop.configure(TABLES, ssh=_inline(bastion, known_hosts=str(empty)))
    found = tunnel_finding(shop)
    assert found["verdict"] == "failed"
    assert "is not known" in found["fact"]
    assert "add this line" in found["hint"]
