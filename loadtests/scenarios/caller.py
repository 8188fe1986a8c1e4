"""The caller of a scenario: the credentials of `client.json` ($PENSTOCK_CLIENT), a token, and events to send."""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import time
import urllib.request
from pathlib import Path
from typing import Any

__all__ = ["DEVICES", "authorization", "reading", "readings"]

DEVICES = 500
RENEW_EARLY_S = 60.0
_numbers = itertools.count()
_run = f"{time.time_ns():x}-{os.getpid()}"
_token: tuple[float, str] = (0.0, "")  # (valid until, token)


def authorization() -> dict[str, str]:
    """The header of a request; the token is fetched once and renewed before it expires."""
    global _token
    if _token[0] < time.time():
        client = json.loads(Path(os.environ["PENSTOCK_CLIENT"]).read_text())
        secret = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
        request = urllib.request.Request(
            client["token_url"], b"grant_type=client_credentials", {"Authorization": f"Basic {secret}"}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            answer = json.loads(reply.read())
        _token = (time.time() + answer["expires_in"] - RENEW_EARLY_S, answer["access_token"])
    return {"Authorization": f"Bearer {_token[1]}"}


def reading() -> dict[str, Any]:
    """One event of the stream `readings`, with an id of its own and the time of now."""
    return {
        "id": f"{_run}-{next(_numbers)}",
        "ts": round(time.time() * 1000),
        "device": f"device-{random.randrange(DEVICES)}",
        "celsius": round(random.gauss(30, 6), 2),
        "note": "load",
    }


def readings(count: int) -> bytes:
    """`count` events as NDJSON."""
    return b"\n".join(json.dumps(reading()).encode() for _ in range(count))
