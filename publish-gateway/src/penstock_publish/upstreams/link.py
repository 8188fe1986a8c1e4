"""The connections to one upstream, and one request to it: body and reply as streams."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
from aiohttp import web
from yarl import URL

from penstock.errors import PenstockError
from penstock.observe.traces import current_trace
from penstock_publish.door.forward import CallerBody, pass_back
from penstock_publish.upstreams.crossing import headers_from, headers_to, target_of
from penstock_publish.upstreams.settings import HeaderSecret, Upstream

__all__ = ["UpstreamLink"]

#: Headers that aiohttp would add by itself; the caller's own count.
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class UpstreamLink:
    """`open` before use, `close` at the end."""

    def __init__(self, upstream: Upstream, environment: Mapping[str, str]) -> None:
        self.upstream = upstream
        self._environment = environment
        self._headers: Mapping[str, str] = {}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Read the secrets and make the pool of connections; `bad_request` for a secret that is not there."""
        upstream = self.upstream
        secrets = {
            name: await asyncio.to_thread(self._secret, name, secret)
            for name, secret in upstream.secret_headers.items()
        }
        self._headers = {**upstream.headers, **secrets}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=upstream.requests_max),
            timeout=self._timeout(total_s=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_no_redirects()],
        )

    async def close(self) -> None:
        """Release the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def forward(self, request: web.Request, *, bearer: str | None) -> web.StreamResponse:
        """Its reply; `service_unavailable` where there is none that can be passed on. No redirect is followed."""
        upstream = self.upstream
        body = CallerBody(request, upstream.body_max_bytes)
        target = target_of(upstream.url, upstream.name, request.raw_path)
        try:
            async with await self._pool().request(
                request.method,
                target,
                headers=self._headers_of(request, bearer),
                data=body.data(),
                allow_redirects=False,
                skip_auto_headers=_AUTOMATIC,
                timeout=self._timeout(total_s=upstream.total_timeout_s),
            ) as reply:
                self._check(reply.status)
                return await pass_back(
                    request, reply, headers=headers_from(reply.headers), size_max_bytes=upstream.reply_max_bytes
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            if body.too_large is not None:
                raise body.too_large from None
            raise self._away(str(error) or type(error).__name__) from error

    async def connect(
        self, request: web.Request, *, bearer: str | None, protocols: list[str]
    ) -> aiohttp.ClientWebSocketResponse:
        """Its WebSocket; `service_unavailable` where it does not take the connection."""
        upstream = self.upstream
        try:
            return await self._pool().ws_connect(
                target_of(upstream.url, upstream.name, request.raw_path),
                headers=self._headers_of(request, bearer),
                protocols=protocols,
                max_msg_size=upstream.message_max_bytes,
                heartbeat=upstream.heartbeat_s,
                timeout=aiohttp.ClientWSTimeout(ws_close=upstream.close_wait_s),
            )
        except aiohttp.WSServerHandshakeError as error:
            raise self._away(f"it answers {error.status}") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._away(str(error) or type(error).__name__) from error

    def _headers_of(self, request: web.Request, bearer: str | None) -> Mapping[str, str]:
        passed = bearer if self.upstream.pass_token else None
        return headers_to(request.headers, self._headers, bearer=passed, trace=current_trace())

    def _check(self, status: int) -> None:
        """Refuse what would lead the caller elsewhere, or speaks of the gateway's credentials instead of its own."""
        if status in (401, 407) and not self.upstream.pass_token:
            raise self._away(f"it refuses the gateway with {status}")
        if 300 <= status < 400 and status != 304:
            raise self._away(f"it answers with the redirect {status}, and none is followed")

    def _timeout(self, *, total_s: float | None) -> aiohttp.ClientTimeout:
        upstream = self.upstream
        return aiohttp.ClientTimeout(
            total=total_s, sock_connect=upstream.connect_timeout_s, sock_read=upstream.idle_timeout_s
        )

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise self._away("the gateway is starting or stopping")
        return self._session

    def _away(self, why: str) -> PenstockError:
        # What went wrong may name hosts that are nobody's business; the name of the upstream is enough for a caller.
        host = URL(self.upstream.url).host or self.upstream.name
        return PenstockError(
            "service_unavailable",
            f"the upstream {self.upstream.name} does not answer as it should ({why.replace(host, 'it')}); try later",
            retry_after_s=self.upstream.retry_after_s,
            extra={"upstream": self.upstream.name},
        )

    def _secret(self, name: str, secret: HeaderSecret) -> str:
        try:
            text = secret.file.read_text() if secret.file is not None else self._environment[secret.env or ""]
        except (OSError, KeyError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not set" if secret.env else "no text"
            raise self._no_secret(name, secret, f"cannot be read ({why})") from error
        text = text.strip()
        if not text or not text.isprintable():
            raise self._no_secret(name, secret, "is not one line of text")
        return secret.prefix + text

    def _no_secret(self, name: str, secret: HeaderSecret, why: str) -> PenstockError:
        place = f"the file {secret.file}" if secret.file is not None else f"the environment variable {secret.env}"
        return PenstockError(
            "bad_request",
            f"publish.upstreams '{self.upstream.name}': the secret of the header {name} {why}; put it into {place}, "
            "or take the header out of secret_headers, and start again",
        )


def _no_redirects() -> aiohttp.TraceConfig:
    """WebSocket handshakes follow redirects, with all headers, unless something here raises."""

    async def refuse(*_: object) -> None:
        raise aiohttp.ClientConnectionError("it answers with a redirect, and none is followed")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace
