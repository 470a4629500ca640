"""The saved catalogue: whole or not at all, and a damaged file says what to do."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from pg_ingest.catalog_file import catalog_path, load_catalog, save_catalog
from pg_ingest.errors import ConfigError
from pg_ingest.table import (
    Column,
    DatabaseCatalog,
    PgType,
    RelationKind,
    ReplicaIdentity,
    SourceCatalog,
    Table,
    TableId,
    TypeKind,
)

_ELEMENT = PgType(1700, "numeric", "pg_catalog", TypeKind.BASE, 655366, "numeric(10,2)")
CATALOG = SourceCatalog(
    "shop",
    "2026-01-01T00:00:00+00:00",
    (
        DatabaseCatalog(
            "main ü",
            180000,
            (
                Table(
                    id=TableId("public", 'odd "name'),
                    oid=4_000_000_000,
                    kind=RelationKind.PARTITIONED,
                    columns=(
                        Column("id", 1, _ELEMENT, nullable=False, comment="line\nline"),
                        Column(
                            "many",
                            3,
                            PgType(
                                1231, "_numeric", "pg_catalog", TypeKind.ARRAY, -1, "x[]", _ELEMENT
                            ),
                            generated=True,
                        ),
                    ),
                    primary_key=("id",),
                    identity=ReplicaIdentity.INDEX,
                    identity_columns=("id",),
                    partition_root=TableId("public", "root"),
                    estimated_rows=10,
                    estimated_bytes=2**40,
                    unlogged=True,
                    selectable=False,
                    comment="",
                ),
            ),
        ),
        DatabaseCatalog("empty", 90600, ()),
    ),
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = save_catalog(tmp_path, CATALOG)
    assert path == catalog_path(tmp_path, "shop") == tmp_path / "catalog" / "shop.json"
    loaded = load_catalog(tmp_path, "shop")
    assert loaded == CATALOG
    assert isinstance(loaded.databases[0].tables[0].kind, RelationKind)
    assert list(path.parent.iterdir()) == [path]


def test_never_discovered(tmp_path: Path) -> None:
    assert load_catalog(tmp_path, "shop") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is not JSON"),
        ('{"format": 1, "cat', "it is not JSON"),
        ("[]", "its format is None, this version reads 1"),
        ('{"format": 2, "catalog": {}}', "its format is 2, this version reads 1"),
        ('{"format": 1, "catalog": {"source": "shop"}}', "2 of its values do not fit"),
        (
            '{"format": 1, "catalog": {"source": "eu", "captured_at": "", "databases": []}}',
            "it is the catalogue of eu",
        ),
        (
            '{"format": 2, "catalog": {"source": "shop", "captured_at": "", "databases": []}}',
            "its format is 2, this version reads 1",
        ),
    ],
)
def test_a_damaged_file_names_itself_and_the_remedy(tmp_path: Path, text: str, why: str) -> None:
    path = catalog_path(tmp_path, "shop")
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_catalog(tmp_path, "shop")
    assert caught.value.message == "the saved catalogue of shop cannot be used"
    assert caught.value.detail == f"{path}: {why}"
    assert "pg-ingest discover" in caught.value.hint


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = catalog_path(tmp_path, "shop")
    path.mkdir(parents=True)
    with pytest.raises(ConfigError) as caught:
        load_catalog(tmp_path, "shop")
    assert caught.value.detail == f"{path}: Is a directory"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "catalog").write_text("a file")
    with pytest.raises(ConfigError) as caught:
        save_catalog(tmp_path, CATALOG)
    assert caught.value.message == "the catalogue of shop cannot be saved"
    assert "make state_dir writable" in caught.value.hint


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_catalog(tmp_path, CATALOG)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError) as caught:
        save_catalog(tmp_path, SourceCatalog("shop", "later", ()))
    assert caught.value.detail == f"{path}: No space left on device"
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_readers_see_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    versions = [SourceCatalog("shop", str(n), CATALOG.databases * 20) for n in range(30)]
    save_catalog(tmp_path, versions[0])

    def write() -> None:
        for version in versions:
            save_catalog(tmp_path, version)

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while writer.is_alive():
        assert load_catalog(tmp_path, "shop") is not None
        seen += 1
    writer.join()
    assert load_catalog(tmp_path, "shop") == versions[-1]
    assert seen > 0


def test_it_is_json_with_a_version(tmp_path: Path) -> None:
    fields = json.loads(save_catalog(tmp_path, CATALOG).read_text("utf-8"))
    assert fields["format"] == 1
    assert fields["catalog"]["databases"][0]["tables"][0]["id"]["name"] == 'odd "name'
