"""DuckDB's exceptions become ours, here and nowhere else.

DuckDB quotes *values* in conversion and constraint errors, so its own words are passed on only for
kinds of errors that speak of files, memory and catalogues.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from pg_ingest.errors import DestinationBusy, DestinationFailed, PgIngestError

_LOCKED = re.compile(r"Could not set lock on file|used by another process|different configuration")
_HOLDER = re.compile(r"held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")
_FULL = re.compile(
    r"No space left|Disk quota|File too large|max_temp_directory_size|failed to offload"
    r"|could not write (?:all|the)|Could not write",
    re.IGNORECASE,
)
_FOREIGN = re.compile(r"not a valid DuckDB database|Is a directory|is a directory|Corrupt|checksum")
_MEMORY = re.compile("could not allocate block")
_STORED = re.compile("COMMIT succeeded and is durable")
_UNTOUCHED = "what was stored before is untouched"
_NEWER = re.compile(r"version number|newer version|storage version", re.IGNORECASE)

_QUOTABLE = (
    duckdb.IOException,
    duckdb.OutOfMemoryException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.CatalogException,
    duckdb.DependencyException,
    duckdb.TransactionException,
    duckdb.ConnectionException,
    duckdb.BinderException,
    duckdb.SerializationException,
    duckdb.PermissionException,
)


def is_locked(error: duckdb.Error) -> bool:
    """Whether another process, or another part of this one, holds the file."""
    return _LOCKED.search(str(error)) is not None


def holder_of(error: duckdb.Error) -> str:
    """Who holds the file, as far as DuckDB says it."""
    holder = _HOLDER.search(str(error))
    return f"process {holder['pid']} ({holder['program']})" if holder else "another connection"


def busy(path: Path, error: duckdb.Error, waited: float) -> DestinationBusy:
    """The error for a file that stayed locked for `waited` seconds."""
    return DestinationBusy(
        f"the DuckDB file {path} is held by {holder_of(error)}",
        detail=f"waited {waited:.0f} s; while one process may write, DuckDB lets no other one open the file",
        hint="close the other program, or let it open the file with read_only=True and only briefly",
    )


@contextmanager
def translated(path: Path, doing: str, large: Callable[[], str] = str) -> Iterator[None]:
    """Turn errors of DuckDB and of the file system into DestinationFailed.

    Args:
        doing: what was being done, as in "cannot <doing>".
        large: asked what is large when memory was not enough; "" where nothing is known.
    """
    try:
        yield
    except PgIngestError:
        raise
    except (duckdb.Error, OSError) as error:
        raise _failed(path, doing, error, large) from error


def _failed(
    path: Path, doing: str, error: duckdb.Error | OSError, large: Callable[[], str]
) -> DestinationFailed:
    words = _words(error)
    if _FULL.search(str(error)) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return DestinationFailed(
            f"cannot {doing}: no room left for {path}",
            detail=words,
            hint="what was stored before is untouched; make room on that disk and run again",
        )
    if _FOREIGN.search(str(error)) or _NEWER.search(str(error)):
        return DestinationFailed(
            f"{path} cannot be used as a DuckDB file",
            detail=words,
            hint="point destination.path at another file, restore this one from a copy, or, when a newer"
            " DuckDB wrote it, upgrade duckdb here",
        )
    if isinstance(error, duckdb.OutOfMemoryException) or _MEMORY.search(str(error)):
        stored = "this load was stored" if _STORED.search(str(error)) else _UNTOUCHED
        return DestinationFailed(
            f"cannot {doing}: too large for the memory that DuckDB may use",
            detail="; ".join(filter(None, (large(), words))),
            hint=f"{stored}; values of about 100 MB do not fit: leave their column out with"
            " `exclude_columns`, or their rows with `where`",
        )
    return DestinationFailed(
        f"cannot {doing} in {path}",
        detail=words,
        hint=_UNTOUCHED,
    )


def _words(error: duckdb.Error | OSError) -> str:
    kind = type(error).__name__
    if not isinstance(error, (OSError, *_QUOTABLE)):
        return f"{kind} (its text is left out because it may quote values)"
    first = (str(error).strip() or kind).splitlines()[0]
    return first[:500]
