"""Running the script lets the role do what the configuration asks for, and nothing else.

Every grant it makes is taken back once, alone, and the doctor must name that very statement.
"""

from __future__ import annotations

import re
from contextlib import closing

import duckdb
import psycopg
import pytest

from pg_ingest.catalog_file import load_catalog
from pg_ingest.config.load import LoadedConfig
from pg_ingest.config.needs import needs_of
from pg_ingest.doctor.finding import Finding, Verdict
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.server import Server
from pg_ingest.rediscover import look_and_save
from pg_ingest.setup.script import script
from pg_ingest_tests.setup.guarded import Shop, bad, check

TABLES = """
create table orders (id int primary key, note text);
insert into orders select g, repeat('x', 100) from generate_series(1, 50) g;
create table people (id int primary key, name text, secret text, changed timestamptz default now());
insert into people select g, 'n', 's' from generate_series(1, 20) g;
create table audit (id int primary key);
create table some_rows (id int primary key, "Kind" text, at date, secret text);
insert into some_rows select g, case when g % 2 = 0 then 'secret' end, '2026-01-01'
  from generate_series(1, 30) g;
create table versions (id int primary key, name text, secret text);
create table removals (id int primary key, name text);
create table sums (id int primary key, name text, secret text);
insert into versions select g, 'n', 's' from generate_series(1, 30) g;
insert into removals select g, 'n' from generate_series(1, 30) g;
insert into sums select g, 'n', 's' from generate_series(1, 30) g;
create table days (id int, day date, primary key (id, day)) partition by range (day);
create table days_2026 partition of days for values from ('2026-01-01') to ('2027-01-01');
insert into days values (1, '2026-05-05');
create view busy as select * from orders;
create schema "Other";
create table "Other"."Odd ""name" (id int primary key, changed timestamptz default now());
insert into "Other"."Odd ""name" values (1);
create table "Other".unselected (id int primary key);
create table hidden_rows (id int primary key);
insert into hidden_rows select generate_series(1, 5);
alter table hidden_rows enable row level security;
"""

SELECTED = """
databases: ["{database}"]
method: log_based
log: {{slot: "{slot}", heartbeat: {{every: 60s, mode: table, table: beats.heart}}}}
tables:
  public.orders: {{}}
  public.d*: {{}}
  public.hidden_rows: {{method: full_table}}
  public.people: {{method: full_table, exclude_columns: [secret]}}
  public.busy: {{method: full_table}}
  public.versions: {{method: xmin, columns: [id, name]}}
  public.removals: {{method: delta_snapshot}}
  public.some_rows:
    method: full_table
    columns: [id]
    where: |
      "Kind" = 'secret' AND AT > '2025-01-01'
  public.sums: {{method: snapshot_diff, exclude_columns: [secret]}}
  'Other.Odd "name': {{method: key_based, replication_key: changed}}
"""


def configured(shop: Shop, tables: str = TABLES, more: str = "") -> LoadedConfig:
    shop.database.execute(tables)
    slot = re.sub(r"\W", "_", shop.role)
    return shop.configure(SELECTED.format(database=shop.database.name, slot=slot) + more)


def made_script(loaded: LoadedConfig) -> str:
    catalog = load_catalog(loaded.config.state_dir, "shop")
    return script(needs_of(loaded.config, "shop", catalog), Provider.PLAIN)


def discover(loaded: LoadedConfig) -> None:
    look_and_save(Server("shop", loaded.config.sources["shop"]), loaded.config)


def test_the_first_script_makes_every_check_pass(shop: Shop) -> None:
    loaded = configured(shop)
    failed = [each for each in check(loaded) if each.verdict is Verdict.FAILED]
    assert [each.test for each in failed] == ["login"]
    shop.run(made_script(loaded))
    assert {each.verdict for each in check(loaded)} == {Verdict.PASSED}
    discover(loaded)
    again = made_script(loaded)
    assert 'GRANT SELECT ON "public"."days" TO' in again
    shop.run(again)
    assert bad(check(loaded)) == []


def test_every_method_works_with_it_and_nothing_else_does(shop: Shop) -> None:
    from click.testing import CliRunner

    from pg_ingest.cli import main

    loaded = configured(shop)
    shop.run(made_script(loaded))
    for _ in range(2):
        result = CliRunner().invoke(main, ["sync"])
        assert result.exit_code == 0, result.output
    with closing(duckdb.connect("warehouse.duckdb", read_only=True)) as stored:
        for table, count in COUNTS.items():
            assert stored.execute(f"select count(*) from shop.{table}").fetchone() == (count,)
    assert bad(check(loaded)) == []
    with shop.connect() as ours:
        for refused in FORBIDDEN:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ours.execute(refused)


COUNTS = {
    "orders": 50,
    "people": 20,
    "days": 1,
    "hidden_rows": 5,
    "versions": 30,
    "some_rows": 15,
    "removals": 30,
    "sums": 30,
}

