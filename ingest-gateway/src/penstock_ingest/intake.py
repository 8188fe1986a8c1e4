"""Events from another edge of this process: the `Intake` port over the gateway, without HTTP between."""

from __future__ import annotations

from penstock.http.access import Principal
from penstock_ingest.body import form_of
from penstock_ingest.gateway import Gateway
from penstock_ingest.http import IngestHttp

__all__ = ["DirectIntake"]


class DirectIntake:
    """Implements `Intake`. Counts as a request, so that a stop waits for it and memory stays within its limit."""

    needs_bearer = False

    def __init__(self, gateway: Gateway, http: IngestHttp) -> None:
        self._gateway = gateway
        self._http = http

    async def submit(
        self, stream: str, body: bytes, *, principal: Principal, bearer: str | None
    ) -> dict[str, object]:
        """See `Intake`."""
        with self._http.answering(len(body)):
            accepted = await self._gateway.accept(stream, body, form_of(body, ""))
        refusal = accepted.refusal()
        if refusal is not None:
            raise refusal
        return accepted.as_json()
