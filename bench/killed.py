"""A first load in chunks with a writer at work, killed again and again: what was read twice, and is it equal?

Kills come at random moments: after the first chunk or two of a run, and one of them when all chunks are stored
and the changes since then are brought in. The writer goes on until the last run reads a chunk, so that source
and destination can be compared directly after it.
"""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from bench.lineitem import write_config
from bench.measure import measured
from pg_ingest.demo.programs import Programs
from pg_ingest.destinations.duckdb import DuckDbDestination

METHODS = ("key_based", "log_based", "xmin", "delta_snapshot", "snapshot_diff")

CHUNKS = 7

_SEES_DELETES = frozenset({"log_based", "delta_snapshot", "snapshot_diff"})

_UPDATE = """\\set k random(1, {greatest})
update lineitem set l_quantity = 7{changed} where l_orderkey = :k;
"""

_MORE = """\\set d random(1, {greatest})
delete from lineitem where l_orderkey = :d and l_linenumber = 1;
\\set m random(1, {greatest})
update lineitem set l_orderkey = 3 * {greatest} - :m where l_orderkey = :m and l_linenumber = 2;
\\set b random(1, {greatest})
update lineitem set l_orderkey = -:b where l_orderkey = :b and l_linenumber = 3;
"""
"""Rows that go, and rows that move to the last chunk and to the first."""

_SUMS = (
    "select count(*), count(distinct (l_orderkey, l_linenumber)), sum(l_orderkey), sum(l_linenumber),"
    " sum(l_quantity), sum(l_extendedprice), sum(length(l_comment)){more} from {table}"
)

_NOBODY_READS = (
    "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity"
    " where application_name like 'pg_ingest/%'"
)
_NOBODY_WRITES = _NOBODY_READS.replace("pg_ingest/%", "pgbench")
"""The server may notice only later that the other end is gone."""


@dataclass(slots=True)
class Killed:
    """The loads of one method.

    Attributes:
        stored: the chunks that have been stored before the run that is at work.
        read: those that all runs have stored, in order.
    """

    programs: Programs
    folder: Path
    method: str
    rows: int
    chance: random.Random = field(default_factory=random.Random)
    stored: frozenset[int] = frozenset()
    chunks: int = 0
    read: list[int] = field(default_factory=list)
    again: int = 0

    def measure(self, kills: int) -> dict[str, object]:
        """All figures by name."""
        if self.method == "key_based":
            self.programs.query(
                "create sequence changed; alter table lineitem add l_changed bigint default 0;"
                " update lineitem set l_changed = nextval('changed') where l_orderkey < 100;"
                " create index on lineitem (l_changed)"
            )
        whole = measured(self._command("whole"))
        self._drop_slot("whole")
        command = self._command("killed")
        with self._writer():
            for number in range(kills):
                self._until_killed(command, all_chunks=number == kills - 1 > 0)
            last = self._started(command)
            self._listen(last, 1)
        self._listen(last, None)
        if last.wait():
            raise SystemExit(f"{' '.join(command)} ended with {last.returncode}")
        return {
            "method": self.method,
            "kills": kills,
            "chunks": self.chunks,
            "chunks_read_again": self.again,
            "equal": self._here() == self._there(),
            "rows_at_last": int(self.programs.query("select count(*) from lineitem")),
            "without_kills_or_writer_s": round(whole.wall, 2),
            "without_kills_or_writer_peak_mb": round(whole.peak_mb),
        }

    def _command(self, name: str) -> list[str]:
        """A load into a folder of that name, by a slot of that name."""
        folder = self.folder / name
        folder.mkdir()
        table: dict[str, object] = {"method": self.method}
        if self.method == "key_based":
            table["replication_key"] = "l_changed"
        config = write_config(
            folder,
            self.programs,
            {"limits": {"chunk_rows": self.rows // CHUNKS + 1}, "log": {"slot": f"bench_{name}"}},
            **table,
        )
        module = "bench.one_log_load" if self.method == "log_based" else "bench.one_load"
        return [sys.executable, "-m", module, str(config), "--told"]

    def _drop_slot(self, name: str) -> None:
        self.programs.query(
            "select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots"
            f" where slot_name = 'bench_{name}'"
        )

    @contextmanager
    def _writer(self) -> Iterator[None]:
        greatest = self.programs.query("select max(l_orderkey) from lineitem")
        changed = ", l_changed = nextval('changed')" if self.method == "key_based" else ""
        script = self.folder / "writer.sql"
        more = _MORE if self.method in _SEES_DELETES else ""
        script.write_text((_UPDATE + more).format(greatest=greatest, changed=changed))
        with self.programs.pgbench_in_background(
            *("-n", "-T", "3600", "-R", "200", "-f", str(script)),
            log=self.folder / "pgbench.log",
        ) as writer:
            yield
            if writer.poll() is not None:
                raise SystemExit((self.folder / "pgbench.log").read_text())
        self.programs.query(_NOBODY_WRITES)

    def _started(self, command: list[str]) -> subprocess.Popen[str]:
        """A run; what is stored by then is known from the file, because a kill may come before it is told."""
        loads = DuckDbDestination(self._warehouse).chunked_loads()
        done = loads[0].done if loads else range(self.chunks)
        self.stored = frozenset(number + 1 for number in done)
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def _until_killed(self, command: list[str], *, all_chunks: bool) -> None:
        child = self._started(command)
        left = self.chunks - len(self.stored)
        self._listen(child, left if all_chunks else self.chance.randint(0, 2))
        time.sleep(self.chance.uniform(0, 2))
        child.send_signal(signal.SIGKILL)
        self._listen(child, None)
        child.wait()
        self.programs.query(_NOBODY_READS)

    def _listen(self, child: subprocess.Popen[str], chunks: int | None) -> None:
        """Until it has stored so many chunks, or all that are left; with None until it has ended."""
        assert child.stdout is not None
        read = 0
        while (
            chunks is None or not self.chunks or read < min(chunks, self.chunks - len(self.stored))
        ):
            line = child.stdout.readline()
            if not line:
                return
            if begun := re.search(r"load begun:.* chunks=(\d+)", line):
                self.chunks = int(begun[1])
            if told := re.search(r"chunk stored:.* chunk=(\d+)", line):
                read += 1
                self.again += int(told[1]) in self.stored or int(told[1]) in self.read
                self.read.append(int(told[1]))

    @property
    def _warehouse(self) -> Path:
        return self.folder / "killed" / "warehouse.duckdb"

    def _sums(self, table: str) -> str:
        more = ", sum(l_changed)" if self.method == "key_based" else ""
        return _SUMS.format(table=table, more=more)

    def _here(self) -> list[str]:
        with duckdb.connect(str(self._warehouse), read_only=True) as connection:
            row = connection.execute(self._sums("bench.lineitem")).fetchone()
        assert row is not None
        return [str(value) for value in row]

    def _there(self) -> list[str]:
        return self.programs.query(self._sums("lineitem")).split("|")
