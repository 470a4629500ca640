"""The body of a table's asset: run its loads and say what they did."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import dagster as dg

from pg_ingest.batch import LoadReport
from pg_ingest.config.selection import Replication
from pg_ingest.defs.faults import ClosedDoors, told_to_dagster
from pg_ingest.defs.metadata import Metadata, load_metadata, selected_columns, table_schema
from pg_ingest.defs.partitions import Load, loads_of
from pg_ingest.defs.processes import mark_run
from pg_ingest.defs.progress import Announcement, Reporter, TableProgress, announce, say_before
from pg_ingest.defs.quiet import is_left_alone
from pg_ingest.defs.route import Route
from pg_ingest.errors import PgIngestError, SourceTableChanged
from pg_ingest.table import Table

if TYPE_CHECKING:
    from pg_ingest.progress import Progress


class SyncConfig(dg.Config):
    """Run configuration of a table's asset, shown in the launchpad.

    `reset: true` reloads the table from scratch; its old rows stay visible until the new ones are in.
    """

    reset: bool = False


class TableLoader:
    """Loads one table, for any of its partitions."""

    def __init__(
        self,
        route: Route,
        replication: Replication,
        partitions: dg.PartitionsDefinition[str],
        doors: ClosedDoors,
    ) -> None:
        self.route = route
        self.replication = replication
        self.partitions = partitions
        self.doors = doors
        self.key = dg.AssetKey(list(replication.asset_key))

    def run(
        self, context: dg.AssetExecutionContext, config: SyncConfig
    ) -> Iterator[dg.MaterializeResult[None]]:
        """Fill the run's partitions; yields nothing when none of their databases has the table.

        A load that changed nothing is materialised too: who pressed the button wants to see that it
        ran. Metadata that differ from partition to partition are attached to the partition.
        """
        mark_run(context)
        seen: Metadata | None = None
        for load in loads_of(self.partitions, context.partition_keys):
            what = f"table={self.replication.table} database={load.database}"
            if is_left_alone(context, self.route, what):
                continue
            announce(TableProgress(self.replication.asset_key, load.database))
            with told_to_dagster(context, self.route):
                report = self._load(context, load, reset=config.reset)
            if report is None:
                continue
            seen = self._told(context, load, report)
        if seen is not None:
            yield dg.MaterializeResult(asset_key=self.key, metadata=seen)

    def _load(
        self, context: dg.AssetExecutionContext, load: Load, *, reset: bool
    ) -> LoadReport | None:
        from pg_ingest.loading.replicate import replicate

        attempt = context.retry_number
        self.doors.check(context.run.run_id, load.database, attempt)
        try:
            return replicate(
                self.route.server,
                self.route.destination,
                self.replication,
                load.database,
                max_rejected=self.route.settings.limits.max_rejected,
                reset=reset,
                window=load.window,
                run_id=context.run.run_id,
                progress=self._progress(context, load),
                say=lambda text: say_before(
                    context.log.info, Announcement(self.replication.asset_key, load.database, text)
                ),
            )
        except SourceTableChanged:
            if self._absent(load.database):
                context.log.info(f"database={load.database} has no table {self.replication.table}")
                return None
            raise
        except PgIngestError as error:
            self.doors.note(load.database, attempt, error)
            raise

    def _absent(self, database: str) -> bool:
        """Whether this database, one of several, never had the table: its partition stays missing.

        A table that was replicated before and is gone is a change that somebody must see.
        """
        from pg_ingest.destinations.destination import StreamId
        from pg_ingest.postgres.catalog import read_database

        several = self.route.settings.fixed_databases is None
        if not several and len(self.route.settings.databases) == 1:
            return False
        table = self.replication.table
        stream = StreamId(self.route.source, database, table.schema, table.name)
        if self.route.destination.bookmark(stream) is not None:
            return False
        with self.route.server.session(database) as session:
            return read_database(session, only=[table]).table(table) is None

    def _progress(
        self, context: dg.AssetExecutionContext, load: Load
    ) -> "Callable[[Progress], None]":
        reporter = Reporter(context.log.info)
        asset = self.replication.asset_key

        def report(progress: "Progress") -> None:
            reporter(TableProgress.of(asset, load.database, progress))

        return report

    def _told(self, context: dg.AssetExecutionContext, load: Load, report: LoadReport) -> Metadata:
        """Log the load, attach what belongs to its partitions; the metadata for the result."""
        counts = report.counts
        context.log.info(
            f"table={self.replication.table} database={load.database} phase={report.phase} "
            f"rows={report.rows_read} bytes={report.bytes_read} inserted={counts.inserted} "
            f"updated={counts.updated} deleted={counts.deleted} rejected={counts.rejected} "
            f"seconds={report.duration_s:.2f}"
        )
        metadata = load_metadata(report, ".".join(self.replication.target_for(load.database)))
        table = report.extra.get("table")
        if isinstance(table, Table):
            columns = selected_columns(self.replication, table)
            metadata["dagster/column_schema"] = table_schema(table, columns)
        if load.window is not None:
            metadata["pg_ingest/window"] = " … ".join(load.window)
        if len(load.keys) == 1 and load.window is None:
            metadata["dagster/partition_row_count"] = counts.total
        for key in load.keys if len(context.partition_keys) > 1 else ():
            context.add_asset_metadata(metadata, asset_key=self.key, partition_key=key)
        return {} if len(context.partition_keys) > 1 else metadata
