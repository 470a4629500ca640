"""What the source is asked while its log is applied: everything the log itself does not tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Self

import polars as pl
import pyarrow as pa

from pg_ingest.bookmark import LogBasedBookmark
from pg_ingest.decode.messages import Relation
from pg_ingest.methods.filtered import Passing
from pg_ingest.methods.log_steps import Piece
from pg_ingest.methods.shape import Difference, ReadAnew, fills
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.logged_columns import logged_columns
from pg_ingest.postgres.reread import reread
from pg_ingest.postgres.row_filter import RowFilter
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.storage import digest, files_of
from pg_ingest.table import Column, TableId


class SourceLine:
    """A session that is opened when it is first needed, and again after it was hung up.

    Only one at a time: the source may allow no more (`limits.connections`).
    """

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = database
        self._stack = ExitStack()
        self._session: Session | None = None
        self._shapes: dict[Relation, tuple[Column, ...]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    @property
    def session(self) -> Session:
        """For short questions."""
        if self._session is None:
            self._session = self._stack.enter_context(self._server.session(self._database))
        return self._session

    def hang_up(self) -> None:
        """Close the session, if one is open."""
        self._session = None
        self._stack.close()

    def columns(self, relation: Relation) -> tuple[Column, ...]:
        """One Column for each of the relation's, with the types that the catalogue knows."""
        if relation not in self._shapes:
            self._shapes[relation] = logged_columns(self.session, relation)
        return self._shapes[relation]

    def look(
        self, piece: Piece, change: Difference, bookmark: LogBasedBookmark
    ) -> pa.RecordBatch | None:
        """What rows that were stored before a change of columns have in the new ones; see `shape.fills`."""
        session = self.session
        table = describe(session, piece.id)
        files = digest(files_of(session, table))
        return fills(session, piece.oid, change, bookmark, files)

    def row_filter(
        self, table: TableId, where: str
    ) -> Callable[[Piece, Sequence[Column]], Passing | None]:
        """The filter of a table, for rows of each shape that they have had."""
        known = dict[tuple[int, tuple[Column, ...]], Passing]()

        def passing(piece: Piece, columns: Sequence[Column]) -> Passing:
            shape = piece.oid, tuple(columns)
            if shape not in known:
                asked = RowFilter(self.session, table, where, *shape)
                known[shape] = Passing(asked.needed, asked.passing)
            return known[shape]

        return passing

    def reread(self, piece: Piece, keys: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
        """These columns of the rows with these keys, as they are now."""
        session = self.session
        table = describe(session, piece.id)
        now = {column.attnum: column for column in table.columns}
        known = {column.name: now.get(column.attnum) for column in piece.columns}
        found = {name: known[name] for name in (*keys.columns, *columns)}
        if table.oid != piece.oid or None in found.values():
            raise ReadAnew(
                f"{', '.join(columns)} are not told by the log, and have been renamed since"
            )
        key = [column for name, column in found.items() if column and name in keys.columns]
        wanted = [column for name, column in found.items() if column and name in columns]
        named = keys.rename(dict(zip(keys.columns, (column.name for column in key), strict=True)))
        answers = reread(session, table, key, wanted, named)
        return answers.rename(dict(zip((c.name for c in wanted), columns, strict=True)))
