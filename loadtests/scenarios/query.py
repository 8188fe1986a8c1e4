"""Scenario: readers of the data service, while events come in."""

from __future__ import annotations

import random

from caller import DEVICES, authorization, readings
from locust import FastHttpUser, constant_throughput, task


class Dashboard(FastHttpUser):
    """Asks what a dashboard asks, five times a second."""

    weight = 9
    wait_time = constant_throughput(5)

    def _get(self, path: str, name: str) -> None:
        self.client.get(path, headers=authorization(), name=name)

    @task(4)
    def one_device(self) -> None:
        """Rows of one key, newest first."""
        device = f"device-{random.randrange(DEVICES)}"
        self._get(f"/v1/data/per_device?device=eq.{device}&order=w_start.desc&limit=20", "rows of one device")

    @task(2)
    def a_page(self) -> None:
        """A page of the newest rows."""
        self._get("/v1/data/per_device?order=w_start.desc&limit=100", "newest 100 rows")

    @task(2)
    def a_summary(self) -> None:
        """A grouped summary."""
        self._get("/v1/summaries/per_device?time=w_start&bucket=1m&agg=sum(n),max(most)", "summary by minute")

    @task(1)
    def raw_events(self) -> None:
        """Raw events as they were received."""
        self._get("/v1/data/raw.readings?order=_position.desc&limit=50", "50 raw events")


class Sender(FastHttpUser):
    """Keeps events coming, so that tables change under the readers."""

    weight = 1
    fixed_count = 1
    wait_time = constant_throughput(5)

    @task
    def send(self) -> None:
        """A thousand events."""
        headers = authorization() | {"Content-Type": "application/x-ndjson"}
        self.client.post("/v1/streams/readings/events", data=readings(1000), headers=headers, name="POST 1000 events")
