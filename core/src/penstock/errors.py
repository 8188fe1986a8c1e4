"""Errors: what happened (`code`), whether to retry, and who must act. Edges translate; the core knows no HTTP.

One table (`STATUS`) gives each code its HTTP status; the same codes name `/errors/<code>` pages and the
reasons of rejected events. Never log and raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["STATUS", "Fenced", "LogFull", "LogUnavailable", "Outrun", "PenstockError", "SqlError", "SqlErrors"]

Who = Literal["caller", "operator", "developer"]

#: code -> (HTTP status, who must act). Add a line here and in docs/errors.md (generated) when you add a code.
STATUS: dict[str, tuple[int, Who]] = {
    "bad_request": (400, "caller"),
    "bad_json": (400, "caller"),
    "bad_cursor": (400, "caller"),
    "bad_filter": (400, "caller"),
    "unknown_column": (400, "caller"),
    "unauthorized": (401, "caller"),
    "invalid_token": (401, "caller"),
    "insufficient_scope": (403, "caller"),
    "forbidden_origin": (403, "caller"),
    "not_found": (404, "caller"),
    "unknown_stream": (404, "caller"),
    "unknown_topic": (404, "caller"),
    "unknown_relation": (404, "caller"),
    "unknown_app": (404, "caller"),
    "method_not_allowed": (405, "caller"),
    "not_acceptable": (406, "caller"),
    "conflict": (409, "caller"),
    "name_taken": (409, "caller"),
    "topic_retired": (410, "caller"),
    "precondition_failed": (412, "caller"),
    "too_large": (413, "caller"),
    "unsupported_media_type": (415, "caller"),
    "sql_error": (422, "caller"),
    "wrong_type": (422, "caller"),
    "out_of_range": (422, "caller"),
    "missing_column": (422, "caller"),
    "unknown_field": (422, "caller"),
    "no_event_time": (422, "caller"),
    "time_out_of_range": (422, "caller"),
    "all_rejected": (422, "caller"),
    "too_many_requests": (429, "caller"),
    "quota_exceeded": (429, "caller"),
    "delivery_failed": (422, "operator"),
    "delivery_refused": (422, "caller"),
    "fenced": (500, "operator"),
    "archive_damaged": (500, "operator"),
    "internal": (500, "developer"),
    "archive_ahead": (503, "operator"),
    "archive_unavailable": (503, "operator"),
    "feed_unavailable": (503, "operator"),
    "log_full": (503, "operator"),
    "log_unavailable": (503, "operator"),
    "lookup_failed": (503, "operator"),
    "not_ready": (503, "operator"),
    "outlet_unavailable": (503, "operator"),
    "overloaded": (503, "caller"),
    "outrun": (503, "caller"),
    "query_timeout": (503, "caller"),
    "service_unavailable": (503, "operator"),
    "store_ahead": (503, "operator"),
    "store_too_new": (503, "operator"),
    "store_unavailable": (503, "operator"),
    "draining": (503, "operator"),
}


class PenstockError(Exception):
    """An error with a code of `STATUS`. `detail` names the place and the remedy, for people."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_after_s: float | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.extra = extra or {}

    @property
    def retryable(self) -> bool:
        """True when the same call may succeed later without being changed."""
        return self.retry_after_s is not None

    @property
    def status(self) -> int:
        """HTTP status of this error."""
        return STATUS[self.code][0]


class Fenced(PenstockError):
    """A newer term runs this app, or its positions moved: this instance must stop writing and restore."""

    def __init__(self, detail: str) -> None:
        super().__init__("fenced", detail)


class LogFull(PenstockError):
    """Disk full or size limit reached: nothing was written."""

    def __init__(self, detail: str, retry_after_s: float = 5.0) -> None:
        super().__init__("log_full", detail, retry_after_s=retry_after_s)


class LogUnavailable(PenstockError):
    """The log cannot be used now; whether the write happened may be unknown."""

    def __init__(self, detail: str, retry_after_s: float = 1.0) -> None:
        super().__init__("log_unavailable", detail, retry_after_s=retry_after_s)


class Outrun(PenstockError):
    """Another writer appended ids that this one did not know of: nothing was written; learn them and decide again."""

    def __init__(self, stream: str) -> None:
        super().__init__("outrun", f"another ingest gateway appended to '{stream}' just now", retry_after_s=0.1)
        self.stream = stream


@dataclass(frozen=True, slots=True)
class SqlError:
    """One finding of the SQL front: 1-based line and column, a code, what is wrong, what to write instead."""

    line: int
    column: int
    code: str
    message: str
    remedy: str

    def as_json(self) -> dict[str, object]:
        """The element of `{"errors": [...]}` in `check --json` and in problem details."""
        return {
            "line": self.line,
            "column": self.column,
            "code": self.code,
            "message": self.message,
            "remedy": self.remedy,
        }


class SqlErrors(PenstockError):
    """An app or expression that cannot run. Carries every finding, not just the first."""

    def __init__(self, errors: list[SqlError]) -> None:
        first = errors[0]
        super().__init__(
            "sql_error",
            f"line {first.line}, column {first.column}: {first.message} {first.remedy}".strip(),
            extra={"errors": [e.as_json() for e in errors]},
        )
        self.errors = errors
