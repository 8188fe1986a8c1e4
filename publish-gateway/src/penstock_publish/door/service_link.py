"""One process of a service behind the door: its address, the connections to it, whether it answers."""

from __future__ import annotations

import aiohttp
import structlog

from penstock.errors import PenstockError
from penstock.role import Check
from penstock_publish.settings import DoorSettings

__all__ = ["ServiceLink"]

_log = structlog.get_logger(__name__)


class ServiceLink:
    """A pool of connections to one process. `open` before use, `close` at the end."""

    def __init__(self, role: str, url: str, settings: DoorSettings) -> None:
        self.role, self.url, self._settings = role, url.rstrip("/"), settings
        self._session: aiohttp.ClientSession | None = None
        self._seen = False  # has answered since this process started
        self._trouble = "not asked yet"

    def open(self) -> None:
        """Make the pool; must be called on the event loop."""
        settings = self._settings
        # No limit on the whole: bodies and sockets may take long. Silence is limited.
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.idle_timeout_s
        )
        connector = aiohttp.TCPConnector(limit=settings.connections_max)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    @property
    def session(self) -> aiohttp.ClientSession:
        """The pool; `service_unavailable` before `open` and after `close`."""
        if self._session is None:
            raise self.away("the door is closed")
        return self._session

    def check(self) -> Check:
        """Ready once the service has answered; that it is away later concerns its own paths only."""
        detail = f"answers at {self.url}" if not self._trouble else f"no answer from {self.url}: {self._trouble}"
        return Check(f"service {self.role}", self._seen, detail)

    def away(self, why: str) -> PenstockError:
        """The reply for a caller while the service cannot be reached."""
        return PenstockError(
            "service_unavailable",
            f"the service {self.role} does not answer ({why}); send it again later",
            retry_after_s=self._settings.retry_after_s,
            extra={"service": self.role},
        )

    @property
    def is_away(self) -> bool:
        """Whether it did not answer when it was asked last."""
        return bool(self._trouble)

    async def ask(self) -> None:
        """Ask `/livez`; any HTTP answer means that it is there."""
        timeout = aiohttp.ClientTimeout(total=self._settings.watch_timeout_s)
        try:
            async with self.session.get(f"{self.url}/livez", timeout=timeout) as reply:
                await reply.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            if not self._trouble and self._seen:
                _log.warning("service_away", service=self.role, url=self.url, reason=str(error))
            self._trouble = str(error) or type(error).__name__
        else:
            if self._trouble:
                _log.info("service_answers", service=self.role, url=self.url)
            self._seen, self._trouble = True, ""

    async def close(self) -> None:
        """Release the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()
