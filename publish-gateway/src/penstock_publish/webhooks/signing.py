"""What a webhook's request says, and how it proves that it is ours (Standard Webhooks 1.0, symmetric). Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

import msgspec

from penstock.codecs.json_values import write_timestamp

__all__ = ["body_of", "headers_of", "message_id", "new_secret"]

_PREFIX = "whsec_"
_SECRET_BYTES = 32
TYPE = "penstock.events"


def new_secret() -> str:
    """Key for the signatures of one webhook, as receivers' libraries take it."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def message_id(webhook_id: str, cursor: str) -> str:
    """The same for every try of the same events: what a receiver tells repeats by."""
    return "msg_" + hashlib.sha256(f"{webhook_id}.{cursor}".encode()).hexdigest()[:32]


def body_of(topic: str, envelopes: Sequence[bytes], *, gap: dict[str, object] | None, now_ms: int) -> bytes:
    """`{"type","timestamp","data":{"topic","events":[envelope...],"gap"?}}`."""
    head = b'{"type":"%b","timestamp":"%b"' % (TYPE.encode(), write_timestamp(now_ms, zoned=True).encode())
    missing = b"" if gap is None else b',"gap":' + msgspec.json.encode(gap)
    events = b",".join(envelopes)
    return b'%b,"data":{"topic":%b,"events":[%b]%b}}' % (head, msgspec.json.encode(topic), events, missing)


def headers_of(secrets: Sequence[str], message: str, body: bytes, *, now_s: int) -> dict[str, str]:
    """`webhook-id`, `webhook-timestamp` and `webhook-signature`: for each secret v1, HMAC-SHA256 over
    `id.timestamp.body`, with blanks between.
    """
    signed = f"{message}.{now_s}.".encode() + body
    return {
        "webhook-id": message,
        "webhook-timestamp": str(now_s),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
