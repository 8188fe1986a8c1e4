"""The arrangements under test, driven through the programs that a stranger starts."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from penstock_process import PenstockProcess

__all__ = ["OneProcess"]


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
