"""The framing of `COPY (SELECT one_column …) TO STDOUT (FORMAT binary)`.

libpq hands over one row a call and says how long it is, so the rows' places are known without reading
them; what is left is to check that every frame says the same. A row is a column count (int16), then
the value's length (int32) and the value. The first comes with the file header, the last says -1.

Facts: manual, COPY, "Binary Format".
"""

from __future__ import annotations

import numpy as np

from pg_ingest.decode.messages import Bytes, Integers, Messages
from pg_ingest.decode.wire import gather
from pg_ingest.errors import ProtocolError

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""Signature, flags and the length of the header's extension; none are in use."""

TRAILER = b"\xff\xff"
"""The column count -1, alone."""

_FRAME = 6


def unframe(buffer: Bytes, sizes: Integers) -> Messages:
    """The values of some rows that lie in `buffer` one after the other, header and trailer taken off.

    Args:
        sizes: of each row with its frame, in bytes.

    Raises ProtocolError when a row is not one value that is not NULL.
    """
    starts = np.cumsum(sizes) - sizes
    if (sizes < _FRAME).any() or int(sizes.sum()) != len(buffer):
        raise ProtocolError("a row of a binary COPY is shorter than its frame")
    counts = gather(buffer, starts, ">i2")
    lengths = gather(buffer, starts + 2, ">i4").astype(np.int64)
    if (counts != 1).any() or (lengths != sizes - _FRAME).any():
        raise ProtocolError("a row of a binary COPY does not hold one value of the length it says")
    return Messages(buffer, starts + _FRAME, lengths)
