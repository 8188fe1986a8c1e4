"""Settings of replies over plain HTTP: which pages of other origins may read them, and how they are compressed."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field
from yarl import URL

__all__ = ["Origin", "RestSettings"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


def _exact(origin: str) -> str:
    """An origin as browsers write it, since it is compared letter by letter (RFC 6454, 6.2)."""
    try:
        url = URL(origin)
        same = str(url.origin()) == origin and url.explicit_port != _DEFAULT_PORTS[url.scheme]
    except (ValueError, KeyError):
        same = False
    if not same:
        raise ValueError(
            f"'{origin[:100]}' is no origin as browsers send it: scheme://host or scheme://host:port in small "
            "letters, http or https, without a path, a slash at the end, the default port or '*'"
        )
    return origin


#: `https://shop.example`, `http://localhost:5173`: no wildcard, no `null`.
Origin = Annotated[str, AfterValidator(_exact)]


class RestSettings(BaseModel, frozen=True):
    """Compression of replies, and what browsers keep of preflights."""

    compression: bool = Field(
        default=True, description="Whether rows, summaries and history are compressed for callers that take it."
    )
    compress_bytes_min: int = Field(default=1_024, description="Smaller replies go out as they are.", ge=1)
    compress_inline_bytes_max: int = Field(
        default=32 * 1024, description="Larger bodies and pieces are compressed in a thread.", ge=0
    )
    preflight_max_age_s: int = Field(
        default=600, description="How long a browser keeps what a preflight request allowed.", ge=0, le=86_400
    )
