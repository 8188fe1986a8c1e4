"""Client of a running Penstock, for the command line and the sample feeder: token, base URL, problem details."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from penstock.errors import STATUS, PenstockError

__all__ = ["CLIENT_FILE", "Api", "Credentials", "read_credentials"]

#: The development client in the data folder, written by the role publish.
CLIENT_FILE = "client.json"
TOKEN_RENEW_BEFORE_S = 60.0
RETRY_ATTEMPTS_MAX = 30
RETRY_WAIT_MAX_S = 5.0


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

    def __init__(self, session: aiohttp.ClientSession, credentials: Credentials) -> None:
        self._session = session
        self._credentials = credentials
        self._token = ""
        self._renew_at_s = 0.0
        self.base_url = credentials.base_url

    @classmethod
    @asynccontextmanager
    async def open(cls, credentials: Credentials) -> AsyncIterator[Api]:
        """An Api for the length of a `with` block."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            yield cls(session, credentials)

    async def token(self) -> tuple[str, int]:
        """A valid access token and the seconds it lives."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._renew_at_s:
            return self._token, int(self._renew_at_s + TOKEN_RENEW_BEFORE_S - now_s)
        form = {"grant_type": "client_credentials", "scope": self._credentials.scope}
        basic = aiohttp.encode_basic_auth(self._credentials.client_id, self._credentials.client_secret)
        try:
            async with self._session.post(
                self._credentials.token_url, data=form, headers={"Authorization": basic}
            ) as reply:
                answer = _decoded(await reply.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(self.base_url, error) from error
        if reply.status != 200 or not isinstance(answer, dict):
            raise _no_token(self._credentials.token_url, reply, answer)
        self._token = str(answer["access_token"])
        lives_s = int(answer["expires_in"])
        self._renew_at_s = now_s + lives_s - TOKEN_RENEW_BEFORE_S
        return self._token, lives_s

    def forget_token(self) -> None:
        """Fetch a new token before the next call: the server no longer takes this one."""
        self._renew_at_s = 0.0

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        accept_status: tuple[int, ...] = (),
    ) -> Any:
        """The decoded JSON reply. Statuses of 400 and above raise, but for those in `accept_status`."""
        for attempt in (1, 2):
            token, _ = await self.token()
            sent = {"Authorization": f"Bearer {token}", "Content-Type": content_type, **(headers or {})}
            try:
                async with self._session.request(
                    method, self.base_url + path, data=body, params=params, headers=sent
                ) as reply:
                    answer = _decoded(await reply.read())
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _unreachable(self.base_url, error) from error
            if reply.status != 401 or attempt == 2:
                break
            self.forget_token()  # revoked, or this machine slept while the token's hour went by
        if reply.status >= 400 and reply.status not in accept_status:
            raise _problem(reply.status, reply.headers, answer)
        return answer

    async def call_until_taken(self, method: str, path: str, **kwargs: Any) -> Any:
        """`call`, again after a pause while the answer is «later» (429, 503) or nobody answers; bounded."""
        for attempt in range(RETRY_ATTEMPTS_MAX):
            try:
                return await self.call(method, path, **kwargs)
            except PenstockError as error:
                if not error.retryable or attempt == RETRY_ATTEMPTS_MAX - 1:
                    raise
                await asyncio.sleep(min(error.retry_after_s or 1.0, RETRY_WAIT_MAX_S))
        raise AssertionError("unreachable: the last attempt returns or raises")


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content) if content else None
    except msgspec.DecodeError:
        return content.decode(errors="replace")


def _unreachable(base_url: str, error: Exception) -> PenstockError:
    reason = str(error) or type(error).__name__
    return PenstockError(
        "not_ready", f"no answer from {base_url} ({reason}); is `penstock up` running?", retry_after_s=0.5
    )


def _no_token(token_url: str, reply: aiohttp.ClientResponse, answer: Any) -> PenstockError:
    """OAuth errors are `{"error","error_description"}` (RFC 6749, 5.2), not problem details."""
    if reply.status in (429, 503):
        return _problem(reply.status, reply.headers, answer)
    if not isinstance(answer, dict) or "error" not in answer:
        return PenstockError("unauthorized", f"{token_url} answers {reply.status}, but is no token endpoint")
    reason = f"{answer['error']} {answer.get('error_description', '')}".strip()
    return PenstockError("unauthorized", f"{token_url} refuses the client of client.json: {reason}")


def _problem(status: int, headers: Mapping[str, str], answer: Any) -> PenstockError:
    if not isinstance(answer, dict):
        answer = {"code": "internal", "detail": f"HTTP {status}: {answer}"}
    code = answer.get("code", "internal")
    retry_s = headers.get("Retry-After", "")
    return PenstockError(
        code if code in STATUS else "internal",
        str(answer.get("detail", f"HTTP {status}")),
        retry_after_s=float(retry_s) if retry_s.isdigit() else None,
        extra={"errors": answer["errors"]} if "errors" in answer else None,
    )
