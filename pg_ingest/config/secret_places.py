"""Where a secret is kept. Each place reads it anew whenever it is asked, but for AWS: see `pg_ingest.aws`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pg_ingest.aws import AwsSecret
from pg_ingest.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Literal:
    """The configuration itself."""

    text: str = field(repr=False)

    def read(self, *, fresh: bool = False) -> str:
        """The secret."""
        return self.text

    def __str__(self) -> str:
        return "the configuration file"


@dataclass(frozen=True, slots=True)
class Env:
    """An environment variable."""

    name: str

    def read(self, *, fresh: bool = False) -> str:
        """The secret; raise ConfigError when the variable is not set or empty."""
        value = os.environ.get(self.name, "")
        if not value:
            raise ConfigError(
                f"the environment variable {self.name} is not set or empty",
                detail="the configuration takes a password from it",
                hint=f"export {self.name}=… before starting, or put it into the .env file",
            )
        return value

    def __str__(self) -> str:
        return f"environment variable {self.name}"


@dataclass(frozen=True, slots=True)
class File:
    """A file that holds nothing else."""

    path: str

    def read(self, *, fresh: bool = False) -> str:
        """The secret; raise ConfigError when the file cannot be read or is empty."""
        try:
            value = Path(self.path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(
                f"the password file {self.path} cannot be read",
                detail=str(reason),
                hint="create it, readable by this user, with the password as its only line",
            ) from None
        if not value:
            raise ConfigError(
                f"the password file {self.path} is empty",
                hint="write the password into it as its only line",
            )
        return value

    def __str__(self) -> str:
        return f"file {self.path}"


Place = Literal | Env | File | AwsSecret
