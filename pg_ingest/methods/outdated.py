"""When a position by row versions says too little, so that all rows must be read again: `xmin.py` argues."""

from __future__ import annotations

from pg_ingest.bookmark import LoggedColumn, XminBookmark
from pg_ingest.postgres.value_texts import OTHERWISE, read_otherwise

FURTHEST = 1 << 31
"""Ids that may be given out between two syncs. Up to 2^32 nothing could be missed; but a server that gave out
this many without us has frozen everything we know, and rows of 2^32 ids ago would be taken for new ones."""


def same_history(old: XminBookmark, now: XminBookmark) -> bool:
    """Whether both are of one server that went nowhere back; taken for granted where it may not be asked."""
    return not old.server or not now.server or old.server == now.server


def why_everything(old: XminBookmark, now: XminBookmark) -> str:
    """Why the rows changed since `old` are not all that must be read; empty where they are."""
    if not same_history(old, now):
        return _other_history(old.server, now.server)
    if now.xmax < old.xmax:
        return f"the transaction counter went back from {old.xmax} to {now.xmax}"
    if now.xmax - old.xmin >= FURTHEST:
        return f"{now.xmax - old.xmin:,} transaction ids were given out since"
    if old.file != now.file:
        return "the table was truncated, rewritten or made anew (it has another file)"
    if (old.key, old.grouped) != (now.key, now.grouped):
        return f"rows are recognised by ({', '.join(now.key)}), before by ({', '.join(old.key)})"
    if old.where != now.where:
        return "the row filter is another one"
    if read_otherwise(old.texts, now.texts):
        return OTHERWISE
    other = _other_columns(old.columns, now.columns)
    return f"columns are new or of another kind: {', '.join(other)}" if other else ""


def _other_history(old: str, now: str) -> str:
    system, timeline, _ = now.split("/")
    if old.split("/")[0] != system:
        return "this is another server (system identifier) than the one that was read before"
    if old.split("/")[1] != timeline:
        return "the server was promoted or restored (another timeline), and may have lost what was read"
    return "the database was dropped and made anew"


def _other_columns(old: tuple[LoggedColumn, ...], now: tuple[LoggedColumn, ...]) -> list[str]:
    known = set(old)
    return [column.name for column in now if column not in known]
