"""Every method that reads tables, into its own DuckDB file: equal to what its snapshot saw after each sync.

Three sessions insert, update, change keys and delete, keep transactions open over syncs and commit late. They
write *during* a sync too: after a snapshot, before what is read in it. What the last snapshot of a sync sees is
what must be stored after it; by methods that do not promise deletes, rows of keys that are gone may be left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.config.selection import Replication
from pg_ingest.methods import key_ranges, position
from pg_ingest.postgres import row_versions
from pg_ingest.postgres.session import Session
from pg_ingest_tests.conftest import Database, fresh
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, full, keyed
from pg_ingest_tests.servers import needs_system_server

WRITERS = 3
SETUP = (
    "create table t (id int primary key, owner int not null, k bigint not null, n int not null, v text);"
    " create sequence ids; create sequence ticks;"
    " insert into t select nextval('ids'), g % 3, nextval('ticks'), g % 7, 'first'"
    " from generate_series(1, 30) g"
)
METHODS = [full("t"), keyed("t", "k"), by_xmin("t"), delta("t"), differing("t")]
KINDS_OF_DELTA = [
    delta("t"),
    delta("t", key=("n", "id")),
    delta("t", update_key=("n",)),
    delta("t", replicate_deletes=False),
]
ROWS = "select id, owner, k, n, v from public.t order by id"

WRITES = ("insert", "insert", "update", "update", "rekey", "delete")
ENDS = ("commit", "commit", "rollback")
UPKEEP = {
    "freeze": "vacuum (freeze, disable_page_skipping) t",
    "cluster": "cluster t using t_pkey",
    "vacuum full": "vacuum full t",
    "rewrite": "alter table t alter n type bigint using n + 1; alter table t alter n type int using n + 1;"
    " update t set k = nextval('ticks')",
    "truncate": "truncate t",
}

deeds = st.tuples(
    st.sampled_from(("begin", "begin", *WRITES, *WRITES, *ENDS)), st.integers(0, WRITERS - 1)
)
between = st.lists(st.lists(deeds, max_size=3), max_size=3)
steps = st.one_of(
    *[deeds.map(lambda deed: ("write", deed))] * 5,
    *[between.map(lambda deeds: ("sync", deeds))] * 2,
    st.sampled_from(sorted(UPKEEP)).map(lambda name: ("upkeep", name)),
)
histories = st.lists(steps, min_size=8, max_size=24)


@dataclass
class Writer:
    """One session; it changes only its own rows, so that nobody waits for anybody.

    The newest row of all is never deleted: key_based would refuse to go on from a key that is gone.
    """

    number: int
    connection: psycopg.Connection
    open: bool = False

    def act(self, deed: str) -> None:
        match deed:
            case "begin" if not self.open:
                self.connection.execute("begin")
                self.open = True
            case "commit" | "rollback" if self.open:
                self.connection.execute(deed)
                self.open = False
            case "insert" | "update" | "rekey" | "delete":
                mine = "where id = (select id from t where owner = %(me)s order by k, id limit 1)"
                statement = {
                    "insert": "insert into t select nextval('ids'), %(me)s, nextval('ticks'), g, 'new'"
                    " from generate_series(1, 3) g",
                    "update": f"update t set k = nextval('ticks'), v = v || '.' {mine}",
                    "rekey": f"update t set id = nextval('ids'), k = nextval('ticks') {mine}",
                    "delete": f"delete from t {mine} and k < (select max(k) from t)",
                }[deed]
                self.connection.execute(statement, {"me": self.number})


@dataclass
class Source:
    """The sessions, and one copy for each method."""

    database: Database
    writers: list[Writer]
    reader: psycopg.Connection
    copies: list[tuple[Replication, Pair]] = field(default_factory=list)
    during: list[list[tuple[str, int]]] = field(default_factory=list)
    seen: list[tuple[Any, ...]] = field(default_factory=list)

    def step(self, verb: str, what: Any) -> None:
        if verb == "write":
            self.writers[what[1]].act(what[0])
        elif verb == "upkeep":
            self.keep_up(what)
        else:
            for replication, pair in self.copies:
                self.during[:] = what
                self.sync(replication, pair)

    def keep_up(self, name: str) -> None:
        """Where nobody holds a lock against it."""
        if name == "freeze" or not any(writer.open for writer in self.writers):
            with closing(self.database.connect()) as connection:
                for statement in UPKEEP[name].split("; "):
                    connection.execute(statement)

    def sync(self, replication: Replication, pair: Pair) -> None:
        self.seen = self.reader.execute(ROWS).fetchall()
        pair.sync(replication)
        stored = sorted(pair.stored(replication, "id, owner, k, n, v"))
        if replication.method in ("key_based", "xmin") or not replication.replicate_deletes:
            there = {row[0] for row in self.seen}
            stored = [row for row in stored if row[0] in there]
        assert stored == self.seen, replication

    def look_and_write(self, session: Session) -> None:
        """What the session's snapshot sees; then what is to happen before it reads."""
        self.seen = session.rows(ROWS, what="looking at what there is")
        for deed, number in self.during.pop(0) if self.during else ():
            self.writers[number].act(deed)


@pytest.fixture(
    scope="module", params=["cluster", pytest.param("wal2json_cluster", marks=needs_system_server)]
)
def elsewhere(request: pytest.FixtureRequest) -> Iterator[Database]:
    """The wheel's server and the packaged one."""
    yield from fresh(request.getfixturevalue(request.param))


@pytest.fixture
def source(
    elsewhere: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Source]:
    monkeypatch.setattr(row_versions, "is_flushed", lambda *_: True)
    monkeypatch.setattr(position, "PATIENCE", 0)
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)
    with ExitStack() as opened:
        connections = [opened.enter_context(elsewhere.connect()) for _ in range(WRITERS + 1)]
        writers = [Writer(number, each) for number, each in enumerate(connections[1:])]
        made = Source(elsewhere, writers, connections[0])

        def preceded(copy: Callable[..., Any]) -> Callable[..., Any]:
            def stepped(session: Session, *arguments: Any) -> Any:
                made.look_and_write(session)
                return copy(session, *arguments)

            return stepped

        monkeypatch.setattr(Session, "copy", preceded(Session.copy))
        yield made


@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories, kind=st.sampled_from(KINDS_OF_DELTA))
def test_equal_after_every_sync(
    source: Source, tmp_path: Path, history: list[Any], kind: Replication
) -> None:
    source.database.execute("drop schema public cascade; create schema public")
    source.database.execute(SETUP)
    source.copies.clear()
    for one in METHODS:
        path = tmp_path / f"{one.method}.duckdb"
        path.unlink(missing_ok=True)
        chosen = kind if one.method == kind.method else one
        source.copies.append((chosen, Pair(source.database, path)))
    try:
        for verb, what in [("sync", []), *history]:
            source.step(verb, what)
    finally:
        source.during.clear()
        for writer in source.writers:
            writer.act("commit")
    for _ in range(2):
        source.step("sync", [])
