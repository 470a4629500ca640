"""A real OpenSSH server for tests, with keys of its own; whoever runs the tests may log in."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pg_ingest.config.ssh import SshConfig
from pg_ingest.demo.cluster import free_port

USER = getpass.getuser()
START_SECONDS = 20


def keygen(*arguments: object) -> str:
    """What `ssh-keygen` prints."""
    command = ["ssh-keygen", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "", *options: str) -> Path:
    """A new pair of keys: the private one is at `path`, the public one beside it."""
    keygen("-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", path, *options)
    return path


def public(key: Path) -> str:
    """The public half as a line, without its comment."""
    return " ".join(key.with_name(f"{key.name}.pub").read_text().split()[:2])


def fingerprint(key: Path) -> str:
    """`SHA256:…`"""
    return keygen("-lf", key.with_name(f"{key.name}.pub")).split()[1]


@dataclass
class Sshd:
    """`sshd` on 127.0.0.1; use it as a context manager.

    Attributes:
        folder: its keys and files; `client` is a key that may log in.
        settings: lines of its configuration on top of ours.
    """

    folder: Path
    settings: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    host_key: Path = field(init=False)
    client: Path = field(init=False)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.host_key = make_key(self.folder / "host")
        self.client = make_key(self.folder / "client")
        self.authorized.write_text(f"{public(self.client)}\n")
        self.trust(self.host_key)
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def authorized(self) -> Path:
        """Keys that may log in."""
        return self.folder / "authorized_keys"

    @property
    def known_hosts(self) -> Path:
        """A file that trusts this server."""
        return self.folder / "known_hosts"

    @property
    def name(self) -> str:
        """As known_hosts has it."""
        return f"[127.0.0.1]:{self.port}"

    def trust(self, key: Path) -> None:
        """Let known_hosts have that key for this server, and nothing else."""
        self.known_hosts.write_text(f"{self.name} {public(key)}\n")

    def config(self, **changes: Any) -> SshConfig:
        """What reaches this server; None takes a key away."""
        usual: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": USER,
            "private_key": str(self.client),
            "known_hosts": str(self.known_hosts),
        }
        given = {key: value for key, value in (usual | changes).items() if value is not None}
        return SshConfig.model_validate(given)

    def start(self, *settings: str) -> None:
        """Start it, with further lines of configuration, and wait until it answers."""
        program = shutil.which(
            "sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
        )
        assert program is not None, "OpenSSH's server is not installed"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # for its unprivileged half
        lines = [
            *settings,
            *self.settings,
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self.authorized}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
        ]
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._wait()

    def stop(self) -> None:
        """End it and all its sessions at once, as a machine that is switched off."""
        sessions = self.sessions()
        self._process.kill()
        self._process.wait()
        self._kill(sessions)

    def restart(self, *settings: str) -> None:
        """The same server again, with further lines of configuration."""
        self.stop()
        self.start(*settings)

    def kill_sessions(self) -> int:
        """Kill the processes that serve connections; how many there were."""
        found = self.sessions()
        self._kill(found)
        return len(found)

    def sessions(self) -> list[int]:
        """The processes below the listening one."""
        parents = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            parents[int(status.parent.name)] = int(fields[1])
        found, below = [], [self._process.pid]
        while below:
            below = [each for each, parent in parents.items() if parent in below]
            found += below
        return found

    @cached_property
    def logins(self) -> Logins:
        """How often somebody was let in."""
        return Logins(self.folder / "log")

    def _kill(self, sessions: list[int]) -> None:
        for each in reversed(sessions):
            try:
                os.kill(each, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it went with the one above it

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with closing(socket.socket()) as attempt:
                if attempt.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)


@dataclass(frozen=True)
class Logins:
    """What the server's log says of logins."""

    log: Path

    @property
    def count(self) -> int:
        """Accepted ones until now."""
        return self.log.read_text().count("Accepted ")


@contextmanager
def agent(folder: Path, *keys: Path) -> Iterator[Path]:
    """A running `ssh-agent` that holds these keys; its socket."""
    socket_path = folder / "agent.sock"
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket_path)],
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        environment = {**os.environ, "SSH_AUTH_SOCK": str(socket_path)}
        deadline = time.monotonic() + START_SECONDS
        while (
            subprocess.run(["ssh-add", "-l"], env=environment, capture_output=True).returncode == 2
        ):
            assert time.monotonic() < deadline, "the agent does not answer"
            time.sleep(0.01)
        for key in keys:
            subprocess.run(["ssh-add", "-q", str(key)], env=environment, check=True)
        yield socket_path
    finally:
        process.terminate()
        process.wait()
