"""The arrangements under test, driven through the programs that a stranger starts."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from penstock_process import PenstockProcess
from penstock_services import ROLES, PenstockServices

__all__ = ["OneProcess", "Server", "Services"]


class Server(Protocol):
    """A database or a broker that can crash and start again on its data."""

    @property
    def pid(self) -> int: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...


class OneProcess:
    """`penstock up`: every role in one process over SQLite files."""

    name = "up"
    targets: Sequence[str] = ("up",)
    servers: Sequence[str] = ()

    def __init__(self, folder: Path, app: Path, env: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._process = PenstockProcess(folder / "data", app, env=env)

    @property
    def door(self) -> str:
        return self._process.url

    @property
    def ingest_urls(self) -> Sequence[str]:
        return [self._process.url]

    @property
    def follow_urls(self) -> Sequence[str]:
        return [self._process.url]

    def start(self) -> None:
        self._process.start()

    def stop(self) -> None:
        self._process.stop()

    def client(self) -> dict[str, str]:
        return self._process.client

    def pid(self, target: str) -> int:
        return self._process.pid

    def kill(self, target: str) -> None:
        self._process.kill()

    def launch(self, target: str) -> None:
        self._process.launch()

    def wait_ready(self, target: str) -> None:
        self._process.wait_ready()

    def pause(self, target: str) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self, target: str) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def crash(self, server: str) -> None:
        raise KeyError(server)

    def revive(self, server: str) -> None:
        raise KeyError(server)

    def report(self) -> str:
        """The end of what the process said."""
        return self._process.output()


class Services:
    """`penstock run --role`: one process a role, or several, over one log and one store."""

    def __init__(
        self,
        name: str,
        folder: Path,
        app: Path,
        *,
        log: str | None = None,
        store: str | None = None,
        replicas: Mapping[str, int] | None = None,
        servers: Mapping[str, Server] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._services = PenstockServices(
            folder / "data", app, log=log, store=store, replicas=replicas, env=dict(env or {})
        )
        self._servers = dict(servers or {})
        self._processes = {
            (role if number == 0 else f"{role}.{number + 1}"): self._services.of(role, number)
            for role in ROLES
            for number in range((replicas or {}).get(role, 1))
        }
        self.targets: Sequence[str] = tuple(self._processes)
        self.servers: Sequence[str] = tuple(self._servers)

    @property
    def door(self) -> str:
        return self._services.url

    @property
    def ingest_urls(self) -> Sequence[str]:
        """The public door and every ingest process: a request without an answer goes to the next of them."""
        return [self.door, *(p.url for name, p in self._processes.items() if name.startswith("ingest"))]

    @property
    def follow_urls(self) -> Sequence[str]:
        return [p.url for name, p in self._processes.items() if name.startswith("publish")]

    def start(self) -> None:
        self._services.start()

    def stop(self) -> None:
        self._services.stop()

    def client(self) -> dict[str, str]:
        return self._services.client

    def pid(self, target: str) -> int:
        return self._servers[target].pid if target in self._servers else self._processes[target].pid

    def kill(self, target: str) -> None:
        self._processes[target].kill()

    def launch(self, target: str) -> None:
        self._processes[target].launch()

    def wait_ready(self, target: str) -> None:
        self._processes[target].wait_ready()

    def pause(self, target: str) -> None:
        self._processes[target].pause()

    def resume(self, target: str) -> None:
        self._processes[target].resume()

    def crash(self, server: str) -> None:
        self._servers[server].kill()

    def revive(self, server: str) -> None:
        self._servers[server].start()

    def report(self) -> str:
        """The end of what every process said."""
        return self._services.output()
