"""Names in a cluster: topics, transactional ids, and the log's URL. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.model.task import app_of

__all__ = ["Names", "parse_url"]

_LEGAL = re.compile(r"[a-zA-Z0-9._-]{1,200}")  # Kafka allows 249 characters; ours need room for what is put before
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9._-]+):[0-9]{1,5}")
_OWN = "penstock."
_INLET = ".in"


@dataclass(frozen=True, slots=True)
class Names:
    """Names below one prefix (empty, or text that ends with a dot): several logs may share a cluster."""

    prefix: str = ""

    @property
    def catalog(self) -> str:
        """Topic of streams and apps."""
        return f"{self.prefix}{_OWN}catalog"

    @property
    def rejected(self) -> str:
        """Topic of rejected events."""
        return f"{self.prefix}{_OWN}rejected"

    @property
    def members(self) -> str:
        """Topic of who is alive."""
        return f"{self.prefix}{_OWN}members"

    @property
    def ingest(self) -> str:
        """Transactional id of the ingest gateway that appends."""
        return f"{self.prefix}{_OWN}ingest"

    @property
    def own(self) -> str:
        """How the topics begin that are no stream's."""
        return self.prefix + _OWN

    @property
    def inlets(self) -> str:
        """Topic of how far the inlets of all sources have been taken."""
        return f"{self.prefix}{_OWN}inlets"

    def inlet(self, stream: str) -> str:
        """Topic of what other producers leave for a source."""
        return self.stream(stream) + _INLET

    def stream(self, name: str) -> str:
        """Topic of a stream's events; `bad_request` if Kafka can have no such topic, or it is an inlet's."""
        if name.endswith(_INLET):
            raise PenstockError(
                "bad_request", f"stream '{name[:50]}': topics that end with '{_INLET}' are inlets; name it otherwise"
            )
        return self.prefix + _legal(name, "stream")

    def ids(self, stream: str) -> str:
        """Topic of the hashes of a stream's dedupe keys."""
        return f"{self.prefix}{_OWN}ids.{_legal(stream, 'stream')}"

    def state(self, task: str) -> str:
        """Topic of a task's state and positions, and its transactional id."""
        return f"{self.states_of(app_of(task))}{task[len(app_of(task)) :].replace('#', '.')}"

    def states_of(self, app: str) -> str:
        """The state topic of an app's single task; those of further tasks add `.<stage>.<partition>`."""
        return f"{self.prefix}{_OWN}state.{_legal(app, 'app')}"

    def is_state_of(self, topic: str, app: str) -> bool:
        """Whether `topic` holds the state of `app` or of one of its tasks."""
        first = self.states_of(app)
        return topic == first or re.fullmatch(r"\.\d+\.\d+", topic.removeprefix(first)) is not None


def parse_url(url: str) -> tuple[str, Names]:
    """Bootstrap servers and names of `kafka://host:port[,host:port...][/prefix]`; `bad_request` if it is no such."""
    scheme, _, rest = url.partition("://")
    servers, _, prefix = rest.partition("/")
    if scheme != "kafka" or not all(_ADDRESS.fullmatch(server) for server in servers.split(",")):
        raise PenstockError(
            "bad_request", f"'{url}' is no log; use kafka://host:port[,host:port][/prefix] or sqlite:///folder"
        )
    if not prefix:
        return servers, Names()
    return servers, Names(_legal(prefix, "prefix").rstrip(".") + ".")


def _legal(name: str, what: str) -> str:
    if _LEGAL.fullmatch(name) is None or name.startswith(_OWN):
        raise PenstockError(
            "bad_request",
            f"{what} '{name[:50]}' cannot be the name of a Kafka topic; use up to 200 letters, digits, '.', '_' and "
            f"'-', not beginning with '{_OWN}'",
        )
    return name
