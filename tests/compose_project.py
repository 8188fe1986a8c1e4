"""One of the compose files, brought up as a person does: a project, volumes, a port and a network of its own."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from docker_engine import output
from penstock_process import PenstockProcess, eventually

__all__ = ["ComposeProject"]

HEALTHY_S = 300


class ComposeProject(PenstockProcess):
    """`file` is the name of a file in compose/, `door` its service with the public port. HTTP comes from the host."""

    def __init__(self, compose: list[str], file: str, *, door: str) -> None:
        super().__init__(Path("/data"))
        self.compose = compose
        self.door = door
        self.project = {
            "COMPOSE_FILE": f"compose/{file}.yml",
            "COMPOSE_PROJECT_NAME": f"penstock-test-{self.port}",
            "PENSTOCK_HTTP__PORT": str(self.port),
            "PENSTOCK_PUBLIC_URL": self.url,
            "PENSTOCK_INSIDE": f"10.{random.randrange(100, 250)}.{random.randrange(256)}.0/24",
        }
        self.env |= self.project

    @property
    def client(self) -> dict[str, str]:
        return json.loads(self.inside(self.door, "cat", "/data/client.json"))

    def command(self, *arguments: str) -> str:
        """A `docker compose` command at the root."""
        return output([*self.compose, *arguments], self.env)

    def inside(self, service: str, *arguments: str) -> str:
        """Standard output of a program in the service's container."""
        return self.command("exec", "-T", service, *arguments)

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """What `docker inspect` knows of the containers of a service, or of all."""
        identities = self.command("ps", "-a", "-q", *filter(None, [service])).split()
        return json.loads(output(["docker", "inspect", *identities])) if identities else []

    def container(self, service: str) -> dict[str, Any]:
        """The only container of a service."""
        (found,) = self.containers(service)
        return found

    def healthy(self, *services: str) -> bool:
        """Every container (of these services) runs and passes its health check, if any; one-shot ones ended well."""
        return all(_is_well(found) for name in services or ("",) for found in self.containers(name))

    def up(self, *arguments: str) -> None:
        """In the background; returns when every health check passes."""
        self.command("up", "-d", *arguments)
        self.until_healthy()

    def until_healthy(self, *services: str) -> None:
        """Wait; the logs say why not."""
        try:
            eventually(lambda: self.healthy(*services), HEALTHY_S, 0.5)
        except AssertionError:
            states = [(c["Name"], c["State"]) for c in self.containers()]
            raise AssertionError(f"{json.dumps(states)[-6000:]}\n{self.command('logs')[-12000:]}") from None


def _is_well(container: dict[str, Any]) -> bool:
    state = container["State"]
    if container["HostConfig"]["RestartPolicy"]["Name"] in ("", "no") and state["Status"] == "exited":
        return state["ExitCode"] == 0
    return state["Status"] == "running" and state.get("Health", {}).get("Status", "healthy") == "healthy"
