"""Python clients of a running Penstock: subscribe, publish, read. `AsyncClient` in an event loop, `Client` without.

Kept light: nothing of the engine is imported here.
"""

from penstock.client.asynchronous import AsyncClient
from penstock.client.errors import ClientError, Forbidden, NotFound, Refused, Unauthorized, Unavailable
from penstock.client.limits import ClientLimits
from penstock.client.model import Event, Gap, Notice, Published, QueryResult, Rejection, Token
from penstock.client.streaming import StreamPublisher
from penstock.client.synchronous import Client, StreamSender

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "ClientLimits",
    "Event",
    "Forbidden",
    "Gap",
    "NotFound",
    "Notice",
    "Published",
    "QueryResult",
    "Refused",
    "Rejection",
    "StreamPublisher",
    "StreamSender",
    "Token",
    "Unauthorized",
    "Unavailable",
]
