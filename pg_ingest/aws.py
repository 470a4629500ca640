"""Amazon's two ways to a password: a secret that is kept for us, and a token that is made for one login.

boto3 finds its credentials by itself (environment, profile, role of the machine or container); it is an extra,
`pip install "pg-ingest[aws]"`, and is imported when the first secret is asked for.

A secret is read once in a process and kept, because each reading costs money and takes time; `fresh` reads it
again, which whoever is refused a login should do: rotation changes a secret at any moment.

Sources: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html;
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pg_ingest.errors import ConfigError, PermissionMissing, SourceUnreachable

_TIMEOUT_SECONDS = 10

_kept: dict[AwsSecret, str] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class AwsSecret:
    """Where a secret is kept in Secrets Manager.

    Attributes:
        name: its name or ARN.
        key: the member of its JSON object; empty for a secret that is a plain text.
        region: empty for that of the ARN, else that of the environment.
        endpoint_url: another address of the service (a VPC endpoint), empty for the usual one.
    """

    name: str
    key: str = ""
    region: str = ""
    endpoint_url: str = ""

    def __str__(self) -> str:
        return f"secret {self.name} of AWS" + (f", key {self.key}" if self.key else "")

    def read(self, *, fresh: bool = False) -> str:
        """The secret, as this process knows it or, if `fresh`, as it is now.

        Raises ConfigError, PermissionMissing, or SourceUnreachable when the service does not answer.
        """
        whole = AwsSecret(self.name, "", self.region, self.endpoint_url)
        with _lock:
            text = None if fresh else _kept.get(whole)
        if text is None:
            text = whole._fetch()
            with _lock:
                _kept[whole] = text
        return self._member(text)

    def _fetch(self) -> str:
        with _translated(f"the secret {self.name}", "secretsmanager:GetSecretValue"):
            client = _client("secretsmanager", self._place(), self.endpoint_url)
            answer = client.get_secret_value(SecretId=self.name)
        text = answer.get("SecretString")
        if not text:
            raise ConfigError(
                f"the secret {self.name} holds bytes or nothing, not a text",
                hint="store the password as text, or as JSON with a key",
            )
        return str(text)

    def _place(self) -> str:
        arn = self.name.split(":")
        return self.region or (arn[3] if len(arn) > 5 and arn[0] == "arn" else "")

    def _member(self, text: str) -> str:
        try:
            members = json.loads(text)
        except ValueError:
            members = None
        if not isinstance(members, dict):
            if not self.key:
                return text
            raise ConfigError(
                f"the secret {self.name} is a plain text, which has no key {self.key}",
                hint="remove `key`",
            )
        found = members.get(self.key) if self.key else None
        if isinstance(found, str) and found:
            return found
        raise ConfigError(
            f"the secret {self.name} is a JSON object, and `key` names no text of it",
            detail=f"its keys: {', '.join(sorted(map(str, members)))}",
            hint="write the key of the password, as a rule `key: password`",
        )


def login_token(host: str, port: int, user: str, region: str) -> str:
    """A token that RDS takes instead of a password for 15 minutes; made here, without a connection.

    Raises ConfigError when there are no credentials or no region.
    """
    with _translated("a token for the login", "rds-db:connect"):
        client = _client("rds", region, "")
        return str(client.generate_db_auth_token(DBHostname=host, Port=port, DBUsername=user))


@lru_cache(maxsize=32)
def _client(service: str, region: str, endpoint_url: str) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise ConfigError(
            "boto3, which asks AWS, is not installed",
            hint='pip install "pg-ingest[aws]"',
        ) from None
    patience = Config(connect_timeout=_TIMEOUT_SECONDS, read_timeout=_TIMEOUT_SECONDS)
    # a session of its own: boto3's default one is not safe to share between threads
    return boto3.session.Session().client(
        service,
        region_name=region or None,
        endpoint_url=endpoint_url or None,
        config=patience,
    )


@contextmanager
def _translated(what: str, action: str) -> Iterator[None]:
    """Turn boto's errors into ours; their texts never hold a secret's value."""
    try:
        from botocore import exceptions as boto
    except ImportError:  # `_client` tells
        yield
        return
    try:
        yield
    except boto.ClientError as error:
        raise _refused(error, what, action) from None
    except (boto.NoCredentialsError, boto.NoRegionError, boto.ProfileNotFound) as error:
        raise ConfigError(
            f"AWS cannot be asked for {what}",
            detail=str(error),
            hint="give this process credentials (a role, a profile or variables) and a `region`",
        ) from None
    except (boto.BotoCoreError, ValueError) as error:
        raise SourceUnreachable(
            f"AWS does not answer for {what}",
            detail=str(error),
            hint="it is tried again; look at `region` and `endpoint_url`, and whether this machine"
            " reaches AWS (a private network needs a VPC endpoint)",
        ) from None


def _refused(error: Any, what: str, action: str) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "ResourceNotFoundException":
        return ConfigError(
            f"AWS has no {what.removeprefix('the ')} here",
            detail=str(error),
            hint="check its name, and `region`",
        )
    if status >= 500 or "Throttl" in code:
        return SourceUnreachable(
            f"AWS cannot give {what} now", detail=str(error), hint="it is tried again"
        )
    return PermissionMissing(
        f"AWS refuses {what}",
        detail=f"{code} (HTTP {status})",
        hint=f"allow this process's role {action}, and kms:Decrypt where the secret has a key of its own",
    )
