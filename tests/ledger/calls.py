"""HTTP as a stranger speaks it: kept connections, tokens by client credentials. Standard library only."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["TROUBLE", "Tokens", "Wire", "follow_pages", "until_answered"]

#: What a connection to a process that dies may raise.
TROUBLE = (OSError, http.client.HTTPException)
_TOKEN_LIFE_S = 1200.0


class Wire:
    """One kept connection to one address. After any error it is closed and opened again by the next call."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname is not None
        self.url = url
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)

    def call(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body; TROUBLE where there is no whole answer."""
        try:
            self._connection.request(method, path, body, dict(headers))
            reply = self._connection.getresponse()
            return reply.status, reply.read()
        except TROUBLE:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()


class Tokens:
    """Access tokens of one client, fetched again long before they end."""

    def __init__(self, url: str, client: Callable[[], Mapping[str, str]]) -> None:
        self._url, self._client = url, client
        self._lock = threading.Lock()
        self._token, self._until_s = "", 0.0

    def header(self) -> dict[str, str]:
        """`Authorization`. Waits for as long as nobody answers, up to a minute."""
        with self._lock:
            if time.monotonic() > self._until_s:
                self._token = until_answered(self._fetch, timeout_s=60)
                self._until_s = time.monotonic() + _TOKEN_LIFE_S
            return {"Authorization": f"Bearer {self._token}"}

    def _fetch(self) -> str | None:
        client = self._client()
        credentials = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
        form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": client["scope"]}).encode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/x-www-form-urlencoded"}
        wire = Wire(self._url, 5.0)
        with contextlib.closing(wire):
            status, body = wire.call("POST", "/oauth/token", form, headers)
        return json.loads(body)["access_token"] if status == 200 else None


def until_answered(call: Callable[[], Any], *, timeout_s: float, pause_s: float = 0.1) -> Any:
    """The first result of `call` that is not None; trouble on the way is waited out."""
    deadline_s = time.monotonic() + timeout_s
    trouble: object = "no answer"
    while time.monotonic() < deadline_s:
        try:
            if (found := call()) is not None:
                return found
        except TROUBLE as error:
            trouble = error
        time.sleep(pause_s)
    raise AssertionError(f"nothing within {timeout_s} s: {trouble!r}")


def follow_pages(
    url: str, tokens: Tokens, path: str, items: str, cursor_name: str, first: str | None, **query: str
) -> Any:
    """Yield page after page (a list each) of a reading that is paged by cursor, to its end."""
    cursor, wire = first, Wire(url, 30.0)
    with contextlib.closing(wire):
        while True:
            asked = {**query, **({cursor_name: cursor} if cursor is not None else {})}
            target = f"{path}?{urllib.parse.urlencode(asked)}"

            def page(target: str = target) -> Any:
                status, body = wire.call("GET", target, None, tokens.header() | {"Accept": "application/json"})
                assert status in (200, 429) or status >= 500, f"{target}: {status} {body[:500]!r}"
                return json.loads(body) if status == 200 else None

            answer = until_answered(page, timeout_s=60)
            yield answer[items]
            cursor = answer["next"]
            if cursor is None or not answer[items]:
                return
