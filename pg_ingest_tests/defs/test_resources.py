"""Resources: for other people's assets, and for changing where ours go in a run or test."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from pg_ingest.config.load import LoadedConfig
from pg_ingest.defs.factory import build_definitions
from pg_ingest.defs.resources import PostgresResource, SourceConnection, source_resource
from pg_ingest.defs.route import Route
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.defs.conftest import Write
from pg_ingest_tests.defs.test_materialize import facts

Shop = Callable[[str], LoadedConfig]

ORDERS = "method: full_table\ntables: {public.orders: {}}\n"
PLACE = {"host": "db", "user": "ingest"}


def counting(key: str, seen: list[Any], query: str = "SELECT 41 + 1") -> dg.AssetsDefinition:
    @dg.asset(required_resource_keys={key}, name="counted")
    def counted(context: dg.AssetExecutionContext) -> None:
        with getattr(context.resources, key).session(context.run.tags["database"]) as session:
            seen.append(session.rows(query)[0][0])

    return counted


def test_in_somebody_elses_asset(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(database.port))
    monkeypatch.setenv("DB_PASSWORD", "any-sesame")
    postgres = PostgresResource(
        host=database.host,
        port=dg.EnvVar.int("PORT"),
        user=database.user,
        password=dg.EnvVar("DB_PASSWORD"),
        limits={"connections": 2, "query_timeout": "7s"},
    )
    seen: list[Any] = []
    defs = dg.Definitions(
        assets=[counting("pg", seen, "SHOW statement_timeout")], resources={"pg": postgres}
    )
    job = defs.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(tags={"database": database.name}).success
    assert seen == ["7s"]
    assert "any-sesame" not in dg.serialize_value(job.get_job_snapshot())


def test_as_an_argument_and_as_the_drivers_connection(database: Database) -> None:
    seen: list[Any] = []

    @dg.asset
    def counted(postgres: PostgresResource) -> None:
        with postgres.connect(database.name) as connection:
            seen.extend(connection.execute("SELECT 42").fetchall())
            seen.extend(connection.execute("SHOW default_transaction_read_only").fetchall())

    postgres = PostgresResource(host=database.host, port=database.port, user=database.user)
    assert dg.materialize([counted], resources={"postgres": postgres}).success
    assert seen == [(42,), ("on",)]
    with postgres.session(database.name) as session:
        assert session.rows("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pasword": {"env": "X"}}, "pasword"),
        ({"password": "hunter2-hunter2"}, "is a secret itself"),
        ({"password": {"evn": "hunter2-hunter2"}}, "did you mean env?"),
        ({"host": "db:5432"}, "contains a port"),
        ({"tls": {"mode": "verify_full"}}, "did you mean verify-full?"),
        ({"tls": {"mode": "require", "root_crt": "x"}}, "did you mean root_cert?"),
        ({"tls": {"mode": "disable", "root_cert": "x"}}, "makes no use of root_cert"),
        (
            {
                "tls": {
                    "mode": "require",
                    "client_cert": "c",
                    "client_key": "k",
                    "client_key_password": "hunter2-hunter2",
                }
            },
            "client_key_password is a secret itself",
        ),
        (
            {"ssh": {"host": "bastion", "user": "u", "password": "hunter2-hunter2"}},
            "ssh.password is a secret itself",
        ),
        ({"ssh": {"hots": "bastion", "user": "u"}}, "did you mean host?"),
        ({"limits": {"conections": 2}}, "did you mean connections?"),
    ],
)
def test_what_is_wrong_is_refused_at_once(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        PostgresResource(**{**PLACE, **given})
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_nested_secrets_by_dagsters_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASTION_PASSWORD", "bastion-sesame")
    postgres = PostgresResource(
        **PLACE, ssh={"host": "bastion", "user": "u", "password": dg.EnvVar("BASTION_PASSWORD")}
    )
    seen: list[SourceConnection] = []

    @dg.asset
    def looked(postgres: PostgresResource) -> None:
        seen.append(postgres.connection)

    assert dg.materialize([looked], resources={"postgres": postgres}).success
    ssh = seen[0].settings.ssh
    assert ssh is not None
    assert ssh.password is not None
    assert ssh.password.reveal() == "bastion-sesame"
    assert "bastion-sesame" not in repr(seen)


def test_each_source_has_one(shop: Shop, database: Database) -> None:
    definitions = build_definitions(shop(ORDERS), {})
    seen: list[Any] = []
    extended = dg.Definitions.merge(
        definitions, dg.Definitions(assets=[counting("postgres_shop", seen)])
    )
    job = extended.resolve_implicit_global_asset_job_def()
    chosen = [dg.AssetKey("counted")]
    tags = {"database": database.name}
    assert job.execute_in_process(tags=tags, asset_selection=chosen).success
    assert seen == [42]


def test_what_it_is_given_by_default_changes_nothing(write: Write) -> None:
    loaded = write(
        "databases: [app]\nssh: {host: bastion, user: u, agent: true}\n"
        'limits: {max_rate: 20MB, quiet_hours: {from: "08:00", to: "18:00"}}\n' + ORDERS
    )
    route = Route("shop", loaded.config)
    made = source_resource("shop", route.settings)(dg.build_init_resource_context())
    assert route.reached_by(made.settings) is route


def test_a_run_of_log_based_tables_too(
    write: Write, database: Database, instance: dg.DagsterInstance
) -> None:
    database.execute("create table orders (id int primary key)")
    database.execute("insert into orders values (1), (2)")
    loaded = write(
        f"databases: [{database.name}]\nmethod: log_based\ntables: {{public.orders: {{}}}}\n"
    )
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    place = {"host": database.host, "port": database.port}
    try:
        found = job.execute_in_process(
            instance=instance,
            partition_key=database.name,
            run_config={"resources": {"postgres_shop": {"config": place}}},
        )
        assert facts(found, "orders")["dagster/row_count"] == 2
    finally:
        database.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
            f" where database = '{database.name}'"
        )


def test_a_run_may_reach_another_server(
    write: Write, database: Database, instance: dg.DagsterInstance
) -> None:
    """The file's port is closed; the launchpad names the right one."""
    database.execute("create table orders (id int primary key)")
    database.execute("insert into orders values (1), (2)")
    loaded = write(f"databases: [{database.name}]\n" + ORDERS)
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    place = {"host": database.host, "port": database.port, "limits": {"query_timeout": 7}}
    found = job.execute_in_process(
        instance=instance,
        partition_key=database.name,
        run_config={"resources": {"postgres_shop": {"config": place}}},
    )
    assert facts(found, "orders")["dagster/row_count"] == 2


def test_a_test_may_give_it_another_server(
    write: Write, database: Database, instance: dg.DagsterInstance
) -> None:
    database.execute("create table orders (id int primary key)")
    loaded = write(f"databases: [{database.name}]\n" + ORDERS)
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    other = PostgresResource(host=database.host, port=database.port, user=database.user)
    found = job.execute_in_process(
        instance=instance, partition_key=database.name, resources={"postgres_shop": other}
    )
    assert facts(found, "orders")["dagster/row_count"] == 0


def test_what_a_run_gives_is_checked(
    shop: Shop, database: Database, instance: dg.DagsterInstance
) -> None:
    job = build_definitions(shop(ORDERS), {}).resolve_job_def("sync_shop")
    wrong = {"resources": {"postgres_shop": {"config": {"limits": {"conections": 1}}}}}
    with pytest.raises(dg.DagsterResourceFunctionError) as caught:
        job.execute_in_process(instance=instance, partition_key=database.name, run_config=wrong)
    assert "limits.conections" in str(caught.value.__cause__)
