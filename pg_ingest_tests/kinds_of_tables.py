"""One table of each kind that the log treats in a way of its own."""

from __future__ import annotations

from pg_ingest.config.method import Shape
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, logged

BIG = ("z" * 9000, "y" * 5000, "small", None)
"""The first two are stored out of line: an update that leaves them alone does not send them."""

_COLUMNS = "(id int {}, t text, n numeric(8,2), big text)"
TABLES = {
    "keyed": ("primary key",),
    "soft": ("primary key",),
    "plain": ("", "alter table plain replica identity full"),
    "full": ("primary key", "alter table full_ replica identity full"),
    "indexed": (
        "not null unique",
        "alter table indexed replica identity using index indexed_id_key",
    ),
    "parted": (
        "primary key",
        "create table parted1 partition of parted for values from (minvalue) to (6)",
        "create table parted2 partition of parted for values from (6) to (maxvalue)",
    ),
}
NAMES = tuple(name + "_" * (name == "full") for name in TABLES)
REPLICATIONS = {
    name: logged(name, shape=Shape.SOFT_DELETE if name == "soft" else Shape.LIVE) for name in NAMES
}


def setup(database: Database, columns: str = _COLUMNS) -> None:
    for (name, (key, *more)), real in zip(TABLES.items(), NAMES, strict=True):
        partitioned = " partition by range (id)" if name == "parted" else ""
        database.execute(f"create table {real} {columns.format(key)}{partitioned}")
        for statement in more:
            database.execute(statement)
    for name in ("parted1", "parted2", *NAMES):
        if name != "parted":
            database.execute(f"alter table {name} alter big set storage external")


def equal(shop: Following, name: str, where: str | None = None) -> None:
    live = "_pgi_deleted_at is null" if name == "soft" else "true"
    assert shop.stored(name, live) == shop.source(name, where or "true"), name
