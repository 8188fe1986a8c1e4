"""One request of a webhook over HTTP: signed, without redirects, to an address that was judged."""

from __future__ import annotations

import io
from collections.abc import Sequence

import aiohttp
from yarl import URL

from penstock.ports.clock import Clock
from penstock_publish.outbound.attempt import Outcome, plain_words
from penstock_publish.webhooks.addresses import JudgingResolver, judging_sockets
from penstock_publish.webhooks.outcome import Verdict, verdict_of
from penstock_publish.webhooks.settings import WebhookSettings
from penstock_publish.webhooks.signing import headers_of

__all__ = ["Sender"]


class Sender:
    """Sends for all webhooks of a process."""

    def __init__(self, *, clock: Clock, settings: WebhookSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._resolver: JudgingResolver | None = None
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, secrets: Sequence[str], message: str, body: bytes) -> Verdict:
        """What became of it; never raises for what the other side does."""
        headers = headers_of(secrets, message, body, now_s=self._clock.now_ms() // 1000)
        headers |= {"Content-Type": "application/json", "User-Agent": "Penstock-Webhook/1"}
        try:
            async with self._open().post(
                URL(url, encoded=True), data=io.BytesIO(body), headers=headers, allow_redirects=False
            ) as reply:  # what it says beside the status is not read
                return verdict_of(reply.status, reply.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Verdict(Outcome.LATER, plain_words(f"no answer: {str(error) or type(error).__name__}"))

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            networks = self._settings.networks_allowed
            self._resolver = JudgingResolver(networks, lookups_max=self._settings.lookups_max)
            # No cache of names: an address is looked up and judged for every connection. No limit of them, since
            # each webhook has one request at a time (webhooks.total_max) and must not wait for receivers of others.
            connector = aiohttp.TCPConnector(
                resolver=self._resolver, use_dns_cache=False, limit=0, socket_factory=judging_sockets(networks)
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._settings.request_timeout_s),
            )
        return self._session
