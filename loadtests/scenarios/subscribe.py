"""Scenario: subscribers over WebSocket. The figure is the time from before the POST to the line at the subscriber."""

from __future__ import annotations

import json
import time
from typing import Any

import websocket
from caller import authorization
from locust import FastHttpUser, User, constant, constant_throughput, events, task

READ_TIMEOUT_S = 5.0


class Subscriber(User):
    """One socket on the topic `pongs`; reports every line with its delay."""

    weight = 50
    wait_time = constant(0)
    socket: websocket.WebSocket

    def on_start(self) -> None:
        """Open the socket; the handshake is a request of its own in the figures."""
        url = str(self.host).replace("http", "ws", 1) + "/v1/topics/pongs"
        started = time.perf_counter()
        error: Exception | None = None
        try:
            self.socket = websocket.create_connection(url, timeout=READ_TIMEOUT_S, header=authorization())
        except (OSError, websocket.WebSocketException) as failed:
            error = failed
        _report(self, "handshake", (time.perf_counter() - started) * 1000, error=error)
        if error is not None:
            raise error

    def on_stop(self) -> None:
        """Close the socket."""
        self.socket.close()

    @task
    def read(self) -> None:
        """One frame: each of its lines is an event."""
        try:
            frame = self.socket.recv()
        except websocket.WebSocketTimeoutException:
            return
        except (OSError, websocket.WebSocketException) as error:
            _report(self, "line", 0.0, error=error)
            self.socket.close()
            self.on_start()
            return
        now_ns = time.time_ns()
        for line in frame.splitlines():
            event: dict[str, Any] = json.loads(line)
            if "sys" not in event:
                _report(self, "line", (now_ns - event["d"]["sent_ns"]) / 1e6, size_bytes=len(line))


class Publisher(FastHttpUser):
    """Sends twenty events a second, one a request."""

    fixed_count = 1
    wait_time = constant_throughput(20)

    @task
    def send(self) -> None:
        """An event that carries the time at which it was sent."""
        body = json.dumps({"n": 1, "sent_ns": time.time_ns(), "note": "load"})
        headers = authorization() | {"Content-Type": "application/json"}
        self.client.post("/v1/streams/pings/events", data=body, headers=headers, name="POST one event")


def _report(
    user: User, name: str, milliseconds: float, *, size_bytes: int = 0, error: Exception | None = None
) -> None:
    user.environment.events.request.fire(
        request_type="WS",
        name=name,
        response_time=milliseconds,
        response_length=size_bytes,
        exception=error,
        context={},
    )


@events.test_stop.add_listener
def _said(environment: Any, **_: Any) -> None:
    lines = environment.stats.get("line", "WS")
    print(f"lines received: {lines.num_requests}")
