"""Resources: one database server each, for our own assets and for other people's.

`PostgresResource` is written where a project defines its resources. For each source of a configuration there is
one more, `postgres_<source>`, through which the source's assets reach their server; a test or the launchpad may
give it another `host` or other `limits`, and who writes assets of their own may use it too.

Where secrets may be: Dagster stores what a resource was given, as it stands, in the snapshot of the code
location and of every job. So PostgresResource takes places of secrets only, and refuses a secret itself. The
resources of sources are functions that hold their settings by closure: Dagster knows their host, port and user.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import dagster as dg
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from pg_ingest.config.load import parse_config
from pg_ingest.config.model import SourceConfig
from pg_ingest.config.secret import secrets_of
from pg_ingest.config.translate import problems_of
from pg_ingest.defs.route import Route
from pg_ingest.errors import ConfigError

if TYPE_CHECKING:
    from pg_ingest.postgres.server import DriverConnection, Server
    from pg_ingest.postgres.session import Session

_NESTED = ("password", "tls", "ssh", "limits")
_STAND_INS = {"host": "from-the-environment", "port": 5432, "user": "from_the_environment"}
_LITERAL = "is a secret itself, which Dagster would store; name its place: {'env': 'SHOP_PASSWORD'}"
_NAME = "resource"


@dataclass(frozen=True)
class SourceConnection:
    """A database server and how to reach it; opens nothing by itself.

    Attributes:
        source: its name.
        settings: all of its configuration.
    """

    source: str
    settings: SourceConfig

    @property
    def server(self) -> "Server":
        from pg_ingest.postgres.server import Server

        return Server(self.source, self.settings)

    @contextmanager
    def session(self, database: str, *, purpose: str = "asset") -> "Iterator[Session]":
        """A read-only session in `database`; waits while `limits.connections` are open.

        Raises LoginFailed, PermissionMissing, SourceUnreachable or SourceBusy.
        """
        with self.server.session(database, purpose=purpose) as opened:
            yield opened

    @contextmanager
    def connect(self, database: str, *, purpose: str = "asset") -> "Iterator[DriverConnection]":
        """The driver's own connection, for whatever a session does not offer: see `Server.connection`."""
        with self.server.connection(database, purpose=purpose) as opened:
            yield opened


