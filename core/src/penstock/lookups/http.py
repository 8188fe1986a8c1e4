"""Rows of an HTTP endpoint of others by key: GET, one request a key, several at a time.

200 with a JSON object is a row, with an array of objects several rows; 404 and 204 say that there is none. A key that
would lead to another place than its own (`..`) has none, and is not asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from penstock.lookups.options import HttpLookupOptions
from penstock.outlets.places import shown
from penstock.ports.lookup import Answers, Key, LookupFailed

__all__ = ["HttpLookup"]

_NO_ROW = frozenset({204, 404})


class HttpLookup:
    """Implements `ports.lookup.Lookup`. `requests_max`: requests under way at once; `written`: the URL with `${NAME}`
    for secrets, as people see it.
    """

    def __init__(
        self, options: HttpLookupOptions, *, requests_max: int, reply_max_bytes: int, written: str = ""
    ) -> None:
        self._options, self._reply_max_bytes = options, reply_max_bytes
        self._place = f"GET {shown(written or options.url)}"
        self._turns = asyncio.Semaphore(requests_max)
        self._session: aiohttp.ClientSession | None = None

    async def find(self, keys: Sequence[Key]) -> Answers:
        """One request a key; the first that fails ends the others."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._options.timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        try:
            async with asyncio.TaskGroup() as group:
                asked = {key: group.create_task(self._ask(self._session, key)) for key in keys}
        except* LookupFailed as failed:
            raise failed.exceptions[0] from None
        return {key: task.result() for key, task in asked.items()}

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, session: aiohttp.ClientSession, key: Key) -> Sequence[Mapping[str, Any]]:
        values = dict(zip(self._options.key_names, key, strict=True))
        url = self._options.url_of({name: quote(_text(value), safe="") for name, value in values.items()})
        if url is None:
            return []
        place = self._place
        try:
            async with self._turns, session.get(
                url, headers=self._options.headers, allow_redirects=False
            ) as reply:  # fmt: skip
                status, body = reply.status, await reply.content.read(self._reply_max_bytes + 1)
                while status == 200 and len(body) <= self._reply_max_bytes:
                    more = await reply.content.read(self._reply_max_bytes + 1 - len(body))
                    if not more:
                        break
                    body += more
        except TimeoutError as error:
            raise LookupFailed(f"{place}: no reply in {self._options.timeout_s:g} s") from error
        except aiohttp.InvalidURL as error:  # its words are the whole URL
            raise LookupFailed(f"{place}: no URL that can be asked; correct 'url'") from error
        except (aiohttp.ClientError, OSError) as error:
            raise LookupFailed(f"{place}: {error or type(error).__name__}") from error
        if status in _NO_ROW:
            return []
        if status != 200:
            raise LookupFailed(f"{place} answers {status}; correct 'url' or 'header.*', or mend the other side")
        if len(body) > self._reply_max_bytes:
            raise LookupFailed(f"{place}: a reply is longer than {self._reply_max_bytes:,} bytes "
                               "(processor.lookups.reply_max_bytes)")  # fmt: skip
        return [{**row, **values} for row in _rows(body, place)]


def _rows(body: bytes, place: str) -> list[dict[str, Any]]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LookupFailed(f"{place}: the reply is no JSON ({error})") from error
    rows = found if isinstance(found, list) else [found]
    if not all(isinstance(row, dict) for row in rows):
        raise LookupFailed(f"{place}: the reply is neither a JSON object nor an array of objects")
    return rows


def _text(value: Any) -> str:
    """A value as JSON writes it, without quotes."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')
