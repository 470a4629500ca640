"""Our errors as Dagster takes them: a retry, or a failure that says what to do.

The traceback of an error raised on purpose tells a tired person nothing, so it goes to the log at level
debug; its message, detail and hint become the failure's description. What nobody expected keeps its
traceback, unless that quotes the source's password.
"""

import random
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from pg_ingest.defs.progress import Waiting, announce
from pg_ingest.defs.route import Route
from pg_ingest.errors import LoginFailed, PassingFault, PgIngestError, SourceUnreachable

RETRY_SECONDS = (5.0, 20.0, 60.0)
"""Waits before the second, third and fourth attempt, each stretched by up to half at random, so that the runs
that met the same fault do not all come back at once; a fault that outlives them fails the step."""


class ClosedDoors:
    """Databases that this run could not enter, so that a thousand tables do not all knock.

    A refused login is not repeated at all (servers lock accounts that try too often); an unreachable
    server is tried once per attempt.
    """

    def __init__(self) -> None:
        self._run_id = ""
        self._closed: dict[tuple[str, int], PgIngestError] = {}

    def check(self, run_id: str, database: str, attempt: int) -> None:
        """Raise what another table of this run met at the same door."""
        if run_id != self._run_id:
            self._run_id = run_id
            self._closed.clear()
        for key in ((database, attempt), (database, -1)):
            if key in self._closed:
                raise self._closed[key]

    def note(self, database: str, attempt: int, error: PgIngestError) -> None:
        """Remember an error that concerns the database and not the table."""
        if isinstance(error, LoginFailed):
            self._closed[database, -1] = error
        elif isinstance(error, SourceUnreachable):
            self._closed[database, attempt] = error


@contextmanager
def told_to_dagster(context: dg.AssetExecutionContext, route: Route) -> Iterator[None]:
    """Turn errors inside the block into a RetryRequested or a Failure."""
    try:
        yield
    except PgIngestError as error:
        context.log.debug(route.redact(traceback.format_exc()))
        attempt = context.retry_number
        if isinstance(error, PassingFault) and attempt < len(RETRY_SECONDS):
            context.log.warning(route.redact(str(error)))
            raise _again(route.redact(error.message), attempt) from None
        raise failure(error, route) from None
    except (dg.Failure, dg.RetryRequested, dg.DagsterExecutionInterruptedError):
        raise
    except Exception:
        told = traceback.format_exc()
        redacted = route.redact(told)
        if redacted == told:
            raise
        raise dg.Failure(description=redacted, allow_retries=False) from None


def _again(reason: str, attempt: int) -> dg.RetryRequested:
    seconds = round(RETRY_SECONDS[attempt] * random.uniform(1.0, 1.5), 1)
    announce(Waiting(reason, seconds))
    return dg.RetryRequested(max_retries=len(RETRY_SECONDS), seconds_to_wait=seconds)


def failure(error: PgIngestError, route: Route) -> dg.Failure:
    """The Failure that carries an error's message, detail and hint, and its section of the runbook."""
    name = type(error).__name__
    facts = {"error": name, "detail": error.detail, "hint": error.hint}
    shown = {f"pg_ingest/{key}": route.redact(value) for key, value in facts.items() if value}
    return dg.Failure(
        description=route.redact(str(error)),
        metadata={**shown, "pg_ingest/runbook": f"docs/runbook.md#{name.lower()}"},
        allow_retries=False,
    )


def several_failed(
    context: dg.AssetExecutionContext, route: Route, failed: Mapping[str, Exception], total: int
) -> dg.Failure | dg.RetryRequested:
    """What to raise at the end of a step in which some of `total` tables failed.

    A retry as long as one of the faults may pass: tables that are done have nothing to do in it. Then a
    Failure with the facts of each table in `pg_ingest/failed`.
    """
    attempt = context.retry_number
    passing = any(isinstance(error, PassingFault) for error in failed.values())
    if passing and attempt < len(RETRY_SECONDS):
        return _again(f"{len(failed)} of {total} tables failed", attempt)
    facts = {table: _facts(error, route) for table, error in failed.items()}
    lines = [f"{len(failed)} of {total} tables failed"]
    lines += [f"{table}: {found['message']}" for table, found in facts.items()]
    errors = {str(found["error"]) for found in facts.values()}
    return dg.Failure(
        description="\n".join(lines),
        metadata={
            "pg_ingest/failed": dg.MetadataValue.json(facts),
            "pg_ingest/error": ", ".join(sorted(errors)),
            "pg_ingest/runbook": "docs/runbook.md",
        },
        allow_retries=False,
    )


def _facts(error: Exception, route: Route) -> dict[str, str]:
    facts = {"error": type(error).__name__, "message": str(error).strip()}
    if isinstance(error, PgIngestError):
        facts |= {"message": error.message, "detail": error.detail, "hint": error.hint}
    return {key: route.redact(text) for key, text in facts.items()}