FORBIDDEN = (
    "insert into orders values (0)",
    "update orders set note = ''",
    "delete from orders",
    "truncate orders",
    "select secret from people",
    "select secret from versions",
    "select secret from some_rows",
    "select * from people",
    "select * from audit",
    'select * from "Other".unselected',
    "create table mine (id int)",
    "create schema mine",
    "create publication mine",
    "alter publication pg_ingest add table audit",
    "drop table orders",
    "create role other",
    "delete from beats.heart",
    "create temporary table mine (id int)",
)


def grants(printed: str) -> list[str]:
    """The statements that gave something, as psql printed them."""
    kinds = (
        r"GRANT .* TO |ALTER ROLE .* (?:REPLICATION|BYPASSRLS);"
        r"|ALTER DEFAULT PRIVILEGES FOR|ALTER PUBLICATION .* ADD"
    )
    return [line for line in printed.splitlines() if re.match(kinds, line)]


def opposite(grant: str) -> str:
    """The statement that takes it back."""
    if grant.startswith("ALTER ROLE"):
        return re.sub(r"(REPLICATION|BYPASSRLS);$", r"NO\1;", grant)
    if grant.startswith("ALTER PUBLICATION"):
        return grant.replace(" ADD TABLE ", " DROP TABLE ")
    return re.sub(r" TO (\S+)$", r" FROM \1", grant.replace("GRANT ", "REVOKE ", 1))


def plain(text: str) -> str:
    """Without what may be written in two ways: quotation marks, white space, the end of a statement."""
    return " ".join(text.replace('"', "").replace(";", "").split())


def test_the_doctor_names_each_grant_that_is_taken_back(shop: Shop) -> None:
    loaded = configured(shop)
    given = grants(shop.run(made_script(loaded)))
    assert len(given) >= 18
    assert bad(check(loaded)) == []
    for grant in given:
        shop.database.execute(opposite(grant))
        found = bad(check(loaded))
        assert any(plain(grant) in plain(each.hint) for each in found), (grant, found)
        shop.database.execute(grant)
    assert bad(check(loaded)) == []


def hints(findings: list[Finding]) -> str:
    return "\n".join(each.hint for each in findings)


def test_a_table_without_identity_is_not_published(shop: Shop) -> None:
    shop.database.execute(
        "create table keyed (id int primary key); create table bare (id int);"
        "create table parted (id int) partition by list (id);"
        "create table part partition of parted default; alter table part replica identity full"
    )
    loaded = shop.configure(
        f'databases: ["{shop.database.name}"]\nmethod: log_based\nselect_all: true\n'
    )
    printed = shop.run(made_script(loaded))
    assert "ADD TABLE ONLY public.keyed" in printed
    assert "ADD TABLE ONLY public.bare" not in printed
    assert "ADD TABLE ONLY public.parted" not in printed
    left_out = printed.split("not published")[-1]
    assert "public.bare" in left_out
    assert "public.parted" in left_out
    shop.database.execute("update bare set id = 1")
    for problem in (problems := bad(check(loaded))):
        assert (problem.test, problem.verdict) == ("replica-identity", "failed")
    assert len(problems) == 2
    (risk,) = [each.hint for each in problems if each.subject.endswith("parted")]
    shop.database.execute(f"ALTER PUBLICATION {risk.partition('ALTER PUBLICATION ')[2]}")
    verdicts = {each.subject.rpartition(".")[2]: each.verdict for each in bad(check(loaded))}
    assert verdicts == {"bare": "failed", "parted": "warning"}
    shop.database.execute("alter table bare replica identity full")
    shop.database.execute("alter table parted add primary key (id)")
    shop.database.execute("alter table part replica identity default")
    assert 'ADD TABLE ONLY "public"."bare"' in hints(bad(check(loaded)))
    shop.run(made_script(loaded))
    assert bad(check(loaded)) == []


def test_patterns_mean_the_same_to_the_server(shop: Shop) -> None:
    """Without a catalogue the server chooses; with it, we do: both grant the same."""
    shop.database.execute(
        """create schema tenant_1; create schema "tenant.2"; create schema other;
        create table tenant_1.a1 (id int); create table tenant_1.a2 (id int);
        create table tenant_1.b (id int); create view tenant_1.v as select 1 as id;
        create table "tenant.2".a1 (id int); create table other."x+y" (id int); create table other.z (id int);
        create table other.parted (id int) partition by list (id);
        create table other.part partition of other.parted for values in (1)"""
    )
    loaded = shop.configure(
        f"""
        databases: ["{shop.database.name}"]
        method: full_table
        exclude: ["*.a[!1]"]
        naming: {{schema: "{{schema}}"}}
        tables:
          tenant?1.*: {{}}
          tenant.2.a*: {{columns: [id]}}
          other.x+*: {{}}
          other.part*: {{}}
        """
    )
    shop.run(made_script(loaded))
    query = """select relname::text from pg_class where relnamespace::regnamespace::text
        ~ 'tenant|other' and has_any_column_privilege(%s, oid, 'select') order by 1"""
    granted = [name for (name,) in shop.database.rows(query, shop.role)]
    assert granted == ["a1", "a1", "b", "parted", "v", "x+y"]
    assert bad(check(loaded)) == []
    discover(loaded)
    shop.run(made_script(loaded))
    assert [name for (name,) in shop.database.rows(query, shop.role)] == granted
