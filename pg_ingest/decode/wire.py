"""Big-endian numbers and strings of PostgreSQL's protocol: at many places at once, or one by one."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pg_ingest.decode.messages import Bytes, Integers
from pg_ingest.errors import ProtocolError

_HINT = "the server or the network sent damaged bytes, or a protocol this version does not know"


def broken(message: str, *, index: int, position: int) -> ProtocolError:
    """The error for message `index` of a piece, at byte `position` of that message."""
    return ProtocolError(
        message, detail=f"message {index} of this piece, byte {position} of it", hint=_HINT
    )


def gather(buffer: Bytes, positions: Integers, kind: str) -> npt.NDArray[Any]:
    """Numbers of numpy type `kind` (`>u4`, …) at `positions`, which must lie within the buffer.

    The view overlaps itself, one number for every byte; nothing is copied but the answer.
    """
    dtype = np.dtype(kind)
    count = len(buffer) - dtype.itemsize + 1
    if not len(positions):
        return np.empty(0, dtype=dtype.newbyteorder("="))
    view = np.ndarray((count,), dtype=dtype, buffer=buffer, strides=(1,))
    numbers: npt.NDArray[Any] = view[positions].astype(dtype.newbyteorder("="))
    return numbers


@dataclass(slots=True)
class Cursor:
    """Reads the fields of one message, after its tag."""

    data: bytes
    index: int
    position: int = 1

    def number(self, form: str) -> int:
        """The next number, `form` as in `struct` (without byte order)."""
        size = struct.calcsize(form)
        part = self.take(size)
        (value,) = struct.unpack(">" + form, part)
        return int(value)

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        part = self.data[self.position : self.position + size]
        if len(part) < size:
            raise broken(
                f"the message ends {size - len(part)} bytes too early",
                index=self.index,
                position=self.position,
            )
        self.position += size
        return part

    def string(self) -> str:
        """The next string, which a NUL byte ends."""
        end = self.data.find(b"\0", self.position)
        if end < 0:
            raise broken("a string does not end", index=self.index, position=self.position)
        part = self.data[self.position : end]
        try:
            text = part.decode()
        except UnicodeDecodeError as error:
            raise broken("a name is not UTF-8", index=self.index, position=self.position) from error
        self.position = end + 1
        return text

    def finish(self) -> None:
        """Raise ProtocolError when bytes are left."""
        if self.position != len(self.data):
            raise broken(
                f"{len(self.data) - self.position} bytes too many",
                index=self.index,
                position=self.position,
            )
