"""Settings of upstreams: where each is, who may use it, what it is sent, and how much."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator
from yarl import URL

__all__ = ["HeaderSecret", "Upstream", "Upstreams"]

_SCHEMES = {"rest": ("http", "https"), "websocket": ("ws", "wss")}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+")
#: The gateway's to say.
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "cookie"})
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class HeaderSecret(BaseModel, frozen=True, extra="forbid"):
    """A header's value that is no part of the settings."""

    file: Path | None = Field(default=None, description="File that holds it.")
    env: str | None = Field(default=None, description="Name of the environment variable that holds it.")
    prefix: str = Field(default="", description="What stands before it, such as `Bearer ` with the blank.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("give file or env, one of them")
        return self


class Upstream(BaseModel, frozen=True, extra="forbid"):
    """One endpoint of others, under `/v1/upstreams/<name>`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Its name in the path.")
    kind: Literal["rest", "websocket"] = Field(description="What it speaks.")
    url: str = Field(description="Where it is; what follows the name in a path is put behind this.")
    scope: str = Field(pattern=r"^[!#-\[\]-~]+$", max_length=200, description="The scope that a caller needs.")
    description: str = Field(default="", max_length=500, description="What it is, for the portal and OpenAPI.")
    methods: tuple[Method, ...] = Field(default=("GET", "HEAD"), min_length=1, description="What callers may do.")
    headers: Mapping[str, str] = Field(default={}, description="Headers it is sent, whatever the caller sends.")
    secret_headers: Mapping[str, HeaderSecret] = Field(default={}, description="The same with values from elsewhere.")
    pass_token: bool = Field(
        default=False, description="Whether it gets the caller's token. It can then do what the caller can."
    )
    connect_timeout_s: float = Field(default=2.0, description="Time to connect.", gt=0)
    idle_timeout_s: float = Field(default=15.0, description="Longest silence in a reply.", gt=0)
    total_timeout_s: float = Field(default=60.0, description="Time of a whole request with its reply.", gt=0)
    body_max_bytes: int = Field(default=1024 * 1024, description="Largest request body.", ge=0)
    reply_max_bytes: int = Field(
        default=64 * 1024 * 1024, description="Largest reply; a longer one breaks off.", ge=1
    )
    message_max_bytes: int = Field(default=1024 * 1024, description="Largest WebSocket message, either way.", ge=1)
    requests_max: int = Field(default=256, description="Requests and WebSockets at once; beyond it 429.", ge=1)
    heartbeat_s: float = Field(default=15.0, description="Pace of pings on WebSockets.", gt=0)
    close_wait_s: float = Field(default=2.0, description="Wait for a close frame.", gt=0)
    retry_after_s: float = Field(default=1.0, description="`Retry-After` while it does not answer.", gt=0)

    @model_validator(mode="after")
    def _is_plain(self) -> Self:
        url = URL(self.url)
        if url.scheme not in _SCHEMES[self.kind] or not url.host or url.query_string or url.fragment or url.user:
            allowed = " or ".join(_SCHEMES[self.kind])
            raise ValueError(
                f"the url of '{self.name}' must be {allowed}://host/path without user, query and fragment"
            )
        for name in (*self.headers, *self.secret_headers):
            if _HEADER_NAME.fullmatch(name) is None or name.lower() in _OURS:
                raise ValueError(f"'{name[:50]}' is no header that can be set for '{self.name}'")
        if not all(value.isprintable() for value in self.headers.values()):
            raise ValueError(f"a header's value for '{self.name}' is no single line")
        if self.pass_token and "authorization" in {name.lower() for name in (*self.headers, *self.secret_headers)}:
            raise ValueError(f"'{self.name}' gets the caller's token or a header Authorization, not both")
        return self


def _named_once(upstreams: tuple[Upstream, ...]) -> tuple[Upstream, ...]:
    names = [upstream.name for upstream in upstreams]
    if len(set(names)) < len(names):
        raise ValueError("two upstreams have the same name")
    return upstreams


Upstreams = Annotated[tuple[Upstream, ...], AfterValidator(_named_once)]
