"""Where the other services are, for a process that does not run all roles."""

from __future__ import annotations

from pydantic import BaseModel, Field, field_validator

from penstock.http.followed_issuer import FollowSettings

__all__ = ["DEFAULT_PORTS", "ServicesSettings"]

#: The port of a role that runs alone; with several roles in a process, publish comes first: it is the public door.
DEFAULT_PORTS = {"publish": 8080, "ingest": 8081, "processor": 8082, "data": 8083}


class ServicesSettings(BaseModel, frozen=True):
    """Addresses of the roles that run in other processes. Those of roles in this process are not looked at.

    Several replicas of a role: their addresses, separated by commas (in a file also as a list).
    """

    ingest_url: str = Field(
        default="http://127.0.0.1:8081",
        description="Where the role ingest answers; its replicas with commas between.",
    )
    processor_url: str = Field(
        default="http://127.0.0.1:8082",
        description="Where the role processor answers; its replicas with commas between.",
    )
    publish_url: str = Field(
        default="http://127.0.0.1:8080",
        description="Where the role publish answers: the keys of tokens come from it.",
    )
    data_url: str = Field(
        default="http://127.0.0.1:8083", description="Where the role data answers; its replicas with commas between."
    )
    replay_timeout_s: float = Field(
        default=30.0, gt=0, description="Time for ingest to answer one event that the processor sends it again."
    )
    open_retry_s: float = Field(
        default=1.0, gt=0, description="Pause before another attempt to open a log or store on a server at start."
    )
    follow: FollowSettings = Field(
        default_factory=FollowSettings, description="Following the keys of an issuer that runs elsewhere."
    )

    @field_validator("ingest_url", "processor_url", "data_url", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        return ",".join(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else value

    @field_validator("ingest_url", "processor_url", "publish_url", "data_url")
    @classmethod
    def _named(cls, value: str) -> str:
        if not _parts(value):
            raise ValueError("names no address")
        return value

    def urls_of(self, role: str) -> tuple[str, ...]:
        """Addresses of a role's replicas without slashes at their ends; one at least."""
        return _parts(str(getattr(self, f"{role}_url")))

    def url_of(self, role: str) -> str:
        """The first of `urls_of`."""
        return self.urls_of(role)[0]


def _parts(value: str) -> tuple[str, ...]:
    return tuple(part.strip().rstrip("/") for part in value.split(",") if part.strip())
