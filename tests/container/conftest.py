"""The engine, Compose and the images that the tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from docker_engine import BASE, DockerEngine, StandIns, succeeds

Images = Callable[..., None]


@pytest.fixture(scope="session")
def docker_engine(need) -> Iterator[DockerEngine]:
    """An engine that answers."""
    need("compose", os.environ.get("PENSTOCK_TEST_COMPOSE") == "1", "run `make test-compose`")
    engine = DockerEngine()
    try:
        need("docker", engine.open(), "install Docker (docker.io) and start its engine, or be root with `dockerd`")
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="session")
def compose(docker_engine: DockerEngine, need) -> list[str]:
    """The command: `docker compose`, else `docker-compose`; PENSTOCK_TEST_COMPOSE_COMMAND names another."""
    named = os.environ.get("PENSTOCK_TEST_COMPOSE_COMMAND", "").split()
    for command in filter(None, (named, ["docker", "compose"], ["docker-compose"])):
        if succeeds(*command, "version"):
            return command
    need("docker", False, "install Docker Compose (docker-compose)")
    raise AssertionError("unreachable: need does not return")


@pytest.fixture(scope="session")
def images(docker_engine: DockerEngine, need) -> Iterator[Images]:
    """`images(name, ...)`: these and the base of our own are there, pulled or as stand-ins."""
    stand_ins = StandIns(docker_engine)

    def have(*names: str) -> None:
        for name in (BASE, *names):
            lacking = stand_ins.missing(name)
            need("docker", lacking is None, lacking or "")

    yield have
    stand_ins.close()
