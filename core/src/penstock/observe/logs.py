"""Structured logs on standard error: readable lines on a terminal, JSON elsewhere. Never a token, never per event."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from opentelemetry import trace

__all__ = ["set_up_logs"]

DETAIL_CHARS = 120
_SECRET_KEYS = ("token", "secret", "authorization", "ticket", "cookie", "password")


def set_up_logs(*, as_json: bool | None = None, level: str = "info") -> None:
    """Configure structlog once per process. `as_json` None: JSON unless standard error is a terminal."""
    if as_json is None:
        as_json = not sys.stderr.isatty()
    rendering: list[Any] = (
        [structlog.processors.JSONRenderer()] if as_json else [leave_out_details, structlog.dev.ConsoleRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_trace,
            hide_secrets,
            structlog.processors.format_exc_info,
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


def leave_out_details(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """On a terminal a line stays a line: nested values are for programs, which read JSON."""
    for key in [
        key for key, value in event.items() if isinstance(value, dict | list) and len(str(value)) > DETAIL_CHARS
    ]:
        del event[key]
    return event


def add_trace(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """`trace_id` and `span_id` of the current span, if somebody follows it."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid and context.trace_flags.sampled:
        event["trace_id"], event["span_id"] = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    return event


def hide_secrets(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Last line of defence: a value under a key that sounds like a credential is not printed."""
    for key in event:
        if any(secret in key.lower() for secret in _SECRET_KEYS):
            event[key] = "[hidden]"
    return event
