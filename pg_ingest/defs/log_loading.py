"""The body of the log-based step: capture, then apply the selected tables, each for itself."""

import time
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from pg_ingest.config.selection import Replication
from pg_ingest.defs.faults import ClosedDoors, several_failed, told_to_dagster
from pg_ingest.defs.loading import SyncConfig
from pg_ingest.defs.log_names import CHANGE_LOG, change_log_key
from pg_ingest.defs.metadata import (
    capture_metadata,
    load_metadata,
    selected_columns,
    table_schema,
)
from pg_ingest.defs.processes import mark_run
from pg_ingest.defs.progress import Announcement, Reporter, TableProgress, announce, say_before
from pg_ingest.defs.route import Route
from pg_ingest.errors import PgIngestError
from pg_ingest.table import Table, TableId

if TYPE_CHECKING:
    from pg_ingest.batch import LoadReport
    from pg_ingest.following.apply_log import Applied
    from pg_ingest.following.capture_log import LogCapture
    from pg_ingest.lsn import Lsn
    from pg_ingest.progress import Progress


class LogLoader:
    """Captures one database's log and applies any subset of the tables."""

    def __init__(
        self, route: Route, replications: Sequence[Replication], doors: ClosedDoors
    ) -> None:
        self.route = route
        self.replications = replications
        self.doors = doors
        self._stored: tuple[str, set[Replication]] = ("", set())

    def run(
        self, context: dg.AssetExecutionContext, config: SyncConfig
    ) -> Iterator[dg.MaterializeResult[None]]:
        """Results as soon as they are durable; what failed is told at the end, for all tables together.

        A table without changes gives no result: each event would be kept for ever. `config.reset` is for
        the selected tables.
        """
        mark_run(context)
        database = context.partition_key
        with told_to_dagster(context, self.route):
            capture, metadata = self._capture(context, database)
        selected = context.selected_asset_keys
        if change_log_key(self.route.source) in selected:
            yield dg.MaterializeResult(
                asset_key=change_log_key(self.route.source), metadata=metadata
            )
        wanted = [r for r in self.replications if dg.AssetKey(list(r.asset_key)) in selected]
        failed: dict[str, Exception] = {}
        done: list[TableId] = []
        for applied in self._applied(context, capture, wanted, reset=config.reset):
            table = applied.replication.table
            if applied.error is not None:
                self._note(context, applied.replication, applied.error)
                failed[str(table)] = applied.error
                continue
            done.append(table)
            if applied.report is not None:
                self._done(context).add(applied.replication)
                yield self._result(context, applied.replication, applied.report, database)
            else:
                context.log.debug(f"table={table} database={database} nothing new")
        self._tidy(context, database, done, capture.captured.position)
        if failed:
            raise several_failed(context, self.route, failed, len(wanted))

    def _capture(
        self, context: dg.AssetExecutionContext, database: str
    ) -> tuple["LogCapture", dict[str, Any]]:
        from pg_ingest.following.capture_log import capture_log

        attempt = context.retry_number
        self.doors.check(context.run.run_id, database, attempt)
        announce(TableProgress((self.route.source, CHANGE_LOG), database))
        begun = time.monotonic()
        try:
            capture = capture_log(
                self.route.server, self.route.config.state_dir, database, self.replications
            )
        except PgIngestError as error:
            self.doors.note(database, attempt, error)
            raise
        captured = capture.captured
        context.log.info(
            f"captured: database={database} from={capture.begun_at} to={captured.position}"
            f" transactions={captured.transactions} rows={captured.rows} bytes={captured.bytes}"
        )
        return capture, capture_metadata(capture, time.monotonic() - begun)

    def _applied(
        self,
        context: dg.AssetExecutionContext,
        capture: "LogCapture",
        wanted: Sequence[Replication],
        *,
        reset: bool,
    ) -> "Iterator[Applied]":
        """What came of each table that this database has."""
        from pg_ingest.following.apply_log import apply_log
        from pg_ingest.following.load_log import ApplySettings

        reporters = {each.table: Reporter(context.log.info) for each in wanted}

        def report(replication: Replication, progress: "Progress") -> None:
            reporters[replication.table](
                TableProgress.of(replication.asset_key, capture.database, progress)
            )

        settings = ApplySettings(
            max_rejected=self.route.settings.limits.max_rejected,
            reset={each.table for each in wanted if reset and each not in self._done(context)},
            run_id=context.run.run_id,
            progress=report,
            say=lambda replication, text: say_before(
                context.log.info, Announcement(replication.asset_key, capture.database, text)
            ),
        )
        here = [each for each in wanted if not self._absent(capture, each)]
        steps = apply_log(
            self.route.server,
            self.route.destination,
            self.route.config.state_dir,
            capture,
            here,
            settings,
        )
        for replication in here:
            announce(TableProgress(replication.asset_key, capture.database))
            yield next(steps)

    def _done(self, context: dg.AssetExecutionContext) -> set[Replication]:
        """The tables that this run has stored: another attempt does not reset them again."""
        if self._stored[0] != context.run.run_id:
            self._stored = (context.run.run_id, set())
        return self._stored[1]

    def _absent(self, capture: "LogCapture", replication: Replication) -> bool:
        """Whether this database, one of several, never had the table: its partition stays missing."""
        from pg_ingest.destinations.destination import StreamId

        settings = self.route.settings
        several = settings.fixed_databases is None or len(settings.databases) > 1
        if not several or replication.table not in capture.absent:
            return False
        table = replication.table
        stream = StreamId(self.route.source, capture.database, table.schema, table.name)
        return self.route.destination.bookmark(stream) is None

    def _tidy(
        self,
        context: dg.AssetExecutionContext,
        database: str,
        applied: Sequence[TableId],
        position: "Lsn",
    ) -> None:
        """Note what is applied, throw away what is done with; what fails here can wait for the next run."""
        from pg_ingest.changelog.applied import note_applied
        from pg_ingest.following.capture_log import change_log
        from pg_ingest.following.retain_log import retain_log

        state_dir = self.route.config.state_dir
        try:
            note_applied(change_log(state_dir, self.route.source, database), applied, position)
            gone = retain_log(
                self.route.server, self.route.destination, state_dir, database, self.replications
            )
        except PgIngestError as error:
            context.log.warning(self.route.redact(f"the change log was not cleaned up: {error}"))
            return
        if gone:
            size = sum(segment.size for segment in gone)
            context.log.info(f"cleaned up: segments={len(gone)} bytes={size}")

    def _note(
        self, context: dg.AssetExecutionContext, replication: Replication, error: Exception
    ) -> None:
        told = "".join(traceback.format_exception(error))
        context.log.debug(self.route.redact(told))
        context.log.error(self.route.redact(f"table={replication.table} failed: {error}"))

    def _result(
        self,
        context: dg.AssetExecutionContext,
        replication: Replication,
        report: "LoadReport",
        database: str,
    ) -> dg.MaterializeResult[None]:
        counts = report.counts
        context.log.info(
            f"table={replication.table} database={database} phase={report.phase}"
            f" rows={report.rows_read} bytes={report.bytes_read} inserted={counts.inserted}"
            f" updated={counts.updated} deleted={counts.deleted} rejected={counts.rejected}"
            f" seconds={report.duration_s:.2f}"
        )
        metadata = load_metadata(report, ".".join(replication.target_for(database)))
        metadata["dagster/partition_row_count"] = counts.total
        table = report.extra.get("table")
        if isinstance(table, Table):
            columns = selected_columns(replication, table)
            metadata["dagster/column_schema"] = table_schema(table, columns)
        return dg.MaterializeResult(
            asset_key=dg.AssetKey(list(replication.asset_key)), metadata=metadata
        )
