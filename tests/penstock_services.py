"""Real `penstock run --role` processes on one machine, any number per role: what the four-services tests drive.

Imports nothing of the product: it sees what a stranger sees (the program, its output, HTTP). Calls go to the public
door, as those of `PenstockProcess` do. Ports stay over restarts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from penstock_process import START_TIMEOUT_S, PenstockProcess, free_port

__all__ = ["ROLES", "PenstockServices", "RoleProcess"]

ROLES = ("publish", "ingest", "processor", "data")


class RoleProcess(PenstockProcess):
    """One process with one role, or with several (`roles`)."""

    def __init__(
        self,
        roles: str | Iterable[str],
        data: Path,
        *apps: Path | str,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        flags: Iterable[str] = (),
    ):
        super().__init__(data, *apps, port=port, env=dict(env or {}))
        self.roles = (roles,) if isinstance(roles, str) else tuple(roles)
        self.flags = list(flags)
        self.paused = False

    def command(self) -> list[str]:
        named = [part for role in self.roles for part in ("--role", role)]
        return ["run", *named, *self.apps]

    def pause(self) -> None:
        """SIGSTOP: it neither works nor notices that time goes by."""
        os.kill(self.pid, signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self.paused = False

    def terminate(self, timeout_s: float = 30) -> int:
        """SIGTERM as an orchestrator sends it; waits for the end and returns the exit code."""
        assert self.process is not None
        os.kill(self.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end within {timeout_s} s of SIGTERM:\n{self.output()}") from None
        self._reap()
        return self.process.returncode

    def wait_ended(self, timeout_s: float = 30) -> int:
        """The exit code of a process that ends by itself."""
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self._reap()
        return code

    def kill(self) -> None:
        """SIGKILL, also to one that is paused."""
        super().kill()
        self.paused = False

    def stop(self) -> int:
        """SIGINT; one that is paused goes on first."""
        if self.is_running and self.paused:
            self.resume()
        return super().stop()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ready(self) -> tuple[bool, dict[str, dict[str, object]]]:
        """`/readyz`: whether it is ready, and its parts; (False, {}) while nothing answers."""
        try:
            reply = self.call("GET", "/readyz", authorize=False, timeout_s=5)
        except OSError:
            return False, {}
        return reply.status == 200, reply.json()["parts"]


class PenstockServices(PenstockProcess):
    """A set of role processes over one log and one store; `with PenstockServices(...) as services`.

    `replicas`: how many processes of a role, 1 where it is not named. `log` and `store`: URLs; by default files in
    `data`. `together`: roles that share a process instead of having one each, such as [("publish", "data")].
    """

    def __init__(
        self,
        data: Path,
        *apps: Path | str,
        log: str | None = None,
        store: str | None = None,
        replicas: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None,
        together: Iterable[tuple[str, ...]] = (),
        env_of: Mapping[str, Mapping[str, str]] | None = None,
    ):
        super().__init__(data, *apps, env=dict(env or {}))
        groups = [*together, *((role,) for role in ROLES if not any(role in group for group in together))]
        self.processes: list[RoleProcess] = []
        flags = [*(["--log", log] if log else []), *(["--store", store] if store else [])]
        ports: dict[str, list[int]] = {}
        for group in groups:
            for number in range((replicas or {}).get(group[0], 1)):
                port = self.port if "publish" in group and number == 0 else free_port()
                for role in group:
                    ports.setdefault(role, []).append(port)
                self.processes.append(
                    RoleProcess(group, data, *(apps if "processor" in group else ()), port=port, flags=flags)
                )
        where = {
            f"PENSTOCK_SERVICES__{role.upper()}_URL": ",".join(f"http://127.0.0.1:{port}" for port in found)
            for role, found in ports.items()
        }
        for process in self.processes:
            own = {"PENSTOCK_PUBLIC_URL": self.url} if "publish" in process.roles else {}
            extra = {name: value for role in process.roles for name, value in (env_of or {}).get(role, {}).items()}
            process.env = {**self.env, **where, **own, **extra}

    def of(self, role: str, number: int = 0) -> RoleProcess:
        """A process of a role; `number` counts its replicas from 0."""
        return [process for process in self.processes if role in process.roles][number]

    def launch(self) -> None:
        """Start all processes without waiting for them."""
        self.data.mkdir(parents=True, exist_ok=True)
        for process in self.processes:
            process.launch()

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Until each has printed its `Ready:` line."""
        deadline = time.monotonic() + timeout_s
        for process in self.processes:
            while not any(line.startswith("Ready: ") for line in list(process.stdout)):
                ended = [one.roles for one in self.processes if not one.is_running]
                assert not ended, f"{ended} ended before all were ready:\n{self.output()}"
                assert time.monotonic() < deadline, f"not ready after {timeout_s} s:\n{self.output()}"
                time.sleep(0.02)

    def restart(self, role: str, number: int = 0) -> RoleProcess:
        """Start a process that was killed or stopped again, and wait until it is ready."""
        process = self.of(role, number)
        process.start()
        return process

    def output(self) -> str:
        return "\n\n".join(f"[{'+'.join(process.roles)}]\n{process.output()}" for process in self.processes)

    def kill(self) -> None:
        """SIGKILL to all that run."""
        for process in self.processes:
            if process.is_running:
                process.kill()

    def stop(self) -> int:
        """SIGINT to all that run, the door last; the greatest exit code."""
        codes = [0]
        try:
            for process in reversed(self.processes):
                with contextlib.suppress(ProcessLookupError):
                    codes.append(process.stop())
        finally:
            self.kill()
        return max(codes)
