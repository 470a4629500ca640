"""What came of decoding one column: values, and why some of them could not be made."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True)
class Decoded:
    """Typed values, and the reasons where there is none.

    Attributes:
        values: one per text; null where the text is null or cannot be stored.
        problems: string array of the same length: why the value cannot be stored, null elsewhere;
            None when every value could be. A reason never contains the value.
    """

    values: pa.Array
    problems: pa.Array | None = None


def refuse(wrong: pa.BooleanArray, reason: str) -> pa.Array | None:
    """`reason` where `wrong` is true and null elsewhere; None when it is true nowhere."""
    if not pc.any(wrong).as_py():
        return None
    return pc.if_else(wrong, pa.scalar(reason), pa.scalar(None, pa.string()))


def blank(texts: pa.Array, where: pa.BooleanArray) -> pa.Array:
    """The texts with null where `where` is true."""
    return pc.if_else(where, pa.scalar(None, texts.type), texts)


def first_problem(one: pa.Array | None, two: pa.Array | None) -> pa.Array | None:
    """Per element the reason of `one`, or else that of `two`."""
    if one is None or two is None:
        return one if two is None else two
    return pc.coalesce(one, two)
