"""Finding the file, and telling everything that is wrong with it in one go."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.config.load import load_config, parse_config
from pg_ingest.errors import ConfigError
from pg_ingest_tests.config.conftest import source, whole

FAULTY = """\
destination: {type: duckdb, path: w.duckdb}
state_dirr: x
sources:
  shop:
    host: db:5432
    user: reader
    pasword: hunter2
    databases: [shop]
    method: full_table
    schedule: {every: 30}
    tables:
      public.orders:
        method: key_based
        where: ""
      orders: {method: xmin}
      public.items: {partition_by: {column: at, every: dai, start: 2024-01-01, end: 2023-01-01}}
      public.pairs: {columns: [a], exclude_columns: [b]}
      public.pairs: {}
  tiny:
    host: h
    user: u
    databases: []
    select_all: true
"""


def test_all_at_once_with_lines(refusal: Any) -> None:
    places = [told.split(": ")[0] + " " + told.split(": ")[1] for told in refusal(FAULTY)]
    assert places == [
        "pg_ingest.yaml:2 state_dirr",
        "pg_ingest.yaml:5 sources.shop.host",
        "pg_ingest.yaml:7 sources.shop.pasword",
        "pg_ingest.yaml:10 sources.shop.schedule.every",
        "pg_ingest.yaml:12 sources.shop.tables.public.orders",
        "pg_ingest.yaml:14 sources.shop.tables.public.orders.where",
        "pg_ingest.yaml:15 sources.shop.tables.orders",
        "pg_ingest.yaml:16 sources.shop.tables.public.items.partition_by.every",
        "pg_ingest.yaml:18 sources.shop.tables.public.pairs",
        "pg_ingest.yaml:22 sources.tiny.databases",
        "pg_ingest.yaml:23 sources.tiny.select_all",
    ]


def test_the_message_as_a_whole(write: Any) -> None:
    path = write(whole(stat_dir="x", sources={"shop": source(host="db:5432")}))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == (
        f"the configuration {path} has 2 problems\n"
        "detail: \n"
        f"  {path}:6: sources.shop.host: contains a port (db:5432) — write `host: db` and `port: 5432`\n"
        f"  {path}:13: stat_dir: is an unknown key — did you mean state_dir?\n"
        "hint: correct the file and load it again; docs/configuration.md explains every key"
    )


@pytest.mark.parametrize(
    ("wrong", "only"),
    [
        ({"methud": "key_based", "method": None}, "sources.shop.methud"),
        ({"method": "key_basd"}, "sources.shop.method"),
        (
            {"tables": {"public.a": {"method": "key_based", "replication_kee": "at"}}},
            "public.a.replication_kee",
        ),
        (
            {"tables": {"public.a": {"method": "key_based", "replication_key": 5}}},
            "public.a.replication_key",
        ),
        ({"tables": {"public.a": 5}}, "sources.shop.tables.public.a"),
        (
            {"tables": {"public.a": {"methd": "key_based", "replication_key": "at"}}},
            "public.a.methd",
        ),
        (
            {"naming": {"schema": "{s}"}, "tables": {"a.t": {}, "b.t": {}}},
            "sources.shop.naming.schema",
        ),
        ({"host": {}}, "sources.shop.host"),
        ({"databases": [5], "log": {"slot": "mine"}}, "sources.shop.databases.0"),
    ],
)
def test_one_mistake_is_not_told_twice(refusal: Any, wrong: dict[str, Any], only: str) -> None:
    [told] = refusal(whole(sources={"shop": source(**wrong)}))
    assert f"{only}: " in told


def test_not_yaml(write: Any) -> None:
    path = write("sources:\n  shop: {host: db\n  user: x\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.message == f"the configuration {path} is not valid YAML"
    assert caught.value.detail.startswith(f"{path}:3: column 7: did not find expected ',' or '}}'")
    assert "indent with spaces" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        ("# only a comment", "is empty"),
        ("- a", "is not a mapping of keys"),
        ("a", "is not a mapping of keys"),
    ],
)
def test_no_keys(refusal: Any, text: str, what: str) -> None:
    [told] = refusal(text)
    assert f": the file: {what} — start from pg_ingest.example.yaml" in told


def test_empty_sources(refusal: Any) -> None:
    [told] = refusal("destination: {path: w}\nsources:\n")
    assert told == (
        "pg_ingest.yaml:2: sources: names no source — write at least one source below `sources:`"
    )


def test_a_missing_file_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PG_INGEST_CONFIG", raising=False)
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert caught.value.message == f"there is no configuration file {tmp_path}/pg_ingest.yaml"
    assert caught.value.detail == (
        f"looked at {tmp_path}/pg_ingest.yaml ($PG_INGEST_CONFIG is not set, so the current folder)"
    )
    assert "copy pg_ingest.example.yaml" in caught.value.hint
    monkeypatch.setenv("PG_INGEST_CONFIG", "/nowhere/at/all.yaml")
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert caught.value.detail == "looked at /nowhere/at/all.yaml ($PG_INGEST_CONFIG)"
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert caught.value.detail.endswith("(the path that was given); that is a folder, not a file")


def test_the_three_ways_to_name_it(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(whole())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PG_INGEST_CONFIG", raising=False)
    assert load_config().path == path
    assert load_config(Path("pg_ingest.yaml")).path == path
    monkeypatch.chdir("/")
    monkeypatch.setenv("PG_INGEST_CONFIG", str(path))
    assert load_config().path == path


def test_relative_paths_start_at_the_file(load: Any, tmp_path: Path) -> None:
    tls = {"mode": "require", "client_cert": "c.pem", "client_key": "/keys/k.pem"}
    config = load(whole(state_dir="state", sources={"shop": source(tls=tls)})).config
    assert config.destination.path == tmp_path / "w.duckdb"
    assert config.state_dir == tmp_path / "state"
    assert config.sources["shop"].tls.client_cert == tmp_path / "c.pem"
    assert config.sources["shop"].tls.client_key == Path("/keys/k.pem")
    assert load(whole()).config.state_dir == tmp_path / ".pg_ingest"


def test_unreadable_text(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.message == f"the configuration {path} is not UTF-8 text"
    assert caught.value.detail == "byte 3 cannot be decoded"


def test_a_byte_order_mark_is_no_problem(tmp_path: Path, write: Any) -> None:
    path = write(whole())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_config(path).config.sources


def test_from_plain_data(tmp_path: Path) -> None:
    data = whole()
    loaded = parse_config(data, folder=tmp_path, name="defs.yaml")
    assert loaded.config.destination.path == tmp_path / "w.duckdb"
    assert loaded.path == tmp_path
    with pytest.raises(ConfigError) as caught:
        parse_config({**data, "stat_dir": None}, folder=tmp_path, name="defs.yaml")
    assert caught.value.detail == "defs.yaml: stat_dir: has no value — give one, or remove the key"
    assert data == whole()


def test_a_thousand_tables_load_at_once(write: Any) -> None:
    tables = {
        f"public.t{n}": {"method": "key_based", "replication_key": "id", "where": f"a > {n}"}
        for n in range(1000)
    }
    path = write(whole(sources={"shop": source(tables=tables)}))
    began = time.process_time()
    assert len(load_config(path).config.sources["shop"].tables) == 1000
    assert time.process_time() - began < 1.0


def test_a_thousand_mistakes_are_told(refusal: Any) -> None:
    tables = {f"public.t{n}": {"wher": "x"} for n in range(1000)}
    assert len(refusal(whole(sources={"shop": source(tables=tables)}))) == 1000


def test_the_example_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    example = Path(__file__).parents[2] / "pg_ingest.example.yaml"
    assert load_config(example).warnings == ()


def test_a_required_key_without_a_value_is_told_once(refusal: Any) -> None:
    text = "destination: {path: w}\nsources:\n  s:\n    host:\n    user: u\n    databases: [d]\n"
    assert [told.split(" ", 1)[1] for told in refusal(text)] == [
        "sources.s: selects no table — name tables or patterns below `tables:`, or write `select_all: true` "
        "and a method",
        "sources.s.host: has no value — give one, or remove the key",
    ]
