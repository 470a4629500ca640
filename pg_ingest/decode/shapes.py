"""Which shape a table had at each of its changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pg_ingest.decode.messages import Integers, Relation
from pg_ingest.decode.wire import broken

_BEFORE_ALL = -1


@dataclass(frozen=True, slots=True)
class Shapes:
    """Every shape of every table in a piece.

    Attributes:
        relations: all shapes; those of one table follow each other in the order of the log.
        first: per table's oid, the number of its first shape in `relations`.
        since: per table's oid, per shape, the number of the message that announced it.
    """

    relations: list[Relation]
    first: dict[int, int]
    since: dict[int, Integers]

    @classmethod
    def of(cls, announced: Sequence[tuple[int, Relation]], known: Mapping[int, Relation]) -> Shapes:
        """Join what is known with what the piece announces; a repetition is no new shape."""
        history = {oid: [(_BEFORE_ALL, relation)] for oid, relation in known.items()}
        for index, relation in announced:
            past = history.setdefault(relation.oid, [])
            if not past or past[-1][1] != relation:
                past.append((index, relation))
        shapes = cls([], {}, {})
        for oid, past in history.items():
            shapes.first[oid] = len(shapes.relations)
            shapes.since[oid] = np.array([index for index, _ in past], dtype=np.int64)
            shapes.relations.extend(relation for _, relation in past)
        return shapes

    def newest(self) -> dict[int, Relation]:
        """Per table's oid its last shape."""
        return {
            oid: self.relations[first + len(self.since[oid]) - 1]
            for oid, first in self.first.items()
        }

    def codes(self, indexes: Integers, oids: Integers) -> Integers:
        """Per change (number of its message, oid of its table) its shape's place in `relations`.

        Raises ProtocolError for a table that has not been announced yet.
        """
        codes = np.empty(len(oids), dtype=np.int64)
        for oid in np.unique(oids).tolist():
            which = oids == oid
            own = indexes[which]
            since = self.since.get(oid)
            if since is None or own[0] < since[0]:
                raise broken(
                    f"a change of relation {oid}, which was not announced",
                    index=int(own[0]),
                    position=1,
                )
            codes[which] = self.first[oid] + np.searchsorted(since, own, side="left") - 1
        return codes
