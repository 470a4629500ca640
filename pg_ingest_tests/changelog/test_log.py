"""Reading the change log, keeping it small, and noticing damage."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pg_ingest.changelog.log import ChangeLog
from pg_ingest.changelog.manifest import Manifest, Segment
from pg_ingest.changelog.segments import write_segment
from pg_ingest.decode.messages import Messages, State
from pg_ingest.decode.pgoutput import decode
from pg_ingest.errors import ChangeLogDamaged
from pg_ingest.lsn import Lsn
from pg_ingest.table import TableId

_ORDERS, _ITEMS = TableId("s", "orders"), TableId("s", "items")
_LATE = 1e12


def _messages(
    oid: int, table: TableId, lsn: int, columns: tuple[str, ...], rows: int
) -> list[bytes]:
    described = b"".join(
        b"\0" + name.encode() + b"\0\0\0\0\x19\xff\xff\xff\xff" for name in columns
    )
    one = b"".join(b"t\0\0\0\1%d" % (number % 10) for number in range(len(columns)))
    width = len(columns).to_bytes(2, "big")
    return [
        b"B" + lsn.to_bytes(8, "big") + bytes(8) + b"\0\0\0\7",
        b"R"
        + oid.to_bytes(4, "big")
        + f"{table.schema}\0{table.name}\0d".encode()
        + width
        + described,
        *[b"I" + oid.to_bytes(4, "big") + b"N" + width + one] * rows,
        b"C\0" + lsn.to_bytes(8, "big") + (lsn + 8).to_bytes(8, "big") + bytes(8),
    ]


class Writer:
    """Writes small segments into a change log."""

    def __init__(self, state_dir: Path) -> None:
        self.log = ChangeLog(state_dir, "shop", "Größe/../x")
        self.manifest = Manifest("shop", self.log.database, "slot", 7, 0, 0, 0.0)
        self.log.commit(self.manifest)

    def add(
        self, table: TableId, lsn: int, columns: tuple[str, ...] = ("a", "b"), rows: int = 3
    ) -> Segment:
        oid = 1 if table == _ORDERS else 2
        decoded = decode(Messages.of(_messages(oid, table, lsn, columns, rows)), State())
        (changes,) = decoded.changes
        segment = write_segment(
            self.log.segment_folder, self.manifest.next_number, changes.relation, [changes.rows]
        )
        self.manifest = self.manifest.extended((segment,), Lsn(lsn + 8), segment.written_at)
        self.log.commit(self.manifest)
        return segment


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


def test_no_log_yet(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path, "shop", "empty")
    assert log.manifest() is None
    log.sweep()
    assert log.retain({}, since=_LATE) == ()
    frame = log.changes(_ORDERS)
    assert frame.is_empty() and frame.schema["_pgi_unchanged"] == pl.List(pl.String())


def test_it_stays_below_its_folder(writer: Writer, tmp_path: Path) -> None:
    assert writer.log.folder.resolve().parent == tmp_path / "changelog" / "shop"


def test_one_table_over_several_shapes(writer: Writer) -> None:
    writer.add(_ORDERS, 100)
    writer.add(_ITEMS, 200, ("x",))
    writer.add(_ORDERS, 300, ("a", "c"), rows=2)
    frame = writer.log.changes(_ORDERS)
    assert frame["_pgi_lsn"].to_list() == [100] * 3 + [300] * 2
    assert frame["_pgi_sequence"].to_list() == [0, 1, 2, 0, 1]
    assert frame["b"].null_count() == 2 and frame["c"].null_count() == 3
    assert writer.log.changes(_ORDERS, Lsn(100))["_pgi_lsn"].to_list() == [300, 300]
    assert writer.log.changes(_ITEMS)["x"].to_list() == ["0"] * 3


def test_from_a_place_within_a_transaction(writer: Writer) -> None:
    writer.add(_ORDERS, 100)
    (recorded,) = writer.log.recorded(_ORDERS, (100, 1))
    assert recorded.rows["_pgi_sequence"].to_list() == [2]
    assert [column.name for column in recorded.relation.columns] == ["a", "b"]
    assert recorded.relation.id == _ORDERS
    assert list(writer.log.recorded(_ORDERS, (100, 2))) == []


@pytest.mark.parametrize("place", [0, 0.5, 0.999])
def test_every_flipped_bit_is_noticed(writer: Writer, place: float) -> None:
    segment = writer.add(_ORDERS, 100)
    path = writer.log.segment_folder / segment.file
    contents = bytearray(path.read_bytes())
    contents[int(len(contents) * place)] ^= 4
    path.write_bytes(contents)
    with pytest.raises(ChangeLogDamaged, match=segment.file):
        writer.log.changes(_ORDERS)


def test_a_cut_or_missing_segment_is_noticed(writer: Writer) -> None:
    segment = writer.add(_ORDERS, 100)
    writer.add(_ITEMS, 200)
    path = writer.log.segment_folder / segment.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ChangeLogDamaged, match="is damaged"):
        writer.log.changes(_ORDERS)
    path.unlink()
    with pytest.raises(ChangeLogDamaged, match="is missing"):
        writer.log.changes(_ORDERS)
    assert len(writer.log.changes(_ITEMS)) == 3


def test_sweeping_leaves_what_the_manifest_names(writer: Writer) -> None:
    segment = writer.add(_ORDERS, 100)
    (writer.log.segment_folder / "left.arrow.tmp").write_bytes(b"half")
    (writer.log.segment_folder / "unnamed.arrow").write_bytes(b"whole")
    writer.log.sweep()
    assert [path.name for path in writer.log.segment_folder.iterdir()] == [segment.file]
    assert len(writer.log.changes(_ORDERS)) == 3


def test_nothing_goes_before_it_is_applied(writer: Writer) -> None:
    first, second = writer.add(_ORDERS, 100), writer.add(_ORDERS, 200)
    other = writer.add(_ITEMS, 150)
    assert writer.log.retain({}, since=_LATE, max_bytes=0) == ()
    assert writer.log.retain({_ORDERS: (100, 1)}, since=_LATE, max_bytes=0) == ()
    assert writer.log.retain({_ORDERS: (200, 1)}, since=_LATE) == (first,)
    assert not (writer.log.segment_folder / first.file).exists()
    assert len(writer.log.changes(_ORDERS)) == 3
    applied = {_ORDERS: (200, 2), _ITEMS: (150, 2)}
    assert set(writer.log.retain(applied, since=_LATE)) == {second, other}
    assert list(writer.log.segment_folder.iterdir()) == []


def test_applied_changes_are_kept_for_their_time_and_room(writer: Writer) -> None:
    segments = [writer.add(_ORDERS, lsn) for lsn in (100, 200, 300)]
    applied = {_ORDERS: (300, 2)}
    young = segments[0].written_at - 1
    room = sum(segment.size for segment in segments)
    assert writer.log.retain(applied, since=young, max_bytes=room) == ()
    assert writer.log.retain(applied, since=young, max_bytes=room - 1) == (segments[0],)
    assert writer.log.retain(applied, since=segments[2].written_at) == (segments[1],)
