"""With a row filter the destination is what the filter shows of the source, whatever happened in between.

On version 18 the publication is asked to filter and does where the replica identity allows it; on version 14
we always do.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.demo.cluster import Cluster
from pg_ingest.methods import log_steps
from pg_ingest.postgres import sent_rows
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import following
from pg_ingest_tests.following.test_log_equality import STEPS, Control, Source, Sync, Write
from pg_ingest_tests.kinds_of_tables import REPLICATIONS, setup
from pg_ingest_tests.servers import other_servers

_numbers = itertools.count(1)

WHERE = {
    "keyed": "t = 'x' or t is null",
    "soft": "n > 0 -- and no others",
    "plain": "coalesce(t, '') <> '' and n > 1",
    "full_": "n > 1 or big = 'small'",
    "indexed": "id between 3 and 12",
    "parted": "id <> 4 and t is not null",
}
FILTERED = {name: replace(REPLICATIONS[name], where=where) for name, where in WHERE.items()}
BY_THE_SERVER = {"plain", "full_", "indexed"}


@pytest.fixture(scope="module", params=[18, 14])
def source(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Source]:
    """All kinds of tables with a filter each, on a server that filters and on one that cannot."""
    others = other_servers()
    if request.param != 18 and request.param not in others:
        pytest.skip(f"no PostgreSQL {request.param} here")
    with ExitStack() as opened:
        if request.param != 18:
            cluster = opened.enter_context(Cluster(binaries=others[request.param]))
        name = f"filter{os.getpid()}_{next(_numbers)}"
        admin = Database("postgres", cluster.host, cluster.port, cluster.user)
        admin.execute(f"create database {name} template template0")
        database = Database(name, cluster.host, cluster.port, cluster.user)
        setup(database)
        options = "-c lock_timeout=5ms -c deadlock_timeout=1s"
        with ExitStack() as inner:
            folder, log = tmp_path_factory.mktemp("filter"), {"narrow": True}
            shop = inner.enter_context(following(database, folder, log=log))
            shop.sync(*FILTERED.values())
            capture = shop.capture(*FILTERED.values())
            found = {table.name for table in capture.filtered}
            assert found == (BY_THE_SERVER if request.param == 18 else set())
            sessions = [inner.enter_context(database.connect(options=options)) for _ in range(3)]
            yield Source(shop, sessions, FILTERED)
        admin.execute(f"drop database {name}")


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=STEPS, size=st.sampled_from([1, 3, 250_000]), request_bytes=st.sampled_from([1, 1 << 22])
)
def test_equal_after_every_sync(
    source: Source, steps: Sequence[Write | Control | Sync], size: int, request_bytes: int
) -> None:
    with (
        patch.object(log_steps, "STEP_ROWS", size),
        patch.object(sent_rows, "REQUEST_BYTES", request_bytes),
    ):
        source.begin()
        for step in steps:
            source.step(step)
        source.end("commit")
        source.step(Sync())
