"""The opening handshake (RFC 6455, 4.2), and what is agreed on in it: permessage-deflate (RFC 7692, 7.1). Pure.

Compression is agreed on without context takeover in both directions: messages can then be compressed once for all
subscribers, and no connection keeps a window. Who offers a smaller window than that of what is compressed for all may
send compressed messages and is sent none, which every reader takes (RFC 7692, 6).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from websockets.exceptions import InvalidHeader
from websockets.headers import parse_extension

from penstock.errors import PenstockError
from penstock_publish.topics.framing import DEFLATE_WINDOW_BITS

__all__ = ["Handshake", "shake_hands"]

_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_EXTENSION = "permessage-deflate"
_EXTENSION_CHARS_MAX = 1_000
_OFFERS_MAX = 8


@dataclass(frozen=True, slots=True)
class Handshake:
    """The reply, as bytes for the wire."""

    reply: bytes
    #: permessage-deflate was agreed on: what comes may be compressed.
    inflates: bool
    #: What is sent may be compressed, too: the other side's window is large enough.
    deflates: bool


def shake_hands(
    headers: Mapping[str, str],
    *,
    subprotocol: str | None = None,
    extensions: Sequence[str] = (),
    deflate: bool = True,
) -> Handshake:
    """Answer an upgrade; `bad_request` where it is no WebSocket handshake of version 13.

    `headers` ignores case. `extensions`: the values of Sec-WebSocket-Extensions. `deflate`: may be agreed on.
    """
    if headers.get("Upgrade", "").strip().lower() != "websocket":
        raise PenstockError("bad_request", "the header Upgrade must be: websocket")
    if "upgrade" not in (part.strip().lower() for part in headers.get("Connection", "").split(",")):
        raise PenstockError("bad_request", "the header Connection must contain: Upgrade")
    if headers.get("Sec-WebSocket-Version", "").strip() != "13":
        raise PenstockError("bad_request", "the header Sec-WebSocket-Version must be: 13 (RFC 6455)")
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {_accept(headers.get('Sec-WebSocket-Key', '').strip())}",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    agreed = _agree(", ".join(extensions)) if deflate and extensions else None
    if agreed is not None:
        lines.append(f"Sec-WebSocket-Extensions: {_extension_reply(agreed)}")
    return Handshake(
        "\r\n".join((*lines, "", "")).encode("ascii"),
        inflates=agreed is not None,
        deflates=agreed is not None and _window_bits(agreed) >= DEFLATE_WINDOW_BITS,
    )


def _accept(key: str) -> str:
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise PenstockError("bad_request", "the header Sec-WebSocket-Key must be 16 bytes in base64")
    return base64.b64encode(hashlib.sha1(key.encode() + _KEY_SUFFIX, usedforsecurity=False).digest()).decode()


def _agree(offered: str) -> Mapping[str, str | None] | None:
    """Parameters of the first offer with a window of ours, else of the first that fits; None: none does, no error."""
    if len(offered) > _EXTENSION_CHARS_MAX:
        return None
    try:
        offers = parse_extension(offered)
    except InvalidHeader as error:
        raise PenstockError("bad_request", "the header Sec-WebSocket-Extensions cannot be read") from error
    fitting = [
        dict(parameters)
        for name, parameters in offers[:_OFFERS_MAX]
        if name == _EXTENSION and _fits(dict(parameters), count=len(parameters))
    ]
    return next((offer for offer in fitting if _window_bits(offer) >= DEFLATE_WINDOW_BITS), next(iter(fitting), None))


def _extension_reply(offer: Mapping[str, str | None]) -> str:
    reply = f"{_EXTENSION}; server_no_context_takeover; client_no_context_takeover"
    if "server_max_window_bits" in offer:  # it is accepted by naming as much or less (RFC 7692, 7.1.2.1)
        reply += f"; server_max_window_bits={min(_window_bits(offer), DEFLATE_WINDOW_BITS)}"
    return reply


def _window_bits(offer: Mapping[str, str | None]) -> int:
    """Of the largest window that the server may compress with."""
    return int(offer.get("server_max_window_bits") or zlib.MAX_WBITS)


def _fits(parameters: Mapping[str, str | None], *, count: int) -> bool:
    """Known parameters with values that there are, each once (RFC 7692, 7.1)."""
    if len(parameters) != count:
        return False
    for name, value in parameters.items():
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return False
        elif name == "server_max_window_bits":
            if value not in _WINDOWS:
                return False
        elif name == "client_max_window_bits":
            if value is not None and value not in _WINDOWS:
                return False
        else:
            return False
    return True


_WINDOWS = tuple(str(bits) for bits in range(8, 16))
