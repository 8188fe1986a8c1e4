"""The intake port: events that come in over another edge than HTTP, into the same admission as a POST.

One adapter calls the ingest gateway of the same process, another one asks it over HTTP.
"""

from __future__ import annotations

from typing import Protocol

from penstock.http.access import Principal

__all__ = ["Intake"]


class Intake(Protocol):
    """Takes events in. Whether the caller may send them is for who calls `submit`."""

    needs_bearer: bool
    """True if `submit` must be given the caller's token: the ingest gateway checks it once more."""

    async def submit(
        self, stream: str, body: bytes, *, principal: Principal, bearer: str | None
    ) -> dict[str, object]:
        """Admit a JSON object, or an array of them. Returns once what was accepted is durable.

        The reply is that of `POST /v1/streams/{stream}/events`: `accepted`, `duplicate`, `rejected`, `errors` by
        index, `positions`. Errors are its errors, too; `all_rejected` has the members of the reply in `extra`;
        `service_unavailable` where the gateway cannot be asked: then it is not known whether it took the events.
        """
        ...
