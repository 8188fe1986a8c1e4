"""Scenario: senders. Single events, and batches of a thousand; every reply comes after the event is durable."""

from __future__ import annotations

import json

from caller import authorization, reading, readings
from locust import FastHttpUser, constant, task

PATH = "/v1/streams/readings/events"
BATCH = 1000


class Device(FastHttpUser):
    """Sends one event at a time, as fast as the replies come."""

    weight = 4
    wait_time = constant(0)

    @task
    def send_one(self) -> None:
        """A POST of one JSON object."""
        headers = authorization() | {"Content-Type": "application/json"}
        self.client.post(PATH, data=json.dumps(reading()), headers=headers, name="POST one event")


class Collector(FastHttpUser):
    """Sends batches, ten a second at most."""

    weight = 1
    wait_time = constant(0.1)

    @task
    def send_many(self) -> None:
        """A POST of NDJSON."""
        headers = authorization() | {"Content-Type": "application/x-ndjson"}
        self.client.post(PATH, data=readings(BATCH), headers=headers, name=f"POST {BATCH} events")
