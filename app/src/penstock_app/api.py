"""Client of a running Penstock, for the command line and the sample feeder: credentials, base URL, calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.client import AsyncClient, ClientLimits
from penstock.client.calls import Request
from penstock.errors import PenstockError

__all__ = ["CLIENT_FILE", "Api", "Credentials", "read_credentials", "request"]

#: The development client in the data folder, written by the role publish.
CLIENT_FILE = "client.json"
#: Somebody waits at the terminal: a first connection comes about at once or not at all, and pauses stay short.
LIMITS = ClientLimits(first_connects_max=1, backoff_max_s=5.0)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `<data>/client.json` holds."""

    client_id: str
    client_secret: str
    token_url: str
    scope: str

    @property
    def base_url(self) -> str:
        """The public door: the token endpoint's origin."""
        return self.token_url.removesuffix("/oauth/token")


def read_credentials(data: Path) -> Credentials:
    """The development client that `penstock up` wrote; `not_found` says how to get one."""
    path = data / CLIENT_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except OSError as error:
        raise PenstockError(
            "not_found", f"no client in {path}: start `penstock up` first, or name its folder with --data"
        ) from error
    except msgspec.MsgspecError as error:
        raise PenstockError("bad_request", f"{path} is not a client file: {error}") from error


class Api:
    """HTTP calls with a bearer token that is renewed in time. Problem replies become PenstockError."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.base_url = client.calls.access.url

    @classmethod
    @asynccontextmanager
    async def open(cls, credentials: Credentials) -> AsyncIterator[Api]:
        """An Api for the length of a `with` block."""
        async with AsyncClient(
            credentials.base_url,
            client_id=credentials.client_id,
            client_secret=credentials.client_secret,
            scope=credentials.scope,
            limits=LIMITS,
        ) as client:
            yield cls(client)

    async def token(self) -> tuple[str, int]:
        """A valid access token and the seconds it lives."""
        token = await self.client.token()
        return token, int(self.client.calls.tokens.lives_s or 0)

    async def call(self, method: str, path: str, **asked: Any) -> Any:
        """The decoded JSON reply; `asked` as of `request`. Statuses of 400 and above raise."""
        return await self.client.calls.call(request(method, path, **asked), attempts_max=1)

    async def call_until_taken(self, method: str, path: str, **asked: Any) -> Any:
        """`call`, again after a pause while the answer is «later» (429, 503) or nobody answers; bounded."""
        return await self.client.calls.call(request(method, path, **asked))


def request(
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    content_type: str = "application/json",
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    accept_status: tuple[int, ...] = (),
) -> Request:
    """What a call asks for."""
    query = tuple((params or {}).items())
    return Request(method, path, body, content_type, query, headers, accept_status)
