"""The same table by other tools, each in a process of its own.

python -m bench.peers duckdb|dlt CONNECTION FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path


def by_duckdb(connection: str, folder: Path) -> None:
    """DuckDB's own PostgreSQL scanner (parallel, by ranges of ctid)."""
    import duckdb

    with duckdb.connect(folder / "warehouse.duckdb") as warehouse:
        warehouse.execute("load postgres")
        warehouse.execute(f"attach '{connection}' as source (type postgres, read_only)")
        warehouse.execute("create table lineitem as from source.public.lineitem")


def by_dlt(connection: str, folder: Path) -> None:
    """dlt with its connectorx backend, the fastest of its three."""
    import dlt
    from dlt.sources.sql_database import sql_table

    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(folder / "pipelines"),
        destination=dlt.destinations.duckdb(str(folder / "warehouse.duckdb")),
        dataset_name="bench",
    )
    table = sql_table(
        connection, table="lineitem", schema="public", backend="connectorx", chunk_size=100_000
    )
    pipeline.run(table, write_disposition="replace")


def missing(name: str) -> str | None:
    """Why a peer cannot run here, None when it can."""
    try:
        if name == "duckdb":
            import duckdb

            with duckdb.connect() as connection:
                connection.execute("load postgres")
        else:
            import connectorx  # noqa: F401
            import dlt  # noqa: F401
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return None


if __name__ == "__main__":
    {"duckdb": by_duckdb, "dlt": by_dlt}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
