"""A password of a role: a secret, or a token that Amazon RDS takes instead of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, TypeAdapter, ValidationInfo, WithJsonSchema

from pg_ingest.aws import login_token
from pg_ingest.config.problem import refuse
from pg_ingest.config.redaction import remember
from pg_ingest.config.secret import Secret, check_members, parsed


@dataclass(frozen=True, slots=True)
class RdsIam:
    """IAM authentication of Amazon RDS and Aurora: a token for every connection, no password anywhere.

    Attributes:
        region: of the database server; empty for that of the environment.
        host: its name at RDS, where `host` of the source is another one (an alias, a private link): the
            token is made out to a host. Empty for the source's.
    """

    region: str = ""
    host: str = ""

    is_literal = False
    is_kept = False
    place = "a token of Amazon RDS (IAM)"

    def token(self, host: str, port: int, user: str) -> str:
        """A new token for a login at the database server `host`; raises as `aws.login_token`."""
        return remember(login_token(self.host or host, port, user, self.region), token=True)


def _password(value: Any, info: ValidationInfo) -> Secret | RdsIam:
    if isinstance(value, RdsIam):
        return value
    if isinstance(value, dict) and "rds_iam" in value:
        options = value["rds_iam"]
        if len(value) != 1 or not isinstance(options, dict):
            raise refuse("names no single place", "write {rds_iam: {region: …}}")
        check_members(options, ("region", "host"))
        return RdsIam(**options)
    return parsed(value, info)


def _public(password: Secret | RdsIam) -> Any:
    if isinstance(password, RdsIam):
        given = {"region": password.region, "host": password.host}
        return {"rds_iam": {key: text for key, text in given.items() if text}}
    return password.public()


def _schema() -> dict[str, Any]:
    schema = TypeAdapter(Secret).json_schema()
    text = {"type": "string", "minLength": 1}
    iam = {
        "type": "object",
        "properties": {
            "region": {**text, "description": "AWS region of the database server."},
            "host": {**text, "description": "Its name at RDS, where `host` is another one."},
        },
        "additionalProperties": False,
    }
    place = {
        "type": "object",
        "properties": {"rds_iam": iam},
        "required": ["rds_iam"],
        "additionalProperties": False,
    }
    return {"anyOf": [*schema["anyOf"][:-1], place, schema["anyOf"][-1]]}


Password = Annotated[
    Secret | RdsIam,
    PlainValidator(_password),
    PlainSerializer(_public, when_used="json"),
    WithJsonSchema(_schema()),
]
"""What `password` of a source may be."""
