"""Subscribers that live through the faults: WebSocket and SSE, resumed by the last cursor that they saw."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any

from ledger.calls import TROUBLE, Tokens
from ledger.records import Recorder
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

__all__ = ["Followers"]

#: Exit -> (topic, over WebSocket).
_TOPICS = {
    "socket.large": ("large", True),
    "socket.quotas": ("quotas", True),
    "sse.large": ("large", False),
    "socket.latest": ("latest", True),
    "socket.hourly": ("hourly", True),
}
_PAUSE_S = 0.1
_SILENCE_S = 20.0  # heartbeats come more often


class Followers:
    """One thread a subscription, from the earliest event on."""

    def __init__(self, urls: Sequence[str], tokens: Tokens, recorder: Recorder) -> None:
        self._followers = [
            _Follower(name, topic, is_socket, list(urls), tokens, recorder)
            for name, (topic, is_socket) in _TOPICS.items()
        ]

    def start(self) -> None:
        for follower in self._followers:
            follower.start()

    def counts(self) -> dict[str, int]:
        """Exit -> events received so far, repeated ones included."""
        return {follower.exit_name: follower.received for follower in self._followers}

    def quiet_s(self) -> float:
        """Seconds since the last event at any of them."""
        return time.monotonic() - max(follower.last_s for follower in self._followers)

    def leave(self) -> None:
        """Say that it is over, without waiting."""
        for follower in self._followers:
            follower.leave()

    def stop(self) -> None:
        """Over when this returns; AssertionError if one of them failed."""
        self.leave()
        for follower in self._followers:
            follower.join(_SILENCE_S + 5)
        failures = [f"{f.exit_name}: {f.failure}" for f in self._followers if f.failure]
        assert not failures, failures


class _Follower(threading.Thread):
    def __init__(
        self, exit_name: str, topic: str, is_socket: bool, urls: list[str], tokens: Tokens, recorder: Recorder
    ) -> None:
        super().__init__(daemon=True, name=exit_name)
        self.exit_name, self._topic, self._is_socket = exit_name, topic, is_socket
        self._urls = itertools.cycle(urls)
        self._tokens, self._recorder = tokens, recorder
        self._after = "earliest"
        self.received = 0
        self.last_s = time.monotonic()
        self.failure: str | None = None
        self.done = threading.Event()
        self._line: socket.socket | None = None  # of SSE, so that `leave` does not wait for a heartbeat

    def leave(self) -> None:
        self.done.set()
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        try:
            while not self.done.is_set():
                try:
                    (self._over_socket if self._is_socket else self._over_sse)(next(self._urls))
                except (*TROUBLE, WebSocketException):
                    time.sleep(_PAUSE_S)
        except Exception as error:  # the thread's outermost frame: the run fails with it
            self.failure = repr(error)

    def _over_socket(self, url: str) -> None:
        address = f"ws{url.removeprefix('http')}{self._path()}"
        headers = self._tokens.header()
        with connect(
            address, additional_headers=headers, compression=None, max_size=2**26, open_timeout=5, proxy=None
        ) as line:
            while not self.done.is_set():
                try:
                    self._take(str(line.recv(timeout=0.5)).splitlines())
                except TimeoutError:
                    continue

    def _over_sse(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_SILENCE_S)
        try:
            connection.request("GET", self._path(), headers=self._tokens.header() | {"Accept": "text/event-stream"})
            self._line = connection.sock
            reply = connection.getresponse()
            if reply.status != 200:
                time.sleep(_PAUSE_S)
                return
            while not self.done.is_set() and (line := reply.readline()):
                if line.startswith(b"data: "):
                    self._take([line[6:].decode()])
        finally:
            connection.close()

    def _path(self) -> str:
        return f"/v1/topics/{self._topic}?{urllib.parse.urlencode({'after': self._after})}"

    def _take(self, lines: Sequence[str]) -> None:
        sightings: list[tuple[str, dict[str, Any]]] = []
        for line in lines:
            event = json.loads(line)
            if "sys" not in event:
                values = event["d"] | ({"complete": event["complete"]} if "complete" in event else {})
                sightings.append((event["c"], values))
            elif event["sys"] == "gap":
                self._recorder.gap(self.exit_name, event)
            self._after = event.get("c") or self._after
        if sightings:
            self._recorder.seen(self.exit_name, sightings)
            self.received += len(sightings)
            self.last_s = time.monotonic()
