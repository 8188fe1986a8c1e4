"""The trace context that travels with a batch: W3C Trace Context, header `traceparent`, version 00.

`00-<32 hexadecimal digits: trace>-<16: span>-<2: flags>`; of the flags only "sampled" (01) means something here.
Source: https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re

__all__ = ["HEADER", "is_sampled", "read_traceparent"]

HEADER = "traceparent"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 0x01
_LENGTH_MAX = 256


def read_traceparent(text: str) -> str | None:
    """The context as version 00 writes it; None where the text is none (a later version may have more at its end)."""
    found = _FORM.fullmatch(text.strip()) if len(text) <= _LENGTH_MAX else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not span.strip("0"):
        return None
    return f"00-{trace}-{span}-{int(flags, 16) & _SAMPLED:02x}"


def is_sampled(traceparent: str) -> bool:
    """Whether its caller records the trace; for texts of `read_traceparent`."""
    return traceparent.endswith("-01")
