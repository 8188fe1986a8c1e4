"""Endpoints of others behind the gateway as operations of its interface. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock_publish.documents.offer import OfferedUpstream
from penstock_publish.operations import Operation
from penstock_publish.upstreams.crossing import PREFIX

__all__ = ["upstream_operations"]

_WITHOUT_BODY = ("get", "head", "delete")


def upstream_operations(upstreams: Iterable[OfferedUpstream]) -> Sequence[Operation]:
    """Each with its own scope, twice a method: the endpoint itself, and what lies below it (`rest`, with slashes)."""
    return [
        _operation(upstream, method.lower(), path)
        for upstream in upstreams
        for path in (PREFIX + upstream.name, PREFIX + upstream.name + "/{rest}")
        for method in upstream.methods
    ]


def _operation(upstream: OfferedUpstream, method: str, path: str) -> Operation:
    about = upstream.description or f"The endpoint {upstream.name} of others."
    if upstream.kind == "websocket":
        reply = "Messages both ways; a browser names itself with a one-time ticket or the subprotocol."
        return Operation(method, path, "upstreams", about, upstream.scope, reply, status=101)
    body = () if method in _WITHOUT_BODY else ("*/*",)
    return Operation(method, path, "upstreams", about, upstream.scope, "What it answers.", body=body)
