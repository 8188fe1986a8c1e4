"""Where the other services are, for a process that does not run all roles."""

from __future__ import annotations

from pydantic import BaseModel, Field

from penstock.http.followed_issuer import FollowSettings

__all__ = ["DEFAULT_PORTS", "ServicesSettings"]

#: The port of a role that runs alone; with several roles in a process, publish comes first: it is the public door.
DEFAULT_PORTS = {"publish": 8080, "ingest": 8081, "processor": 8082, "data": 8083}


class ServicesSettings(BaseModel, frozen=True):
    """Addresses of the roles that run in other processes. Those of roles in this process are not looked at."""

    ingest_url: str = Field(default="http://127.0.0.1:8081", description="Where the role ingest answers.")
    processor_url: str = Field(default="http://127.0.0.1:8082", description="Where the role processor answers.")
    publish_url: str = Field(
        default="http://127.0.0.1:8080",
        description="Where the role publish answers: the keys of tokens come from it.",
    )
    data_url: str = Field(default="http://127.0.0.1:8083", description="Where the role data answers.")
    replay_timeout_s: float = Field(
        default=30.0, gt=0, description="Time for ingest to answer one event that the processor sends it again."
    )
    open_retry_s: float = Field(
        default=1.0, gt=0, description="Pause before another attempt to open a log or store on a server at start."
    )
    follow: FollowSettings = Field(
        default_factory=FollowSettings, description="Following the keys of an issuer that runs elsewhere."
    )

    def url_of(self, role: str) -> str:
        """Address of a role without a slash at its end."""
        return str(getattr(self, f"{role}_url")).rstrip("/")