class PostgresResource(dg.ConfigurableResource[SourceConnection]):
    """A PostgreSQL server, reached as one of pg_ingest.yaml is: tunnel, TLS, secrets, limits.

    `password`, `tls`, `ssh` and `limits` are mappings of the same keys as in the file. Unknown keys are refused
    when the code location loads. A secret is written by its place, or as `dg.EnvVar("NAME")`::

        postgres = PostgresResource(
            host="db.internal",
            user="ingest",
            password={"env": "SHOP_PASSWORD"},
            tls={"mode": "verify-full", "root_cert": "system"},
        )

        @dg.asset
        def customers(postgres: PostgresResource) -> None:
            with postgres.session("shop") as session:
                rows = session.rows("SELECT count(*) FROM public.customers")
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    host: str = Field(description="Name, address, or the folder of a Unix socket.")
    port: int = Field(default=5432, description="Port.")
    user: str = Field(description="Role to log in as.")
    password: dict[str, Any] | None = Field(
        default=None, description="Where the password is kept, as in pg_ingest.yaml."
    )
    tls: dict[str, Any] | None = Field(default=None, description="As in pg_ingest.yaml.")
    ssh: dict[str, Any] | None = Field(default=None, description="As in pg_ingest.yaml.")
    limits: dict[str, Any] | None = Field(default=None, description="As in pg_ingest.yaml.")

    @field_validator(*_NESTED, mode="before")
    @classmethod
    def _places(cls, value: Any) -> Any:
        if isinstance(value, str) and not isinstance(value, dg.EnvVar):
            raise ValueError(_LITERAL)
        return _with_places(value)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        """Refuse what is wrong already here; what an environment variable will give is not known yet."""
        known = {name: getattr(self, name) for name in _STAND_INS if not self._is_open(name)}
        try:
            settings = _parsed({**self._nested(), **_STAND_INS, **known})
        except ConfigError as error:
            raise ValueError(error.detail) from None
        for path, secret in secrets_of(settings):
            if secret.is_literal:
                raise ValueError(f"{'.'.join(map(str, path))} {_LITERAL}")
        return self

    def _is_open(self, name: str) -> bool:
        value = getattr(self, name)
        return isinstance(value, dg.EnvVar) or value == 0  # what an integer one looks like

    def _nested(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in _NESTED}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def connection(self) -> SourceConnection:
        """What it describes; its environment variables must have been read, as they are in a run."""
        place = {"host": self.host, "port": self.port, "user": self.user}
        return SourceConnection(_NAME, _parsed({**place, **self._nested()}))

    @contextmanager
    def session(self, database: str, *, purpose: str = "asset") -> "Iterator[Session]":
        """See SourceConnection."""
        with self.connection.session(database, purpose=purpose) as opened:
            yield opened

    @contextmanager
    def connect(self, database: str, *, purpose: str = "asset") -> "Iterator[DriverConnection]":
        """See SourceConnection."""
        with self.connection.connect(database, purpose=purpose) as opened:
            yield opened


def _parsed(given: dict[str, Any]) -> SourceConfig:
    """The settings; raise ConfigError with all their problems. Relative paths start in the current folder."""
    source = {"databases": ["*"], "method": "full_table", "select_all": True, **given}
    whole = {"destination": {"path": "none.duckdb"}, "sources": {_NAME: source}}
    return parse_config(whole, folder=Path.cwd(), name="the resource").config.sources[_NAME]


def _with_places(value: Any) -> Any:
    """The same with `dg.EnvVar("NAME")` as `{env: NAME}`, wherever in it."""
    if isinstance(value, dg.EnvVar):
        return {"env": value.env_var_name}
    if isinstance(value, Mapping):
        return {str(key): _with_places(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_with_places(below) for below in value]
    return value


def connection_key(source: str) -> str:
    """Key of the resource through which the assets of a source reach it."""
    return f"postgres_{source}"


def source_resource(source: str, settings: SourceConfig) -> dg.ResourceDefinition:
    """The resource of a source: its settings, less what a run or test gives it anew."""

    @dg.resource(
        description=f"The server of {source}, as pg_ingest.yaml describes it; what is given here wins.",
        config_schema={
            "host": dg.Field(dg.StringSource, default_value=settings.host),
            "port": dg.Field(dg.IntSource, default_value=settings.port),
            "user": dg.Field(dg.StringSource, default_value=settings.user),
            "limits": dg.Field(
                dict, default_value={}, description="Limits to change for this run."
            ),
        },
    )
    def made(context: dg.InitResourceContext) -> SourceConnection:
        return SourceConnection(source, _changed(source, settings, context.resource_config))

    return made


def _changed(source: str, settings: SourceConfig, given: Mapping[str, Any]) -> SourceConfig:
    limits = settings.limits.model_dump(by_alias=True, mode="json") | dict(given["limits"])
    place = {name: given[name] for name in ("host", "port", "user")}
    try:
        found = SourceConfig.model_validate({**place, "databases": ["*"], "limits": limits})
    except ValidationError as error:
        told = "; ".join(problem.text() for problem in problems_of(error))
        raise ConfigError(f"the resource {connection_key(source)} is wrong", detail=told) from None
    return settings.model_copy(update={name: getattr(found, name) for name in (*place, "limits")})


class _Loader(Protocol):
    route: Route


LoaderT = TypeVar("LoaderT", bound=_Loader)


def through(loader: LoaderT, context: dg.AssetExecutionContext) -> LoaderT:
    """The loader, reaching its source as the run's resource says; itself where that changes nothing."""
    source = loader.route.source
    resource = getattr(context.resources, connection_key(source))
    found = resource.connection if isinstance(resource, PostgresResource) else resource
    route = loader.route.reached_by(found.settings)
    if route is loader.route:
        return loader
    other = copy.copy(loader)
    other.route = route
    return other
